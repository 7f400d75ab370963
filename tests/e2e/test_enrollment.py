"""Enrollment from the browser to the repository: `stratos serve` as a process, a real PDS, its own sign-in and consent pages."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import httpx
import pytest
from joserfc.jwk import ECKey

from tests.e2e.network import NETWORK_MARKS, Account, PdsNetwork
from tests.e2e.programs import ADMIN_PASSWORD, SYNC_TOKEN, Program, running

pytestmark = NETWORK_MARKS

POST, WRITERS = "zone.stratos.feed.post", "did:web:stratos.test/writers"
CREATE, LIST = "zone.stratos.repo.createRecord", "zone.stratos.repo.listRecords"
STATUS_METHOD, REVOKE_METHOD = "zone.stratos.enrollment.status", "zone.stratos.enrollment.revoke"


@dataclass
class Browser:
    """Somebody's browser at the service, wherever that says it is; the PDS's pages are answered by a script."""

    network: PdsNetwork
    account: Account
    service: str
    cookies: dict[str, str] = field(default_factory=dict)

    def ask(self, verb: str, address: str, **headers: str) -> httpx.Response:
        """Load a page or send a form; cookies are kept, the service's public origin stands for its port."""
        parts = urlsplit(address)
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        sent = {**({"cookie": cookie} if cookie else {}), **headers}
        # Reading the certificates of the world, for plain HTTP on loopback, would take longer than the rest.
        answer = httpx.request(verb, f"{self.service}{parts.path}?{parts.query}", headers=sent, verify=False)  # noqa: S501
        for text in answer.headers.get_list("set-cookie"):
            for name, morsel in SimpleCookie(text).items():
                self.cookies[name] = morsel.value
        return answer

    def authorize(self, login: str | None = None, **params: str) -> str:
        """Type one's DID into the form; where the browser is sent."""
        answer = self.ask("GET", "/oauth/authorize?" + urlencode({"handle": login or self.account.did, **params}))
        assert answer.status_code == httpx.codes.FOUND, answer.text
        return str(answer.headers["location"])

    def sign_in(self, **params: str) -> httpx.Response:
        """The whole way, consenting."""
        return self.ask("GET", self.network.person(self.account).consent(self.authorize(**params)))

    def status(self) -> dict[str, object]:
        """What the page of the signed-in browser is told."""
        body: dict[str, object] = self.ask("GET", "/oauth/status").raise_for_status().json()
        return body

    def revoke(self) -> httpx.Response:
        """Leave."""
        return self.ask("POST", "/oauth/revoke", **{"x-csrf-token": str(self.status()["csrfToken"])})


@dataclass
class Service:
    """A running service in front of the network."""

    network: PdsNetwork
    program: Program
    did: str = "did:web:stratos.test"

    def browser(self, account: Account) -> Browser:
        """A new browser of an account's holder."""
        return Browser(self.network, account, self.program.service)

    def call(self, account: Account, verb: str, nsid: str, **arguments: object) -> httpx.Response:
        """Call a method of ours with a token that the account's PDS minted for it."""
        token = self.network.service_auth(account, audience=self.did, method=nsid)
        headers = {"authorization": f"Bearer {token}"}
        params = {str(name): str(value) for name, value in arguments.items()} if verb == "GET" else None
        body = arguments if verb == "POST" else None
        return httpx.request(verb, f"{self.program.service}/xrpc/{nsid}", headers=headers, params=params, json=body)

    def create(self, account: Account, text: str) -> httpx.Response:
        """Post as an account."""
        return self.call(account, "POST", CREATE, repo=account.did, collection=POST, record=post_of(text))

    def head(self, account: Account) -> Mapping[str, object] | None:
        """The account's repository as the service lists it."""
        headers = {"authorization": f"Bearer {SYNC_TOKEN}"}
        listed = httpx.get(f"{self.program.service}/xrpc/zone.stratos.sync.listRepos", headers=headers).raise_for_status().json()
        return next((repo for repo in listed["repos"] if repo["did"] == account.did), None)

    def enrollment(self, account: Account) -> Mapping[str, object]:
        """The public side of an enrollment."""
        url = f"{self.program.service}/xrpc/{STATUS_METHOD}"
        body: Mapping[str, object] = httpx.get(url, params={"did": account.did}).raise_for_status().json()
        return body


def settings_of(network: PdsNetwork, **changes: str) -> dict[str, str]:
    """A service that is not in dev mode and welcomes the accounts of the network's PDS."""
    return {
        "STRATOS_DEV_MODE": "false",
        "STRATOS_ALLOW_PRIVATE_NETWORK": "true",
        "STRATOS_PLC_URL": network.plc_url,
        "STRATOS_ALLOWED_PDS_ENDPOINTS": network.pds_url,
        "STRATOS_AUTO_ENROLL_DOMAINS": "writers",
        **changes,
    }


@pytest.fixture(scope="module")
def service(pds_network: PdsNetwork, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for the tests of this module; each has accounts of its own."""
    with running("serve", tmp_path_factory.mktemp("service"), settings_of(pds_network)) as program:
        yield Service(pds_network, program)


def post_of(text: str) -> dict[str, object]:
    """A post for the writers."""
    return {
        "$type": POST,
        "text": text,
        "boundary": {"$type": "zone.stratos.boundary.defs#Domains", "values": [{"value": WRITERS}]},
        "createdAt": "2026-05-28T12:00:00.000Z",
    }


def sessions_kept(program: Program) -> list[str]:
    """Of whom the service keeps an OAuth session, as its database says."""
    (database,) = program.log.parent.glob("data/service*.sqlite")
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return [row[0] for row in connection.execute("SELECT did FROM oauth_session ORDER BY did")]


def test_three_accounts_enroll_by_signing_in_at_their_own_server(service: Service) -> None:
    accounts = [service.network.new_account(name) for name in ("rei", "sakura", "kaoruko")]
    for account in accounts:
        browser = service.browser(account)
        answer = browser.sign_in()
        expected = {"success": True, "did": account.did, "enrolled": True, "message": "Successfully enrolled in Stratos"}
        assert (answer.status_code, answer.json()) == (200, expected)
        status = browser.status()
        assert (status["did"], status["enrolled"], status["boundaries"]) == (account.did, True, [{"value": WRITERS}])
        assert service.enrollment(account)["active"] is True
        assert service.create(account, f"by {account.handle}").status_code == 200
    read = service.call(accounts[0], "GET", LIST, repo=accounts[1].did, collection=POST)
    assert [record["value"]["text"] for record in read.json()["records"]] == [f"by {accounts[1].handle}"]


def test_leaving_and_coming_back_keeps_repository_and_key(service: Service) -> None:
    account = service.network.new_account()
    browser = service.browser(account)
    browser.sign_in()
    written = service.create(account, "kept")
    head, key = service.head(account), service.enrollment(account)["signingKey"]
    assert head is not None
    assert browser.ask("POST", "/oauth/revoke").json()["error"] == "InvalidCsrfToken"
    left = browser.revoke()
    assert (left.status_code, left.json()["revoked"]) == (200, True)
    assert browser.ask("GET", "/oauth/status").status_code == 401, "the browser is signed out"
    assert service.create(account, "too late").json()["error"] == "NotEnrolled"
    assert service.head(account) == {**head, "active": False}
    again = service.browser(account)
    assert again.sign_in().json()["enrolled"] is True
    assert again.status()["enrolled"] is True
    assert service.head(account) == head
    assert service.enrollment(account)["signingKey"] == key
    assert again.sign_in().json()["message"] == "Already enrolled in Stratos"
    later = service.create(account, "back")
    assert later.json()["commit"]["rev"] > written.json()["commit"]["rev"]


def test_leaving_with_a_token_of_the_pds_for_just_that(service: Service) -> None:
    account = service.network.new_account()
    service.browser(account).sign_in()

    def leave(method: str) -> httpx.Response:
        token = service.network.service_auth(account, audience=service.did, method=method)
        return httpx.post(f"{service.program.service}/oauth/revoke", headers={"authorization": f"Bearer {token}"})

    assert leave("zone.stratos.enrollment.unenroll").status_code == 401
    assert leave(REVOKE_METHOD).json()["did"] == account.did
    assert leave(REVOKE_METHOD).json() == {"error": "NotFound", "message": "User is not enrolled"}


def test_somebody_who_does_not_consent_is_not_enrolled(service: Service) -> None:
    account = service.network.new_account()
    browser = service.browser(account)
    answer = browser.ask("GET", service.network.person(account).deny(browser.authorize()))
    assert (answer.status_code, answer.json()["error"]) == (403, "AuthorizationDenied")
    assert service.head(account) is None
    assert account.did not in sessions_kept(service.program)


def test_a_server_that_goes_away_while_somebody_signs_in_costs_a_reload(service: Service) -> None:
    account = service.network.new_account()
    browser = service.browser(account)
    back = service.network.person(account).consent(browser.authorize())
    with service.network.pds_down():
        answer = browser.ask("GET", back)
        assert (answer.status_code, answer.json()["error"]) == (503, "CallbackError")
        assert service.head(account) is None
    assert browser.ask("GET", back).json()["enrolled"] is True
    assert browser.ask("GET", back).json()["error"] == "CallbackError", "good once"
    assert browser.status()["enrolled"] is True


def test_what_comes_back_changed_or_to_another_browser_signs_nobody_in(service: Service) -> None:
    account = service.network.new_account()
    browser = service.browser(account)
    back = service.network.person(account).consent(browser.authorize())
    assert browser.ask("GET", back.replace("state=", "state=x")).json()["message"].startswith("state: ")
    forged = browser.ask("GET", re.sub("iss=[^&]*", "iss=https%3A%2F%2Fevil.test", back))
    assert (forged.status_code, forged.json()["message"].partition(":")[0]) == (400, "iss")
    assert browser.ask("GET", back).json()["message"].startswith("state: "), "an answer that is not its server's ends it"
    victim = service.browser(account)
    back = service.network.person(account).consent(browser.authorize())
    assert victim.ask("GET", back).json()["enrolled"] is True
    assert victim.ask("GET", "/oauth/status").status_code == 401


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/oauth/authorize", "handle"),
        ("/oauth/authorize?handle=not%20a%20handle", "handle"),
        ("/oauth/authorize?handle=did:plc:x&handle=did:plc:y", "handle"),
        ("/oauth/authorize?handle=did:plc:x&redirect_uri=https://evil.test", "redirect_uri"),
        ("/oauth/authorize?handle=did:plc:x&redirect_uri=%00", "redirect_uri"),
        ("/oauth/callback", "state"),
        ("/oauth/callback?state=x", "iss"),
        ("/oauth/callback?state=x&iss=y", "state"),
        ("/oauth/callback?state=x&iss=y&code=1&code=2", "code"),
    ],
)
def test_hostile_parameters_are_named(service: Service, path: str, field: str) -> None:
    answer = httpx.get(f"{service.program.service}{path}")
    assert answer.status_code == 400
    assert field in answer.json()["message"].lower()


def test_who_is_not_on_the_external_list_leaves_nothing_and_is_refused_even_where_enrolled(
    pds_network: PdsNetwork, tmp_path: Path
) -> None:
    listed, unlisted = pds_network.new_account("listed"), pds_network.new_account("unlisted")
    with serving(f"# welcome\n{listed.did}\n") as url:
        settings = settings_of(pds_network, STRATOS_ALLOWED_PDS_ENDPOINTS="", STRATOS_ALLOW_LIST_URI=url)
        with running("serve", tmp_path, settings) as program:
            service = Service(pds_network, program)
            assert service.browser(listed).sign_in().json()["enrolled"] is True
            denied = service.browser(unlisted).sign_in()
            assert (denied.status_code, denied.json()["error"]) == (403, "EnrollmentDenied")
            assert service.head(unlisted) is None
            assert sessions_kept(program) == [listed.did]
            admin = {"authorization": f"Bearer {ADMIN_PASSWORD}"}
            enroll = f"{program.service}/xrpc/zone.stratos.admin.enroll"
            assert httpx.post(enroll, json={"did": unlisted.did}, headers=admin).status_code == 200
            refused = service.create(unlisted, "hello")
            assert refused.json()["message"] == f"User {unlisted.did} is not on the allowlist"
            assert service.create(listed, "hello").status_code == 200


def test_the_operator_s_list_may_stand_at_a_private_address_though_others_addresses_may_not(tmp_path: Path) -> None:
    with serving("did:plc:listed\n") as url:
        settings = {"STRATOS_DEV_MODE": "false", "STRATOS_ALLOW_LIST_URI": url, "STRATOS_ENROLLMENT_MODE": "allowlist"}
        with running("serve", tmp_path, {**settings, "STRATOS_ALLOW_PRIVATE_NETWORK": "false"}) as program:
            assert figure(program, "stratos_allow_list_accounts") == 1


def figure(program: Program, name: str) -> float:
    """A metric without labels."""
    text = httpx.get(f"{program.service}/metrics").raise_for_status().text
    return next(float(line.split()[1]) for line in text.splitlines() if line.split()[0] == name)


def test_a_confidential_client_at_a_public_address_is_known_by_its_metadata(pds_network: PdsNetwork, tmp_path: Path) -> None:
    origin = "https://stratos.internal"
    key = ECKey.generate_key("P-256", private=True).as_pem(private=True).decode()
    settings = settings_of(pds_network, STRATOS_PUBLIC_URL=origin, STRATOS_OAUTH_CLIENT_SECRET=key)
    with running("serve", tmp_path, settings, service_port=pds_network.service_ports[origin]) as program:
        service = Service(pds_network, program)
        account = pds_network.new_account()
        browser = service.browser(account)
        answer = browser.sign_in(redirect_uri=f"{origin}/console?a=b")
        assert (answer.status_code, answer.headers["location"]) == (302, f"{origin}/console?a=b&stratos_enrolled=true")
        assert "__Host-stratos_session" in browser.cookies
        assert browser.status()["enrolled"] is True
        assert browser.ask("POST", "/oauth/revoke", origin="https://evil.test").status_code == 403
        assert browser.revoke().status_code == 200
        metadata = httpx.get(f"{program.service}/client-metadata.json").json()
        assert metadata["client_id"] == f"{origin}/client-metadata.json"
        assert (metadata["token_endpoint_auth_signing_alg"], metadata["jwks"]["keys"][0]["kid"]) == ("ES256", "key-1")
        assert "d" not in metadata["jwks"]["keys"][0]


def test_boundaries_that_an_older_program_stored_without_their_service_are_qualified_by_a_start(tmp_path: Path) -> None:
    admin = {"authorization": f"Bearer {ADMIN_PASSWORD}"}
    with running("serve", tmp_path) as program:
        enroll = f"{program.service}/xrpc/zone.stratos.admin.enroll"
        assert httpx.post(enroll, json={"did": "did:plc:old", "boundaries": ["writers"]}, headers=admin).status_code == 200
    (database,) = tmp_path.glob("data/service*.sqlite")
    with closing(sqlite3.connect(database)) as connection, connection:
        changed = connection.execute("UPDATE enrollment_boundary SET boundary = 'editors' WHERE did = 'did:plc:old'")
        assert changed.rowcount == 1
    with running("serve", tmp_path) as program:
        listed = httpx.get(f"{program.service}/xrpc/zone.stratos.admin.listEnrollments", headers=admin).json()
        assert [enrollment["boundaries"] for enrollment in listed["enrollments"]] == [["did:web:stratos.test/editors"]]


@contextmanager
def serving(text: str) -> Iterator[str]:
    """A web server with one page; its address."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(httpx.codes.OK)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Not of interest."""

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/allowed.txt"
        finally:
            server.shutdown()
            thread.join()
