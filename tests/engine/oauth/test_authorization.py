"""From a name typed into a browser to a session, and everything on the way that must not pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qsl, urlsplit

import pytest
import trio
from joserfc.jwk import ECKey
from trio.testing import MockClock

from stratos.engine.identity import Answer, Unreachable
from stratos.engine.oauth import AuthorizationFailed, Completed, Failure, PdsUnavailable
from tests.engine.oauth.authorization_server import ISSUER, PDS, REI, SAKURA, Request, document, json_answer, s256
from tests.engine.oauth.conftest import PUBLIC, Setting, setting_with


async def unreachable(request: Request) -> Answer | None:
    raise Unreachable(f"{request.url}: no connection")


async def begin_fails(setting: Setting, login: str) -> Failure:
    with pytest.raises(AuthorizationFailed) as refusal:
        await setting.client.begin(login)
    assert setting.store.states == {}
    return refusal.value.failure


async def complete_fails(setting: Setting, query: dict[str, str]) -> Failure:
    with pytest.raises(AuthorizationFailed) as refusal:
        await setting.client.complete(query)
    assert setting.store.sessions == {}
    return refusal.value.failure


@pytest.mark.parametrize("login", ["rei.test", "@rei.test", "  Rei.Test ", REI])
async def test_a_name_leads_the_browser_to_the_account_s_server(setting: Setting, login: str) -> None:
    begun = await setting.client.begin(login)
    url = urlsplit(begun.url)
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"{ISSUER}/authorize"
    query = dict(parse_qsl(url.query))
    assert query == {"client_id": "https://stratos.test/client-metadata.json", "request_uri": query["request_uri"]}


async def test_the_pushed_request_is_bound_to_a_key_and_a_secret_that_stays_here(setting: Setting) -> None:
    begun = await setting.client.begin("rei.test")
    pushed = setting.network.asked("/par")[-1].form
    assert pushed == {
        "client_id": "https://stratos.test/client-metadata.json",
        "response_type": "code",
        "redirect_uri": "https://stratos.test/oauth/callback",
        "scope": "atproto repo:zone.stratos.actor.enrollment repo:zone.stratos.feed.post",
        "state": pushed["state"],
        "code_challenge": pushed["code_challenge"],
        "code_challenge_method": "S256",
        "login_hint": "rei.test",
    }
    await setting.client.complete(setting.network.consent(begun.url, REI))
    verifier = setting.network.asked("/token")[-1].form["code_verifier"]
    assert len(verifier) == 43
    assert s256(verifier) == pushed["code_challenge"]


async def test_every_authorization_has_secrets_and_a_key_of_its_own(setting: Setting) -> None:
    begun = [await setting.client.begin(REI) for _ in range(2)]
    pushed = [request.form for request in setting.network.asked("/par") if request.form["state"] in setting.store.states]
    for name in ("state", "code_challenge"):
        assert len({form[name] for form in pushed}) == 2
    assert begun[0].browser != begun[1].browser
    for each in begun:
        await setting.client.complete(setting.network.consent(each.url, REI))
    assert len({grant.thumbprint for grant in setting.network.grants}) == 2


async def test_a_server_with_a_query_in_its_address_keeps_it(setting: Setting) -> None:
    setting.network.metadata["authorization_endpoint"] = f"{ISSUER}/authorize?theme=dark"
    begun = await setting.client.begin(REI)
    assert dict(parse_qsl(urlsplit(begun.url).query)).keys() == {"theme", "client_id", "request_uri"}


async def test_who_agrees_gives_us_a_session(setting: Setting) -> None:
    begun = await setting.client.begin("rei.test", return_to="https://app.test/welcome")
    completed = await setting.client.complete(setting.network.consent(begun.url, REI), browser=begun.browser)
    assert completed == Completed(
        did=REI,
        pds=PDS,
        scope="atproto repo:zone.stratos.actor.enrollment repo:zone.stratos.feed.post",
        return_to="https://app.test/welcome",
        same_browser=True,
    )
    assert setting.store.states == {}
    assert (await setting.ask()).ok


async def test_a_browser_that_did_not_begin_is_told_apart(setting: Setting) -> None:
    other = await setting.client.begin(SAKURA)
    for browser in (None, "", other.browser):
        begun = await setting.client.begin(REI)
        completed = await setting.client.complete(setting.network.consent(begun.url, REI), browser=browser)
        assert not completed.same_browser


async def test_a_confidential_client_proves_itself_each_time_anew() -> None:
    key = ECKey.generate_key("P-256", private=True)
    setting = setting_with(replace(PUBLIC, private_key=key.as_pem(private=True).decode()))
    setting.network.client_key = ECKey.import_key(key.as_dict(private=False))
    await setting.authorize()
    setting.let_access_token_age()
    assert (await setting.ask()).ok
    assert await setting.client.revoke(REI)


@pytest.mark.parametrize(
    "login", ["", "rei", "rei@test", "did:", "https://rei.test", "rei.test/../x", "a" * 5_000, "did:plc:" + "a" * 5_000]
)
async def test_what_is_neither_handle_nor_did_is_refused(setting: Setting, login: str) -> None:
    assert await begin_fails(setting, login) is Failure.NOT_AN_IDENTIFIER
    assert setting.network.requests == []


@pytest.mark.parametrize(
    "document",
    [
        {"id": REI, "alsoKnownAs": ["at://rei.test"]},
        {"id": REI, "alsoKnownAs": ["at://rei.test"], "service": [{"id": "#atproto_pds", "serviceEndpoint": "ftp://pds.test"}]},
        {"id": REI, "alsoKnownAs": ["at://sakura.test"], "service": [{"id": "#atproto_pds", "serviceEndpoint": PDS}]},
        {"id": REI, "service": [{"id": "#atproto_pds", "serviceEndpoint": PDS}]},
    ],
    ids=["no pds", "a pds elsewhere", "another handle", "no handle"],
)
async def test_an_account_whose_document_does_not_confirm_it_is_refused(setting: Setting, document: dict[str, object]) -> None:
    setting.people.documents[REI] = document
    assert await begin_fails(setting, "rei.test") is Failure.IDENTITY_UNRESOLVED


@pytest.mark.parametrize("login", ["nobody.test", "did:plc:nobody"])
async def test_an_unknown_account_is_refused(setting: Setting, login: str) -> None:
    assert await begin_fails(setting, login) is Failure.IDENTITY_UNRESOLVED


async def test_an_account_that_has_moved_is_not_sent_to_its_former_pds(setting: Setting) -> None:
    former = document(REI, "rei.test")
    former["service"] = [{"id": "#atproto_pds", "serviceEndpoint": "https://former.test"}]
    setting.people.remembered[REI] = former
    assert (await setting.authorize()).pds == PDS


async def test_a_pds_whose_server_cannot_be_found_is_refused(setting: Setting) -> None:
    setting.network.before["/.well-known/oauth-protected-resource"] = unreachable
    assert await begin_fails(setting, REI) is Failure.DISCOVERY_FAILED


async def test_a_server_that_takes_no_clients_of_our_kind_is_refused(setting: Setting) -> None:
    setting.network.metadata["token_endpoint_auth_methods_supported"] = ["private_key_jwt"]
    assert await begin_fails(setting, REI) is Failure.DISCOVERY_FAILED


@pytest.mark.parametrize(
    "answer",
    [
        json_answer(400, {"error": "invalid_scope", "error_description": "what is repo:?"}),
        json_answer(201, {"expires_in": 300}),
        json_answer(201, {"request_uri": "urn:" + "x" * 1_024}),
        Answer(201, {}, b"not json", ""),
        json_answer(302, {}, {"location": "https://elsewhere.test"}),
    ],
    ids=["refused", "without uri", "endless uri", "no json", "redirect"],
)
async def test_a_request_that_its_server_does_not_take_is_refused(setting: Setting, answer: Answer) -> None:
    async def give(request: Request) -> Answer:
        return answer

    setting.network.before["/par"] = give
    assert await begin_fails(setting, REI) is Failure.REQUEST_REFUSED


async def test_a_server_that_is_away_can_be_tried_later(setting: Setting) -> None:
    setting.network.before["/par"] = unreachable
    with pytest.raises(PdsUnavailable):
        await setting.client.begin(REI)
    assert setting.store.states == {}


async def test_whoever_begins_without_end_keeps_nobody_else_out(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stratos.engine.oauth.authorization.MAX_PENDING", 3)
    begun = []
    for _ in range(5):
        begun.append(await setting.client.begin(REI))
        setting.clock.advance(timedelta(seconds=1))
    assert len(setting.store.states) == 3
    statistics = setting.client.statistics()
    assert (statistics["pending"], statistics["dropped_total"]) == (3, 2)
    with pytest.raises(AuthorizationFailed) as refusal:
        await setting.client.complete(setting.network.consent(begun[1].url, REI), browser=begun[1].browser)
    assert refusal.value.failure is Failure.STATE_UNKNOWN
    assert (await setting.client.complete(setting.network.consent(begun[2].url, REI), browser=begun[2].browser)).did == REI


def changed(name: str, value: str | None) -> Callable[[dict[str, str]], dict[str, str]]:
    def change(query: dict[str, str]) -> dict[str, str]:
        return {key: text for key, text in {**query, name: value}.items() if text is not None}

    return change


@pytest.mark.parametrize(
    ("change", "failure"),
    [
        (changed("state", None), Failure.STATE_UNKNOWN),
        (changed("state", "forged"), Failure.STATE_UNKNOWN),
        (changed("iss", None), Failure.ISSUER_MISMATCH),
        (changed("iss", "https://mallory.test"), Failure.ISSUER_MISMATCH),
        (changed("iss", f"{ISSUER}/"), Failure.ISSUER_MISMATCH),
        (changed("code", None), Failure.CODE_REFUSED),
        (changed("code", "code-of-somebody-else"), Failure.CODE_REFUSED),
        (changed("error", "access_denied"), Failure.DENIED),
        (changed("error", "server_error"), Failure.REQUEST_REFUSED),
    ],
)
async def test_an_answer_that_is_not_the_one_to_our_request_is_refused_for_good(
    setting: Setting, change: Callable[[dict[str, str]], dict[str, str]], failure: Failure
) -> None:
    begun = await setting.client.begin(REI)
    query = setting.network.consent(begun.url, REI)
    assert await complete_fails(setting, change(query)) is failure
    if failure is not Failure.STATE_UNKNOWN:
        assert await complete_fails(setting, query) is Failure.STATE_UNKNOWN


async def test_an_error_is_believed_only_from_the_server_that_was_asked(setting: Setting) -> None:
    begun = await setting.client.begin(REI)
    query = setting.network.consent(begun.url, REI)
    forged = {"state": query["state"], "error": "access_denied", "iss": "https://mallory.test"}
    assert await complete_fails(setting, forged) is Failure.ISSUER_MISMATCH


async def test_a_state_is_good_for_an_hour(setting: Setting) -> None:
    begun = [await setting.client.begin(REI) for _ in range(2)]
    setting.clock.advance(timedelta(minutes=59, seconds=59))
    await setting.client.complete(setting.network.consent(begun[0].url, REI))
    setting.store.sessions.clear()
    setting.clock.advance(timedelta(seconds=1))
    assert await complete_fails(setting, setting.network.consent(begun[1].url, REI)) is Failure.STATE_UNKNOWN


async def test_of_two_callbacks_at_once_one_gets_the_session(setting: Setting) -> None:
    begun = await setting.client.begin(REI)
    query = setting.network.consent(begun.url, REI)
    outcomes: list[Completed | Failure] = []

    async def complete() -> None:
        try:
            outcomes.append(await setting.client.complete(query))
        except AuthorizationFailed as error:
            outcomes.append(error.failure)

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(complete)
    assert sorted(type(outcome) is Completed for outcome in outcomes) == [False, True]
    assert Failure.STATE_UNKNOWN in outcomes
    assert (await setting.ask()).ok


@pytest.mark.parametrize("path", ["/token", "/.well-known/oauth-authorization-server"])
async def test_a_callback_can_be_loaded_again_when_its_server_was_away(setting: Setting, path: str) -> None:
    begun = await setting.client.begin(REI)
    setting.clock.advance(timedelta(minutes=11))  # the server's metadata is no longer remembered
    query = setting.network.consent(begun.url, REI)
    setting.network.before[path] = unreachable
    with pytest.raises(PdsUnavailable):
        await setting.client.complete(query)
    del setting.network.before[path]
    assert (await setting.client.complete(query, browser=begun.browser)).same_browser


async def test_a_stored_state_shows_no_secret_and_opens_only_for_its_own_key(setting: Setting) -> None:
    begun = await setting.client.begin(REI)
    other = await setting.client.begin(SAKURA)
    [of_rei, of_sakura] = setting.store.states
    sealed, expires_at = setting.store.states[of_rei]
    assert REI.encode() not in sealed
    assert begun.browser.encode() not in sealed
    assert begun.browser not in repr(begun)
    setting.store.states[of_sakura] = (sealed, expires_at)
    query = setting.network.consent(other.url, SAKURA)
    assert await complete_fails(setting, query) is Failure.STATE_UNKNOWN


@pytest.mark.parametrize(
    ("extras", "failure"),
    [
        ({"sub": SAKURA}, Failure.SUBJECT_MISMATCH),
        ({"scope": "atproto"}, Failure.SCOPE_TOO_SMALL),
        ({"scope": "repo:zone.stratos.actor.enrollment"}, Failure.SCOPE_TOO_SMALL),
        ({"scope": None}, Failure.SCOPE_TOO_SMALL),
    ],
)
async def test_tokens_that_are_not_those_asked_for_are_given_back(
    setting: Setting, extras: dict[str, object], failure: Failure
) -> None:
    begun = await setting.client.begin(REI)
    setting.network.token_extras = extras
    assert await complete_fails(setting, setting.network.consent(begun.url, REI)) is failure
    assert [grant.alive for grant in setting.network.grants] == [False]


@pytest.mark.parametrize(
    "extras",
    [
        {"token_type": "Bearer"},
        {"access_token": ""},
        {"access_token": 7},
        {"access_token": "with\r\nx-header: of theirs"},
        {"refresh_token": None},
        {"refresh_token": "x" * 9_000},
        {"sub": None},
    ],
)
async def test_an_answer_without_tokens_that_we_can_use_is_refused(setting: Setting, extras: dict[str, object]) -> None:
    begun = await setting.client.begin(REI)
    setting.network.token_extras = extras
    assert await complete_fails(setting, setting.network.consent(begun.url, REI)) is Failure.BAD_ANSWER


async def test_states_that_nobody_came_back_for_are_forgotten(setting: Setting, autojump_clock: MockClock) -> None:
    await setting.client.begin(REI)
    async with trio.open_nursery() as nursery:
        await nursery.start(setting.client.run)
        await trio.sleep(601.0)
        assert len(setting.store.states) == 1
        setting.clock.advance(timedelta(hours=1))
        await trio.sleep(600.0)
        assert setting.store.states == {}
        nursery.cancel_scope.cancel()


async def test_what_happened_is_counted(setting: Setting) -> None:
    await setting.authorize()
    await complete_fails_after_success(setting)
    counted = setting.client.statistics()
    assert (counted["begun_total"], counted["completed_total"], counted["failed_total"]) == (1, 1, 1)


async def complete_fails_after_success(setting: Setting) -> None:
    with pytest.raises(AuthorizationFailed):
        await setting.client.complete({"state": "unknown"})
