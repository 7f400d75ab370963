"""Strangers and the greedy cost nobody else anything: neither room for used tokens nor places on the way out. Invariant I8."""

from __future__ import annotations

import pytest

from stratos.api.auth import User
from stratos.api.credentials.grants import AppView
from stratos.api.credentials.replay import UsedTokens
from stratos.api.credentials.standing import KnownFirst
from stratos.atproto.syntax import Did
from stratos.engine.identity import DidNotFound, IdentityUnavailable, OutgoingHttp
from tests.api.credentials.authorization_server import Network
from tests.api.credentials.builders import (
    APPVIEW,
    CREATE,
    GET,
    REI,
    SAKURA,
    SUBSCRIBE,
    Account,
    Client,
    Clock,
    Directory,
    GrantOf,
    bearer,
    credentials,
    dpop,
    refused,
    service_token,
    service_verifier,
)

ENROLLED = frozenset({REI, SAKURA})
TOKENS = 30
"""Of each greedy DID, for an hour: more than there is room for in the memories below."""


async def enrolled(did: Did) -> bool:
    return did in ENROLLED


class Scene:
    """Rei and Sakura are enrolled; strangers are not. There is room for twenty tokens."""

    def __init__(self, *grants: GrantOf) -> None:
        self.clock = Clock()
        self.rei, self.sakura, self.appview = Account(REI), Account(SAKURA), Account(APPVIEW)
        self.strangers = [Account(Did(f"did:plc:stranger{number}")) for number in range(3)]
        self.used = UsedTokens(clock=self.clock, max_tokens=20, shares=4)
        self.used_by_services = UsedTokens(clock=self.clock, max_tokens=20, shares=4)
        self.verifier = service_verifier(
            Directory(self.rei, self.sakura, self.appview, *self.strangers),
            self.clock,
            self.used,
            grants=grants,
            is_known=enrolled,
            used_by_services=self.used_by_services,
        )

    def token(self, account: Account, nsid: str, number: int) -> str:
        """A token for an hour."""
        return service_token(account, self.clock, nsid, jti=str(number), exp=self.clock.seconds + 3_600)


@pytest.mark.parametrize("nsid", [CREATE, SUBSCRIBE])
async def test_tokens_of_strangers_take_no_room(nsid: str) -> None:
    scene = Scene()
    for stranger in scene.strangers:
        for number in range(TOKENS):
            token = scene.token(stranger, nsid, number)
            assert await scene.verifier.verify(bearer(token, nsid), nsid) == User(stranger.did), "for the gates to refuse"
    assert scene.used.statistics()["tokens"] == scene.used_by_services.statistics()["tokens"] == 0
    assert await scene.verifier.verify(bearer(scene.token(scene.rei, nsid, 0), nsid), nsid) == User(REI)
    assert (await refused(scene.verifier, bearer(scene.token(scene.rei, nsid, 0), nsid), nsid)).message == "Token already used"


async def test_an_account_that_is_greedy_is_refused_itself_and_nobody_else_is() -> None:
    scene = Scene()
    for number in range(5):
        await scene.verifier.verify(bearer(scene.token(scene.rei, CREATE, number), CREATE), CREATE)
        if scene.used.statistics()["tokens"] == 4:
            break
    for number in range(TOKENS, 2 * TOKENS):
        error = await refused(scene.verifier, bearer(scene.token(scene.rei, CREATE, number), CREATE), CREATE)
        assert (error.status, error.headers["Retry-After"]) == (503, "5")
    assert await scene.verifier.verify(bearer(scene.token(scene.sakura, CREATE, 0), CREATE), CREATE) == User(SAKURA)


async def test_a_grant_to_anybody_costs_accounts_no_room() -> None:
    scene = Scene(GrantOf(None))
    for stranger in scene.strangers:
        for number in range(3):
            token = scene.token(stranger, SUBSCRIBE, number)
            assert await scene.verifier.verify(bearer(token, SUBSCRIBE), SUBSCRIBE) == AppView(stranger.did, None)
    assert scene.used_by_services.statistics()["tokens"] == 9
    assert scene.used.statistics()["tokens"] == 0
    repeated = scene.token(scene.strangers[0], SUBSCRIBE, 0)
    assert (await refused(scene.verifier, bearer(repeated, SUBSCRIBE), SUBSCRIBE)).message == "Token already used"


async def test_proofs_take_room_once_their_token_is_verified_and_of_enrolled_accounts_only(
    clock: Clock, net: Network, http: OutgoingHttp
) -> None:
    stranger = Account(Did("did:plc:stranger"), pds=net.pds.url)
    directory = Directory(Account(REI, pds=net.pds.url), stranger)
    made = credentials(directory, http, clock, is_known=enrolled)
    client, other = Client(clock), Client(clock)
    thumbprint = client.key.thumbprint()
    nonce = made.dpop.required().headers["DPoP-Nonce"]
    of_stranger, of_rei = net.server.token(stranger.did, thumbprint), net.server.token(REI, thumbprint)
    forged = net.server.token(REI, other.key.thumbprint())

    for _ in range(TOKENS):
        assert await made.dpop.verify(dpop(of_stranger, client.proof(of_stranger, nonce)), GET) == User(stranger.did)
        await refused(made.dpop, dpop(forged, client.proof(forged, nonce)))
    assert made.statistics()["used_tokens"] == 0

    assert await made.dpop.verify(dpop(of_rei, client.proof(of_rei, nonce)), GET) == User(REI)
    assert made.statistics()["used_tokens"] == 1


async def test_neither_accounts_nor_granted_services_wait_behind_strangers(clock: Clock, http: OutgoingHttp) -> None:
    rei, appview, stranger = Account(REI), Account(APPVIEW), Account(Did("did:plc:stranger"))
    starved = Directory(rei, appview, stranger)
    starved.down = True
    made = credentials(
        starved, http, clock, grants=[GrantOf(APPVIEW), GrantOf(None)], is_known=enrolled, members=Directory(rei, appview)
    )
    tokens = made.verifiers[0]
    assert await tokens.verify(bearer(service_token(rei, clock, CREATE), CREATE), CREATE) == User(REI)
    assert await tokens.verify(bearer(service_token(appview, clock, SUBSCRIBE), SUBSCRIBE), SUBSCRIBE) == AppView(APPVIEW, None)
    assert (await refused(tokens, bearer(service_token(stranger, clock, CREATE), CREATE), CREATE)).status == 503


async def test_who_belongs_here_is_looked_up_without_waiting_behind_strangers() -> None:
    known, others = Directory(Account(REI)), Directory(Account(SAKURA))
    others.down = True
    identity = KnownFirst(known, others, enrolled)
    assert (await identity.resolve_did(REI, refresh=True)).did == REI
    assert known.refreshes == [REI]
    with pytest.raises(DidNotFound):
        await identity.resolve_did(SAKURA)
    with pytest.raises(IdentityUnavailable):
        await identity.resolve_did(Did("did:plc:stranger"))
