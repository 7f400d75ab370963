"""A PDS, an authorization server and a client for outgoing requests, on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from stratos.engine.identity import OutgoingHttp, OutgoingPolicy
from tests.api.credentials.authorization_server import Network, network
from tests.api.credentials.builders import Clock


@pytest.fixture
def clock() -> Clock:
    """The time of a test; it stands still until it is moved."""
    return Clock()


@pytest.fixture
async def http() -> AsyncIterator[OutgoingHttp]:
    """Requests of ours; loopback is allowed."""
    async with OutgoingHttp(OutgoingPolicy(allow_private=True), user_agent="tests") as http:
        yield http


@pytest.fixture
async def net(clock: Clock) -> AsyncIterator[Network]:
    """The PDS and the authorization servers."""
    async with network(clock) as served:
        yield served
