"""The commit log's writer: group commit, order, faults, cancellation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event

import pytest
import trio
import trio.testing

from stratos.core.log_entry import Proposal
from stratos.engine.writes import Committed, Create
from stratos.storage.ports import AppendOutcome, Backend, OutcomeUnknown, StorageFault
from tests.engine.builders import POST, REI, SAKURA, WRITERS, Engine, post, start_engine
from tests.storage.conftest import Storage


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


async def test_subscribers_learn_of_an_entry_only_after_it_is_durable(engine: Engine) -> None:
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


@dataclass
class Commits:
    """Stands before the store's `commit`: fails batches before anything is appended, or holds them."""

    backend: Backend
    fault: StorageFault | None = None
    released: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        self.released.set()
        self._commit = self.backend.commit

    def __call__(self, batch: Sequence[Proposal], *, now: datetime) -> list[AppendOutcome]:
        if self.fault is not None:
            raise self.fault
        self.released.wait(10)
        return self._commit(batch, now=now)


@pytest.fixture
def commits(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Commits:
    commits = Commits(backend)
    monkeypatch.setattr(backend, "commit", commits)
    return commits


@pytest.mark.expects_error_log
async def test_a_failed_batch_is_a_fault_for_its_writers_and_the_log_goes_on(commits: Commits, engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    head = engine.service.log.head
    commits.fault = StorageFault("the disk is full")
    with pytest.raises(StorageFault):
        await engine.service.repository.write(REI, [Create(POST, None, post("lost?", WRITERS))])
    assert engine.service.log.head == head
    commits.fault = None
    assert isinstance(await engine.post(REI, "now it works", WRITERS), Committed)


async def test_a_cancelled_writer_still_leaves_the_next_one_a_correct_head(commits: Commits, engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    commits.released.clear()
    async with trio.open_nursery() as writers:
        with trio.CancelScope() as scope:
            writers.start_soon(_cancel_when_blocked, scope, commits.released)
            await engine.post(REI, "cancelled while it was appended", WRITERS)
    assert not scope.cancelled_caught  # whoever handed a write over learns what became of it
    await engine.post(REI, "the next", WRITERS)
    assert engine.service.repository.statistics()["replanned_total"] == 0
    with engine.service.backend.actors.open(REI) as store:
        assert store is not None
        assert store.record_count() == 2


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


async def test_a_restart_goes_on_above_the_old_head(storage: Storage, nursery: trio.Nursery) -> None:
    engine = await start_engine(storage.open(), nursery)
    await engine.enroll(REI, WRITERS)
    head = engine.service.log.head
    await engine.stop()
    storage.close()
    engine = await start_engine(storage.open(), nursery)
    assert engine.service.log.head == head
    await engine.enroll(SAKURA, WRITERS)
    assert engine.service.log.head > head
    await engine.stop()


@pytest.mark.expects_error_log
async def test_writers_of_a_batch_that_nobody_knows_of_are_told_so(commits: Commits, engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    commits.fault = OutcomeUnknown("the server was silent")
    with pytest.raises(OutcomeUnknown, match="silent"):
        await engine.service.repository.write(REI, [Create(POST, None, post("perhaps", WRITERS))])
    commits.fault = None
    assert isinstance(await engine.post(REI, "now it works", WRITERS), Committed)
