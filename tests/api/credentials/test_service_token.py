"""Service JWTs of users: what is let in, and everything that is not. Service spec §2.7, design §5."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from stratos.api.auth import User
from stratos.api.credentials.jws import MAX_TOKEN_CHARACTERS
from stratos.api.credentials.replay import UsedTokens
from tests.api.credentials.builders import (
    CREATE,
    GET,
    K256_ORDER,
    P256_ORDER,
    REI,
    SAKURA,
    SERVICE,
    SUBSCRIBE,
    Account,
    Clock,
    Directory,
    Key,
    b64,
    bearer,
    head,
    minted,
    part,
    refused,
    service_claims,
    service_token,
    service_verifier,
)


class Scene:
    """Rei and Sakura, known to the directory, and a verifier without grants."""

    def __init__(self, *, curve: str = "secp256k1", max_tokens: int = 100, shares: int = 2) -> None:
        self.clock = Clock()
        self.rei, self.sakura = Account(REI, Key(curve)), Account(SAKURA, Key(curve))
        self.directory = Directory(self.rei, self.sakura)
        self.used = UsedTokens(clock=self.clock, max_tokens=max_tokens, shares=shares)
        self.verifier = service_verifier(self.directory, self.clock, self.used, fragments=("stratos",))

    def token(self, nsid: str = GET, /, **changes: object) -> str:
        """A token of Rei's."""
        return service_token(self.rei, self.clock, nsid, **changes)

    async def message(self, token: str, nsid: str = GET) -> str:
        """Why a token is refused."""
        error = await refused(self.verifier, bearer(token, nsid), nsid)
        assert (error.status, error.name) == (401, "AuthenticationRequired"), error
        return error.message


@pytest.fixture
def scene() -> Scene:
    """Accounts with keys on secp256k1."""
    return Scene()


@pytest.mark.parametrize("curve", ["secp256k1", "P-256"])
async def test_token_of_the_account_for_the_called_method_is_the_user(curve: str) -> None:
    scene = Scene(curve=curve)
    assert await scene.verifier.verify(bearer(scene.token()), GET) == User(REI)
    assert scene.directory.refreshes == [], "a signature that holds needs no newer document"


@pytest.mark.parametrize("changes", [{"aud": f"{SERVICE}#stratos"}, {"iss": f"{REI}#atproto"}, {"jti": None}, {"iat": None}])
async def test_token_may_name_fragments_and_lack_what_is_optional(scene: Scene, changes: dict[str, object]) -> None:
    assert await scene.verifier.verify(bearer(scene.token(**changes)), GET) == User(REI)


@pytest.mark.parametrize("typ", ["JWT", "jwt", None])
async def test_type_may_be_left_out(scene: Scene, typ: str | None) -> None:
    token = minted(scene.rei.key, service_claims(REI, scene.clock), typ=typ)
    assert await scene.verifier.verify(bearer(token), GET) == User(REI)


async def test_token_is_taken_from_the_query_as_well(scene: Scene) -> None:
    assert await scene.verifier.verify(head(GET, syncToken=scene.token()), GET) == User(REI)


@pytest.mark.parametrize(
    "header", ["Bearer did:web:stratos.example.com", "Bearer sync-token", "DPoP a.b.c", "Basic a.b.c", "Bearer"]
)
async def test_credential_of_another_kind_is_left_to_others(scene: Scene, header: str) -> None:
    assert await scene.verifier.verify(head(headers=[("Authorization", header)]), GET) is None
    assert await scene.verifier.verify(head(), GET) is None


async def test_query_value_must_hold_even_beside_a_good_bearer(scene: Scene) -> None:
    request = head(GET, headers=[("Authorization", f"Bearer {scene.token()}")], syncToken="nonsense")
    assert (await refused(scene.verifier, request)).message == "Invalid JWT format"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iss": None}, "Missing iss claim"),
        ({"iss": 7}, "Missing iss claim"),
        ({"iss": "rei.test"}, "Invalid iss claim"),
        ({"iss": f"{REI}#"}, "Invalid iss claim"),
        ({"iss": f"{REI}#a#atproto"}, "Invalid iss claim"),
        ({"aud": None}, "Missing aud claim"),
        ({"aud": "did:web:other.test"}, "Invalid aud claim"),
        ({"aud": f"{SERVICE}.evil.test"}, "Invalid aud claim"),
        ({"aud": f"{SERVICE}#other"}, "Invalid aud claim"),
        ({"aud": f"{SERVICE}#"}, "Invalid aud claim"),
        ({"aud": [SERVICE]}, "Invalid aud claim"),
        ({"lxm": None}, "Missing lxm claim"),
        ({"lxm": ""}, "Missing lxm claim"),
        ({"lxm": "*"}, "Invalid lxm claim"),
        ({"lxm": CREATE}, "Invalid lxm claim"),
        ({"lxm": "com.atproto.repo.getRecord"}, "Invalid lxm claim"),
        ({"lxm": [GET]}, "Missing lxm claim"),
        ({"exp": None}, "Token expired"),
        ({"exp": "soon"}, "exp is not a time"),
        ({"exp": True}, "exp is not a time"),
        ({"iat": "now"}, "iat is not a time"),
        ({"jti": 7}, "Invalid jti claim"),
        ({"jti": ""}, "Invalid jti claim"),
    ],
)
async def test_claim_that_does_not_hold_is_refused(scene: Scene, changes: dict[str, object], message: str) -> None:
    assert await scene.message(scene.token(**changes)) == message
    assert scene.directory.known == {}, "nobody was asked about a token that cannot hold"


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ({"exp": 0}, "Token expired"),
        ({"exp": -1}, "Token expired"),
        ({"iat": 61}, "Token not yet valid"),
        ({"nbf": 61}, "Token not yet valid"),
        ({"iat": None, "exp": 3_661}, "Token lifetime too long"),
        ({"iat": 0, "exp": 3_601}, "Token lifetime too long"),
        ({"iat": -3_590, "exp": 11}, "Token lifetime too long"),
    ],
)
async def test_token_outside_of_its_time_is_refused(scene: Scene, times: dict[str, int | None], message: str) -> None:
    claims = {name: None if offset is None else scene.clock.seconds + offset for name, offset in times.items()}
    assert await scene.message(scene.token(**claims)) == message


@pytest.mark.parametrize("times", [{"exp": 1}, {"iat": 60, "exp": 90}, {"iat": 0, "exp": 3_600}, {"nbf": 60}])
async def test_token_at_the_edge_of_its_time_is_let_in(scene: Scene, times: dict[str, int]) -> None:
    token = scene.token(**{name: scene.clock.seconds + offset for name, offset in times.items()})
    assert await scene.verifier.verify(bearer(token), GET) == User(REI)


def unsigned(scene: Scene) -> str:
    return scene.token().rpartition(".")[0] + "."


def without_algorithm(scene: Scene) -> str:
    return f"{part({'typ': 'JWT', 'alg': 'none'})}.{part(service_claims(REI, scene.clock))}."


def algorithm_none_with_the_signature_left_on(scene: Scene) -> str:
    return minted(scene.rei.key, service_claims(REI, scene.clock), alg="none")


def hs256_with_the_public_key_as_secret(scene: Scene) -> str:
    public = scene.rei.key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signing_input = f"{part({'typ': 'JWT', 'alg': 'HS256'})}.{part(service_claims(REI, scene.clock))}"
    return f"{signing_input}.{b64(hmac.digest(public, signing_input.encode(), sha256))}"


def hs256_with_the_multikey_as_secret(scene: Scene) -> str:
    signing_input = f"{part({'typ': 'JWT', 'alg': 'HS256'})}.{part(service_claims(REI, scene.clock))}"
    return f"{signing_input}.{b64(hmac.digest(scene.rei.key.compressed, signing_input.encode(), sha256))}"


def algorithm_of_the_other_curve(scene: Scene) -> str:
    return minted(scene.rei.key, service_claims(REI, scene.clock), alg="ES256")


def key_of_the_other_curve(scene: Scene) -> str:
    return minted(Key("P-256"), service_claims(REI, scene.clock))


def with_a_key_of_its_own(scene: Scene) -> str:
    return minted(Key(), service_claims(REI, scene.clock))


def with_the_key_of_another_did(scene: Scene) -> str:
    return minted(scene.sakura.key, service_claims(REI, scene.clock))


def with_a_key_that_the_header_brings_along(scene: Scene) -> str:
    key = Key("P-256")
    numbers = key.private.public_key().public_numbers()
    jwk = {"kty": "EC", "crv": "P-256", "x": b64(numbers.x.to_bytes(32, "big")), "y": b64(numbers.y.to_bytes(32, "big"))}
    return minted(key, service_claims(REI, scene.clock), jwk=jwk)


def with_high_s(scene: Scene) -> str:
    return minted(scene.rei.key, service_claims(REI, scene.clock), high_s=True)


def with_other_claims_under_a_good_signature(scene: Scene) -> str:
    header, _, signature = scene.token().split(".")
    return f"{header}.{part(service_claims(SAKURA, scene.clock))}.{signature}"


def with_a_der_signature(scene: Scene) -> str:
    signing_input = scene.token().rpartition(".")[0]
    return f"{signing_input}.{b64(scene.rei.key.private.sign(signing_input.encode(), ec.ECDSA(SHA256())))}"


def for_a_fragment_that_is_not_there(scene: Scene) -> str:
    return minted(scene.rei.key, service_claims(f"{REI}#labeler", scene.clock))


def of_an_access_tokens_type(scene: Scene) -> str:
    return minted(scene.rei.key, service_claims(REI, scene.clock), typ="at+jwt")


def with_a_critical_extension(scene: Scene) -> str:
    return minted(scene.rei.key, service_claims(REI, scene.clock), crit=["exp"])


def in_two_parts(scene: Scene) -> str:
    return scene.token().rpartition(".")[0]


def with_a_padded_signature(scene: Scene) -> str:
    return scene.token() + "=="


def with_spare_bits_set(scene: Scene) -> str:
    token = scene.token()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) + 1]


def with_claims_that_are_a_list(scene: Scene) -> str:
    return minted(scene.rei.key, {}).replace(f".{part({})}.", f".{part([])}.")


def longer_than_a_token_may_be(scene: Scene) -> str:
    return scene.token(more="x" * MAX_TOKEN_CHARACTERS)


Forge = Callable[[Scene], str]

FORGERIES: dict[Forge, str] = {
    unsigned: "Invalid signature",
    without_algorithm: "Unsupported JWT algorithm",
    algorithm_none_with_the_signature_left_on: "Unsupported JWT algorithm",
    hs256_with_the_public_key_as_secret: "Unsupported JWT algorithm",
    hs256_with_the_multikey_as_secret: "Unsupported JWT algorithm",
    algorithm_of_the_other_curve: "Invalid signature",
    key_of_the_other_curve: "Invalid signature",
    with_a_key_of_its_own: "Invalid signature",
    with_the_key_of_another_did: "Invalid signature",
    with_a_key_that_the_header_brings_along: "Invalid signature",
    with_high_s: "Invalid signature",
    with_other_claims_under_a_good_signature: "Invalid signature",
    with_a_der_signature: "Invalid signature",
    for_a_fragment_that_is_not_there: "Invalid signature",
    of_an_access_tokens_type: "Invalid JWT type",
    with_a_critical_extension: "Invalid JWT encoding",
    with_a_padded_signature: "Invalid JWT encoding",
    with_spare_bits_set: "Invalid JWT encoding",
    with_claims_that_are_a_list: "Invalid JWT encoding",
    longer_than_a_token_may_be: "Invalid JWT format",
}


@pytest.mark.parametrize(("forge", "message"), FORGERIES.items(), ids=[forge.__name__ for forge in FORGERIES])
async def test_forged_token_is_refused(scene: Scene, forge: Forge, message: str) -> None:
    assert await scene.message(forge(scene)) == message


@pytest.mark.parametrize("lxm", ["", "*", GET])
async def test_page_that_is_no_method_takes_no_service_jwt(scene: Scene, lxm: str) -> None:
    request = head(path="/oauth/status", headers=[("Authorization", f"Bearer {scene.token(lxm=lxm)}")])
    assert (await refused(scene.verifier, request, "")).status == 401


async def test_half_a_token_in_the_query_is_refused(scene: Scene) -> None:
    assert (await refused(scene.verifier, head(GET, syncToken=in_two_parts(scene)))).message == "Invalid JWT format"


@pytest.mark.parametrize("curve", ["secp256k1", "P-256"])
async def test_the_builders_high_s_is_the_only_fault_of_such_a_token(curve: str) -> None:
    """Else the test above would prove nothing: the same signature with low s holds."""
    scene = Scene(curve=curve)
    claims = service_claims(REI, scene.clock)
    high = minted(scene.rei.key, claims, high_s=True)
    signing_input, _, _ = high.rpartition(".")
    raw = scene.rei.key.sign(signing_input.encode(), high_s=True)
    order = K256_ORDER if curve == "secp256k1" else P256_ORDER
    s = int.from_bytes(raw[32:], "big")
    assert s > order // 2
    mended = raw[:32] + (order - s).to_bytes(32, "big")
    assert await scene.message(f"{signing_input}.{b64(raw)}") == "Invalid signature"
    assert await scene.verifier.verify(bearer(f"{signing_input}.{b64(mended)}"), GET) == User(REI)


async def test_unknown_issuer_is_refused(scene: Scene) -> None:
    nobody = Account(SERVICE)
    assert await scene.message(service_token(nobody, scene.clock)) == "Could not resolve issuer DID"


async def test_nobody_is_let_in_while_the_directory_cannot_be_asked(scene: Scene) -> None:
    scene.directory.down = True
    error = await refused(scene.verifier, bearer(scene.token()))
    assert (error.status, error.name, error.headers["Retry-After"]) == (503, "ServiceUnavailable", "10")


@pytest.mark.parametrize("curve", ["secp256k1", "P-256"])
async def test_rotated_key_is_learnt_by_one_refresh(scene: Scene, curve: str) -> None:
    await scene.verifier.verify(bearer(scene.token()), GET)
    old = scene.token()
    scene.rei.key = Key(curve)
    scene.directory.publish(scene.rei)
    assert await scene.verifier.verify(bearer(scene.token()), GET) == User(REI)
    assert scene.directory.refreshes == [REI]
    assert await scene.message(old) == "Invalid signature", "the key before the rotation is worth nothing"


async def test_bad_signature_asks_for_the_document_once_more_and_no_more(scene: Scene) -> None:
    await scene.message(with_a_key_of_its_own(scene))
    assert scene.directory.refreshes == [REI]


@pytest.mark.parametrize("nsid", [CREATE, SUBSCRIBE])
async def test_token_for_a_write_or_a_subscription_is_good_for_one(scene: Scene, nsid: str) -> None:
    token = scene.token(nsid)
    assert await scene.verifier.verify(bearer(token, nsid), nsid) == User(REI)
    assert await scene.message(token, nsid) == "Token already used"
    another = scene.token(nsid, jti="another")
    assert await scene.verifier.verify(bearer(another, nsid), nsid) == User(REI)


@pytest.mark.parametrize("nsid", [CREATE, SUBSCRIBE])
async def test_token_without_a_name_of_its_own_is_good_for_one_as_well(scene: Scene, nsid: str) -> None:
    token = scene.token(nsid, jti=None)
    assert await scene.verifier.verify(bearer(token, nsid), nsid) == User(REI)
    assert await scene.message(token, nsid) == "Token already used"
    signed_again = minted(scene.rei.key, service_claims(REI, scene.clock, nsid, jti=None))
    assert signed_again != token, "another signature of the same words"
    assert await scene.message(signed_again, nsid) == "Token already used"
    scene.clock.advance(1)
    assert await scene.verifier.verify(bearer(scene.token(nsid, jti=None), nsid), nsid) == User(REI)


async def test_another_issuer_may_use_the_same_jti(scene: Scene) -> None:
    for account in (scene.rei, scene.sakura):
        token = service_token(account, scene.clock, CREATE, jti="same")
        assert await scene.verifier.verify(bearer(token, CREATE), CREATE) == User(account.did)


async def test_token_for_a_read_may_be_used_until_it_expires(scene: Scene) -> None:
    token = scene.token()
    for _ in range(3):
        assert await scene.verifier.verify(bearer(token), GET) == User(REI)
    scene.clock.advance(60)
    assert await scene.message(token) == "Token expired"


async def test_forged_token_does_not_use_up_the_real_ones_jti(scene: Scene) -> None:
    token = scene.token(CREATE)
    assert await scene.message(minted(scene.sakura.key, service_claims(REI, scene.clock, CREATE)), CREATE) == "Invalid signature"
    assert await scene.verifier.verify(bearer(token, CREATE), CREATE) == User(REI)


async def test_write_is_refused_where_it_cannot_be_told_whether_its_token_was_used() -> None:
    scene = Scene(max_tokens=1, shares=1)
    await scene.verifier.verify(bearer(scene.token(CREATE, jti="one"), CREATE), CREATE)
    error = await refused(scene.verifier, bearer(scene.token(CREATE, jti="two"), CREATE), CREATE)
    assert (error.status, error.headers["Retry-After"]) == (503, "5")
    scene.clock.advance(61)
    assert await scene.verifier.verify(bearer(scene.token(CREATE, jti="two"), CREATE), CREATE) == User(REI)


async def test_no_refusal_quotes_the_token(scene: Scene) -> None:
    for forge in FORGERIES:
        token = forge(scene)
        error = await refused(scene.verifier, bearer(token), GET)
        assert not any(secret in f"{error} {error.headers}" for secret in token.split(".") if secret)
