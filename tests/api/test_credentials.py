"""Every kind of credential at the served application: what it opens, what it does not, and what the answers carry.

Service spec §2, §7.2; design §4, §5.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import trio
from trio_websocket import wrap_client_stream

from stratos.api.app import StratosApp
from stratos.api.auth import EnrollmentGate
from stratos.api.config import ApiConfig
from stratos.api.credentials import Credentials
from stratos.api.credentials.grants import Grant
from stratos.api.server import HttpServer
from stratos.atproto.frames import ErrorFrame, MessageFrame, decode_frame
from stratos.engine.identity import OutgoingHttp, OutgoingPolicy
from stratos.resources import lexicon_directory
from stratos.settings.values import appview_grants
from tests.api.builders import LOOPBACK, SYNC_TOKEN
from tests.api.credentials.authorization_server import Network, network
from tests.api.credentials.builders import (
    APPVIEW,
    LIST_REPOS,
    SERVICE,
    SUBSCRIBE,
    Account,
    Client,
    Clock,
    Directory,
    credentials,
    service_token,
)
from tests.engine.builders import EDITORS, POST, REI, SAKURA, WRITERS, Engine, open_backend, post, start_engine

CREATE = "zone.stratos.repo.createRecord"
GET = "zone.stratos.repo.getRecord"
STATUS = "zone.stratos.enrollment.status"
PROCEDURES = sorted(
    document["id"]
    for path in lexicon_directory().rglob("*.json")
    if (document := json.loads(path.read_text()))["defs"].get("main", {}).get("type") == "procedure"
)
NEWCOMER = Account("did:plc:newcomer")  # type: ignore[arg-type]  # a DID


@dataclass
class Scene:
    """A served application; Rei and Sakura are enrolled as writers, an AppView may see the writers, another one everything."""

    url: str
    client: httpx.AsyncClient
    engine: Engine
    clock: Clock
    net: Network
    credentials: Credentials
    directory: Directory
    rei: Account
    sakura: Account
    appview: Account
    scoped: Account
    nursery: trio.Nursery

    def bearer(self, account: Account, nsid: str, **changes: object) -> dict[str, str]:
        """A service JWT of an account's for one method."""
        changes.setdefault("jti", f"{account.did}-{nsid}-{id(changes)}")
        return {"Authorization": f"Bearer {service_token(account, self.clock, nsid, **changes)}"}

    async def create(self, headers: dict[str, str], text: str = "hello", boundary: str = WRITERS) -> httpx.Response:
        """Write a post of Rei's."""
        body = {"repo": REI, "collection": POST, "record": post(text, boundary)}
        return await self.client.post(f"/xrpc/{CREATE}", json=body, headers=headers)

    async def get(self, rkey: str, headers: dict[str, str]) -> httpx.Response:
        """Read a post of Rei's."""
        return await self.client.get(f"/xrpc/{GET}", params={"repo": REI, "collection": POST, "rkey": rkey}, headers=headers)

    async def frames(self, query: str, headers: dict[str, str], count: int) -> list[MessageFrame | ErrorFrame | None]:
        """The first frames of a subscription."""
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        parts = urlsplit(self.url)
        # trio-websocket leaves the stream open where the server closed first.
        async with await trio.open_tcp_stream(parts.hostname or "", parts.port or 0) as stream:
            resource = f"/xrpc/{SUBSCRIBE}?{query}"
            socket = await wrap_client_stream(self.nursery, stream, parts.netloc, resource, extra_headers=raw)
            frames = [await socket.get_message() for _ in range(count)]
            await socket.aclose()
        return [decode_frame(frame) for frame in frames if isinstance(frame, bytes)]


@pytest.fixture
async def scene(data_dir: Path) -> AsyncIterator[Scene]:
    """Served on loopback, outside of dev mode."""
    clock, backend = Clock(), open_backend(data_dir)
    scoped = Account(APPVIEW.replace("appview", "scoped"))  # type: ignore[arg-type]  # a DID
    policy = OutgoingPolicy(allow_private=True)
    try:
        async with network(clock) as net, OutgoingHttp(policy, user_agent="tests") as http, trio.open_nursery() as nursery:
            rei, sakura, appview = Account(REI, pds=net.pds.url), Account(SAKURA), Account(APPVIEW)
            directory = Directory(rei, sakura, appview, scoped, NEWCOMER)
            grants: tuple[Grant, ...] = appview_grants(SERVICE, [APPVIEW, f"{scoped.did}#writers"])
            engine = await start_engine(backend, nursery)
            await engine.enroll(REI, WRITERS, EDITORS)
            await engine.enroll(SAKURA, WRITERS)
            known = EnrollmentGate(engine.service.backend.enrollments, engine.service.reads).is_known
            verified = credentials(directory, http, clock, grants=grants, is_known=known)
            app = StratosApp(engine.service, ApiConfig(sync_token=SYNC_TOKEN), credentials=verified, checks_output=True)
            (url,) = await nursery.start(HttpServer(app, LOOPBACK).run)
            async with httpx.AsyncClient(base_url=url) as client:
                yield Scene(url, client, engine, clock, net, verified, directory, rei, sakura, appview, scoped, nursery)
            app.stopping.set()
            await engine.stop()
            nursery.cancel_scope.cancel()
    finally:
        backend.close()


def refusal(response: httpx.Response) -> tuple[int, str]:
    """Status and message."""
    return response.status_code, response.json()["message"]


async def test_service_jwt_of_the_user_writes_and_of_another_reads(scene: Scene) -> None:
    written = await scene.create(scene.bearer(scene.rei, CREATE))
    assert written.status_code == 200, written.text
    rkey = written.json()["uri"].rpartition("/")[2]
    assert (await scene.get(rkey, scene.bearer(scene.sakura, GET))).status_code == 200
    assert (await scene.get(rkey, scene.bearer(NEWCOMER, GET))).json()["error"] == "RecordNotFound"
    assert (await scene.get(rkey, scene.bearer(scene.appview, GET))).json()["error"] == "RecordNotFound"


async def test_service_jwt_is_bound_to_the_name_that_is_called(scene: Scene) -> None:
    official = "com.atproto.repo.createRecord"
    assert refusal(await scene.create(scene.bearer(scene.rei, official))) == (401, "Invalid lxm claim")
    assert (await scene.create(scene.bearer(scene.sakura, CREATE))).status_code == 401, "another's repository"


async def test_write_token_is_good_for_one_write(scene: Scene) -> None:
    token = scene.bearer(scene.rei, CREATE)
    assert (await scene.create(token)).status_code == 200
    assert refusal(await scene.create(token)) == (401, "Token already used")


async def test_account_that_proves_itself_but_is_not_enrolled_is_told_so(scene: Scene) -> None:
    answer = await scene.create(scene.bearer(NEWCOMER, CREATE))
    assert (answer.status_code, answer.json()["error"]) == (400, "NotEnrolled")


async def test_dpop_negotiates_its_nonce_and_gets_the_next_one_with_every_answer(scene: Scene) -> None:
    client = Client(scene.clock)
    token = scene.net.server.token(REI, client.key.thumbprint())

    def headers(nonce: str | None, nsid: str = CREATE) -> dict[str, str]:
        return {"Authorization": f"DPoP {token}", "DPoP": client.proof(token, nonce, nsid)}

    first = await scene.create(headers(None))
    assert refusal(first) == (401, "DPoP nonce required")
    assert first.headers["WWW-Authenticate"] == 'DPoP error="use_dpop_nonce"'
    assert "DPoP-Nonce" in first.headers["Access-Control-Expose-Headers"]
    nonce = first.headers["DPoP-Nonce"]
    written = await scene.create(headers(nonce))
    assert written.status_code == 200, written.text
    absent = await scene.get("none", headers(nonce, GET))
    assert absent.json()["error"] == "RecordNotFound"
    for answer in (first, written, absent):
        assert answer.headers.get_list("DPoP-Nonce") == [nonce]


async def test_optional_method_refuses_what_is_attempted_and_fails(scene: Scene) -> None:
    client = Client(scene.clock)
    token = scene.net.stranger.token(REI, client.key.thumbprint())
    nonce = scene.credentials.dpop.required().headers["DPoP-Nonce"]
    for headers in (
        {"Authorization": f"DPoP {token}", "DPoP": client.proof(token, nonce)},
        {"Authorization": f"DPoP {token}"},
        {"Authorization": f"Bearer {REI}"},
        {"Authorization": "Basic eDp5"},
    ):
        answer = await scene.get("none", headers)
        assert (answer.status_code, answer.json()["error"]) == (401, "AuthenticationRequired")
        assert answer.headers.get_list("DPoP-Nonce") == [nonce]
        assert answer.headers["WWW-Authenticate"].startswith('DPoP realm="stratos"')
    assert (await scene.get("none", {})).json()["error"] == "RecordNotFound"


async def test_missing_credential_is_asked_for_without_a_challenge(scene: Scene) -> None:
    answer = await scene.create({})
    assert refusal(answer) == (401, "Authorization required")
    assert not {"DPoP-Nonce", "WWW-Authenticate"} & set(answer.headers)


async def test_granted_appview_subscribes_to_everything_and_exports(scene: Scene) -> None:
    await scene.engine.post(REI, "for writers", WRITERS)
    await scene.engine.post(REI, "for editors", EDITORS)
    token = service_token(scene.appview, scene.clock, SUBSCRIBE)
    frames = await scene.frames(f"did={REI}&cursor=0&syncToken={token}", {}, 2)
    assert [type(frame) for frame in frames] == [MessageFrame, MessageFrame]
    assert (await scene.client.get(f"/xrpc/{LIST_REPOS}", headers=scene.bearer(scene.appview, LIST_REPOS))).status_code == 200
    export = "zone.stratos.sync.getRepo"
    headers = scene.bearer(scene.appview, export)
    assert (await scene.client.get(f"/xrpc/{export}", params={"did": REI}, headers=headers)).status_code == 200


@pytest.mark.parametrize("domain", ["", f"&domain={WRITERS}&domain={EDITORS}"])
async def test_scoped_appview_sees_its_boundaries_and_no_others(scene: Scene, domain: str) -> None:
    hidden = await scene.engine.post(REI, "for editors", EDITORS)
    shown = await scene.engine.post(REI, "for writers", WRITERS)
    (frame,) = await scene.frames(f"did={REI}&cursor=0{domain}", scene.bearer(scene.scoped, SUBSCRIBE), 1)
    assert isinstance(frame, MessageFrame)
    assert frame.body["rev"] == shown.rev != hidden.rev


async def test_scoped_appview_may_not_export_what_it_may_not_see(scene: Scene) -> None:
    export = "zone.stratos.sync.getRepo"
    answer = await scene.client.get(f"/xrpc/{export}", params={"did": REI}, headers=scene.bearer(scene.scoped, export))
    assert answer.status_code == 401
    answer = await scene.client.get(f"/xrpc/{LIST_REPOS}", headers=scene.bearer(scene.scoped, LIST_REPOS))
    assert answer.status_code == 401
    answer = await scene.client.get(f"/xrpc/{STATUS}", params={"did": REI}, headers=scene.bearer(scene.scoped, STATUS))
    assert "boundaries" not in answer.json()


async def test_unknown_appview_neither_subscribes_nor_exports(scene: Scene) -> None:
    for query, account in (("", scene.sakura), (f"did={REI}&", scene.sakura), ("", NEWCOMER), (f"did={REI}&", NEWCOMER)):
        token = service_token(account, scene.clock, SUBSCRIBE, jti=f"{query}{account.did}")
        (frame,) = await scene.frames(f"{query}syncToken={token}", {}, 1)
        assert isinstance(frame, ErrorFrame)
        assert frame.error == "AuthRequired"
    for nsid, params in ((LIST_REPOS, {}), ("zone.stratos.sync.getRepo", {"did": REI})):
        answer = await scene.client.get(f"/xrpc/{nsid}", params=params, headers=scene.bearer(NEWCOMER, nsid))
        assert answer.status_code == 401


async def test_subscriber_whose_issuer_cannot_be_looked_up_is_told_to_come_back(scene: Scene) -> None:
    scene.directory.down = True
    (frame,) = await scene.frames("", scene.bearer(scene.appview, SUBSCRIBE), 1)
    assert isinstance(frame, ErrorFrame)
    assert frame.error == "ServiceUnavailable"
    answer = await scene.client.get(f"/xrpc/{LIST_REPOS}", headers=scene.bearer(scene.appview, LIST_REPOS))
    assert (answer.status_code, answer.json()["error"]) == (503, "ServiceUnavailable")


async def test_owner_follows_the_own_stream_by_service_jwt_and_by_dpop(scene: Scene) -> None:
    await scene.engine.post(REI, "hello", WRITERS)
    client = Client(scene.clock)
    token = scene.net.server.token(REI, client.key.thumbprint())
    nonce = scene.credentials.dpop.required().headers["DPoP-Nonce"]
    by_dpop = {"Authorization": f"DPoP {token}", "DPoP": client.proof(token, nonce, SUBSCRIBE)}
    for headers in (scene.bearer(scene.rei, SUBSCRIBE), by_dpop):
        (frame,) = await scene.frames(f"did={REI}&cursor=0", headers, 1)
        assert isinstance(frame, MessageFrame)


@pytest.mark.parametrize("token", ["x.y.z", "wrong", "", SYNC_TOKEN + "x"])
async def test_bad_sync_token_is_refused_even_beside_a_good_credential(scene: Scene, token: str) -> None:
    answer = await scene.client.get(f"/xrpc/{LIST_REPOS}?syncToken={token}", headers=scene.bearer(scene.appview, LIST_REPOS))
    assert answer.status_code == 401


async def test_session_of_our_pages_reads_and_writes_with_its_csrf_token_only(scene: Scene) -> None:
    issued = scene.credentials.sessions.issue(REI)
    cookie = {"Cookie": issued.set_cookie.partition(";")[0]}
    csrf = scene.credentials.sessions.csrf_token(issued.session)
    answer = await scene.create(cookie)
    assert (answer.status_code, answer.json()["error"]) == (403, "InvalidCsrfToken")
    written = await scene.create({**cookie, "X-CSRF-Token": csrf})
    assert written.status_code == 200, written.text
    rkey = written.json()["uri"].rpartition("/")[2]
    assert (await scene.get(rkey, cookie)).status_code == 200
    assert (await scene.get(rkey, {**cookie, "Origin": "https://evil.test"})).status_code == 403
    assert (await scene.get(rkey, {"Cookie": "theirs=1"})).json()["error"] == "RecordNotFound"
    stale = await scene.get(rkey, {"Cookie": f"{scene.credentials.sessions.cookie_name}=x"})
    assert (stale.status_code, stale.headers["Set-Cookie"]) == (401, scene.credentials.sessions.clear())


async def test_no_method_that_changes_something_takes_a_session_without_its_csrf_token(scene: Scene) -> None:
    issued = scene.credentials.sessions.issue(REI)
    cookie = {"Cookie": issued.set_cookie.partition(";")[0]}
    wrong = {**cookie, "X-CSRF-Token": scene.credentials.sessions.csrf_token(replace(issued.session, id="another"))}
    answered: dict[str, set[str]] = {}
    for nsid in PROCEDURES:
        for headers in (cookie, wrong):
            answer = await scene.client.post(f"/xrpc/{nsid}", json={}, headers=headers)
            answered.setdefault(answer.json()["error"], set()).add(nsid)
    served = answered["InvalidCsrfToken"]
    assert {name.rpartition(".")[2] for name in served} >= {
        "createRecord",
        "putRecord",
        "deleteRecord",
        "applyWrites",
        "unenroll",
    }
    assert all(nsid.startswith("zone.stratos.admin.") for nsid in answered["AuthRequired"]), "the operator has no session"
    assert answered.keys() <= {"InvalidCsrfToken", "AuthRequired", "MethodNotImplemented"}
    revoked = await scene.client.post("/oauth/revoke", headers=cookie)
    assert (revoked.status_code, revoked.json()["error"]) == (403, "InvalidCsrfToken")
