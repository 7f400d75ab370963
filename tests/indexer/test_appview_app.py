"""The AppView over real HTTP: feeds as a viewer sees them, refusals by name, and the pages around them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

import httpx
import trio

from stratos.api.appview import APPVIEW_FRAGMENT, AppviewApp, AppviewIdentity
from stratos.api.config import ApiConfig
from stratos.api.credentials import AccountCredentials
from stratos.api.server import ServerConfig, serve_app
from stratos.atproto.lexicon import Lexicons
from stratos.atproto.syntax import Did
from stratos.core.log_entry import Action
from stratos.indexer.appview_db import AppViewDatabase
from stratos.indexer.service_client import ServiceClient, ServiceConfig
from stratos.indexer.viewers import ViewerDirectory
from stratos.resources import lexicon_directory
from tests.api.credentials.builders import Account, Clock, Directory, service_token
from tests.indexer.rows import NOW, apply, position
from tests.indexer.stratos_model import SERVICE_URL, SYNC_TOKEN, ModelService, boundary, post

REI, SAKURA, KAORUKO = (Did(f"did:plc:{letter * 24}") for letter in "rsk")
ONE, TWO, THREE = (f"3mgaaaaaaaaa{letter}" for letter in "abc")
IDENTITY = AppviewIdentity(Did("did:web:appview.test"), "https://appview.test", "0.0.0")
LEXICONS = Lexicons.load(lexicon_directory())


class AppView:
    """A served AppView and a client for it."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def get(self, path: str, as_: str | None = None, **params: str) -> httpx.Response:
        headers = {} if as_ is None else {"Authorization": f"Bearer {as_}"}
        return await self._client.get(path, params=params, headers=headers)

    async def feed(self, method: str, as_: str, **params: str) -> list[str]:
        """The texts of a page."""
        response = await self.get(f"/xrpc/zone.stratos.feed.{method}", as_, **params)
        assert response.status_code == 200, response.text
        return [item["post"]["record"]["text"] for item in response.json()["feed"]]

    async def post(self, path: str, body: object) -> httpx.Response:
        return await self._client.post(path, json=body)


@asynccontextmanager
async def served(
    database: AppViewDatabase,
    service: ModelService,
    *accounts: Account,
    dev_mode: bool = True,
    hide: bool = False,
    clock: Clock | None = None,
) -> AsyncIterator[AppView]:
    """An AppView of a service on a free port; `accounts` have DID documents."""
    async with service.http() as outgoing, trio.open_nursery() as nursery:
        asked = ServiceClient(ServiceConfig(SERVICE_URL, SYNC_TOKEN), outgoing)
        viewers = ViewerDirectory(database, (asked,), max_staleness=timedelta(seconds=60), clock=lambda: NOW)
        app = AppviewApp(
            IDENTITY,
            database,
            viewers,
            lexicons=LEXICONS,
            config=ApiConfig(dev_mode=dev_mode),
            credentials=AccountCredentials(
                IDENTITY.did, (APPVIEW_FRAGMENT,), identity=Directory(*accounts), clock=clock or Clock()
            ),
            hide_boundary_mismatch=hide,
            checks_output=True,
        )
        urls = await nursery.start(partial(serve_app, app, ServerConfig(binds=("127.0.0.1:0",), graceful=1.0)))
        async with httpx.AsyncClient(base_url=urls[0]) as client:
            yield AppView(client)
        app.stopping.set()


def populated(database: AppViewDatabase) -> ModelService:
    """Two writers, an editor, and a post of each."""
    service = ModelService()
    service.enroll(REI, "writers")
    service.enroll(SAKURA, "writers")
    service.enroll(KAORUKO, "editors")
    service.write(REI, (Action.CREATE, ONE, post("rei one", "writers", created_at="2026-02-01T00:00:01.000Z")))
    service.write(REI, (Action.CREATE, TWO, post("rei two", "writers", created_at="2026-02-01T00:00:02.000Z")))
    service.write(SAKURA, (Action.CREATE, ONE, post("sakura", "writers", created_at="2026-02-01T00:00:03.000Z")))
    service.write(KAORUKO, (Action.CREATE, ONE, post("kaoruko", "editors", created_at="2026-02-01T00:00:04.000Z")))
    apply(database, service.frames())
    return service


async def test_each_viewer_sees_what_shares_a_boundary(appview_db: AppViewDatabase) -> None:
    async with served(appview_db, populated(appview_db)) as appview:
        assert await appview.feed("getTimeline", REI) == ["sakura", "rei two", "rei one"]
        assert await appview.feed("getTimeline", KAORUKO) == ["kaoruko"]
        assert await appview.feed("getAuthorFeed", SAKURA, actor=REI) == ["rei two", "rei one"]
        assert await appview.feed("getAuthorFeed", KAORUKO, actor=REI) == []
        assert await appview.feed("getTimeline", REI, boundary=boundary("editors")) == []
        assert await appview.feed("getTimeline", REI, boundary=boundary("writers")) == ["sakura", "rei two", "rei one"]
        assert await appview.feed("getTimeline", "did:plc:nobodywehaveheardofyet00") == []


async def test_pages_follow_each_other_by_cursor(appview_db: AppViewDatabase) -> None:
    async with served(appview_db, populated(appview_db)) as appview:
        first = (await appview.get("/xrpc/zone.stratos.feed.getTimeline", REI, limit="2")).json()
        assert len(first["feed"]) == 2
        last = (await appview.get("/xrpc/zone.stratos.feed.getTimeline", REI, limit="2", cursor=first["cursor"])).json()
        assert [item["post"]["record"]["text"] for item in last["feed"]] == ["rei one"]
        assert "cursor" not in last


async def test_a_revoked_boundary_stops_granting_with_the_stream(appview_db: AppViewDatabase) -> None:
    service = populated(appview_db)
    async with served(appview_db, service) as appview:
        assert len(await appview.feed("getTimeline", REI)) == 3
        before = position(appview_db)
        service.enroll(REI, "editors")
        apply(appview_db, service.frames(before))
        assert await appview.feed("getTimeline", REI) == ["kaoruko"]
        assert await appview.feed("getAuthorFeed", REI, actor=REI) == ["rei two", "rei one"]


async def test_one_post_is_nested_and_its_refusals_have_names(appview_db: AppViewDatabase) -> None:
    path = "/xrpc/zone.stratos.feed.getPost"
    uri = f"at://{REI}/zone.stratos.feed.post/{ONE}"
    async with served(appview_db, populated(appview_db)) as appview:
        shown = await appview.get(path, SAKURA, uri=uri)
        assert shown.json()["post"]["post"]["uri"] == uri
        denied = await appview.get(path, KAORUKO, uri=uri)
        assert (denied.status_code, denied.json()["error"]) == (400, "BoundaryMismatch")
        absent = await appview.get(path, KAORUKO, uri=f"{uri}x")
        assert (absent.status_code, absent.json()["error"]) == (400, "PostNotFound")
        missing = await appview.get(path, KAORUKO)
        assert (missing.status_code, missing.json()["error"]) == (400, "InvalidRequest")


async def test_denial_can_be_made_to_look_like_absence(appview_db: AppViewDatabase) -> None:
    path = "/xrpc/zone.stratos.feed.getPost"
    uri = f"at://{REI}/zone.stratos.feed.post/{ONE}"
    async with served(appview_db, populated(appview_db), hide=True) as appview:
        denied = await appview.get(path, KAORUKO, uri=uri)
        absent = await appview.get(path, KAORUKO, uri=f"{uri}x")
        assert (denied.status_code, denied.content) == (absent.status_code, absent.content)


async def test_bad_parameters_are_refused(appview_db: AppViewDatabase) -> None:
    timeline, author = "/xrpc/zone.stratos.feed.getTimeline", "/xrpc/zone.stratos.feed.getAuthorFeed"
    async with served(appview_db, populated(appview_db)) as appview:
        for path, params in [
            (timeline, {"limit": "0"}),
            (timeline, {"limit": "-1"}),
            (timeline, {"limit": "ten"}),
            (timeline, {"cursor": "not a cursor"}),
            (author, {}),
            (author, {"actor": "nobody"}),
        ]:
            answer = await appview.get(path, REI, **params)
            assert (answer.status_code, answer.json()["error"]) == (400, "InvalidRequest"), (path, params)


async def test_who_is_not_known_is_refused_by_the_lexicons_name(appview_db: AppViewDatabase) -> None:
    path = "/xrpc/zone.stratos.feed.getTimeline"
    service = populated(appview_db)
    async with served(appview_db, service) as appview:
        for credential in (None, "eyJhbGciOiJFUzI1NiJ9.e30.c2ln", "nonsense"):
            answer = await appview.get(path, credential)
            assert (answer.status_code, answer.json()["error"]) == (401, "AuthRequired")
    async with served(appview_db, service, dev_mode=False) as appview:
        for credential in (None, REI, "eyJhbGciOiJFUzI1NiJ9.e30.c2ln"):
            answer = await appview.get(path, credential)
            assert (answer.status_code, answer.json()["error"]) == (401, "AuthRequired")


async def test_an_account_reads_with_a_token_of_its_own_for_this_appview(appview_db: AppViewDatabase) -> None:
    path, nsid = "/xrpc/zone.stratos.feed.getTimeline", "zone.stratos.feed.getTimeline"
    clock, rei, kaoruko = Clock(), Account(REI), Account(KAORUKO)
    async with served(appview_db, populated(appview_db), rei, kaoruko, dev_mode=False, clock=clock) as appview:
        tokens = [service_token(rei, clock, nsid, aud=f"{IDENTITY.did}{fragment}") for fragment in ("", "#stratos_appview")]
        for token in tokens:
            assert await appview.feed("getTimeline", token) == ["sakura", "rei two", "rei one"]
        assert await appview.feed("getTimeline", service_token(kaoruko, clock, nsid, aud=IDENTITY.did)) == ["kaoruko"]
        metrics = (await appview.get("/metrics")).text
        assert "stratos_credentials_service_verified_total 3.0" in metrics
        for changes in (
            {"aud": SERVICE_URL},
            {"aud": "did:web:stratos.test"},
            {"aud": f"{IDENTITY.did}#stratos"},
            {"aud": None},
            {"lxm": "zone.stratos.feed.getPost"},
            {"lxm": None},
            {"exp": clock.seconds},
            {"iss": SAKURA},
            {"iss": f"{REI}#stratos_appview"},
        ):
            answer = await appview.get(path, service_token(rei, clock, nsid, **{"aud": IDENTITY.did, **changes}))
            assert (answer.status_code, answer.json()["error"]) == (401, "AuthRequired"), changes
        clock.advance(61)
        assert (await appview.get(path, tokens[0])).json()["error"] == "AuthRequired", "a token ends with its minute"


async def test_a_viewer_whose_boundaries_cannot_be_checked_is_told_to_come_back(appview_db: AppViewDatabase) -> None:
    service = populated(appview_db)
    with appview_db.transaction() as connection:
        connection.execute("UPDATE stratos_enrollment SET \"lastChecked\" = ''")
    service.refuse = lambda _method: 503
    async with served(appview_db, service) as appview:
        answer = await appview.get("/xrpc/zone.stratos.feed.getTimeline", REI)
        assert (answer.status_code, answer.json()["error"]) == (503, "ServiceUnavailable")
        assert int(answer.headers["Retry-After"]) > 0


async def test_a_database_that_is_away_is_said_so(appview_db: AppViewDatabase) -> None:
    async with served(appview_db, populated(appview_db)) as appview:
        appview_db.close()
        answer = await appview.get("/xrpc/zone.stratos.feed.getTimeline", REI)
        assert (answer.status_code, answer.json()["error"]) == (503, "ServiceUnavailable")
        health = await appview.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "error")
        assert int(health.headers["Retry-After"]) > 0


async def test_pages_around_the_feeds(appview_db: AppViewDatabase) -> None:
    async with served(appview_db, populated(appview_db)) as appview:
        for path in ("/health", "/xrpc/_health"):
            assert (await appview.get(path)).json() == {"status": "ok", "version": "0.0.0"}
        document = (await appview.get("/.well-known/did.json")).json()
        assert document["id"] == "did:web:appview.test"
        (entry,) = document["service"]
        assert (entry["id"], entry["serviceEndpoint"]) == ("#stratos_appview", "https://appview.test")
        metrics = (await appview.get("/metrics")).text
        assert "stratos_viewers_lookups_total 0.0" in metrics
        assert "stratos_appview_db_pool_limit 4.0" in metrics
        assert (await appview.get("/xrpc/zone.stratos.feed.getNothing", REI)).status_code == 501


async def test_support_pages_are_there_in_dev_mode_only(appview_db: AppViewDatabase) -> None:
    service = populated(appview_db)
    async with served(appview_db, service) as appview:
        told = (await appview.get("/diagnostics")).json()
        assert (told["posts"], told["boundaries"], told["serviceStreamConnected"]) == (4, 4, True)
        assert told["enrollments"][0] == {"did": KAORUKO, "boundaries": [boundary("editors")]}
        assert {cursor["did"]: cursor["seq"] for cursor in told["cursors"]}.keys() == {REI, SAKURA, KAORUKO}
        assert told["actorSubscriptions"] == sorted([REI, SAKURA, KAORUKO])
        enrolled = await appview.post("/admin/enroll", {"did": REI})
        assert enrolled.json() == {"did": REI, "boundaries": [boundary("writers")], "subscribed": True}
        assert (await appview.post("/admin/enroll", {})).status_code == 400
        assert (await appview.get("/admin/enroll")).status_code == 405
    async with served(appview_db, service, dev_mode=False) as appview:
        assert (await appview.get("/diagnostics")).status_code == 404
        assert (await appview.post("/admin/enroll", {"did": REI})).status_code == 404
