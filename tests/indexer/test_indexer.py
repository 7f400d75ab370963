"""The whole indexer against a model service: every kind of interruption ends with the rows that the service holds."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest
import trio
from trio.testing import MockClock

from stratos.atproto.keys import SigningKey
from stratos.atproto.syntax import Did
from stratos.core.log_entry import Action
from stratos.engine.supervisor import Supervisor
from stratos.indexer.appview_db import AppViewDatabase, AppViewDbConfig, Connection, DatabaseUnavailable, T
from stratos.indexer.appview_sql import AppViewSql
from stratos.indexer.indexer import Indexer, IndexerConfig
from stratos.indexer.resync import ResyncConfig
from tests.indexer.rows import blocked, enrollments, position, posts, revs
from tests.indexer.stratos_model import SERVICE_URL, START, SYNC_TOKEN, ModelService, ModelSocket, post

ANN = Did("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
BOB = Did("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")


def key(number: int) -> str:
    return f"3mgaaaaaaaaa{chr(ord('a') + number)}"


def virtual_now() -> datetime:
    return START + timedelta(days=1, seconds=trio.current_time())


@dataclass
class Running:
    """An indexer under way."""

    indexer: Indexer
    database: AppViewDatabase
    service: ModelService

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait for the database to come to something. Time is virtual; the test's timeout bounds it."""
        while not await trio.to_thread.run_sync(reached):  # noqa: ASYNC110 - what is awaited happens in PostgreSQL
            await trio.sleep(0.05)

    async def until_in_step(self) -> None:
        """Wait until the rows show what the service holds and nobody is blocked."""
        await self.until(self.in_step)

    def in_step(self) -> bool:
        database, service = self.database, self.service
        return (
            (position(database) == service.head or not service.log)
            and posts(database) == service.posts()
            and revs(database) == service.revs()
            and enrollments(database).keys() == service.boundaries().keys()
            and blocked(database) == {}
        )


@asynccontextmanager
async def indexing(
    service: ModelService, database: AppViewDatabase, *, token: str = SYNC_TOKEN, resync: ResyncConfig | None = None
) -> AsyncIterator[Running]:
    config = IndexerConfig.of(SERVICE_URL, token)
    if resync is not None:
        config = replace(config, resync=resync)
    async with service.http() as http, trio.open_nursery() as nursery:
        indexer = Indexer(config, database, http, clock=virtual_now, rng=random.Random(1), connect=service.connect)
        await nursery.start(indexer.run, Supervisor(rng=random.Random(1)))
        yield Running(indexer, database, service)
        nursery.cancel_scope.cancel()


@pytest.fixture
def service() -> ModelService:
    """Two accounts with a post each."""
    service = ModelService()
    for did in (ANN, BOB):
        service.enroll(did, "writers")
        service.create(did, key(0), post(f"of {did}", "writers"))
    return service


async def test_backlog_and_live_events_become_rows(
    appview_db: AppViewDatabase, service: ModelService, autojump_clock: MockClock
) -> None:
    async with indexing(service, appview_db) as running:
        await running.until_in_step()
        service.update(ANN, key(0), post("edited", "editors"))
        service.delete(BOB, key(0))
        service.enroll(BOB, "editors")
        await running.until_in_step()
        assert enrollments(appview_db) == service.boundaries()
        statistics = running.indexer.statistics()
    assert statistics["indexer_projector"]["seq"] == service.head
    assert statistics["indexer_projector"]["commits_total"] == 6
    assert running.indexer.lag().count == 6


async def test_an_account_is_fetched_whole_while_its_key_is_rotated_again_and_again(
    appview_db: AppViewDatabase, service: ModelService, autojump_clock: MockClock
) -> None:
    async with indexing(service, appview_db) as running:
        await running.until_in_step()
        service.create(ANN, key(1), post("never on the stream", "writers"), log=False)
        rotating = ["zone.stratos.enrollment.status", "zone.stratos.sync.getRepo"]

        def rotate(method: str) -> None:
            if method in rotating:
                rotating.remove(method)
                service.rotate_key(ANN, log=False)

        service.refuse = rotate
        service.rotate_key(ANN)
        await running.until_in_step()
        statistics = running.indexer.statistics()["indexer_resync"]
    assert len(service.repos[ANN].former) == 3
    assert (statistics["mended_total"], statistics["failed_total"]) == (1, 0)


async def test_a_restart_goes_on_from_the_saved_position(
    appview_db: AppViewDatabase, service: ModelService, autojump_clock: MockClock
) -> None:
    async with indexing(service, appview_db) as running:
        await running.until_in_step()
    saved = position(appview_db)
    service.create(ANN, key(1), post("meanwhile", "writers"))
    async with indexing(service, appview_db) as running:
        await running.until_in_step()
        statistics = running.indexer.statistics()["indexer_projector"]
    assert f"cursor={saved}" in [request for request in service.requests if "subscribeRecords" in request][-1]
    assert (statistics["commits_total"], statistics["duplicates_total"]) == (1, 0)


async def test_an_outdated_cursor_is_mended_by_comparing_all_actors(
    appview_db: AppViewDatabase, service: ModelService, autojump_clock: MockClock
) -> None:
    async with indexing(service, appview_db) as running:
        await running.until_in_step()
    service.create(ANN, key(1), post("never seen on the stream", "writers"))
    service.unenroll(BOB)
    carol = Did("did:plc:cccccccccccccccccccccccc")
    service.enroll(carol, "writers")
    service.create(carol, key(0), post("neither is this", "writers"))
    service.trim()
    service.create(ANN, key(2), post("seen", "writers"))
    async with indexing(service, appview_db) as running:
        await running.until_in_step()
        assert enrollments(appview_db) == {ANN: None, carol: None}
        service.create(carol, key(1), post("live", "writers"))
        await running.until_in_step()
        assert running.indexer.statistics()["indexer_resync"]["mended_total"] >= 2


async def test_a_fresh_indexer_of_a_trimmed_log_fetches_everybody(
    appview_db: AppViewDatabase, service: ModelService, autojump_clock: MockClock
) -> None:
    service.trim()
    async with indexing(service, appview_db) as running:
        await running.until_in_step()


async def test_a_service_restored_from_an_older_backup_is_followed_back(
    appview_db: AppViewDatabase, service: ModelService, autojump_clock: MockClock
) -> None:
    service.enroll(Did("did:plc:dddddddddddddddddddddddd"), "writers")
    service.create(ANN, key(1), post("lost with the disk", "writers"))
    async with indexing(service, appview_db) as running:
        await running.until_in_step()
    restored = ModelService()
    restored.enroll(ANN, "writers")
    restored.create(ANN, key(0), post("from the backup", "writers"))
    assert restored.head < position(appview_db)
    async with indexing(restored, appview_db) as running:
        await running.until_in_step()
        restored.create(ANN, key(2), post("after the restore", "writers"))
        await running.until_in_step()
    assert position(appview_db) == restored.head


async def test_a_gap_is_mended_while_the_others_stay_live(
    appview_db: AppViewDatabase, service: ModelService, autojump_clock: MockClock
) -> None:
    async with indexing(service, appview_db) as running:
        await running.until_in_step()
        service.create(ANN, key(1), post("lost", "writers"), log=False)
        service.create(ANN, key(2), post("after the gap", "writers"))
        service.create(BOB, key(1), post("other", "writers"))
        await running.until_in_step()
        service.create(ANN, key(3), post("live again", "writers"))
        await running.until_in_step()
        counts = running.indexer.statistics()
        assert counts["indexer_projector"]["blocked_total"] == counts["indexer_resync"]["mended_total"] == 1


async def test_writes_during_a_resync_are_not_lost(
    appview_db: AppViewDatabase, service: ModelService, autojump_clock: MockClock
) -> None:
    async with indexing(service, appview_db) as running:
        await running.until_in_step()
        fetching = trio.Event()

        def slow_refusal(method: str) -> int | None:
            if method.endswith("getRepo") and not fetching.is_set():
                fetching.set()
                service.create(ANN, key(3), post("written while the old repository was on its way", "writers"))
                return 503
            return None

        service.refuse = slow_refusal
        service.create(ANN, key(1), post("lost", "writers"), log=False)
        service.create(ANN, key(2), post("after the gap", "writers"))
        await fetching.wait()
        await running.until_in_step()


async def test_a_failing_resync_is_repeated_until_it_succeeds(
    appview_db: AppViewDatabase, service: ModelService, autojump_clock: MockClock
) -> None:
    service.refuse = lambda method: 500 if method.endswith("getRepo") else None
    # Virtual time runs on while the database works: how many attempts it takes is not the question here.
    async with indexing(service, appview_db, resync=ResyncConfig(alarm_attempts=1_000_000)) as running:
        await running.until_in_step()
        service.create(ANN, key(1), post("lost", "writers"), log=False)
        service.create(ANN, key(2), post("after the gap", "writers"))
        await running.until(lambda: "answers 500" in blocked(appview_db).get(ANN, ""))
        service.create(BOB, key(1), post("goes on", "writers"))
        await running.until(lambda: revs(appview_db)[BOB] == service.revs()[BOB])
        service.refuse = lambda _method: None
        await running.until_in_step()


@pytest.mark.expects_error_log
async def test_an_actor_that_stays_blocked_becomes_an_alarm(
    appview_db: AppViewDatabase, service: ModelService, autojump_clock: MockClock
) -> None:
    async with indexing(service, appview_db, resync=ResyncConfig(alarm_attempts=3)) as running:
        await running.until_in_step()
        service.create(ANN, key(1), post("lost", "writers"), log=False)
        service.create(ANN, key(2), post("after the gap", "writers"))
        repo = service.repos[ANN]
        right_key, repo.key = repo.key, SigningKey.generate_p256()
        await running.until(lambda: running.indexer.statistics()["indexer_resync"]["alarming_actors"] == 1)
        assert "not signed with" in blocked(appview_db)[ANN]
        repo.key = right_key
        await running.until_in_step()


class FlakyDatabase(AppViewDatabase):
    """Loses the connection now and then: before a transaction, or after its commit."""

    def __init__(self, config: AppViewDbConfig, files: AppViewSql, rng: random.Random) -> None:
        super().__init__(config, files)
        self._chance = rng
        self.faults = 0

    async def run(self, work: Callable[[Connection], T]) -> T:
        fate = self._chance.random()
        if fate < 0.2:
            self.faults += 1
            raise DatabaseUnavailable("before")
        result = await super().run(work)
        if fate > 0.8:
            self.faults += 1
            raise DatabaseUnavailable("the answer to the commit was lost")
        return result


async def test_database_faults_stall_and_lose_or_repeat_nothing(
    appview_db: AppViewDatabase,
    appview_db_config: AppViewDbConfig,
    appview_sql: AppViewSql,
    service: ModelService,
    autojump_clock: MockClock,
) -> None:
    flaky = FlakyDatabase(appview_db_config, appview_sql, random.Random(7))
    flaky.open()
    try:
        async with indexing(service, flaky) as running:
            running.database = appview_db
            for number in range(1, 12):
                service.create(ANN, key(number), post(f"post {number}", "writers"))
                service.update(BOB, key(0), post(f"edit {number}", "writers"))
                await running.until(lambda: position(appview_db) == service.head)
            await running.until_in_step()
            assert running.indexer.statistics()["indexer_projector"]["blocked_total"] == 0
    finally:
        flaky.close()
    assert flaky.faults > 5


async def test_killed_connections_are_replaced(
    appview_db: AppViewDatabase, service: ModelService, autojump_clock: MockClock
) -> None:
    async with indexing(service, appview_db) as running:
        await running.until_in_step()
        for number in range(1, 4):
            with appview_db.transaction() as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type ="
                    " 'client backend'"
                )
            service.create(ANN, key(number), post(f"post {number}", "writers"))
            await running.until(lambda: _quietly(lambda: position(appview_db)) == service.head)
        await running.until(lambda: _quietly(running.in_step) is True)


def _quietly(read: Callable[[], object]) -> object:
    """A reading; None where it hit a killed connection itself."""
    try:
        return read()
    except DatabaseUnavailable:
        return None


async def test_lost_connections_are_taken_up_after_the_last_event(
    appview_db: AppViewDatabase, service: ModelService, autojump_clock: MockClock
) -> None:
    original = service.connect

    @asynccontextmanager
    async def brittle(url: str, headers: Sequence[tuple[str, str]]) -> AsyncIterator[ModelSocket]:
        async with original(url, headers) as socket:
            left = 2
            get = socket.get_message

            async def get_a_few() -> bytes:
                nonlocal left
                left -= 1
                if left < 0:
                    raise OSError("connection reset")
                return await get()

            socket.get_message = get_a_few  # type: ignore[method-assign]
            yield socket

    service.connect = brittle  # type: ignore[method-assign]
    for number in range(1, 8):
        service.write(ANN, (Action.CREATE, key(number), post(f"post {number}", "writers")))
    async with indexing(service, appview_db) as running:
        await running.until_in_step()
        statistics = running.indexer.statistics()
    assert statistics["indexer_stream"]["connections_total"] >= 6
    assert statistics["indexer_projector"]["duplicates_total"] == 0


@pytest.mark.expects_error_log
async def test_a_refused_credential_is_reported_and_tried_again(
    appview_db: AppViewDatabase, service: ModelService, autojump_clock: MockClock
) -> None:
    async with indexing(service, appview_db, token="wrong") as running:
        await running.until(lambda: service.connections >= 3)
        assert running.indexer.stream.last_error.startswith("AuthRequired")
    assert posts(appview_db) == {}
