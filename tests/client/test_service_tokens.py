"""Tokens for one method of one service, minted by the account's PDS."""

from __future__ import annotations

import httpx
import pytest
import trio
import trio.testing

from stratos.client import HttpAnswer, HttpRequest, NoAnswer, ServiceTokens, XrpcFailure, XrpcHost
from tests.client.builders import PDS_URL, SERVICE, Script, answering

GET, LIST, CREATE = "zone.stratos.repo.getRecord", "zone.stratos.repo.listRecords", "zone.stratos.repo.createRecord"
NOW = 1_800_000_000.0


class Clock:
    """Seconds since 1970, as the test says."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pds() -> Script:
    """A PDS that numbers its tokens."""
    script = Script(lambda _request: httpx.Response(200, json={"token": f"token-{len(script.asked)}"}))
    return script


async def test_a_token_is_asked_for_by_audience_method_and_expiry(pds: Script, clock: Clock) -> None:
    tokens = ServiceTokens(pds.host(), SERVICE, clock=clock)
    assert await tokens.authorization(GET, once=False) == "Bearer token-1"
    (asked,) = pds.asked
    assert asked.url.path == "/xrpc/com.atproto.server.getServiceAuth"
    assert dict(asked.url.params) == {"aud": SERVICE, "lxm": GET, "exp": str(int(NOW) + 60)}


async def test_a_reading_token_is_kept_for_its_method_until_shortly_before_it_expires(pds: Script, clock: Clock) -> None:
    tokens = ServiceTokens(pds.host(), SERVICE, clock=clock)
    assert [await tokens.token(GET), await tokens.token(LIST), await tokens.token(GET)] == ["token-1", "token-2", "token-1"]
    clock.now += 49.9
    assert await tokens.token(GET) == "token-1"
    clock.now += 0.2
    assert await tokens.token(GET) == "token-3"
    assert tokens.statistics() == {"methods": 2, "methods_limit": 64, "minted_total": 3, "reused_total": 2}


async def test_a_token_that_is_used_up_is_minted_for_each_call(pds: Script, clock: Clock) -> None:
    tokens = ServiceTokens(pds.host(), SERVICE, clock=clock)
    assert [await tokens.authorization(CREATE, once=True) for _ in range(2)] == ["Bearer token-1", "Bearer token-2"]


class SlowPds:
    """Mints a token when the test says so."""

    def __init__(self) -> None:
        self.asked = 0
        self.go = trio.Event()

    async def __call__(self, request: HttpRequest) -> HttpAnswer:
        self.asked += 1
        number = self.asked
        await self.go.wait()
        return HttpAnswer(200, {}, b'{"token": "token-%d"}' % number)


async def test_callers_at_the_same_time_have_one_token_minted(clock: Clock) -> None:
    pds = SlowPds()
    tokens = ServiceTokens(XrpcHost(PDS_URL, pds), SERVICE, clock=clock)
    got: list[str] = []

    async def ask() -> None:
        got.append(await tokens.token(GET))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        pds.go.set()
    assert (got, pds.asked) == (["token-1"] * 10, 1)


async def test_when_the_caller_who_mints_is_cancelled_the_next_one_does(clock: Clock) -> None:
    pds = SlowPds()
    tokens = ServiceTokens(XrpcHost(PDS_URL, pds), SERVICE, clock=clock)
    got: list[str] = []

    async def ask() -> None:
        got.append(await tokens.token(GET))

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as impatient:
            async with trio.open_nursery() as inner:
                inner.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked()
                impatient.cancel()
        pds.go.set()
    assert (got, pds.asked) == (["token-2"], 2)


async def test_of_many_methods_the_least_recently_called_is_forgotten(pds: Script, clock: Clock) -> None:
    tokens = ServiceTokens(pds.host(), SERVICE, clock=clock, max_methods=2)
    for method in (GET, LIST, GET, "zone.stratos.a"):
        await tokens.token(method)
    assert tokens.statistics()["methods"] == 2
    assert await tokens.token(GET) == "token-1"
    assert await tokens.token(LIST) == "token-4"


async def test_a_refusal_of_the_pds_is_told_and_not_remembered(clock: Clock) -> None:
    answers = [
        httpx.Response(401, json={"error": "ExpiredToken", "message": "sign in"}),
        httpx.Response(200, json={"token": "t"}),
    ]
    tokens = ServiceTokens(Script(lambda _request: answers.pop(0)).host(), SERVICE, clock=clock)
    with pytest.raises(XrpcFailure) as caught:
        await tokens.token(GET)
    assert (caught.value.status, caught.value.name) == (401, "ExpiredToken")
    assert await tokens.token(GET) == "t"


@pytest.mark.parametrize("token", [None, 7, "", "a b", "a\r\nx-evil: 1", "x" * 8193])
async def test_what_is_no_token_never_gets_into_a_header(token: object, clock: Clock) -> None:
    with pytest.raises(NoAnswer):
        await ServiceTokens(answering({"token": token}).host(), SERVICE, clock=clock).token(GET)


def test_a_margin_as_long_as_the_lifetime_is_a_mistake(pds: Script, clock: Clock) -> None:
    with pytest.raises(ValueError, match="margin"):
        ServiceTokens(pds.host(), SERVICE, clock=clock, lifetime=10, margin=10)
