"""A service whose accounts are on PDSes of the tests' own, and its publisher, on a virtual clock."""

from __future__ import annotations

import os

import pytest

from stratos.engine.oauth import ClientSettings, OAuthClient, Registration
from stratos.storage.ports import Backend
from tests.engine.builders import Engine
from tests.engine.oauth.authorization_server import People
from tests.engine.oauth.memory import MemoryStore, Seal, in_place
from tests.engine.publisher.house import SERVICE_URL, House, Signed
from tests.engine.publisher.pds_model import RepoNetwork


@pytest.fixture
def house(engine: Engine, backend: Backend) -> House:
    """A running service without accounts."""
    return House(engine, backend)


@pytest.fixture
def oauth(house: House) -> Signed:
    """A client that nobody has authorized yet."""
    network, store = RepoNetwork(house.clock), MemoryStore()
    client = OAuthClient(
        Registration.of(ClientSettings(public_url=SERVICE_URL, name="Stratos")),
        identity=People(),
        http=network,
        store=store,
        sealer=Seal(),
        clock=house.clock,
        random_bytes=os.urandom,
        thread=in_place,
    )
    return Signed(house.clock, network, store, client)
