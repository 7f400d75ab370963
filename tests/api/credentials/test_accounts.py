"""The credentials of the AppView: accounts' service JWTs for its own DID, and nothing else. Indexer spec §3, design §9."""

from __future__ import annotations

import hmac
from hashlib import sha256

import pytest

from stratos.api.auth import User
from stratos.api.credentials import AccountCredentials
from tests.api.credentials.builders import (
    APPVIEW,
    CREATE,
    REI,
    SAKURA,
    SERVICE,
    Account,
    Clock,
    Directory,
    Key,
    b64,
    bearer,
    minted,
    part,
    refused,
    service_claims,
    service_token,
)

TIMELINE = "zone.stratos.feed.getTimeline"


class Scene:
    """Rei and Sakura, known to the directory, and the credentials of an AppView."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.labeler = Key()
        self.rei, self.sakura = Account(REI, fragments={"atproto_labeler": self.labeler}), Account(SAKURA)
        self.credentials = AccountCredentials(
            APPVIEW, ("stratos_appview",), identity=Directory(self.rei, self.sakura), clock=self.clock
        )
        (self.verifier,) = self.credentials.verifiers

    def claims(self, **changes: object) -> dict[str, object]:
        """What Rei's PDS claims for a call of the AppView."""
        return service_claims(REI, self.clock, TIMELINE, **{"aud": APPVIEW, **changes})


@pytest.fixture
def scene() -> Scene:
    """At noon."""
    return Scene()


@pytest.mark.parametrize("audience", [str(APPVIEW), f"{APPVIEW}#stratos_appview"])
async def test_token_for_the_appview_is_its_account(scene: Scene, audience: str) -> None:
    token = minted(scene.rei.key, scene.claims(aud=audience))
    assert await scene.verifier.verify(bearer(token, TIMELINE), TIMELINE) == User(REI)
    assert scene.credentials.statistics()["service_verified_total"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"aud": SERVICE}, "Invalid aud claim"),
        ({"aud": f"{APPVIEW}#stratos"}, "Invalid aud claim"),
        ({"aud": [APPVIEW]}, "Invalid aud claim"),
        ({"aud": None}, "Missing aud claim"),
        ({"lxm": "zone.stratos.feed.getPost"}, "Invalid lxm claim"),
        ({"lxm": "*"}, "Invalid lxm claim"),
        ({"lxm": None}, "Missing lxm claim"),
        ({"iss": None}, "Missing iss claim"),
        ({"iss": SAKURA}, "Invalid signature"),
        ({"exp": 0}, "Token expired"),
        ({"exp": None}, "Token expired"),
        ({"jti": 7}, "Invalid jti claim"),
    ],
)
async def test_token_for_anything_else_is_refused(scene: Scene, changes: dict[str, object], message: str) -> None:
    token = minted(scene.rei.key, scene.claims(**changes))
    error = await refused(scene.verifier, bearer(token, TIMELINE), TIMELINE)
    assert (error.status, error.message) == (401, message)


async def test_forged_tokens_are_refused(scene: Scene) -> None:
    signing_input = f"{part({'typ': 'JWT', 'alg': 'HS256'})}.{part(scene.claims())}"
    symmetric = f"{signing_input}.{b64(hmac.digest(scene.rei.key.compressed, signing_input.encode(), sha256))}"
    unsigned = f"{part({'typ': 'JWT', 'alg': 'none'})}.{part(scene.claims())}."
    for token in (symmetric, unsigned, minted(scene.sakura.key, scene.claims()), minted(Key("P-256"), scene.claims())):
        assert (await refused(scene.verifier, bearer(token, TIMELINE), TIMELINE)).status == 401


async def test_a_service_is_nobody_here_not_even_one_that_shares_an_accounts_did(scene: Scene) -> None:
    token = minted(scene.labeler, scene.claims(iss=f"{REI}#atproto_labeler"))
    error = await refused(scene.verifier, bearer(token, TIMELINE), TIMELINE)
    assert error.message == "Issuer is not among the allowed services"


async def test_a_read_may_repeat_with_its_token_and_whatever_changes_something_may_not(scene: Scene) -> None:
    read = minted(scene.rei.key, scene.claims())
    for _ in range(2):
        assert await scene.verifier.verify(bearer(read, TIMELINE), TIMELINE) == User(REI)
    change = service_token(scene.rei, scene.clock, CREATE, aud=APPVIEW)
    assert await scene.verifier.verify(bearer(change, CREATE), CREATE) == User(REI)
    assert (await refused(scene.verifier, bearer(change, CREATE), CREATE)).message == "Token already used"
    assert scene.credentials.statistics()["used_replayed_total"] == 1
