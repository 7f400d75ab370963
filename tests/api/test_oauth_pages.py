"""The pages of self-enrollment over real sockets: parameters, cookies, redirects, refusals. Service spec §2.10, §4.2–4.7.

Signing in is played here; tests/e2e/test_enrollment.py does it at a real PDS.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path

import httpx
import pytest
import trio

from stratos.api.app import StratosApp
from stratos.api.auth import EnrollmentGate
from stratos.api.config import ApiConfig
from stratos.api.credentials import Credentials, CredentialSettings, WayOut
from stratos.api.oauth import METADATA_PATHS, SignInPages
from stratos.api.oauth_return import ReturnAddresses
from stratos.api.server import HttpServer
from stratos.atproto.syntax import Did
from stratos.core.enrollment import Enrollment
from stratos.engine.eligibility import Eligibility, EligibilityPolicy
from stratos.engine.identity import OutgoingHttp, OutgoingPolicy
from stratos.engine.oauth import AuthorizationFailed, Begun, ClientSettings, Completed, Failure, PdsUnavailable, Registration
from stratos.engine.self_enrollment import SelfEnrollment
from stratos.storage.ports import StorageFault
from tests.api.builders import LOOPBACK
from tests.api.credentials.authorization_server import Network, network
from tests.api.credentials.builders import MASTER_KEY, PUBLIC_URL, SERVICE, Account, Client, Clock, Directory, service_token
from tests.engine.builders import EDITORS, REI, SAKURA, WRITERS, Engine, open_backend, start_engine

APP = "https://app.test"
AUTHORIZE, CALLBACK, STATUS, REVOKE = ("/oauth/authorize", "/oauth/callback", "/oauth/status", "/oauth/revoke")
STATUS_METHOD, REVOKE_METHOD = "zone.stratos.enrollment.status", "zone.stratos.enrollment.revoke"
SECRET = "browser-secret"
RETURN = {"state": "s", "iss": "https://pds.test", "code": "c"}


@dataclass
class Played:
    """Signing in without a server: whoever begins is let go on, and comes back as `did`."""

    did: Did = REI
    began: list[tuple[str, str | None]] = field(default_factory=list)
    completed: list[tuple[Mapping[str, str], str | None]] = field(default_factory=list)
    revoked: list[Did] = field(default_factory=list)
    fault: Exception | None = None

    async def begin(self, login: str, *, return_to: str | None = None) -> Begun:
        if self.fault is not None:
            raise self.fault
        self.began.append((login, return_to))
        return Begun("https://pds.test/oauth/authorize?request_uri=x", SECRET)

    async def complete(self, query: Mapping[str, str], *, browser: str | None = None) -> Completed:
        if self.fault is not None:
            raise self.fault
        self.completed.append((query, browser))
        return_to = self.began[-1][1] if self.began else None
        return Completed(self.did, "https://pds.test", "atproto", return_to, browser == SECRET)

    async def revoke(self, did: Did) -> bool:
        self.revoked.append(did)
        return True


@dataclass
class Browser:
    """Keeps cookies as a browser would, over what stands in for https."""

    client: httpx.AsyncClient
    cookies: dict[str, str] = field(default_factory=dict)

    async def get(self, path: str, params: Mapping[str, str] | None = None, **headers: str) -> httpx.Response:
        """Load a page."""
        return await self._ask("GET", path, params, headers)

    async def post(self, path: str, **headers: str) -> httpx.Response:
        """Send an empty form."""
        return await self._ask("POST", path, None, headers)

    async def _ask(self, verb: str, path: str, params: Mapping[str, str] | None, headers: Mapping[str, str]) -> httpx.Response:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        sent = {**({"cookie": cookie} if cookie else {}), **headers}
        answer = await self.client.request(verb, path, params=params, headers=sent)
        for text in answer.headers.get_list("set-cookie"):
            for name, morsel in SimpleCookie(text).items():
                assert (morsel["httponly"], morsel["samesite"], morsel["path"]) == (True, "Lax", "/")
                if morsel["max-age"] == "0":
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value
        return answer


@dataclass
class Scene:
    """A served application whose policy lets Rei enroll and nobody else."""

    engine: Engine
    client: httpx.AsyncClient
    played: Played
    credentials: Credentials
    clock: Clock
    net: Network
    refreshed: list[Did]
    faults: list[Exception]
    rei: Account

    def browser(self) -> Browser:
        """A new browser."""
        return Browser(self.client)

    async def sign_in(self, browser: Browser, **params: str) -> httpx.Response:
        """From the form to the return, in one browser."""
        answer = await browser.get(AUTHORIZE, {"handle": "rei.test", **params})
        assert answer.status_code == 302, answer.text
        return await browser.get(CALLBACK, RETURN)

    def enrollment(self, did: Did = REI) -> Enrollment | None:
        """The enrollment as it stands."""
        return self.engine.service.backend.enrollments.get(did)


@asynccontextmanager
async def scene_of(
    data_dir: Path, *, public: str = PUBLIC_URL, allowed: tuple[str, ...] = (), dev_mode: bool = False, sign_in: bool = True
) -> AsyncIterator[Scene]:
    """Serve on loopback for the block."""
    clock, played, refreshed, faults = Clock(), Played(), list[Did](), list[Exception]()
    backend = open_backend(data_dir)

    async def refresh(did: Did) -> None:
        if faults:
            raise faults.pop()
        refreshed.append(did)

    try:
        async with (
            network(clock) as net,
            OutgoingHttp(OutgoingPolicy(allow_private=True), user_agent="tests") as http,
            trio.open_nursery() as nursery,
        ):
            rei = Account(REI, pds=net.pds.url)
            engine = await start_engine(backend, nursery)
            settings = CredentialSettings(SERVICE, ("stratos",), public, MASTER_KEY)
            way = WayOut(Directory(rei), http)
            made = Credentials(
                settings,
                known=way,
                strangers=way,
                is_known=EnrollmentGate(backend.enrollments, engine.service.reads).is_known,
                clock=clock,
                monotonic=clock.monotonic,
            )
            pages = SignInPages(
                SelfEnrollment(
                    played,
                    engine.service.enrollment,
                    Eligibility(EligibilityPolicy(dids=frozenset({REI})), identity=engine.service.network),
                    enrollment=lambda did: engine.service.reads(lambda: backend.enrollments.current(did)),
                    completed=refresh,
                    dismissed=engine.service.publisher.dismiss,
                ),
                Registration.of(ClientSettings(public_url=public, name="Stratos under test", allow_loopback=True)),
                ReturnAddresses(public, allowed),
            )
            config = ApiConfig(dev_mode=dev_mode)
            app = StratosApp(engine.service, config, credentials=made, sign_in=pages if sign_in else None)
            (url,) = await nursery.start(HttpServer(app, LOOPBACK).run)
            async with httpx.AsyncClient(base_url=url, verify=False) as client:  # noqa: S501 - plain HTTP on loopback
                yield Scene(engine, client, played, made, clock, net, refreshed, faults, rei)
            await engine.stop()
            nursery.cancel_scope.cancel()
    finally:
        backend.close()


@pytest.fixture
async def scene(data_dir: Path) -> AsyncIterator[Scene]:
    """A service at https://stratos.test that may send browsers to https://app.test."""
    async with scene_of(data_dir, allowed=(APP,)) as scene:
        yield scene


def refusal(answer: httpx.Response) -> tuple[int, str, str]:
    """Status, error name and message."""
    body = answer.json()
    return answer.status_code, body["error"], body["message"]


async def test_signing_in_enrolls_tells_the_publisher_and_signs_the_browser_in(scene: Scene) -> None:
    browser = scene.browser()
    answer = await scene.sign_in(browser)
    message = "Successfully enrolled in Stratos"
    assert (answer.status_code, answer.json()) == (200, {"success": True, "did": REI, "enrolled": True, "message": message})
    assert scene.played.began == [("rei.test", None)]
    assert scene.played.completed == [(RETURN, SECRET)]
    enrollment = scene.enrollment()
    assert enrollment is not None
    assert (enrollment.active, enrollment.boundaries, enrollment.pds_endpoint) == (True, (WRITERS,), "https://pds.test")
    assert scene.refreshed == [REI]
    assert scene.played.revoked == []
    assert list(browser.cookies) == ["__Host-stratos_session"], "the cookie of the sign-in is gone"
    status = (await browser.get(STATUS)).json()
    csrf = status.pop("csrfToken")
    assert status == {
        "did": REI,
        "enrolled": True,
        "enrolledAt": enrollment.enrolled_at,
        "boundaries": [{"value": WRITERS}],
    }
    assert csrf


async def test_signing_in_again_changes_nothing_but_tells_the_publisher(scene: Scene) -> None:
    await scene.sign_in(scene.browser())
    before, head = scene.enrollment(), scene.engine.service.log.head
    answer = await scene.sign_in(scene.browser())
    message = "Already enrolled in Stratos"
    assert answer.json() == {"success": True, "did": REI, "enrolled": False, "message": message}
    assert scene.enrollment() == before
    assert scene.engine.service.log.head == head
    assert scene.refreshed == [REI, REI]


async def test_leaving_takes_the_csrf_token_and_coming_back_keeps_key_and_repository(scene: Scene) -> None:
    browser = scene.browser()
    await scene.sign_in(browser)
    first, head = scene.enrollment(), scene.engine.service.backend.log.repo_head(REI)
    assert first is not None
    assert head is not None
    csrf = (await browser.get(STATUS)).json()["csrfToken"]
    for headers in ({}, {"x-csrf-token": "x"}):
        assert refusal(await browser.post(REVOKE, **headers))[:2] == (403, "InvalidCsrfToken")
    elsewhere = await browser.post(REVOKE, **{"x-csrf-token": csrf, "origin": "https://evil.test"})
    assert refusal(elsewhere)[:2] == (403, "InvalidOrigin")
    assert scene.enrollment() == first
    kept = dict(browser.cookies)
    left = await browser.post(REVOKE, **{"x-csrf-token": csrf})
    assert left.json() == {"did": REI, "revoked": True, "message": "Successfully unenrolled from Stratos"}
    assert browser.cookies == {}
    browser.cookies = kept
    assert (await browser.get(STATUS)).json() == {"did": REI, "enrolled": False, "csrfToken": csrf}
    assert refusal(await browser.post(REVOKE, **{"x-csrf-token": csrf})) == (404, "NotFound", "User is not enrolled")
    assert scene.played.revoked == [], "the publisher ends the session, after it has taken back what it published"
    again = await scene.sign_in(scene.browser())
    assert again.json()["enrolled"] is True
    now = scene.enrollment()
    assert now is not None
    assert (now.active, now.signing_key, now.boundaries) == (True, first.signing_key, (WRITERS,))
    assert scene.engine.service.backend.log.repo_head(REI) == head


async def test_whoever_may_not_enroll_leaves_nothing_behind(scene: Scene) -> None:
    scene.played.did = SAKURA
    browser = scene.browser()
    head = scene.engine.service.log.head
    answer = await scene.sign_in(browser)
    assert refusal(answer) == (403, "EnrollmentDenied", "Your account is not eligible for this Stratos service")
    assert scene.played.revoked == [SAKURA]
    assert scene.enrollment(SAKURA) is None
    assert scene.engine.service.log.head == head
    assert scene.refreshed == []
    assert not any("session" in name for name in browser.cookies)


async def test_an_enrolled_account_that_is_no_longer_welcome_keeps_the_session_that_can_take_its_record_back(
    scene: Scene,
) -> None:
    await scene.engine.enroll(SAKURA, EDITORS)
    scene.played.did = SAKURA
    assert refusal(await scene.sign_in(scene.browser()))[:2] == (403, "EnrollmentDenied")
    assert scene.played.revoked == []


@pytest.mark.expects_error_log
async def test_a_store_that_fails_while_enrolling_gives_the_session_back(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise StorageFault("disk on fire")

    browser = scene.browser()
    monkeypatch.setattr(scene.engine.service.enrollment.__class__, "enroll", broken)
    answer = await scene.sign_in(browser)
    assert refusal(answer)[:2] == (503, "ServiceUnavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert scene.played.revoked == [REI]
    assert not any("session" in name for name in browser.cookies)


@pytest.mark.expects_error_log
async def test_a_publisher_that_cannot_be_told_costs_neither_the_enrollment_nor_its_session(scene: Scene) -> None:
    scene.faults.append(StorageFault("disk on fire"))
    answer = await scene.sign_in(scene.browser())
    assert refusal(answer)[:2] == (503, "ServiceUnavailable")
    assert scene.enrollment() is not None
    assert scene.played.revoked == []


async def test_another_browser_that_comes_back_enrolls_its_account_and_is_not_signed_in(scene: Scene) -> None:
    await scene.browser().get(AUTHORIZE, {"handle": "rei.test"})
    other = scene.browser()
    answer = await other.get(CALLBACK, RETURN)
    assert answer.json()["enrolled"] is True
    assert other.cookies == {}


@pytest.mark.parametrize(
    ("site", "signed_in"), [("cross-site", False), ("same-site", False), ("same-origin", True), ("none", True)]
)
async def test_a_browser_that_another_site_sent_enrolls_its_account_and_is_not_signed_in(
    scene: Scene, site: str, signed_in: bool
) -> None:
    """The site may have named an account of its own, at a server that lets everybody through: nobody is made to act as it."""
    browser = scene.browser()
    await browser.get(AUTHORIZE, {"handle": "rei.test"}, **{"sec-fetch-site": site})
    assert (await browser.get(CALLBACK, RETURN, **{"sec-fetch-site": "cross-site"})).json()["enrolled"] is True
    assert bool(browser.cookies) is signed_in
    assert (await browser.get(STATUS)).status_code == (200 if signed_in else 401)


async def test_the_browser_is_sent_where_it_wanted_with_the_news(scene: Scene) -> None:
    for wanted, told in (
        (f"{APP}/", f"{APP}/?stratos_enrolled=true"),
        (f"{APP}/a?b=c#d", f"{APP}/a?b=c&stratos_enrolled=true#d"),
        (f"{PUBLIC_URL}/console", f"{PUBLIC_URL}/console?stratos_enrolled=true"),
    ):
        answer = await scene.sign_in(scene.browser(), redirect_uri=wanted)
        assert (answer.status_code, answer.headers["location"]) == (302, told)
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("", "Invalid redirect_uri"),
        ("/console", "Invalid redirect_uri"),
        ("//app.test/", "Invalid redirect_uri"),
        ("javascript:alert(1)", "Invalid redirect_uri"),
        ("https://app.test@evil.test/", "Invalid redirect_uri"),
        ("https://app.test\\@evil.test/", "Invalid redirect_uri"),
        ("https://app.test/\u00e4", "Invalid redirect_uri"),
        ("https://app.test/ x", "Invalid redirect_uri"),
        ("https://" + "a" * 2_100, "Invalid redirect_uri"),
        ("https://app.test:x/", "Invalid redirect_uri"),
        ("http://app.test/", "redirect_uri must use https"),
        ("https://evil.test/", "redirect_uri leads to an origin that is not allowed"),
        ("https://app.test.evil.test/", "redirect_uri leads to an origin that is not allowed"),
        ("https://app.test:8443/", "redirect_uri leads to an origin that is not allowed"),
    ],
)
async def test_a_redirect_that_leads_elsewhere_is_refused_before_anything_begins(scene: Scene, wanted: str, message: str) -> None:
    answer = await scene.browser().get(AUTHORIZE, {"handle": "rei.test", "redirect_uri": wanted})
    assert refusal(answer) == (400, "InvalidRequest", message)
    assert scene.played.began == []


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "Handle parameter required"),
        ("handle=", "Handle parameter required"),
        ("handle=a.test&handle=b.test", "handle is given more than once"),
        ("handle=a%00.test", "handle is too long or not printable"),
        (f"handle={'a' * 5_000}", "handle is too long or not printable"),
        ("handle=a.test&redirect_uri=https://app.test&redirect_uri=x", "redirect_uri is given more than once"),
        ("handle=%ff", "Malformed query string"),
    ],
)
async def test_bad_parameters_of_a_sign_in_are_named(scene: Scene, query: str, message: str) -> None:
    assert refusal(await scene.client.get(f"{AUTHORIZE}?{query}")) == (400, "InvalidRequest", message)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "state parameter required"),
        ("state=&iss=x&code=c", "state parameter required"),
        ("state=s&code=c", "iss parameter required"),
        ("state=s&state=t&iss=x&code=c", "state is given more than once"),
        (f"state={'s' * 5_000}&iss=x&code=c", "state is too long or not printable"),
        ("state=s&iss=x&code=c%0a", "code is too long or not printable"),
        ("state=s&iss=x&error=e&error_description=%1b", "error_description is too long or not printable"),
    ],
)
async def test_bad_parameters_of_a_return_are_named(scene: Scene, query: str, message: str) -> None:
    assert refusal(await scene.client.get(f"{CALLBACK}?{query}")) == (400, "InvalidRequest", message)
    assert scene.played.completed == []


@pytest.mark.parametrize(
    ("fault", "status", "name"),
    [
        (AuthorizationFailed(Failure.IDENTITY_UNRESOLVED, "x"), 400, "AuthorizationError"),
        (AuthorizationFailed(Failure.DISCOVERY_FAILED, "x"), 400, "AuthorizationError"),
        (AuthorizationFailed(Failure.REQUEST_REFUSED, "x"), 502, "AuthorizationError"),
        (PdsUnavailable("x"), 503, "AuthorizationError"),
    ],
)
async def test_a_sign_in_that_cannot_begin_says_whose_fault_it_is(scene: Scene, fault: Exception, status: int, name: str) -> None:
    scene.played.fault = fault
    browser = scene.browser()
    answer = await browser.get(AUTHORIZE, {"handle": "rei.test"})
    assert refusal(answer) == (status, name, "Failed to start authorization flow")
    assert browser.cookies == {}


async def test_what_is_no_handle_is_named(scene: Scene) -> None:
    scene.played.fault = AuthorizationFailed(Failure.NOT_AN_IDENTIFIER, "x")
    answer = await scene.client.get(AUTHORIZE, params={"handle": "?"})
    assert refusal(answer) == (400, "InvalidRequest", "handle must be a handle or a DID")


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (AuthorizationFailed(Failure.STATE_UNKNOWN, "gone"), (400, "CallbackError", "state: gone")),
        (AuthorizationFailed(Failure.ISSUER_MISMATCH, "other"), (400, "CallbackError", "iss: other")),
        (AuthorizationFailed(Failure.CODE_REFUSED, "spent"), (400, "CallbackError", "code: spent")),
        (AuthorizationFailed(Failure.SCOPE_TOO_SMALL, "scope"), (400, "CallbackError", "scope")),
        (AuthorizationFailed(Failure.DENIED, "no"), (403, "AuthorizationDenied", "no")),
        (
            PdsUnavailable("x", retry_after=1.5),
            (503, "CallbackError", "Your server cannot be reached; load this page again to go on"),
        ),
    ],
)
async def test_a_return_that_comes_to_nothing_says_why(scene: Scene, fault: Exception, told: tuple[int, str, str]) -> None:
    scene.played.fault = fault
    answer = await scene.browser().get(CALLBACK, RETURN)
    assert refusal(answer) == told
    assert answer.headers.get("retry-after") == ("2" if told[0] == 503 else None)
    assert scene.played.revoked == []


async def test_a_preview_of_a_link_begins_and_completes_nothing(scene: Scene) -> None:
    for path, params in ((AUTHORIZE, {"handle": "rei.test"}), (CALLBACK, RETURN)):
        assert (await scene.client.head(path, params=params)).status_code == 405
    assert (scene.played.began, scene.played.completed) == ([], [])
    for path in (AUTHORIZE, CALLBACK, STATUS):
        assert (await scene.client.post(path)).status_code == 405
    assert (await scene.client.get(REVOKE)).status_code == 405


async def test_status_and_revocation_take_a_service_token_minted_for_them_only(scene: Scene) -> None:
    await scene.engine.enroll(REI, WRITERS)

    def bearer(method: str) -> dict[str, str]:
        return {"authorization": f"Bearer {service_token(scene.rei, scene.clock, method)}"}

    status = await scene.client.get(STATUS, headers=bearer(STATUS_METHOD))
    assert (status.status_code, status.json()["did"], "csrfToken" in status.json()) == (200, REI, False)
    assert refusal(await scene.client.get(STATUS, headers=bearer(REVOKE_METHOD)))[:2] == (401, "Unauthorized")
    wrong = await scene.client.post(REVOKE, headers=bearer("zone.stratos.enrollment.unenroll"))
    assert refusal(wrong)[:2] == (401, "Unauthorized")
    assert (await scene.client.post(REVOKE, headers=bearer(REVOKE_METHOD))).json()["revoked"] is True
    enrollment = scene.enrollment()
    assert enrollment is not None
    assert not enrollment.active


async def test_a_dpop_proof_is_of_the_full_path_and_its_nonce_is_handed_out_here_too(scene: Scene) -> None:
    client = Client(scene.clock)
    token = scene.net.server.token(REI, client.key.thumbprint())

    async def status(nonce: str | None, path: str) -> httpx.Response:
        proof = client.proof(token, nonce, htu=f"{PUBLIC_URL}{path}")
        return await scene.client.get(STATUS, headers={"authorization": f"DPoP {token}", "dpop": proof})

    first = await status(None, STATUS)
    assert refusal(first) == (401, "Unauthorized", "DPoP nonce required")
    assert first.headers["www-authenticate"] == 'DPoP error="use_dpop_nonce"'
    nonce = first.headers["dpop-nonce"]
    assert (await status(nonce, "/status")).status_code == 401
    assert (await status(nonce, STATUS)).json() == {"did": REI, "enrolled": False}


async def test_without_a_credential_that_is_a_users_there_is_no_status(scene: Scene) -> None:
    for answer in (await scene.client.get(STATUS), await scene.client.post(REVOKE)):
        assert refusal(answer) == (401, "Unauthorized", "Authorization required")
    for header in ("Bearer did:plc:rei", "Basic eA==", "Bearer x.y.z"):
        assert refusal(await scene.client.get(STATUS, headers={"authorization": header}))[:2] == (401, "Unauthorized")


async def test_both_addresses_of_the_client_metadata_hold_what_servers_read(scene: Scene) -> None:
    first, second = [(await scene.client.get(path)) for path in METADATA_PATHS]
    assert first.headers["content-type"] == "application/json"
    assert first.json() == second.json()
    assert first.json()["client_id"] == f"{PUBLIC_URL}/client-metadata.json"
    assert first.json()["redirect_uris"] == [f"{PUBLIC_URL}/oauth/callback"]


async def test_on_loopback_the_browser_begins_where_it_comes_back_to(data_dir: Path) -> None:
    async with scene_of(data_dir, public="http://localhost:3100", dev_mode=True) as scene:
        browser = scene.browser()
        query = {"handle": "rei.test", "redirect_uri": "http://localhost:3100/console"}
        answer = await browser.get(AUTHORIZE, query, host="localhost:3100")
        assert answer.status_code == 302
        assert answer.headers["location"].startswith("http://127.0.0.1:3100/oauth/authorize?handle=rei.test&redirect_uri=")
        assert (scene.played.began, browser.cookies) == ([], {})
        answer = await browser.get(AUTHORIZE, query, host="127.0.0.1:3100")
        assert answer.headers["location"].startswith("https://pds.test/")
        answer = await browser.get(CALLBACK, RETURN, host="127.0.0.1:3100")
        assert answer.headers["location"] == "http://localhost:3100/console?stratos_enrolled=true"
        csrf = (await browser.get(STATUS, origin="http://127.0.0.1:3100")).json()["csrfToken"]
        left = await browser.post(REVOKE, **{"x-csrf-token": csrf, "origin": "http://127.0.0.1:3100"})
        assert left.json()["revoked"] is True


async def test_in_dev_mode_causes_are_told_and_a_did_is_believed(data_dir: Path) -> None:
    async with scene_of(data_dir, public="http://localhost:3100", dev_mode=True) as scene:
        scene.played.fault = AuthorizationFailed(Failure.IDENTITY_UNRESOLVED, "no such handle")
        answer = await scene.client.get(AUTHORIZE, params={"handle": "rei.test"})
        assert refusal(answer) == (400, "AuthorizationError", "Failed to start authorization flow: no such handle")
        status = await scene.client.get(STATUS, headers={"authorization": f"Bearer {REI}"})
        assert status.json() == {"did": REI, "enrolled": False}


async def test_without_an_oauth_client_there_is_no_sign_in_but_status_and_leaving(data_dir: Path) -> None:
    async with scene_of(data_dir, sign_in=False) as scene:
        for path in (AUTHORIZE, CALLBACK, *METADATA_PATHS):
            assert (await scene.client.get(path)).status_code == 404
        assert (await scene.client.get(STATUS)).status_code == 401
