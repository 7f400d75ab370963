"""Who a viewer is: fresh rows, questions to the service, and what happens when the two disagree or one is away."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import httpx
import pytest
import trio

from stratos.atproto.syntax import Did, format_datetime
from stratos.core.access import Viewer
from stratos.indexer.appview_db import AppViewDatabase
from stratos.indexer.service_client import ServiceClient, ServiceConfig
from stratos.indexer.viewers import MAX_WAITING, STRANGER_SECONDS, BoundariesUnknown, ViewerDirectory
from tests.indexer.rows import NOW, enrollments, rows
from tests.indexer.stratos_model import SERVICE_URL, SYNC_TOKEN, ModelService, boundary

ANN = Did("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")


class World:
    """A service, a database and a clock around a directory."""

    def __init__(self, database: AppViewDatabase, http: httpx.AsyncClient, service: ModelService) -> None:
        self.database = database
        self.service = service
        self.now = NOW
        client = ServiceClient(ServiceConfig(SERVICE_URL, SYNC_TOKEN), http)
        self.viewers = ViewerDirectory(database, (client,), max_staleness=timedelta(seconds=60), clock=lambda: self.now)

    def store(self, *names: str, checked: datetime | None) -> None:
        """A row as the stream would have written it; `checked` None: distrusted."""
        values = (ANN, SERVICE_URL, json.dumps([boundary(name) for name in names]), format_datetime(checked) if checked else "")
        with self.database.transaction() as connection:
            connection.execute(
                'INSERT INTO stratos_enrollment (did, "serviceUrl", boundaries, "lastChecked") VALUES (%s, %s, %s, %s)'
                ' ON CONFLICT (did) DO UPDATE SET boundaries = excluded.boundaries, "lastChecked" = excluded."lastChecked"',
                values,
            )

    def fresh(self) -> Viewer | None:
        with self.database.transaction() as connection:
            return self.viewers.fresh_viewer(connection, ANN)

    def asked(self) -> int:
        return len([request for request in self.service.requests if "resolveEnrollments" in request])


@asynccontextmanager
async def world(
    database: AppViewDatabase, answer: Callable[[httpx.Request], httpx.Response] | None = None
) -> AsyncIterator[World]:
    service = ModelService()
    async with service.http() if answer is None else httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        yield World(database, http, service)


def enrolled(*names: str) -> Viewer:
    return Viewer(ANN, frozenset(boundary(name) for name in names), enrolled=True)


NOT_ENROLLED = Viewer(ANN, frozenset(), enrolled=False)


async def test_a_recent_row_is_believed_without_asking(appview_db: AppViewDatabase) -> None:
    async with world(appview_db) as here:
        here.store("writers", checked=NOW - timedelta(seconds=60))
        assert here.fresh() == enrolled("writers")
        assert here.asked() == 0


async def test_an_empty_list_counts_as_present(appview_db: AppViewDatabase) -> None:
    async with world(appview_db) as here:
        here.store(checked=NOW)
        assert here.fresh() == enrolled()


@pytest.mark.parametrize("checked", [NOW - timedelta(seconds=61), None])
async def test_an_old_or_distrusted_row_is_asked_for_and_renewed(appview_db: AppViewDatabase, checked: datetime | None) -> None:
    async with world(appview_db) as here:
        here.service.enroll(ANN, "editors")
        here.store("writers", checked=checked)
        assert here.fresh() is None
        assert await here.viewers.ask(ANN) == enrolled("editors")
        assert here.fresh() == enrolled("editors")
        assert here.asked() == 1


async def test_a_row_whose_boundaries_are_unknown_is_asked_for(appview_db: AppViewDatabase) -> None:
    async with world(appview_db) as here:
        here.service.enroll(ANN, "editors")
        with appview_db.transaction() as connection:
            connection.execute("INSERT INTO stratos_enrollment (did) VALUES (%s)", (ANN,))
        assert here.fresh() is None
        assert await here.viewers.ask(ANN) == enrolled("editors")
        assert enrollments(appview_db) == {ANN: {boundary("editors")}}


async def test_an_account_without_a_row_is_served_but_not_stored(appview_db: AppViewDatabase) -> None:
    async with world(appview_db) as here:
        here.service.enroll(ANN, "writers")
        assert await here.viewers.ask(ANN) == enrolled("writers")
        assert rows(appview_db, "SELECT did FROM stratos_enrollment") == []


async def test_a_stranger_is_nobody_and_is_not_asked_for_again_at_once(appview_db: AppViewDatabase) -> None:
    async with world(appview_db) as here:
        assert await here.viewers.ask(ANN) == NOT_ENROLLED
        assert await here.viewers.ask(ANN) == NOT_ENROLLED
        assert here.asked() == 1
        here.service.enroll(ANN, "writers")
        here.now += timedelta(seconds=STRANGER_SECONDS)
        assert await here.viewers.ask(ANN) == enrolled("writers")


async def test_a_row_of_an_account_that_the_service_no_longer_has_grants_nothing(appview_db: AppViewDatabase) -> None:
    async with world(appview_db) as here:
        here.store("writers", checked=NOW - timedelta(hours=1))
        assert await here.viewers.ask(ANN) == NOT_ENROLLED


@pytest.mark.parametrize("status", [401, 500, 503])
async def test_a_service_that_does_not_answer_lets_nobody_in(appview_db: AppViewDatabase, status: int) -> None:
    async with world(appview_db) as here:
        here.service.refuse = lambda _method: status
        here.store("writers", checked=NOW - timedelta(hours=1))
        with pytest.raises(BoundariesUnknown):
            await here.viewers.ask(ANN)
        assert here.viewers.statistics()["failures_total"] == 1


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"enrolled": true}', b'{"enrolled": true, "boundaries": "all"}', b"x" * 3_000_000]
)
async def test_an_answer_that_makes_no_sense_lets_nobody_in(appview_db: AppViewDatabase, body: bytes) -> None:
    async with world(appview_db, lambda _request: httpx.Response(200, content=body)) as here:
        with pytest.raises(BoundariesUnknown):
            await here.viewers.ask(ANN)


async def test_callers_for_one_account_share_one_question(appview_db: AppViewDatabase) -> None:
    async with world(appview_db) as here:
        here.service.enroll(ANN, "writers")
        found: list[Viewer] = []

        async def ask() -> None:
            found.append(await here.viewers.ask(ANN))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(ask)
        assert found == [enrolled("writers")] * 20
        assert here.asked() == 1


async def test_callers_share_a_failure_too(appview_db: AppViewDatabase) -> None:
    async with world(appview_db) as here:
        here.service.refuse = lambda _method: 503
        failures: list[BoundariesUnknown] = []

        async def ask() -> None:
            try:
                await here.viewers.ask(ANN)
            except BoundariesUnknown as failure:
                failures.append(failure)

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(ask)
        assert len(failures) == 20
        assert here.viewers.statistics()["lookups_total"] == 1


async def test_a_caller_that_goes_away_leaves_the_question_to_the_next(appview_db: AppViewDatabase) -> None:
    asked = trio.Event()
    calls = 0

    async def answer(_request: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        if calls == 1:
            asked.set()
            await trio.sleep_forever()
        return httpx.Response(200, json={"did": ANN, "enrolled": True, "boundaries": [boundary("writers")]})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        here = World(appview_db, http, ModelService())
        found: list[Viewer] = []

        async def ask(scope: trio.CancelScope) -> None:
            with scope:
                found.append(await here.viewers.ask(ANN))

        first = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, first)
            await asked.wait()
            nursery.start_soon(ask, trio.CancelScope())
            await trio.testing.wait_all_tasks_blocked()
            first.cancel()
    assert found == [enrolled("writers")]
    assert calls == 2


async def test_more_questions_than_the_bound_are_turned_away(appview_db: AppViewDatabase) -> None:
    async def never(_request: httpx.Request) -> httpx.Response:
        await trio.sleep_forever()
        raise AssertionError

    async with httpx.AsyncClient(transport=httpx.MockTransport(never)) as http, trio.open_nursery() as nursery:
        here = World(appview_db, http, ModelService())
        for number in range(MAX_WAITING):
            nursery.start_soon(here.viewers.ask, Did(f"did:plc:{number}"))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(BoundariesUnknown, match="too many"):
            await here.viewers.ask(ANN)
        assert here.viewers.statistics()["rejected_total"] == 1
        nursery.cancel_scope.cancel()


async def _ask_while(database: AppViewDatabase, meanwhile: Callable[[World], None], told: Sequence[str]) -> tuple[Viewer, World]:
    """Ask, and let something happen in the database after the service has made up its answer."""

    def answer(_request: httpx.Request) -> httpx.Response:
        meanwhile(here)
        return httpx.Response(200, json={"did": ANN, "enrolled": True, "boundaries": list(told)})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        here = World(database, http, ModelService())
        here.store("writers", "editors", checked=NOW - timedelta(hours=1))
        return await here.viewers.ask(ANN), here


async def test_an_answer_does_not_undo_what_the_stream_revoked_meanwhile(appview_db: AppViewDatabase) -> None:
    told = [boundary("writers"), boundary("editors")]
    found, here = await _ask_while(appview_db, lambda here: here.store("editors", checked=NOW), told)
    assert found == enrolled("editors")
    assert here.fresh() == enrolled("editors")


async def test_an_answer_does_not_bring_back_a_row_that_was_purged_meanwhile(appview_db: AppViewDatabase) -> None:
    def purge(here: World) -> None:
        with here.database.transaction() as connection:
            connection.execute(here.database.queries.purge_actors, {"dids": [ANN]})

    found, _ = await _ask_while(appview_db, purge, [boundary("writers")])
    assert found == NOT_ENROLLED
    assert rows(appview_db, "SELECT did FROM stratos_enrollment") == []
