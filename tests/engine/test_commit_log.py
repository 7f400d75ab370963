"""The commit log's writer: group commit, order, faults, cancellation."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from threading import Event

import pytest
import trio
import trio.testing

from stratos.core.log_entry import Proposal
from stratos.engine.writes import Committed, Create
from stratos.storage.ports import AppendOutcome, OutcomeUnknown, StorageFault
from stratos.storage.sqlite.backend import SqliteBackend
from tests.engine.builders import POST, REI, SAKURA, WRITERS, Engine, open_backend, post, start_engine


async def test_what_is_acknowledged_is_in_the_log_and_in_the_store(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    before = engine.service.log.head
    outcome = await engine.post(REI, "hello", WRITERS)
    (entry,) = engine.service.backend.log.after(before, limit=10, max_bytes=1_000_000)
    with engine.service.backend.actors.open(REI) as store:
        assert store is not None
        root = store.root()
    assert (root.seq, root.rev, root.commit) == (entry.seq, outcome.rev, outcome.commit)


async def test_waiting_proposals_share_a_batch(engine: Engine) -> None:
    for did in (REI, SAKURA):
        await engine.enroll(did, WRITERS)
    before = engine.service.log.statistics()["batches_total"]
    async with trio.open_nursery() as nursery:
        for did in (REI, SAKURA):
            nursery.start_soon(engine.post, did, "together", WRITERS)
    assert engine.service.log.statistics()["batches_total"] - before <= 2


async def test_a_waiter_is_woken_only_past_its_cursor(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    head = engine.service.log.head
    woken = trio.Event()

    async def wait() -> None:
        await engine.service.log.wait_beyond(head)
        woken.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert not woken.is_set()
        await engine.post(REI, "wake up", WRITERS)
        await woken.wait()


async def test_a_wait_for_what_has_come_meanwhile_ends_at_once(engine: Engine) -> None:
    before = engine.service.log.head
    await engine.enroll(REI, WRITERS)
    with trio.fail_after(1):
        await engine.service.log.wait_beyond(before)


async def test_subscribers_learn_of_an_entry_only_after_it_is_durable(data_dir: Path, nursery: trio.Nursery) -> None:
    backend = open_backend(data_dir)
    engine = await start_engine(backend, nursery)
    await engine.enroll(REI, WRITERS)
    seen: list[bool] = []

    async def watch() -> None:
        head = engine.service.log.head
        await engine.service.log.wait_beyond(head)
        seen.append(bool(engine.service.backend.log.after(head, limit=1, max_bytes=1_000)))

    async with trio.open_nursery() as watching:
        watching.start_soon(watch)
        await trio.testing.wait_all_tasks_blocked()
        await engine.post(REI, "x", WRITERS)
    assert seen == [True]
    await engine.stop()
    backend.close()


class _FailingBackend(SqliteBackend):
    """Fails the batches that it is told to fail, before anything is appended."""

    failing = False
    fault = StorageFault("the disk is full")

    def commit(self, batch: Sequence[Proposal], *, now: datetime) -> list[AppendOutcome]:
        if self.failing:
            raise self.fault
        return super().commit(batch, now=now)


@pytest.fixture
def failing(data_dir: Path) -> _FailingBackend:
    from stratos.resources import sql_directory
    from stratos.storage.sql_files import SqlFiles

    backend = _FailingBackend.open(data_dir, sql=SqlFiles(sql_directory()), max_open_actors=4)
    assert isinstance(backend, _FailingBackend)
    return backend


@pytest.mark.expects_error_log
async def test_a_failed_batch_is_a_fault_for_its_writers_and_the_log_goes_on(
    failing: _FailingBackend, nursery: trio.Nursery
) -> None:
    engine = await start_engine(failing, nursery)
    await engine.enroll(REI, WRITERS)
    head = engine.service.log.head
    failing.failing = True
    with pytest.raises(StorageFault):
        await engine.service.repository.write(REI, [Create(POST, None, post("lost?", WRITERS))])
    assert engine.service.log.head == head
    failing.failing = False
    assert isinstance(await engine.post(REI, "now it works", WRITERS), Committed)
    await engine.stop()
    failing.close()


class _SlowBackend(SqliteBackend):
    """Holds every batch until it is released."""

    released = Event()

    def commit(self, batch: Sequence[Proposal], *, now: datetime) -> list[AppendOutcome]:
        self.released.wait(10)
        return super().commit(batch, now=now)


async def test_a_cancelled_writer_still_leaves_the_next_one_a_correct_head(data_dir: Path, nursery: trio.Nursery) -> None:
    from stratos.resources import sql_directory
    from stratos.storage.sql_files import SqlFiles

    backend = _SlowBackend.open(data_dir, sql=SqlFiles(sql_directory()), max_open_actors=4)
    assert isinstance(backend, _SlowBackend)
    backend.released.set()
    engine = await start_engine(backend, nursery)
    await engine.enroll(REI, WRITERS)
    backend.released.clear()
    async with trio.open_nursery() as writers:
        with trio.CancelScope() as scope:
            writers.start_soon(_cancel_when_blocked, scope, backend.released)
            await engine.post(REI, "cancelled while it was appended", WRITERS)
    assert not scope.cancelled_caught  # whoever handed a write over learns what became of it
    await engine.post(REI, "the next", WRITERS)
    assert engine.service.repository.statistics()["replanned_total"] == 0
    with backend.actors.open(REI) as store:
        assert store is not None
        assert store.record_count() == 2
    await engine.stop()
    backend.close()


async def _cancel_when_blocked(scope: trio.CancelScope, released: Event) -> None:
    await trio.testing.wait_all_tasks_blocked()
    scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    released.set()


async def test_after_the_writer_has_ended_appends_are_faults_and_nothing_hangs(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    await engine.stop()
    with trio.fail_after(5), pytest.raises(StorageFault):
        await engine.service.repository.write(REI, [Create(POST, None, post("too late", WRITERS))])


async def test_a_restart_goes_on_above_the_old_head(data_dir: Path, nursery: trio.Nursery) -> None:
    backend = open_backend(data_dir)
    engine = await start_engine(backend, nursery)
    await engine.enroll(REI, WRITERS)
    head = engine.service.log.head
    await engine.stop()
    backend.close()
    again = open_backend(data_dir)
    engine = await start_engine(again, nursery)
    assert engine.service.log.head == head
    await engine.enroll(SAKURA, WRITERS)
    assert engine.service.log.head > head
    await engine.stop()
    again.close()


@pytest.mark.expects_error_log
async def test_writers_of_a_batch_that_nobody_knows_of_are_told_so(failing: _FailingBackend, nursery: trio.Nursery) -> None:
    engine = await start_engine(failing, nursery)
    await engine.enroll(REI, WRITERS)
    failing.fault = OutcomeUnknown("the server was silent")
    failing.failing = True
    with pytest.raises(OutcomeUnknown, match="silent"):
        await engine.service.repository.write(REI, [Create(POST, None, post("perhaps", WRITERS))])
    failing.failing = False
    assert isinstance(await engine.post(REI, "now it works", WRITERS), Committed)
    await engine.stop()
    failing.close()
