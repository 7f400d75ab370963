"""From an account to the keys that its access tokens are signed with: every link must hold. Service spec §2.3.1 DO 1."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from joserfc.jwk import ECKey

from stratos.api.credentials.access_token import AccessToken
from stratos.api.credentials.challenge import Refused
from stratos.api.credentials.issuers import MAX_KEYS, MAX_METADATA_BYTES, Issuers
from stratos.api.credentials.jws import parse_token
from stratos.api.errors import XrpcError
from stratos.engine.identity import CacheLimits, OutgoingHttp, OutgoingPolicy
from tests.api.credentials.authorization_server import ELSEWHERE, Host, Network
from tests.api.credentials.builders import REI, Account, Clock, Directory

RESOURCE = "/.well-known/oauth-protected-resource"
SERVER = "/.well-known/oauth-authorization-server"
JWKS = "/oauth/jwks"
UNVERIFIED = "Token issuer could not be verified"
NOT_THE_ISSUER = "Token issuer is not the authorization server of the subject's PDS"
LIMITS = CacheLimits(fresh=600.0, stale=3_600.0, absent=30.0, retry=10.0, refresh=30.0, max_entries=2)


class Scene:
    """Rei's token, and what checks it."""

    def __init__(self, clock: Clock, net: Network, http: OutgoingHttp) -> None:
        self.clock, self.net = clock, net
        self.rei = Account(REI, pds=net.pds.url)
        self.directory = Directory(self.rei)
        self.issuers = Issuers(identity=self.directory, http=http, monotonic=clock.monotonic, limits=LIMITS)

    async def check(self, text: str | None = None) -> None:
        """Check a token, by default a good one of Rei's. Raises Refused."""
        token = parse_token(text or self.net.server.token(REI, "thumbprint"))
        issuer = token.text("iss")
        assert issuer is not None
        await self.issuers.check(AccessToken(REI, issuer, token))

    async def refusal(self, text: str | None = None) -> str:
        """Why a token is refused."""
        with pytest.raises(Refused) as caught:
            await self.check(text)
        assert caught.value.challenge == 'DPoP realm="stratos", error="invalid_token"'
        return caught.value.message

    async def outage(self) -> None:
        """Fails the test unless the caller is told to come back later."""
        with pytest.raises(XrpcError) as caught:
            await self.check()
        assert (caught.value.status, caught.value.name, caught.value.headers["Retry-After"]) == (503, "ServiceUnavailable", "10")


@pytest.fixture
def scene(clock: Clock, net: Network, http: OutgoingHttp) -> Scene:
    """A PDS with its authorization server."""
    return Scene(clock, net, http)


async def test_whole_chain_is_asked_once_and_then_remembered(scene: Scene) -> None:
    for _ in range(3):
        await scene.check()
    assert scene.net.asked() == [RESOURCE, SERVER, JWKS]
    scene.clock.advance(600)
    await scene.check()
    assert scene.net.asked() == [RESOURCE, RESOURCE, SERVER, JWKS, SERVER, JWKS]


@pytest.mark.parametrize("path", [RESOURCE, SERVER, JWKS])
@pytest.mark.parametrize("status", [301, 302, 400, 404])
async def test_link_that_is_not_there_is_no_link(scene: Scene, path: str, status: int) -> None:
    host = scene.net.pds if path == RESOURCE else scene.net.server
    host.publish(path, {"keys": [], "issuer": scene.net.server.url, "authorization_servers": [scene.net.server.url]}, status)
    assert await scene.refusal() == UNVERIFIED


@pytest.mark.parametrize("path", [RESOURCE, SERVER, JWKS])
@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_link_that_does_not_answer_is_an_outage_and_no_refusal(scene: Scene, path: str, status: int) -> None:
    host = scene.net.pds if path == RESOURCE else scene.net.server
    host.publish(path, {}, status)
    await scene.outage()


@pytest.mark.parametrize("path", [RESOURCE, SERVER, JWKS])
async def test_redirect_is_not_followed_even_to_what_is_right(scene: Scene, path: str) -> None:
    host = scene.net.pds if path == RESOURCE else scene.net.server
    host.pages[ELSEWHERE] = host.pages[path]
    host.publish(path, {}, 302)
    assert await scene.refusal() == UNVERIFIED
    assert ELSEWHERE not in scene.net.asked()


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"resource": "{pds}"},
        {"resource": "{pds}", "authorization_servers": []},
        {"resource": "{pds}", "authorization_servers": "{server}"},
        {"resource": "{pds}", "authorization_servers": [7]},
        {"resource": "{pds}", "authorization_servers": ["x"]},
        {"resource": "{pds}", "authorization_servers": ["https://u@{server}"]},
        {"resource": "{server}", "authorization_servers": ["{server}"]},
        {"resource": None, "authorization_servers": ["{server}"]},
        {"authorization_servers": ["{server}"]},
    ],
)
async def test_pds_must_name_its_server_for_itself(scene: Scene, document: dict[str, object]) -> None:
    urls = {"{pds}": scene.net.pds.url, "{server}": scene.net.server.url}

    def filled(value: object) -> object:
        if isinstance(value, list):
            return [filled(item) for item in value]
        return urls.get(value, value) if isinstance(value, str) else value

    scene.net.pds.publish(RESOURCE, {name: filled(value) for name, value in document.items()})
    assert await scene.refusal() == UNVERIFIED


async def test_only_the_first_server_of_a_pds_counts(scene: Scene) -> None:
    servers = [scene.net.stranger.url, scene.net.server.url]
    scene.net.pds.publish(RESOURCE, {"resource": scene.net.pds.url, "authorization_servers": servers})
    assert await scene.refusal() == NOT_THE_ISSUER
    await scene.check(scene.net.stranger.token(REI, "thumbprint"))


@pytest.mark.parametrize("issuer", [None, 7, "", "x", "{stranger}", "{server}/tenant", "{server}?x", "{server}#x"])
async def test_server_must_call_itself_by_its_own_origin(scene: Scene, issuer: object) -> None:
    if isinstance(issuer, str):
        issuer = issuer.replace("{stranger}", scene.net.stranger.url).replace("{server}", scene.net.server.url)
    scene.net.server.publish(SERVER, {"issuer": issuer, "jwks_uri": f"{scene.net.server.url}{JWKS}"})
    token = scene.net.server.token(REI, "thumbprint", iss=issuer if isinstance(issuer, str) and issuer else scene.net.server.url)
    assert await scene.refusal(token) == UNVERIFIED


async def test_issuer_is_compared_letter_by_letter(scene: Scene) -> None:
    assert await scene.refusal(scene.net.server.token(REI, "thumbprint", iss=f"{scene.net.server.url}/")) == NOT_THE_ISSUER


@pytest.mark.parametrize("jwks_uri", [None, 7])
async def test_server_without_keys_is_no_proof(scene: Scene, jwks_uri: object) -> None:
    scene.net.server.publish(SERVER, {"issuer": scene.net.server.url, "jwks_uri": jwks_uri})
    assert await scene.refusal() == "Token issuer publishes no keys"


@pytest.mark.parametrize("jwks_uri", ["", "x", "ftp://127.0.0.1/jwks", "file:///etc/passwd", "{server}/nothing"])
async def test_key_set_that_cannot_be_had_is_no_proof(scene: Scene, jwks_uri: str) -> None:
    url = jwks_uri.replace("{server}", scene.net.server.url)
    scene.net.server.publish(SERVER, {"issuer": scene.net.server.url, "jwks_uri": url})
    assert await scene.refusal() == UNVERIFIED


async def test_empty_key_set_and_one_without_usable_keys_prove_nothing(scene: Scene) -> None:
    for keys in (
        [],
        [{"kty": "oct", "k": "c2VjcmV0", "kid": "first"}],
        [{"kty": "EC"}, {}],
        [{"kty": "RSA", "n": "AQ", "e": "AQAB"}],
    ):
        scene.net.server.publish_keys(*keys)
        assert await scene.refusal() == "Token signature is invalid"
        scene.clock.advance(31)
    no_sets: tuple[dict[str, object], ...] = ({}, {"keys": {}}, {"keys": "x"})
    for document in no_sets:
        scene.net.server.publish(JWKS, document)
        assert await scene.refusal() == UNVERIFIED
        scene.clock.advance(31)


async def test_usable_keys_are_found_among_unusable_ones_but_not_without_end(scene: Scene) -> None:
    good = scene.net.server.key.as_dict(private=False)
    scene.net.server.publish_keys(*[{"kty": "x"}] * (MAX_KEYS - 1), good)
    await scene.check()
    scene.net.server.publish_keys(*[{"kty": "x"}] * MAX_KEYS, good)
    scene.clock.advance(600)
    assert await scene.refusal() == "Token signature is invalid"


async def test_token_without_key_id_is_tried_with_every_key(scene: Scene) -> None:
    scene.net.server.publish_keys(ECKey.generate_key("P-256").as_dict(private=False), scene.net.server.key.as_dict(private=False))
    await scene.check(scene.net.server.token(REI, "thumbprint", header={"kid": None}))


async def test_endless_metadata_are_not_read(scene: Scene) -> None:
    document = {"resource": scene.net.pds.url, "authorization_servers": [scene.net.server.url], "x": "x" * MAX_METADATA_BYTES}
    scene.net.pds.publish(RESOURCE, document)
    assert await scene.refusal() == UNVERIFIED


async def test_private_addresses_are_not_asked_unless_allowed(clock: Clock, net: Network) -> None:
    async with OutgoingHttp(OutgoingPolicy(allow_private=False), user_agent="tests") as http:
        assert await Scene(clock, net, http).refusal() == UNVERIFIED
    assert net.asked() == []


# Change and failure


async def test_new_key_is_learnt_at_once_but_not_asked_for_all_the_time(scene: Scene) -> None:
    await scene.check()
    scene.clock.advance(30)
    old = scene.net.server.token(REI, "thumbprint")
    scene.net.server.key = ECKey.generate_key("P-256", {"kid": "second"})
    scene.net.server.open()
    await scene.check()
    assert await scene.refusal(old) == "Token signature is invalid", "a key that was withdrawn is worth nothing"
    assert scene.net.server.asked.count(JWKS) == 2
    for _ in range(10):
        await scene.refusal(old)
    assert scene.net.server.asked.count(JWKS) == 2
    scene.clock.advance(30)
    await scene.refusal(old)
    assert scene.net.server.asked.count(JWKS) == 3


async def test_known_keys_serve_on_while_the_server_is_down_but_not_for_ever(scene: Scene) -> None:
    await scene.check()
    for host in (scene.net.pds, scene.net.server):
        host.pages.clear()
        for path in (RESOURCE, SERVER, JWKS):
            host.publish(path, {}, 503)
    scene.clock.advance(3_599)
    await scene.check()
    scene.clock.advance(1)
    await scene.outage()


async def test_failure_is_remembered_for_a_moment_and_then_forgotten(scene: Scene) -> None:
    scene.net.server.publish(JWKS, {}, 500)
    for _ in range(5):
        await scene.outage()
    assert scene.net.server.asked.count(JWKS) == 1
    scene.net.server.open()
    scene.clock.advance(10)
    await scene.check()


async def test_account_that_moved_is_followed_and_its_old_server_worth_nothing(scene: Scene) -> None:
    await scene.check()
    old = scene.net.server.token(REI, "thumbprint")
    scene.net.stranger.publish(RESOURCE, {"resource": scene.net.stranger.url, "authorization_servers": [scene.net.stranger.url]})
    scene.rei.pds = scene.net.stranger.url
    scene.directory.publish(scene.rei)
    await scene.check(scene.net.stranger.token(REI, "thumbprint"))
    assert scene.directory.refreshes == [REI]
    assert await scene.refusal(old) == NOT_THE_ISSUER


@pytest.mark.parametrize("pds", [None, "", "x", "ftp://pds.test", "https://u@pds.test"])
async def test_account_without_a_pds_has_no_issuer(scene: Scene, pds: str | None) -> None:
    scene.rei.pds = pds
    scene.directory.publish(scene.rei)
    assert await scene.refusal() == "Token subject has no PDS"


async def test_caches_are_bounded(scene: Scene, nursery: trio.Nursery) -> None:
    for _ in range(4):
        host = Host()
        await nursery.start(partial(host.serve))
        host.publish(RESOURCE, {"resource": host.url, "authorization_servers": [scene.net.server.url]})
        scene.directory.known.clear()
        scene.directory.publish(Account(REI, pds=host.url))
        await scene.check()
    figures = scene.issuers.statistics()
    assert (figures["servers_entries"], figures["servers_entries_limit"]) == (2, 2)
