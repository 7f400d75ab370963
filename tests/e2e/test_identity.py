"""Identities of the real PLC directory and PDS, resolved as the service resolves them."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator

import pytest
import trio

from stratos.atproto.syntax import Did
from stratos.engine.identity import (
    DidNotFound,
    IdentityResolver,
    IdentityUnavailable,
    OutgoingPolicy,
    open_identity,
    user_agent,
)
from tests.e2e.network import NETWORK_MARKS, Account, PdsNetwork

DAY = 24 * 3600.0

pytestmark = NETWORK_MARKS


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def resolver(pds_network: PdsNetwork, clock: Clock) -> AsyncIterator[IdentityResolver]:
    """A resolver as developers have it: private addresses allowed, and handles under .test asked of the PDS."""
    async with open_identity(
        plc_url=pds_network.plc_url,
        policy=OutgoingPolicy(allow_private=True),
        user_agent=user_agent("0.1.0", "http://localhost:3100", None),
        clock=clock,
        handle_services=(pds_network.pds_url,),
    ) as opened:
        yield opened.resolver


async def new_account(network: PdsNetwork) -> Account:
    return await trio.to_thread.run_sync(network.new_account)


async def test_an_account_is_resolved_from_did_to_handle_and_back(resolver: IdentityResolver, pds_network: PdsNetwork) -> None:
    account = await new_account(pds_network)
    document = await resolver.resolve_did(Did(account.did))
    assert document.pds == pds_network.pds_url
    assert await resolver.verified_handle(document) == account.handle
    assert await resolver.resolve_handle(account.handle) == account.did


async def test_the_documents_key_verifies_what_the_pds_signs(resolver: IdentityResolver, pds_network: PdsNetwork) -> None:
    account = await new_account(pds_network)
    token = await trio.to_thread.run_sync(lambda: pds_network.service_auth(account, audience="did:web:stratos.test"))
    signed, _, signature = token.rpartition(".")
    key = (await resolver.resolve_did(Did(account.did))).verification_key("atproto")
    assert key is not None
    assert key.verify(signed.encode(), base64.urlsafe_b64decode(signature + "=="))


async def test_what_neither_directory_nor_pds_knows_is_not_there(resolver: IdentityResolver) -> None:
    with pytest.raises(DidNotFound):
        await resolver.resolve_did(Did("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"))
    assert await resolver.resolve_handle("nobody-at-all.test") is None


async def test_an_outage_of_the_pds_takes_no_handle_away_that_was_known(
    resolver: IdentityResolver, pds_network: PdsNetwork, clock: Clock
) -> None:
    known, unknown = await new_account(pds_network), await new_account(pds_network)
    assert await resolver.resolve_handle(known.handle) == known.did
    clock.now += DAY / 2
    with pds_network.pds_down():
        assert await resolver.resolve_handle(known.handle) == known.did
        with pytest.raises(IdentityUnavailable):
            await resolver.resolve_handle(unknown.handle)
    clock.now += 60
    assert await resolver.resolve_handle(unknown.handle) == unknown.did


async def test_by_default_an_account_on_a_private_address_is_no_reason_to_go_there(pds_network: PdsNetwork, clock: Clock) -> None:
    account = await new_account(pds_network)
    async with open_identity(plc_url=pds_network.plc_url, policy=OutgoingPolicy(), user_agent="x", clock=clock) as opened:
        document = await opened.resolver.resolve_did(Did(account.did))
        assert await opened.resolver.verified_handle(document) is None
        assert opened.http.statistics()["connections_total"] == 0
