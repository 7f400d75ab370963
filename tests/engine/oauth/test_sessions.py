"""Sessions: what keeps them usable, and what ends them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from stratos.atproto.syntax import Did
from stratos.engine.identity import Answer, Unreachable
from stratos.engine.oauth import PdsUnavailable, SessionGone
from stratos.engine.oauth.client import EXPIRY_INTERVAL
from stratos.engine.oauth.server_metadata import RESOURCE_PATH, SERVER_PATH
from stratos.engine.oauth.sessions import IDLE_PAGE
from stratos.storage.ports import StorageFault
from tests.engine.oauth.authorization_server import REI, SAKURA, Request, json_answer
from tests.engine.oauth.conftest import METHOD, Setting, Way, client_of

XRPC = f"/xrpc/{METHOD}"


async def unreachable(request: Request) -> Answer | None:
    raise Unreachable(f"{request.url}: no connection")


async def test_without_a_session_nobody_is_asked(setting: Setting) -> None:
    with pytest.raises(SessionGone):
        await setting.ask()
    assert setting.network.requests == []


async def test_a_request_goes_to_the_account_s_pds_with_its_token(setting: Setting) -> None:
    await setting.authorize()
    answer = await setting.ask()
    assert (answer.ok, answer.error, answer.json) == (True, None, {"did": REI})
    [*_, request] = setting.network.asked(XRPC)
    assert request.url == f"https://pds.test{XRPC}?repo=did%3Aplc%3Arei"
    assert request.headers["authorization"] == f"DPoP {setting.session().tokens.access}"


async def test_sessions_of_two_accounts_do_not_mix(setting: Setting) -> None:
    for did in (REI, SAKURA):
        await setting.authorize(did)
    assert [(await setting.ask(did)).json["did"] for did in (REI, SAKURA)] == [REI, SAKURA]
    assert setting.session(REI).key.thumbprint != setting.session(SAKURA).key.thumbprint


async def test_what_is_asked_with_a_session_goes_another_way_than_what_anybody_may_make_us_ask(setting: Setting) -> None:
    begins, sessions = (Way(setting.network) for _ in range(2))
    client = client_of(setting.network, setting.people, setting.store, setting.seal, setting.clock, ways=(begins, sessions))
    begun = await client.begin(REI)
    await client.complete(setting.network.consent(begun.url, REI), browser=begun.browser)
    assert sessions.asked == []
    way_of_beginning = list(begins.asked)
    assert [*dict.fromkeys(way_of_beginning)] == [RESOURCE_PATH, SERVER_PATH, "/par", "/token"]
    setting.let_access_token_age()
    await client.request(REI, "GET", METHOD, params={"repo": REI})
    await client.revoke(REI)
    assert begins.asked == way_of_beginning
    assert [*dict.fromkeys(sessions.asked)] == [SERVER_PATH, "/token", XRPC, "/revoke"]


async def test_a_refusal_is_an_answer_and_leaves_the_tokens_alone(setting: Setting) -> None:
    await setting.authorize()

    async def refuse(request: Request) -> Answer:
        return json_answer(400, {"error": "RecordNotFound", "message": "no"})

    setting.network.before[XRPC] = refuse
    answer = await setting.ask()
    assert (answer.status, answer.ok, answer.error) == (400, False, "RecordNotFound")
    assert setting.client.statistics()["refreshes_total"] == 0


async def test_a_401_that_is_not_about_the_token_renews_nothing(setting: Setting) -> None:
    await setting.authorize()

    async def refuse(request: Request) -> Answer:
        return json_answer(401, {"error": "AccountTakedown", "message": "no"})

    setting.network.before[XRPC] = refuse
    assert (await setting.ask()).error == "AccountTakedown"
    assert setting.client.statistics()["refreshes_total"] == 0


@pytest.mark.parametrize("aged", [False, True])
async def test_a_token_that_is_refused_even_when_new_is_renewed_once_only(setting: Setting, aged: bool) -> None:
    await setting.authorize()
    if aged:
        setting.let_access_token_age()

    async def refuse(request: Request) -> Answer:
        return json_answer(401, {"error": "invalid_token"})

    setting.network.before[XRPC] = refuse
    assert (await setting.ask()).status == 401
    assert setting.client.statistics()["refreshes_total"] == 1


@pytest.mark.parametrize(("status", "header", "wait"), [(429, "17", 17.0), (503, "soon", None), (502, "99999999", 86_400.0)])
async def test_a_pds_in_trouble_is_unavailable_and_says_when_to_come_back(
    setting: Setting, status: int, header: str, wait: float | None
) -> None:
    await setting.authorize()

    async def refuse(request: Request) -> Answer:
        return json_answer(status, {}, {"retry-after": header})

    setting.network.before[XRPC] = refuse
    with pytest.raises(PdsUnavailable) as trouble:
        await setting.ask()
    assert trouble.value.retry_after == wait


async def test_a_pds_that_cannot_be_reached_is_unavailable(setting: Setting) -> None:
    await setting.authorize()
    setting.network.before[XRPC] = unreachable
    with pytest.raises(PdsUnavailable):
        await setting.ask()
    assert await setting.client.has_session(REI)


async def test_a_token_is_renewed_a_minute_before_its_end_and_not_earlier(setting: Setting) -> None:
    await setting.authorize()
    setting.clock.advance(timedelta(minutes=59))
    await setting.ask()
    assert setting.client.statistics()["refreshes_total"] == 0
    setting.clock.advance(timedelta(seconds=1))
    await setting.ask()
    assert setting.client.statistics()["refreshes_total"] == 1


async def test_a_token_of_unknown_lifetime_is_renewed_after_minutes(setting: Setting) -> None:
    setting.network.token_extras = {"expires_in": None}
    await setting.authorize()
    setting.clock.advance(timedelta(minutes=4, seconds=30))
    await setting.ask()
    assert setting.client.statistics()["refreshes_total"] == 1


async def test_many_requests_at_once_renew_a_token_once(setting: Setting) -> None:
    await setting.authorize()
    setting.let_access_token_age()
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(setting.ask)
    assert setting.client.statistics()["refreshes_total"] == 1
    assert setting.network.grants[0].alive
    assert (await setting.ask()).ok


async def test_what_another_process_has_renewed_meanwhile_is_used_as_it_is(setting: Setting) -> None:
    await setting.authorize()
    other = setting.another_client()

    async def be_overtaken(request: Request) -> Answer | None:
        del setting.network.before[XRPC]
        setting.change_tokens(lambda tokens: replace(tokens, expires_at=setting.clock()))
        assert (await other.request(REI, "GET", METHOD)).ok
        return None

    setting.network.before[XRPC] = be_overtaken
    assert (await setting.ask()).ok
    assert [client.statistics()["refreshes_total"] for client in (setting.client, other)] == [0, 1]


async def test_a_refusal_because_another_process_was_quicker_does_not_end_the_session(setting: Setting) -> None:
    await setting.authorize()
    setting.let_access_token_age()
    other = setting.another_client()

    async def be_overtaken(request: Request) -> Answer | None:
        del setting.network.before["/token"]
        assert (await other.request(REI, "GET", METHOD)).ok
        return json_answer(400, {"error": "invalid_grant"})

    setting.network.before["/token"] = be_overtaken
    assert (await setting.ask()).ok
    assert await setting.client.has_session(REI)


async def test_a_refresh_that_its_server_refuses_for_good_ends_the_session(setting: Setting) -> None:
    await setting.authorize()
    setting.network.grants[0].alive = False
    with pytest.raises(SessionGone):
        await setting.ask()
    assert not await setting.client.has_session(REI)
    assert setting.client.statistics()["lost_sessions_total"] == 1


@pytest.mark.parametrize("error", ["invalid_client", "invalid_request", "server_error", ""])
async def test_a_refresh_that_is_refused_for_another_reason_keeps_the_session(setting: Setting, error: str) -> None:
    await setting.authorize()
    setting.let_access_token_age()

    async def refuse(request: Request) -> Answer:
        return json_answer(400, {"error": error})

    setting.network.before["/token"] = refuse
    with pytest.raises(PdsUnavailable):
        await setting.ask()
    del setting.network.before["/token"]
    assert (await setting.ask()).ok


@pytest.mark.parametrize(
    "extras", [{"token_type": "Bearer"}, {"sub": SAKURA}, {"refresh_token": None}, {"access_token": "two\nlines"}]
)
async def test_a_refresh_that_brings_something_else_is_not_kept(setting: Setting, extras: dict[str, object]) -> None:
    await setting.authorize()
    setting.let_access_token_age()
    setting.network.token_extras = extras
    before = setting.store.sessions[REI]
    with pytest.raises(PdsUnavailable):
        await setting.ask()
    assert setting.store.sessions[REI] == before


async def test_a_refresh_goes_on_when_whoever_asked_for_it_is_cancelled(setting: Setting) -> None:
    await setting.authorize()
    setting.let_access_token_age()
    used, go_on = trio.Event(), trio.Event()

    async def answer_slowly(request: Request) -> Answer | None:
        used.set()
        await go_on.wait()
        return None

    setting.network.before["/token"] = answer_slowly
    async with trio.open_nursery() as nursery:
        nursery.start_soon(setting.ask)
        await used.wait()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
            go_on.set()
    assert setting.client.statistics()["refreshes_total"] == 1
    assert (await setting.ask()).ok
    assert setting.network.grants[0].alive


async def test_a_refresh_that_is_never_answered_is_given_up(setting: Setting, autojump_clock: MockClock) -> None:
    await setting.authorize()
    setting.let_access_token_age()

    async def never(request: Request) -> Answer | None:
        await trio.sleep_forever()
        raise AssertionError("slept for ever")

    setting.network.before["/token"] = never
    began = trio.current_time()
    with pytest.raises(PdsUnavailable):
        await setting.ask()
    assert trio.current_time() - began == 20.0
    del setting.network.before["/token"]
    assert (await setting.ask()).ok


async def test_a_server_that_cannot_be_reached_for_a_refresh_costs_nothing(setting: Setting) -> None:
    await setting.authorize()
    setting.let_access_token_age()
    for path in ("/.well-known/oauth-authorization-server", "/token"):
        setting.network.before[path] = unreachable
        with pytest.raises(PdsUnavailable):
            await setting.ask()
        del setting.network.before[path]
    assert (await setting.ask()).ok
    assert setting.client.statistics()["failed_refreshes_total"] == 2


async def test_a_stored_session_that_does_not_open_counts_as_none(setting: Setting) -> None:
    await setting.authorize()
    setting.store.sessions[SAKURA] = setting.store.sessions[REI]
    with pytest.raises(SessionGone):
        await setting.ask(SAKURA)
    setting.store.sessions[REI] = b"\x00" * 40
    assert not await setting.client.has_session(REI)


async def test_a_stored_session_shows_no_secret(setting: Setting) -> None:
    await setting.authorize()
    tokens = setting.session().tokens
    for secret in (tokens.access, tokens.refresh, REI):
        assert secret.encode() not in setting.store.sessions[REI]
    assert tokens.access not in repr(setting.session())
    assert setting.session().key.as_jwk()["d"] not in repr(setting.session())


async def test_revocation_ends_a_session_here_and_at_its_server(setting: Setting) -> None:
    await setting.authorize()
    assert await setting.client.revoke(REI)
    assert not setting.network.grants[0].alive
    assert setting.store.sessions == {}
    assert not await setting.client.revoke(REI)


@pytest.mark.parametrize("path", ["/revoke", "/.well-known/oauth-authorization-server"])
async def test_revocation_forgets_a_session_whose_server_is_away(setting: Setting, path: str) -> None:
    await setting.authorize()
    setting.clock.advance(timedelta(minutes=11))  # the server's metadata is no longer remembered
    setting.network.before[path] = unreachable
    assert not await setting.client.revoke(REI)
    assert setting.store.sessions == {}


async def test_a_server_without_revocation_keeps_what_we_forget(setting: Setting) -> None:
    del setting.network.metadata["revocation_endpoint"]
    await setting.authorize()
    assert not await setting.client.revoke(REI)
    assert setting.store.sessions == {}


async def test_a_new_session_replaces_the_former_and_has_it_revoked(setting: Setting) -> None:
    await setting.authorize()
    await setting.authorize()
    assert [grant.alive for grant in setting.network.grants] == [False, True]
    assert (await setting.ask()).ok


async def test_a_former_session_that_cannot_be_revoked_does_not_hold_up_the_new_one(
    setting: Setting, autojump_clock: MockClock
) -> None:
    await setting.authorize()

    async def never(request: Request) -> Answer | None:
        await trio.sleep_forever()
        raise AssertionError("slept for ever")

    setting.network.before["/revoke"] = never
    began = trio.current_time()
    await setting.authorize()
    assert trio.current_time() - began == 3.0
    assert (await setting.ask()).ok


async def test_revocation_and_refresh_do_not_cross(setting: Setting) -> None:
    await setting.authorize()
    setting.let_access_token_age()
    asked, go_on = trio.Event(), trio.Event()

    async def answer_slowly(request: Request) -> Answer | None:
        asked.set()
        await go_on.wait()
        return None

    setting.network.before["/token"] = answer_slowly
    async with trio.open_nursery() as nursery:
        nursery.start_soon(setting.ask)
        await asked.wait()
        nursery.start_soon(setting.client.revoke, REI)
        await wait_all_tasks_blocked()
        go_on.set()
    assert setting.store.sessions == {}
    assert not setting.network.grants[0].alive


async def test_a_session_that_nobody_uses_is_renewed_weekly(setting: Setting, autojump_clock: MockClock) -> None:
    for did in (REI, SAKURA):
        await setting.authorize(did)
    setting.clock.advance(timedelta(days=4))
    await setting.ask(SAKURA)
    async with trio.open_nursery() as nursery:
        await nursery.start(setting.client.run)
        setting.clock.advance(timedelta(days=3))
        await trio.sleep(1.0)
        assert setting.client.statistics()["refreshes_total"] == 1
        setting.clock.advance(timedelta(seconds=1))
        await trio.sleep(6 * 3_600.0)
        assert setting.client.statistics()["refreshes_total"] == 2
        nursery.cancel_scope.cancel()
    assert setting.session(REI).tokens.expires_at > setting.clock()
    assert setting.session(SAKURA).tokens.expires_at < setting.clock()


async def test_idle_sessions_that_cannot_be_renewed_hold_up_nobody(setting: Setting, autojump_clock: MockClock) -> None:
    await setting.authorize(SAKURA)
    sealed = setting.store.sessions[SAKURA]
    for number in range(IDLE_PAGE):
        setting.store.put_session(Did(f"did:plc:{number}"), sealed, setting.clock())  # sealed to another: does not open
    await setting.authorize(REI)
    setting.network.grants[-1].alive = False
    setting.clock.advance(timedelta(days=8))
    async with trio.open_nursery() as nursery:
        await nursery.start(setting.client.run)
        await trio.sleep(1.0)
        nursery.cancel_scope.cancel()
    assert setting.session(SAKURA).tokens.expires_at > setting.clock()
    assert not await setting.client.has_session(REI)


async def test_a_session_without_the_key_of_its_tokens_is_refused_by_the_pds(setting: Setting) -> None:
    await setting.authorize(REI)
    await setting.authorize(SAKURA)
    stolen = setting.session(REI).tokens
    setting.change_tokens(lambda tokens: replace(tokens, access=stolen.access), SAKURA)
    answer = await setting.ask(SAKURA)
    assert answer.json["did"] == SAKURA  # refused, renewed with its own refresh token, and asked again
    assert setting.client.statistics()["refreshes_total"] == 1


async def test_the_loops_go_on_after_a_fault_of_the_store(setting: Setting, autojump_clock: MockClock) -> None:
    looks: list[str] = []

    def broken(*_: object, **__: object) -> int:
        looks.append("look")
        raise StorageFault("the server does not answer")

    setting.store.expire_states = broken  # type: ignore[method-assign]
    setting.store.sessions_put_before = broken  # type: ignore[assignment,method-assign]
    with trio.move_on_after(2.5 * EXPIRY_INTERVAL):
        await setting.client.run()
    assert len(looks) == 6
