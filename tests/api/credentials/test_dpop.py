"""Users with a DPoP-bound access token, step by step. Service spec §2.3."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from hashlib import sha256

import pytest
import trio
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, RSAKey

from stratos.api.auth import Anonymous, User
from stratos.api.credentials.dpop import DpopVerifier
from stratos.api.errors import XrpcError
from stratos.atproto.syntax import Did
from stratos.engine.identity import OutgoingHttp
from tests.api.credentials.authorization_server import Network, sign_in
from tests.api.credentials.builders import (
    CREATE,
    GET,
    PUBLIC_URL,
    REI,
    SAKURA,
    SUBSCRIBE,
    SYNC_TOKEN,
    Account,
    Client,
    Clock,
    Directory,
    authenticator,
    b64,
    bearer,
    credentials,
    dpop,
    head,
    part,
    refused,
)

REALM = 'DPoP realm="stratos"'


class Scene:
    """Rei and Sakura on a PDS whose authorization server publishes keys, and a client that has signed Rei in."""

    def __init__(self, clock: Clock, net: Network, http: OutgoingHttp) -> None:
        self.clock, self.net, self.http = clock, net, http
        self.directory = Directory(Account(REI, pds=net.pds.url), Account(SAKURA, pds=net.pds.url))
        self.credentials = credentials(self.directory, http, clock)
        self.client = Client(clock)
        self.token = net.server.token(REI, self.client.key.thumbprint())

    @property
    def verifier(self) -> DpopVerifier:
        """What is under test."""
        return self.credentials.dpop

    @property
    def nonce(self) -> str:
        """A nonce that the verifier has given out."""
        return self.verifier.required().headers["DPoP-Nonce"]

    def proof(self, nsid: str = GET, /, **changes: object) -> str:
        """A proof with a good nonce for the client's token."""
        return self.client.proof(self.token, self.nonce, nsid, **changes)

    def proof_of(self, token: str, nsid: str = GET) -> str:
        """A proof with a good nonce for another token."""
        return self.client.proof(token, self.nonce, nsid)

    async def call(self, token: str | None = None, nsid: str = GET) -> User:
        """Call with a fresh proof; fails the test where that is refused."""
        token = token or self.token
        user = await self.verifier.verify(dpop(token, self.proof_of(token, nsid), nsid=nsid), nsid)
        assert isinstance(user, User)
        return user

    async def refusal(self, token: str | None = None, proof: str | None = None) -> tuple[str, str | None]:
        """Message and challenge of a refused call; every refusal carries a nonce."""
        token = token or self.token
        error = await refused(self.verifier, dpop(token, proof or self.proof_of(token)))
        assert (error.status, error.name) == (401, "AuthenticationRequired"), error
        assert error.headers["DPoP-Nonce"] == self.nonce
        return error.message, error.headers.get("WWW-Authenticate")


@pytest.fixture
def scene(clock: Clock, net: Network, http: OutgoingHttp) -> Scene:
    """A PDS with an authorization server that signs with ES256."""
    return Scene(clock, net, http)


async def test_token_and_proof_of_a_signed_in_client_are_the_user(scene: Scene) -> None:
    token = await sign_in(scene.net.server, scene.client, REI, scene.http)
    assert await scene.call(token) == User(REI)


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (ECKey.generate_key("secp256k1", {"kid": "k"}), "ES256K"),
        (RSAKey.generate_key(2048, {"kid": "r"}), "RS256"),
        (RSAKey.generate_key(2048), "PS256"),
    ],
)
async def test_authorization_server_may_sign_with_any_asymmetric_algorithm(
    scene: Scene, key: ECKey | RSAKey, algorithm: str
) -> None:
    scene.net.server.key, scene.net.server.algorithm = key, algorithm
    scene.net.server.open()
    assert await scene.call(scene.net.server.token(REI, scene.client.key.thumbprint())) == User(REI)


async def test_client_may_have_a_key_on_the_other_curve(scene: Scene) -> None:
    scene.client = Client(scene.clock, ECKey.generate_key("secp256k1"), "ES256K")
    assert await scene.call(scene.net.server.token(REI, scene.client.key.thumbprint())) == User(REI)


async def test_scheme_is_read_without_regard_to_case_and_others_are_left_alone(scene: Scene) -> None:
    proof = ("DPoP", scene.proof())
    assert await scene.verifier.verify(head(headers=[("Authorization", f"dpop {scene.token}"), proof]), GET) == User(REI)
    for headers in ([], [proof], [("Authorization", f"Bearer {scene.token}"), proof]):
        assert await scene.verifier.verify(head(headers=headers), GET) is None


# Nonces


async def test_client_learns_the_nonce_from_its_first_refusal(scene: Scene) -> None:
    error = await refused(scene.verifier, dpop(scene.token, scene.client.proof(scene.token, None)))
    assert (error.status, error.message) == (401, "DPoP nonce required")
    assert error.headers["WWW-Authenticate"] == 'DPoP error="use_dpop_nonce"'
    proof = scene.client.proof(scene.token, error.headers["DPoP-Nonce"])
    assert await scene.verifier.verify(dpop(scene.token, proof), GET) == User(REI)


async def test_nonce_of_an_answer_serves_for_the_next_call_until_it_is_old(scene: Scene) -> None:
    request = dpop(scene.token, scene.proof())
    await scene.verifier.verify(request, GET)
    nonce = scene.verifier.answer_headers(request)["DPoP-Nonce"]
    scene.clock.advance(120)
    assert await scene.verifier.verify(dpop(scene.token, scene.client.proof(scene.token, nonce)), GET) == User(REI)
    scene.clock.advance(60)
    message, challenge = await scene.refusal(proof=scene.client.proof(scene.token, nonce))
    assert (message, challenge) == ("DPoP nonce required", 'DPoP error="use_dpop_nonce"')


@pytest.mark.parametrize("nonce", ["", "made up", 7])
async def test_nonce_of_somebody_elses_is_refused(scene: Scene, nonce: object) -> None:
    message, _ = await scene.refusal(proof=scene.client.proof(scene.token, nonce))
    assert message == "DPoP nonce required"


async def test_only_dpop_calls_are_answered_with_a_nonce(scene: Scene) -> None:
    assert list(scene.verifier.answer_headers(dpop(scene.token))) == ["DPoP-Nonce"]
    for headers in ([], [("Authorization", "Bearer did:plc:rei")]):
        assert scene.verifier.answer_headers(head(headers=headers)) == {}


async def test_processes_with_the_same_secret_take_each_others_nonces(scene: Scene) -> None:
    for secret, accepted in (("shared", True), ("another", False), (None, False)):
        ours = credentials(scene.directory, scene.http, scene.clock, nonce_secret="shared").dpop
        theirs = credentials(scene.directory, scene.http, scene.clock, nonce_secret=secret).dpop
        request = dpop(scene.token, scene.client.proof(scene.token, theirs.required().headers["DPoP-Nonce"]))
        if accepted:
            assert await ours.verify(request, GET) == User(REI)
        else:
            assert (await refused(ours, request)).message == "DPoP nonce required"


async def test_nonce_may_be_left_out_where_the_setting_says_so_but_not_made_up(scene: Scene) -> None:
    verifier = credentials(scene.directory, scene.http, scene.clock, require_nonce=False).dpop
    assert await verifier.verify(dpop(scene.token, scene.client.proof(scene.token, None)), GET) == User(REI)
    assert (
        await refused(verifier, dpop(scene.token, scene.client.proof(scene.token, "made up")))
    ).message == "DPoP nonce required"
    again = scene.client.proof(scene.token, None)
    assert await verifier.verify(dpop(scene.token, again), GET) == User(REI)
    assert (await refused(verifier, dpop(scene.token, again))).message == 'DPoP "jti" already used'


# The request and its proof


def described(text: str) -> str:
    """The challenge of a proof that does not hold."""
    escaped = text.replace('"', '\\"')
    return f'{REALM}, error="invalid_dpop_proof", error_description="{escaped}"'


async def test_answer_to_another_scheme_asks_for_dpop(scene: Scene) -> None:
    error = scene.verifier.required()
    assert (error.status, error.message) == (401, "DPoP authorization required")
    assert error.headers == {"WWW-Authenticate": REALM, "DPoP-Nonce": scene.nonce}


@pytest.mark.parametrize("value", ["DPoP", "DPoP ", "DPoP   "])
async def test_scheme_without_a_token_is_refused(scene: Scene, value: str) -> None:
    error = await refused(scene.verifier, head(headers=[("Authorization", value), ("DPoP", scene.proof())]))
    assert (error.message, error.headers["WWW-Authenticate"]) == ("Access token required", f'{REALM}, error="invalid_token"')


async def test_exactly_one_proof_is_needed(scene: Scene) -> None:
    none = await refused(scene.verifier, dpop(scene.token))
    assert (none.message, none.headers["WWW-Authenticate"]) == ("DPoP proof required", f'{REALM}, error="invalid_dpop_proof"')
    for proofs in ([scene.proof(), scene.proof()], [scene.proof()] * 2, [scene.proof(), ""]):
        two = await refused(scene.verifier, dpop(scene.token, *proofs))
        assert two.headers["WWW-Authenticate"] == f'{REALM}, error="invalid_dpop_proof"'
        assert "DPoP-Nonce" in two.headers
    joined = await refused(scene.verifier, dpop(scene.token, f"{scene.proof()}, {scene.proof()}"))
    assert joined.message == "DPoP proof: Invalid JWT format"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"jti": None}, 'DPoP "jti" missing'),
        ({"jti": ""}, 'DPoP "jti" missing'),
        ({"jti": 7}, 'DPoP "jti" missing'),
        ({"jti": "x" * 513}, 'DPoP "jti" too long'),
        ({"htm": None}, 'DPoP "htm" mismatch'),
        ({"htm": "get"}, 'DPoP "htm" mismatch'),
        ({"htm": "POST"}, 'DPoP "htm" mismatch'),
        ({"htu": None}, 'DPoP "htu" mismatch'),
        ({"ath": None}, 'DPoP "ath" mismatch'),
        ({"ath": b64(sha256(b"another token").digest())}, 'DPoP "ath" mismatch'),
        ({"iat": None}, 'DPoP "iat" missing'),
        ({"iat": "now"}, "DPoP proof: iat is not a time"),
    ],
)
async def test_claim_of_a_proof_that_does_not_hold_is_refused(scene: Scene, changes: dict[str, object], text: str) -> None:
    assert await scene.refusal(proof=scene.proof(**changes)) == (text, described(text))


@pytest.mark.parametrize(
    "htu",
    [
        f"{PUBLIC_URL}/xrpc/{CREATE}",
        f"{PUBLIC_URL}/xrpc/{GET}/",
        f"{PUBLIC_URL}/",
        f"{PUBLIC_URL}.evil.test/xrpc/{GET}",
        f"https://evil.test/xrpc/{GET}",
        f"http://stratos.test/xrpc/{GET}",
        f"https://stratos.test:8443/xrpc/{GET}",
        f"https://rei@stratos.test/xrpc/{GET}",
        f"https://rei:x@stratos.test/xrpc/{GET}",
        f"wss://stratos.test/xrpc/{GET}",
        f"/xrpc/{GET}",
        f"stratos.test/xrpc/{GET}",
        "https://[::1",
        "",
    ],
)
async def test_proof_for_another_address_is_refused(scene: Scene, htu: str) -> None:
    text = 'DPoP "htu" mismatch'
    assert await scene.refusal(proof=scene.proof(htu=htu)) == (text, described(text))


@pytest.mark.parametrize("htu", ["https://STRATOS.test:443/xrpc/{}", "https://stratos.test/xrpc/{}?limit=1#top"])
async def test_spelling_query_and_fragment_of_the_address_do_not_count(scene: Scene, htu: str) -> None:
    request = dpop(scene.token, scene.proof(htu=htu.format(GET)), repo=REI)
    assert await scene.verifier.verify(request, GET) == User(REI)


async def test_subscription_is_proven_for_get_and_the_web_address(scene: Scene) -> None:
    assert await scene.call(nsid=SUBSCRIBE) == User(REI)


async def test_oauth_route_is_proven_with_its_full_path(scene: Scene) -> None:
    for path, good in (("/oauth/status", True), ("/status", False)):
        headers = [("Authorization", f"DPoP {scene.token}"), ("DPoP", scene.proof(htu=f"{PUBLIC_URL}{path}"))]
        request = head(path="/oauth/status", headers=headers)
        if good:
            assert await scene.verifier.verify(request, "") == User(REI)
        else:
            assert (await refused(scene.verifier, request)).message == 'DPoP "htu" mismatch'


@pytest.mark.parametrize(
    ("offset", "text"),
    [(-191, "DPoP proof expired"), (-190, None), (180, None), (181, "DPoP proof is not yet valid")],
)
async def test_proof_is_fresh_within_the_tolerance_of_clocks(scene: Scene, offset: int, text: str | None) -> None:
    proof = scene.proof(iat=scene.clock.seconds + offset)
    if text is None:
        assert await scene.verifier.verify(dpop(scene.token, proof), GET) == User(REI)
    else:
        assert await scene.refusal(proof=proof) == (text, described(text))


async def test_proof_that_names_its_end_is_refused_after_it(scene: Scene) -> None:
    assert (await scene.refusal(proof=scene.proof(exp=scene.clock.seconds - 181)))[0] == "DPoP proof expired"
    assert (await scene.refusal(proof=scene.proof(nbf=scene.clock.seconds + 181)))[0] == "DPoP proof is not yet valid"


def proof_claims(scene: Scene) -> dict[str, object]:
    return {
        "jti": "forged",
        "htm": "GET",
        "htu": f"{PUBLIC_URL}/xrpc/{GET}",
        "iat": scene.clock.seconds,
        "ath": b64(sha256(scene.token.encode()).digest()),
        "nonce": scene.nonce,
    }


def unsigned_proof(scene: Scene) -> str:
    return scene.proof().rpartition(".")[0] + "."


def proof_without_algorithm(scene: Scene) -> str:
    header = {"typ": "dpop+jwt", "alg": "none", "jwk": scene.client.key.as_dict(private=False)}
    return f"{part(header)}.{part(proof_claims(scene))}."


def symmetric_proof(scene: Scene) -> str:
    key = OctKey.generate_key(256)
    header = {"typ": "dpop+jwt", "alg": "HS256", "jwk": key.as_dict(private=True)}
    return jws.serialize_compact(header, json.dumps(proof_claims(scene)), key, algorithms=["HS256"])


def proof_by_another_key(scene: Scene) -> str:
    thief = Client(scene.clock)
    return thief.signed(proof_claims(scene), jwk=scene.client.key.as_dict(private=False))


def proof_that_gives_its_private_key_away(scene: Scene) -> str:
    return scene.client.signed(proof_claims(scene), jwk=scene.client.key.as_dict(private=True))


def proof_without_key(scene: Scene) -> str:
    return scene.client.signed(proof_claims(scene), jwk=None)


def proof_of_another_type(scene: Scene) -> str:
    return scene.client.signed(proof_claims(scene), typ="JWT")


def proof_without_type(scene: Scene) -> str:
    return scene.client.signed(proof_claims(scene), typ=None)


def proof_with_the_other_curves_algorithm(scene: Scene) -> str:
    _, claims, signature = scene.proof().split(".")
    swapped = part({"typ": "dpop+jwt", "alg": "ES256K", "jwk": scene.client.key.as_dict(private=False)})
    return f"{swapped}.{claims}.{signature}"


def proof_with_a_key_off_the_curve(scene: Scene) -> str:
    jwk = {**scene.client.key.as_dict(private=False), "y": b64(bytes(32))}
    _, claims, signature = scene.proof().split(".")
    return f"{part({'typ': 'dpop+jwt', 'alg': 'ES256', 'jwk': jwk})}.{claims}.{signature}"


def no_proof_at_all(scene: Scene) -> str:
    return "proof"


FORGED_PROOFS: dict[Callable[[Scene], str], str] = {
    unsigned_proof: "DPoP signature is invalid",
    proof_without_algorithm: 'DPoP "alg" is not accepted',
    symmetric_proof: 'DPoP "alg" is not accepted',
    proof_by_another_key: "DPoP signature is invalid",
    proof_that_gives_its_private_key_away: 'DPoP "jwk" missing or not a public key',
    proof_without_key: 'DPoP "jwk" missing or not a public key',
    proof_of_another_type: 'DPoP "typ" mismatch',
    proof_without_type: 'DPoP "typ" mismatch',
    proof_with_the_other_curves_algorithm: "DPoP signature is invalid",
    proof_with_a_key_off_the_curve: 'DPoP "jwk" is not accepted',
    no_proof_at_all: "DPoP proof: Invalid JWT format",
}


@pytest.mark.parametrize(("forge", "text"), FORGED_PROOFS.items(), ids=[forge.__name__ for forge in FORGED_PROOFS])
async def test_forged_proof_is_refused(scene: Scene, forge: Callable[[Scene], str], text: str) -> None:
    assert await scene.refusal(proof=forge(scene)) == (text, described(text))
    assert scene.net.asked() == [], "nobody is asked for a caller who holds no key"


# Replay


async def test_proof_is_good_for_one_request(scene: Scene) -> None:
    proof = scene.proof()
    assert await scene.verifier.verify(dpop(scene.token, proof), GET) == User(REI)
    text = 'DPoP "jti" already used'
    assert await scene.refusal(proof=proof) == (text, described(text))
    assert await scene.call() == User(REI)


async def test_of_two_requests_at_once_with_one_proof_one_is_let_in(scene: Scene) -> None:
    proof = scene.proof()
    outcomes: list[str] = []

    async def call() -> None:
        try:
            await scene.verifier.verify(dpop(scene.token, proof), GET)
            outcomes.append("let in")
        except XrpcError as error:
            outcomes.append(error.message)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        nursery.start_soon(call)
    assert sorted(outcomes) == ['DPoP "jti" already used', "let in"]


async def test_proof_is_never_good_again_not_even_when_it_is_forgotten(scene: Scene) -> None:
    """Walk through all of its life in steps: at no moment is it taken a second time."""
    proof = scene.proof(iat=scene.clock.seconds + 180)
    assert await scene.verifier.verify(dpop(scene.token, proof), GET) == User(REI)
    messages = []
    for _ in range(80):
        scene.clock.advance(5)
        messages.append((await refused(scene.verifier, dpop(scene.token, proof))).message)
    assert list(dict.fromkeys(messages)) == ['DPoP "jti" already used', "DPoP nonce required", "DPoP proof expired"]


async def test_other_keys_proof_may_have_the_same_jti(scene: Scene) -> None:
    for client in (scene.client, Client(scene.clock)):
        token = scene.net.server.token(REI, client.key.thumbprint())
        proof = client.proof(token, scene.nonce, jti="same")
        assert await scene.verifier.verify(dpop(token, proof), GET) == User(REI)


async def test_refused_request_leaves_its_proof_unused(scene: Scene) -> None:
    proof = scene.proof()
    scene.directory.down = True
    error = await refused(scene.verifier, dpop(scene.token, proof))
    assert (error.status, error.name, error.headers["Retry-After"]) == (503, "ServiceUnavailable", "10")
    scene.directory.down = False
    assert await scene.verifier.verify(dpop(scene.token, proof), GET) == User(REI)


# The access token


INVALID_TOKEN = f'{REALM}, error="invalid_token"'
NOT_THE_ISSUER = "Token issuer is not the authorization server of the subject's PDS"
NOT_VERIFIABLE = "Token is signed in a way that nobody but its issuer can verify"


@pytest.mark.parametrize(
    ("changes", "message", "challenge"),
    [
        ({"sub": None}, "Invalid subject in token", None),
        ({"sub": "rei"}, "Invalid subject in token", None),
        ({"sub": 7}, "Invalid subject in token", None),
        ({"iss": None}, "Token missing issuer (iss) claim", None),
        ({"iss": ""}, "Token missing issuer (iss) claim", None),
        ({"exp": "never"}, "Could not decode access token", INVALID_TOKEN),
        ({"cnf": None}, "DPoP key binding mismatch", f'{REALM}, error="invalid_dpop_proof"'),
        ({"cnf": {}}, "DPoP key binding mismatch", f'{REALM}, error="invalid_dpop_proof"'),
        ({"cnf": "jkt"}, "DPoP key binding mismatch", f'{REALM}, error="invalid_dpop_proof"'),
        ({"cnf": {"jkt": "another"}}, "DPoP key binding mismatch", f'{REALM}, error="invalid_dpop_proof"'),
        ({"iss": "https://evil.test"}, NOT_THE_ISSUER, INVALID_TOKEN),
    ],
)
async def test_claim_of_an_access_token_that_does_not_hold_is_refused(
    scene: Scene, changes: dict[str, object], message: str, challenge: str | None
) -> None:
    token = scene.net.server.token(REI, scene.client.key.thumbprint(), **changes)
    assert await scene.refusal(token) == (message, challenge)


@pytest.mark.parametrize("text", ["opaque", "a.b.c", "e30.e30.", "..", "a.b"])
async def test_what_is_no_token_is_refused(scene: Scene, text: str) -> None:
    message, _ = await scene.refusal(text)
    assert message in {"Could not decode access token", "Invalid subject in token"}


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ({"exp": -31}, "Token expired"),
        ({"exp": -30}, None),
        ({"nbf": 31}, "Token not yet valid"),
        ({"iat": 31}, "Token not yet valid"),
        ({"nbf": 30, "iat": 30}, None),
    ],
)
async def test_access_token_has_its_time(scene: Scene, times: dict[str, int], message: str | None) -> None:
    claims = {name: scene.clock.seconds + offset for name, offset in times.items()}
    token = scene.net.server.token(REI, scene.client.key.thumbprint(), **claims)
    if message is None:
        assert await scene.call(token) == User(REI)
    else:
        assert await scene.refusal(token) == (message, INVALID_TOKEN)


async def test_token_without_an_end_is_let_in_as_the_contract_says(scene: Scene) -> None:
    assert await scene.call(scene.net.server.token(REI, scene.client.key.thumbprint(), exp=None)) == User(REI)


async def test_stolen_token_is_worth_nothing_without_its_key(scene: Scene) -> None:
    thief = Client(scene.clock)
    proof = thief.proof(scene.token, scene.nonce)
    assert await scene.refusal(proof=proof) == ("DPoP key binding mismatch", f'{REALM}, error="invalid_dpop_proof"')


def jkt(scene: Scene) -> dict[str, object]:
    return {"jkt": scene.client.key.thumbprint()}


def unsigned_token(scene: Scene) -> str:
    return scene.token.rpartition(".")[0] + "."


def token_without_algorithm(scene: Scene) -> str:
    return f"{part({'typ': 'at+jwt', 'alg': 'none'})}.{scene.token.split('.')[1]}."


def symmetric_token_of_an_everyday_pds(scene: Scene) -> str:
    secret = OctKey.generate_key(256)
    claims = {"iss": scene.net.server.url, "sub": REI, "exp": scene.clock.seconds + 60, "cnf": jkt(scene)}
    return jws.serialize_compact({"typ": "at+jwt", "alg": "HS256"}, json.dumps(claims), secret, algorithms=["HS256"])


def symmetric_token_with_the_public_key_as_secret(scene: Scene) -> str:
    secret = OctKey.import_key(json.dumps(scene.net.server.key.as_dict(private=False)))
    claims = {"iss": scene.net.server.url, "sub": REI, "exp": scene.clock.seconds + 60, "cnf": jkt(scene)}
    return jws.serialize_compact({"alg": "HS256", "kid": "first"}, json.dumps(claims), secret, algorithms=["HS256"])


def token_by_the_clients_own_key(scene: Scene) -> str:
    claims = {"iss": scene.net.server.url, "sub": REI, "exp": scene.clock.seconds + 60, "cnf": jkt(scene)}
    header = {"alg": "ES256", "kid": "first", "jwk": scene.client.key.as_dict(private=False)}
    return jws.serialize_compact(header, json.dumps(claims), scene.client.key, algorithms=["ES256"])


def token_for_another_subject_under_a_good_signature(scene: Scene) -> str:
    header, _, signature = scene.token.split(".")
    claims = {"iss": scene.net.server.url, "sub": SAKURA, "exp": scene.clock.seconds + 60, "cnf": jkt(scene)}
    return f"{header}.{part(claims)}.{signature}"


def token_that_names_a_key_that_is_not_there(scene: Scene) -> str:
    return scene.net.server.token(REI, scene.client.key.thumbprint(), header={"kid": "second"})


def token_of_a_proofs_type(scene: Scene) -> str:
    return scene.net.server.token(REI, scene.client.key.thumbprint(), header={"typ": "dpop+jwt"})


def token_of_a_stranger(scene: Scene) -> str:
    return scene.net.stranger.token(REI, scene.client.key.thumbprint())


def token_of_a_stranger_in_the_issuers_name(scene: Scene) -> str:
    return scene.net.stranger.token(REI, scene.client.key.thumbprint(), iss=scene.net.server.url)


FORGED_TOKENS: dict[Callable[[Scene], str], str] = {
    unsigned_token: "Token signature is invalid",
    token_without_algorithm: NOT_VERIFIABLE,
    symmetric_token_of_an_everyday_pds: NOT_VERIFIABLE,
    symmetric_token_with_the_public_key_as_secret: NOT_VERIFIABLE,
    token_by_the_clients_own_key: "Token signature is invalid",
    token_for_another_subject_under_a_good_signature: "Token signature is invalid",
    token_that_names_a_key_that_is_not_there: "Token signature is invalid",
    token_of_a_proofs_type: "Not an access token",
    token_of_a_stranger: NOT_THE_ISSUER,
    token_of_a_stranger_in_the_issuers_name: "Token signature is invalid",
}


@pytest.mark.parametrize(("forge", "message"), FORGED_TOKENS.items(), ids=[forge.__name__ for forge in FORGED_TOKENS])
async def test_forged_access_token_is_refused(scene: Scene, forge: Callable[[Scene], str], message: str) -> None:
    assert await scene.refusal(forge(scene)) == (message, INVALID_TOKEN)


async def test_nobody_is_asked_about_a_token_that_nobody_could_verify(scene: Scene) -> None:
    await scene.refusal(symmetric_token_of_an_everyday_pds(scene))
    assert scene.net.asked() == []
    assert scene.directory.known == {}


async def test_no_refusal_quotes_token_or_proof(scene: Scene) -> None:
    secrets = [scene.token, scene.proof()]
    for forge, token in [(forge, True) for forge in FORGED_TOKENS] + [(forge, False) for forge in FORGED_PROOFS]:
        made = forge(scene)
        secrets.append(made)
        error = await refused(scene.verifier, dpop(made, scene.proof_of(made)) if token else dpop(scene.token, made))
        told = f"{error!r} {error} {dict(error.headers)}"
        assert not any(piece in told for text in secrets for piece in text.split(".") if len(piece) > 8)


# Who may at all


async def test_external_allowlist_is_asked_last(scene: Scene, clock: Clock) -> None:
    asked: list[Did] = []

    async def on_allowlist(did: Did) -> bool:
        asked.append(did)
        return did == REI

    verifier = credentials(scene.directory, scene.http, clock, require_nonce=False, on_allowlist=on_allowlist).dpop
    token = scene.net.server.token(SAKURA, scene.client.key.thumbprint())
    assert await verifier.verify(dpop(scene.token, scene.client.proof(scene.token, None)), GET) == User(REI)
    error = await refused(verifier, dpop(token, scene.client.proof(token, None)))
    assert (error.status, error.message) == (401, f"User {SAKURA} is not on the allowlist")
    assert list(error.headers) == ["DPoP-Nonce"]
    assert (await refused(verifier, dpop(token, scene.proof()))).status == 401
    assert asked == [REI, SAKURA], "only of accounts that have proven themselves"


async def test_what_is_attempted_and_fails_is_never_anonymous(scene: Scene) -> None:
    authenticate = partial(authenticator(scene.credentials.verifiers).authenticate, nsid=GET)
    assert await authenticate(head()) == Anonymous()
    assert await authenticate(dpop(scene.token, scene.proof())) == User(REI)
    for request in (
        dpop(scene.token),
        dpop("x", scene.proof()),
        dpop(scene.token, scene.client.proof(scene.token, None)),
        head(headers=[("Authorization", "Basic x")]),
        head(headers=[("Authorization", "Bearer did:plc:rei")]),
        head(headers=[("Authorization", "Bearer x.y.z")]),
        head(syncToken="x"),
        head(syncToken=SYNC_TOKEN + "x"),
    ):
        assert (await refused(authenticator(scene.credentials.verifiers), request)).status == 401


async def test_figures_are_counted(scene: Scene) -> None:
    await scene.call()
    await scene.refusal("x")
    await refused(scene.credentials.verifiers[0], bearer("x.y.z"))
    figures = scene.credentials.statistics()
    for name in ("dpop_verified_total", "dpop_refused_total", "dpop_servers_entries", "dpop_keys_entries", "used_tokens"):
        assert figures[name] == 1, name
    assert (figures["service_verified_total"], figures["service_refused_total"]) == (0, 1)
    assert {"used_tokens_limit", "dpop_servers_entries_limit", "dpop_keys_entries_limit"} <= set(figures)
