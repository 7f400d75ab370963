"""From a PDS to its authorization server."""

from __future__ import annotations

from datetime import timedelta

import pytest

from stratos.engine.identity import Answer, AnswerRefused
from stratos.engine.oauth.server_metadata import MAX_CACHED_SERVERS, Discovery, DiscoveryFailed, origin_of
from tests.engine.oauth.authorization_server import ISSUER, PDS, Network, Request, json_answer
from tests.engine.oauth.memory import WallClock

RESOURCE = "/.well-known/oauth-protected-resource"
SERVER = "/.well-known/oauth-authorization-server"


@pytest.fixture
def clock() -> WallClock:
    return WallClock()


@pytest.fixture
def network(clock: WallClock) -> Network:
    return Network(clock)


@pytest.fixture
def discovery(network: Network, clock: WallClock) -> Discovery:
    return Discovery(network, clock=clock)


async def test_a_pds_leads_to_its_server(discovery: Discovery) -> None:
    server = await discovery.of_pds(PDS + "/")
    assert (server.issuer, server.token_endpoint, server.revocation_endpoint) == (ISSUER, f"{ISSUER}/token", f"{ISSUER}/revoke")
    assert server.accepts("none")
    assert server.accepts("private_key_jwt")
    assert not server.accepts("client_secret_basic")


async def test_a_server_that_cannot_verify_our_signatures_accepts_no_assertions(network: Network, discovery: Discovery) -> None:
    network.metadata["token_endpoint_auth_signing_alg_values_supported"] = ["RS256"]
    server = await discovery.of_pds(PDS)
    assert server.accepts("none")
    assert not server.accepts("private_key_jwt")


@pytest.mark.parametrize(
    "resource",
    [
        {"resource": "https://other.test", "authorization_servers": [ISSUER]},
        {"authorization_servers": [ISSUER]},
        {"resource": PDS},
        {"resource": PDS, "authorization_servers": []},
        {"resource": PDS, "authorization_servers": [ISSUER, "https://second.test"]},
        {"resource": PDS, "authorization_servers": [7]},
        {"resource": PDS, "authorization_servers": ISSUER},
        {"resource": PDS, "authorization_servers": [f"{ISSUER}/base"]},
        {"resource": PDS, "authorization_servers": [f"{ISSUER}/"]},
    ],
)
async def test_a_pds_that_does_not_name_its_one_server_is_refused(
    network: Network, discovery: Discovery, resource: dict[str, object]
) -> None:
    network.resource = resource
    with pytest.raises(DiscoveryFailed) as refusal:
        await discovery.of_pds(PDS)
    assert refusal.value.permanent


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("issuer", "https://other.test"),
        ("issuer", f"{ISSUER}/"),
        ("authorization_endpoint", None),
        ("authorization_endpoint", "javascript:alert(1)"),
        ("authorization_endpoint", f"{ISSUER}/authorize\r\nSet-Cookie: stratos_session=theirs"),
        ("authorization_endpoint", f"{ISSUER}/häuser"),
        ("authorization_endpoint", f"{ISSUER}\\@evil.test/"),
        ("authorization_endpoint", f"{ISSUER}/authorize#fragment"),
        ("authorization_endpoint", "http://auth.test/authorize"),
        ("authorization_endpoint", "https://auth.test@evil.test/"),
        ("authorization_endpoint", "https:///authorize"),
        ("authorization_endpoint", f"{ISSUER}/{'a' * 3_000}"),
        ("token_endpoint", "https://[auth.test/token"),
        ("token_endpoint", "https://auth.test:port/token"),
        ("token_endpoint", 7),
        ("pushed_authorization_request_endpoint", None),
        ("revocation_endpoint", "ftp://auth.test"),
        ("response_types_supported", ["token"]),
        ("grant_types_supported", ["implicit"]),
        ("code_challenge_methods_supported", ["plain"]),
        ("dpop_signing_alg_values_supported", ["RS256"]),
        ("scopes_supported", []),
        ("scopes_supported", "atproto"),
        ("authorization_response_iss_parameter_supported", False),
        ("client_id_metadata_document_supported", "true"),
    ],
)
async def test_a_server_that_lacks_what_atproto_demands_is_refused(
    network: Network, discovery: Discovery, name: str, value: object
) -> None:
    network.metadata[name] = value
    with pytest.raises(DiscoveryFailed, match=r"^https://auth\.test cannot be used: "):
        await discovery.of_pds(PDS)


@pytest.mark.parametrize("path", [RESOURCE, SERVER])
@pytest.mark.parametrize(
    "answer",
    [json_answer(404, {}), json_answer(500, {}), Answer(200, {}, b"<html>", ""), json_answer(200, ["a list"]), None],
    ids=["404", "500", "no json", "a list", "refused"],
)
async def test_an_answer_that_is_no_metadata_is_refused(
    network: Network, discovery: Discovery, path: str, answer: Answer | None
) -> None:
    async def give(request: Request) -> Answer:
        if answer is None:
            raise AnswerRefused("too large")
        return answer

    network.before[path] = give
    with pytest.raises(DiscoveryFailed):
        await discovery.of_pds(PDS)


async def test_a_server_s_metadata_is_asked_for_again_after_ten_minutes(
    network: Network, discovery: Discovery, clock: WallClock
) -> None:
    for _ in range(2):
        await discovery.of_issuer(ISSUER)
    assert len(network.asked(SERVER)) == 1
    clock.advance(timedelta(minutes=10))
    await discovery.of_issuer(ISSUER)
    assert len(network.asked(SERVER)) == 2


async def test_what_could_not_be_found_is_not_remembered(network: Network, discovery: Discovery) -> None:
    issuer = network.metadata.pop("issuer")
    with pytest.raises(DiscoveryFailed):
        await discovery.of_issuer(ISSUER)
    network.metadata["issuer"] = issuer
    assert (await discovery.of_issuer(ISSUER)).issuer == ISSUER


async def test_which_server_a_pds_has_is_asked_each_time(network: Network, discovery: Discovery) -> None:
    for _ in range(2):
        await discovery.of_pds(PDS)
    assert len(network.asked(RESOURCE)) == 2


async def test_only_so_many_servers_are_remembered(network: Network, discovery: Discovery) -> None:
    async def any_issuer(request: Request) -> Answer:
        return json_answer(200, {**network.metadata, "issuer": request.url.removesuffix(SERVER)})

    network.before[SERVER] = any_issuer
    for number in range(MAX_CACHED_SERVERS + 1):
        await discovery.of_issuer(f"https://{number}.test")
    for number in (MAX_CACHED_SERVERS, 0):
        await discovery.of_issuer(f"https://{number}.test")
    assert len(network.asked(SERVER)) == MAX_CACHED_SERVERS + 2


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://pds.test", "https://pds.test"),
        ("https://pds.test/", "https://pds.test"),
        ("https://PDS.test:8443/", "https://pds.test:8443"),
        ("http://[::1]:2583", "http://[::1]:2583"),
        ("https://pds.test//", None),
        ("https://pds.test/xrpc", None),
        ("https://pds.test?", None),
        ("https://pds.test/#", None),
        ("https://user@pds.test", None),
        ("https://pds.test:port", None),
        ("https://", None),
        ("ftp://pds.test", None),
        ("pds.test", None),
        (None, None),
    ],
)
def test_the_address_of_a_server_is_an_origin(url: object, origin: str | None) -> None:
    assert origin_of(url) == origin
