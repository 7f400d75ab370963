"""Services with a service JWT: only by a grant, and only as far as it goes. Design §4 "Who may subscribe", §9."""

from __future__ import annotations

import pytest

from stratos.api.auth import ServiceCaller, User
from stratos.api.credentials.grants import AppView
from stratos.api.credentials.replay import UsedTokens
from stratos.api.credentials.service_token import GRANTED_METHODS
from stratos.core.boundaries import Boundary
from stratos.settings.values import appview_grants
from tests.api.credentials.builders import (
    APPVIEW,
    CREATE,
    GET,
    LIST_REPOS,
    REI,
    SERVICE,
    SUBSCRIBE,
    Account,
    Clock,
    Directory,
    Key,
    bearer,
    head,
    minted,
    refused,
    service_claims,
    service_token,
    service_verifier,
)
from tests.engine.builders import EDITORS, WRITERS

INDEXER = "stratos_indexer"
NOT_GRANTED = "Issuer is not among the allowed services"


class Scene:
    """An AppView with a key of its own beside `#atproto`, a user, and grants as the setting writes them."""

    def __init__(self, *grants: str) -> None:
        self.clock = Clock()
        self.appview = Account(APPVIEW, fragments={INDEXER: Key("P-256")})
        self.rei = Account(REI, fragments={"labeler": Key()})
        self.directory = Directory(self.appview, self.rei)
        used = UsedTokens(clock=self.clock)
        self.verifier = service_verifier(self.directory, self.clock, used, grants=appview_grants(SERVICE, grants))

    def of_fragment(self, account: Account, fragment: str, nsid: str) -> str:
        """A token that is signed with a further key of an account's."""
        return minted(account.fragments[fragment], service_claims(f"{account.did}#{fragment}", self.clock, nsid))


@pytest.mark.parametrize("nsid", sorted(GRANTED_METHODS))
async def test_granted_appview_is_a_service_where_grants_count(nsid: str) -> None:
    scene = Scene(APPVIEW)
    caller = await scene.verifier.verify(bearer(service_token(scene.appview, scene.clock, nsid), nsid), nsid)
    assert caller == AppView(APPVIEW, None)
    assert isinstance(caller, ServiceCaller)


async def test_grant_counts_for_a_token_in_the_query() -> None:
    scene = Scene(APPVIEW)
    request = head(SUBSCRIBE, syncToken=service_token(scene.appview, scene.clock, SUBSCRIBE))
    assert await scene.verifier.verify(request, SUBSCRIBE) == AppView(APPVIEW, None)


@pytest.mark.parametrize("grants", [(), ("did:web:other.test",), ("did:web:appview.test.evil.test",)])
async def test_unknown_appview_is_no_service_but_the_account_that_it_is(grants: tuple[str, ...]) -> None:
    scene = Scene(*grants)
    caller = await scene.verifier.verify(bearer(service_token(scene.appview, scene.clock, LIST_REPOS), LIST_REPOS), LIST_REPOS)
    assert caller == User(APPVIEW)


async def test_scoped_appview_carries_its_boundaries() -> None:
    scene = Scene(f"{APPVIEW}#writers|editors")
    caller = await scene.verifier.verify(bearer(service_token(scene.appview, scene.clock, SUBSCRIBE), SUBSCRIBE), SUBSCRIBE)
    assert caller == AppView(APPVIEW, frozenset({WRITERS, EDITORS}))


@pytest.mark.parametrize(
    ("grants", "domains"),
    [
        ((f"{APPVIEW}#writers", f"{APPVIEW}#editors"), frozenset({WRITERS, EDITORS})),
        ((f"{APPVIEW}#writers", "*#editors"), frozenset({WRITERS, EDITORS})),
        (("*#editors", f"{APPVIEW}#writers"), frozenset({WRITERS, EDITORS})),
        (("*#editors",), frozenset({EDITORS})),
        ((f"{APPVIEW}#writers", "*"), None),
        ((f"{APPVIEW}#writers", APPVIEW), None),
        ((APPVIEW, f"{APPVIEW}#writers"), None),
        (("*",), None),
    ],
)
async def test_grants_add_up(grants: tuple[str, ...], domains: frozenset[Boundary] | None) -> None:
    scene = Scene(*grants)
    caller = await scene.verifier.verify(bearer(service_token(scene.appview, scene.clock, LIST_REPOS), LIST_REPOS), LIST_REPOS)
    assert caller == AppView(APPVIEW, domains)


@pytest.mark.parametrize("nsid", [GET, CREATE])
async def test_grant_makes_nobody_more_than_an_account_elsewhere(nsid: str) -> None:
    scene = Scene("*")
    for account in (scene.rei, scene.appview):
        assert await scene.verifier.verify(bearer(service_token(account, scene.clock, nsid), nsid), nsid) == User(account.did)


async def test_service_with_a_key_of_its_own_is_let_in_by_the_grant_for_its_did() -> None:
    scene = Scene(APPVIEW)
    for nsid in (SUBSCRIBE, GET):
        token = scene.of_fragment(scene.appview, INDEXER, nsid)
        assert await scene.verifier.verify(bearer(token, nsid), nsid) == AppView(APPVIEW, None)


async def test_key_of_a_service_never_acts_for_the_account_whose_did_it_shares() -> None:
    scene = Scene(APPVIEW)
    for nsid in (GET, CREATE, SUBSCRIBE):
        error = await refused(scene.verifier, bearer(scene.of_fragment(scene.rei, "labeler", nsid), nsid), nsid)
        assert (error.status, error.message) == (401, NOT_GRANTED)


async def test_account_key_cannot_sign_for_a_fragment() -> None:
    scene = Scene(APPVIEW)
    token = minted(scene.appview.key, service_claims(f"{APPVIEW}#{INDEXER}", scene.clock, SUBSCRIBE))
    error = await refused(scene.verifier, bearer(token, SUBSCRIBE), SUBSCRIBE)
    assert error.message == "Invalid signature"


async def test_every_connection_needs_a_token_of_its_own() -> None:
    scene = Scene(APPVIEW)
    token = service_token(scene.appview, scene.clock, SUBSCRIBE)
    await scene.verifier.verify(head(SUBSCRIBE, syncToken=token), SUBSCRIBE)
    assert (await refused(scene.verifier, head(SUBSCRIBE, syncToken=token), SUBSCRIBE)).message == "Token already used"
