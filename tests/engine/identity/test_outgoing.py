"""The guarded HTTP client against real servers: what it asks, what it refuses, and what it makes of bad answers."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import chain, repeat

import pytest
import trio

from stratos.engine.identity import (
    AddressRefused,
    AnswerRefused,
    Names,
    NoSuchHost,
    OutgoingError,
    OutgoingHttp,
    OutgoingPolicy,
    Unreachable,
    user_agent,
)
from tests.engine.identity.certificates import Authority
from tests.engine.identity.internet import HOSTS, QUICK, Internet
from tests.engine.identity.web_server import Handler, Request, answer, hang_up, redirect, silence

PDS = "https://pds.garden.net"
PRIVATE = replace(QUICK, allow_private=True)


class FixedNames(Names):
    """Knows the same addresses for every host, in this order."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = [ip_address(address) for address in addresses]

    async def addresses(self, host: str) -> Sequence[IPv4Address | IPv6Address]:
        return self._addresses

    async def texts(self, name: str) -> Sequence[str]:
        return ()


def pds(internet: Internet, target: str, handler: Handler) -> str:
    """Let the PDS answer at a target; its URL."""
    internet.web.on("pds.garden.net", target, handler)
    return PDS + target


async def refusal(http: OutgoingHttp, url: str) -> OutgoingError:
    """What asking raises."""
    with pytest.raises(OutgoingError) as raised:
        await http.request("GET", url)
    return raised.value


async def test_an_answer_comes_whole_with_status_headers_and_address(internet: Internet) -> None:
    url = pds(internet, "/a?b=c", answer(b"body", 418, {"X-Tea": "green", "x-tea": "black"}))
    found = await (await internet.http()).request("GET", url)
    assert (found.status, found.body, found.url) == (418, b"body", url)
    assert found.headers["x-tea"] == "green, black"


async def test_a_request_says_who_we_are_and_carries_what_the_caller_gives(internet: Internet) -> None:
    url = pds(internet, "/token", answer({}))
    await (await internet.http()).request("POST", url, headers={"DPoP": "proof"}, body=b"grant_type=x")
    [request] = internet.web.requests
    assert (request.method, request.target, request.body) == ("POST", "/token", b"grant_type=x")
    assert request.headers["user-agent"] == "Stratos/0 (+https://garden.net; unknown)"
    assert request.headers["host"] == "pds.garden.net"
    assert request.headers["dpop"] == "proof"
    assert request.headers["accept-encoding"] == "identity"
    assert "cookie" not in request.headers


@pytest.mark.parametrize(
    ("contact", "text"),
    [
        (None, "Stratos/0.1.0 (+https://garden.net; unknown)"),
        ("rei@garden.net", "Stratos/0.1.0 (+https://garden.net; rei@garden.net)"),
        ("rei\r\nX: y", "Stratos/0.1.0 (+https://garden.net; rei??X: y)"),
    ],
)
def test_the_user_agent_is_the_specified_one(contact: str | None, text: str) -> None:
    assert user_agent("0.1.0", "https://garden.net", contact) == text


async def test_cookies_are_not_kept(internet: Internet) -> None:
    url = pds(internet, "/", answer("", headers={"Set-Cookie": "session=1; Secure"}))
    http = await internet.http()
    await http.request("GET", url)
    await http.request("GET", url)
    assert ["cookie" in request.headers for request in internet.web.requests] == [False, False]


async def test_proxies_of_the_environment_are_not_asked(internet: Internet, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{internet.plain.port}")
    assert (await (await internet.http()).request("GET", pds(internet, "/", answer("direct")))).body == b"direct"
    assert internet.plain.requests == []


async def test_json_is_read(internet: Internet) -> None:
    assert await (await internet.http()).get_json(pds(internet, "/j", answer({"a": [1]}))) == {"a": [1]}
    assert internet.web.requests[0].headers["accept"] == "application/json"


@pytest.mark.parametrize(
    ("handler", "status"),
    [
        (answer("no json"), 200),
        (answer(b"\xff"), 200),
        (answer("[" * 5000 + "]" * 5000), 200),
        (answer({}, 404), 404),
        (answer({}, 500), 500),
    ],
)
async def test_what_is_not_json_with_status_200_is_refused_by_get_json(internet: Internet, handler: Handler, status: int) -> None:
    http, url = await internet.http(), pds(internet, "/j", handler)
    with pytest.raises(AnswerRefused) as raised:
        await http.get_json(url)
    assert raised.value.status == status


# What it connects to.


@pytest.mark.parametrize(
    "url",
    [
        PDS,
        "https://127.0.0.1/",
        "https://localhost/",
        "https://localhost:8443/",
        "https://LOCALHOST./",
        "https://anything.localhost/",
    ],
)
async def test_by_default_loopback_is_refused(internet: Internet, url: str) -> None:
    assert isinstance(await refusal(await internet.strict_http(), url), AddressRefused)
    assert internet.wires.went_to == []


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.2"],
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["100.64.0.1"],
        ["0.0.0.0"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["fd00::1"],
        ["fe80::1"],
        ["64:ff9b::7f00:1"],
        ["10.0.0.1", "fd00::1"],
    ],
)
async def test_a_name_for_an_address_inside_is_refused(internet: Internet, addresses: list[str]) -> None:
    internet.dns.host("turning.garden.net", *addresses)
    error = await refusal(await internet.http(), "https://turning.garden.net/")
    assert isinstance(error, AddressRefused)
    assert not any(address in str(error) for address in addresses)
    assert internet.wires.went_to == []


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.2/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:7f00:1]/",
        "https://169.254.169.254/latest/meta-data/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://127.1/",
        "https://rei@pds.garden.net/",
        "https://pds.garden.net@127.0.0.2/",
        "http://pds.garden.net/",
        "https://pds.garden.net:25/",
        "",
    ],
)
async def test_addresses_inside_and_tricks_are_refused_without_a_connection(internet: Internet, url: str) -> None:
    http = await internet.http()
    assert isinstance(await refusal(http, url), AddressRefused)
    assert internet.wires.went_to == []
    assert http.statistics()["refused_total"] == 1


async def test_of_mixed_addresses_only_public_ones_are_connected_to(internet: Internet) -> None:
    internet.dns.host("pds.garden.net", "10.0.0.1", "127.0.0.1", "127.0.0.2", "fd00::1")
    await (await internet.http()).request("GET", pds(internet, "/", answer("")))
    assert internet.wires.went_to == ["127.0.0.1"]


async def test_a_name_that_changes_its_address_after_the_check_gains_nothing(internet: Internet) -> None:
    answers = chain([["127.0.0.1"]], repeat(["127.0.0.2"]))
    internet.dns.records["turning.garden.net", "A"] = lambda: next(answers)
    internet.dns.records["turning.garden.net", "AAAA"] = []
    internet.web.on("turning.garden.net", "/", answer("outside", headers={"Connection": "close"}))
    http = await internet.http(replace(QUICK, max_idle=0))
    assert (await http.request("GET", "https://turning.garden.net/")).body == b"outside"
    assert internet.dns.asked["turning.garden.net", "A"] == 1
    assert isinstance(await refusal(http, "https://turning.garden.net/"), AddressRefused)
    assert internet.wires.went_to == ["127.0.0.1"]


async def test_a_host_without_addresses_is_told_from_a_broken_name_server(internet: Internet) -> None:
    http = await internet.http()
    assert isinstance(await refusal(http, "https://nobody.garden.net/"), NoSuchHost)
    internet.dns.broken = True
    assert isinstance(await refusal(http, "https://nobody.garden.net/"), Unreachable)


async def test_an_address_where_nobody_listens_or_answers_does_not_hide_the_next(internet: Internet) -> None:
    internet.wires.black_holes = {"127.0.1.2"}
    http = await internet.strict_http(replace(PRIVATE, connect_timeout=0.6), FixedNames("127.0.1.1", "127.0.1.2", "127.0.0.1"))
    assert (await http.request("GET", pds(internet, "/", answer("here")))).body == b"here"
    assert internet.wires.went_to == ["127.0.1.1", "127.0.1.2", "127.0.0.1"]


async def test_where_no_address_answers_the_last_ones_fault_is_told(internet: Internet) -> None:
    internet.wires.black_holes = {"127.0.1.1"}
    http = await internet.strict_http(replace(PRIVATE, connect_timeout=0.2), FixedNames("127.0.1.1"))
    assert isinstance(await refusal(http, PDS), Unreachable)


async def test_certificates_are_checked_for_name_and_authority(internet: Internet) -> None:
    internet.dns.host("stranger.garden.net", "127.0.0.1")
    http = await internet.http()
    assert isinstance(await refusal(http, "https://stranger.garden.net/"), Unreachable)
    internet.authority = Authority(HOSTS)
    assert isinstance(await refusal(await internet.http(), PDS), Unreachable)
    assert internet.web.requests == []


async def test_where_private_addresses_are_allowed_loopback_is_asked_over_plain_http(internet: Internet) -> None:
    internet.plain.on("127.0.0.1", "/", answer("inside"))
    http = await internet.strict_http(PRIVATE)
    assert (await http.request("GET", f"http://127.0.0.1:{internet.plain.port}/")).body == b"inside"


# Redirects.


async def test_a_redirect_is_followed_and_the_answer_says_where_it_came_from(internet: Internet) -> None:
    internet.web.on("mirror.garden.net", "/b", answer("moved"))
    for target, location in {"/1": "/2", "/2": "//mirror.garden.net/3#x", "/3": "b"}.items():
        for host in ("pds.garden.net", "mirror.garden.net"):
            internet.web.on(host, target, redirect(location, 308))
    found = await (await internet.http()).request("GET", f"{PDS}/1")
    assert (found.body, found.url) == (b"moved", "https://mirror.garden.net/b")


@pytest.mark.parametrize(
    "location",
    [
        "https://inside.garden.net/",
        "//inside.garden.net/",
        "https://127.0.0.2/",
        "https://[::1]/",
        "https://2130706433/",
        "http://pds.garden.net/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_FLUSHALL",
        "https://pds.garden.net:6/",
        "https://rei@pds.garden.net/",
        "https://[",
    ],
)
async def test_a_redirect_to_what_may_not_be_asked_is_refused(internet: Internet, location: str) -> None:
    error = await refusal(await internet.http(), pds(internet, "/", redirect(location)))
    assert isinstance(error, AddressRefused)
    assert internet.wires.went_to == ["127.0.0.1"]
    assert len(internet.web.requests) == 1


async def test_only_so_many_redirects_are_followed(internet: Internet) -> None:
    url = pds(internet, "/", redirect("/"))
    assert isinstance(await refusal(await internet.http(replace(QUICK, max_redirects=3)), url), AnswerRefused)
    assert internet.web.asked["pds.garden.net", "/"] == 4


async def test_a_caller_may_want_no_redirects(internet: Internet) -> None:
    url = pds(internet, "/", redirect("/elsewhere"))
    http = await internet.http()
    with pytest.raises(AnswerRefused):
        await http.request("GET", url, max_redirects=0)
    assert internet.web.asked["pds.garden.net", "/elsewhere"] == 0


async def test_a_post_is_never_redirected(internet: Internet) -> None:
    url = pds(internet, "/token", redirect("https://mirror.garden.net/", 307))
    found = await (await internet.http()).request("POST", url, body=b"secret")
    assert found.status == 307
    assert len(internet.web.requests) == 1


async def test_credentials_do_not_follow_to_another_origin(internet: Internet) -> None:
    internet.web.on("mirror.garden.net", "/", answer(""))
    url = pds(internet, "/", redirect("/again"))
    pds(internet, "/again", redirect("https://mirror.garden.net/"))
    headers = {"Authorization": "Bearer x", "DPoP": "y", "Accept": "text/plain"}
    await (await internet.http()).request("GET", url, headers=headers)
    assert ["authorization" in request.headers for request in internet.web.requests] == [True, True, False]
    assert ["dpop" in request.headers for request in internet.web.requests] == [True, True, False]
    assert internet.web.requests[2].headers["accept"] == "text/plain"


# Answers without end or sense.


async def test_an_answer_that_announces_too_much_is_not_read(internet: Internet) -> None:
    async def announce(request: Request, stream: trio.abc.Stream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
        await trio.sleep_forever()

    assert isinstance(await refusal(await internet.http(), pds(internet, "/", announce)), AnswerRefused)


async def test_an_answer_that_goes_on_and_on_is_cut_off(internet: Internet) -> None:
    sent = 0

    async def pour(request: Request, stream: trio.abc.Stream) -> None:
        nonlocal sent
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await stream.send_all(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            sent += 0x10000

    http, url = await internet.http(replace(QUICK, max_bytes=100_000)), pds(internet, "/", pour)
    assert isinstance(await refusal(http, url), AnswerRefused)
    assert sent < 20 * 1024 * 1024
    assert http.statistics()["connections"] == 0
    assert http.statistics()["refused_answers_total"] == 1


async def test_an_answer_of_exactly_the_limit_is_taken(internet: Internet) -> None:
    http = await internet.http()
    url = pds(internet, "/", answer(b"x" * 1000))
    assert len((await http.request("GET", url, max_bytes=1000)).body) == 1000
    with pytest.raises(AnswerRefused):
        await http.request("GET", url, max_bytes=999)


async def test_a_compressed_answer_is_refused_before_it_can_unfold(internet: Internet) -> None:
    bomb = answer(zlib.compress(b"\0" * 50_000_000), headers={"Content-Encoding": "deflate"})
    assert isinstance(await refusal(await internet.http(), pds(internet, "/", bomb)), AnswerRefused)


async def test_headers_without_end_are_cut_off(internet: Internet) -> None:
    async def pour(request: Request, stream: trio.abc.Stream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\n")
        while True:
            await stream.send_all(b"X-Filler: " + b"x" * 1000 + b"\r\n")

    assert isinstance(await refusal(await internet.http(), pds(internet, "/", pour)), Unreachable)


async def test_an_answer_that_drips_is_given_up_when_the_whole_time_is_over(internet: Internet) -> None:
    async def drip(request: Request, stream: trio.abc.Stream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            await stream.send_all(b"x")
            await trio.sleep(0.02)

    http = await internet.http(replace(QUICK, total_timeout=0.4))
    started = trio.current_time()
    assert isinstance(await refusal(http, pds(internet, "/", drip)), Unreachable)
    assert trio.current_time() - started < 2
    assert http.statistics()["connections"] == http.statistics()["in_flight"] == 0


async def test_headers_that_drip_are_given_up_too(internet: Internet) -> None:
    async def drip(request: Request, stream: trio.abc.Stream) -> None:
        while True:
            await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
            await trio.sleep(0.02)

    assert isinstance(
        await refusal(await internet.http(replace(QUICK, total_timeout=0.4)), pds(internet, "/", drip)), Unreachable
    )


@pytest.mark.parametrize("policy", [replace(QUICK, read_timeout=0.2), replace(QUICK, total_timeout=0.2)])
async def test_silence_is_given_up(internet: Internet, policy: OutgoingPolicy) -> None:
    http = await internet.http(policy)
    assert isinstance(await refusal(http, pds(internet, "/", silence)), Unreachable)
    assert http.statistics()["faults_total"] == 1


async def test_a_name_server_that_says_nothing_is_given_up(internet: Internet) -> None:
    internet.dns.silent.add("pds.garden.net")
    assert isinstance(await refusal(await internet.http(replace(QUICK, connect_timeout=0.2)), PDS), Unreachable)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x15\x03\x01",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\ntoo short",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense",
        b"HTTP/1.1 99999 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_an_error_of_ours_to_expect(internet: Internet, raw: bytes) -> None:
    async def handle(request: Request, stream: trio.abc.Stream) -> None:
        await stream.send_all(raw)
        await stream.aclose()

    assert isinstance(await refusal(await internet.http(), pds(internet, "/", handle)), Unreachable)


async def test_a_connection_refused_or_dropped_is_unreachable(internet: Internet) -> None:
    http = await internet.http()
    assert isinstance(await refusal(http, pds(internet, "/", hang_up)), Unreachable)
    assert isinstance(await refusal(await internet.strict_http(PRIVATE), "http://127.0.0.1:1/"), Unreachable)


# How much at once.


async def test_only_so_many_requests_run_at_once_and_only_so_many_wait(internet: Internet) -> None:
    gate = trio.Event()

    async def held(request: Request, stream: trio.abc.Stream) -> None:
        await gate.wait()
        await answer("done")(request, stream)

    http = await internet.http(replace(QUICK, max_concurrent=2, max_waiting=1))
    url, done = pds(internet, "/", held), []

    async def ask() -> None:
        done.append((await http.request("GET", url)).status)

    async with trio.open_nursery() as callers:
        for _ in range(3):
            callers.start_soon(ask)
        await internet.web.arrivals(2)
        statistics = http.statistics()
        assert (statistics["in_flight"], statistics["waiting"]) == (2, 1)
        assert isinstance(await refusal(http, url), Unreachable)
        gate.set()
    assert done == [200, 200, 200]
    assert http.statistics()["in_flight"] == http.statistics()["waiting"] == 0
    assert internet.web.asked["pds.garden.net", "/"] == 3


async def test_a_cancelled_request_gives_back_its_place_and_its_connection(internet: Internet, nursery: trio.Nursery) -> None:
    http, url = await internet.http(replace(QUICK, max_concurrent=1)), pds(internet, "/silent", silence)
    with trio.CancelScope() as scope:
        nursery.start_soon(_cancel_once_asked, internet, scope)
        await http.request("GET", url)
    assert scope.cancelled_caught
    assert http.statistics()["in_flight"] == http.statistics()["connections"] == 0
    assert (await http.request("GET", pds(internet, "/", answer("next")))).body == b"next"


async def _cancel_once_asked(internet: Internet, scope: trio.CancelScope) -> None:
    await internet.web.arrivals(1)
    scope.cancel()


async def test_a_connection_is_used_again(internet: Internet) -> None:
    http, url = await internet.http(), pds(internet, "/", answer("again"))
    for _ in range(3):
        await http.request("GET", url)
    assert http.statistics()["connections_total"] == 1
