"""The firehose upon a real log: design §4."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
import trio
import trio.testing

from stratos.atproto.frames import MessageFrame
from stratos.core.boundaries import Boundary
from stratos.engine.commit_log import LogLimits
from stratos.engine.firehose import StreamEnd, StreamLimits, StreamRequest
from stratos.engine.service import ServiceLimits
from stratos.engine.store_reads import StoreReads
from stratos.engine.writes import Delete, Put
from stratos.storage.ports import Backend, StorageFault
from tests.engine.builders import EDITORS, KAORUKO, POST, REI, SAKURA, WRITERS, Engine, message, post, start_engine

EVERYTHING = StreamRequest(include_commits=True)
RKEY = "3lgoldenzzzz2"
PAGE_ENTRIES, CHUNK_FRAMES = 250, 50
"""What one read of the log brings at most, and what is handed to a subscriber in one go."""


@dataclass
class Subscriber:
    """Collects what a stream sends; `hold` stops it from taking more."""

    received: list[MessageFrame] = field(default_factory=list)
    end: StreamEnd | None = None
    hold: trio.Event | None = None

    async def take(self, frame: bytes) -> None:
        if self.hold is not None:
            await self.hold.wait()
        self.received.append(message(frame))

    def seqs(self) -> list[object]:
        return [frame.body["seq"] for frame in self.received if frame.kind != "#info"]

    def paths(self) -> list[tuple[object, object]]:
        return [(op["action"], op["path"]) for frame in self.received if frame.kind == "#commit" for op in _ops(frame)]


def _ops(frame: MessageFrame) -> list[dict[str, object]]:
    ops = frame.body["ops"]
    assert isinstance(ops, list)
    return [dict(op) for op in ops if isinstance(op, dict)]


@asynccontextmanager
async def subscribed(engine: Engine, request: StreamRequest, subscriber: Subscriber | None = None) -> AsyncIterator[Subscriber]:
    subscriber = subscriber or Subscriber()

    async def run() -> None:
        subscriber.end = await engine.service.firehose.serve(request, subscriber.take)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await settle(engine)
        yield subscriber
        await settle(engine)
        nursery.cancel_scope.cancel()


async def settle(engine: Engine) -> None:
    """Let every task run until it waits."""
    await trio.testing.wait_all_tasks_blocked()


async def test_a_subscriber_gets_backlog_and_live_entries_once_and_in_order(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    await engine.post(REI, "before", WRITERS)
    async with subscribed(engine, EVERYTHING) as subscriber:
        await engine.post(REI, "after", WRITERS)
        await engine.enroll(SAKURA, WRITERS)
    logged = engine.service.backend.log.after(0, limit=100, max_bytes=1_000_000)
    assert subscriber.seqs() == [entry.seq for entry in logged]
    assert [frame.kind for frame in subscriber.received] == [
        "#enrollment", "#commit", "#commit", "#commit", "#enrollment", "#commit",
    ]  # fmt: skip


async def test_a_cursor_is_exclusive_and_resumes_without_gap(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    for number in range(5):
        await engine.post(REI, f"post {number}", WRITERS)
    all_seqs = [entry.seq for entry in engine.service.backend.log.after(0, limit=100, max_bytes=1_000_000)]
    for position, cursor in enumerate(all_seqs):
        async with subscribed(engine, StreamRequest(cursor=cursor, include_commits=True)) as subscriber:
            pass
        assert subscriber.seqs() == all_seqs[position + 1 :]


async def test_an_actor_stream_has_this_actors_commits_only(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    await engine.enroll(SAKURA, WRITERS)
    async with subscribed(engine, StreamRequest(did=REI)) as subscriber:
        await engine.post(SAKURA, "not mine", WRITERS)
        await engine.post(REI, "mine", WRITERS)
    assert {frame.body["did"] for frame in subscriber.received} == {REI}
    assert [frame.kind for frame in subscriber.received] == ["#commit", "#commit"]


async def test_the_enrollment_stream_replays_the_active_ones_and_goes_on_live(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    await engine.enroll(SAKURA, WRITERS)
    await engine.post(REI, "is not sent", WRITERS)
    async with subscribed(engine, StreamRequest()) as subscriber:
        await engine.service.enrollment.set_boundaries(REI, [EDITORS])
        await engine.post(REI, "is not sent either", EDITORS)
        await engine.service.enrollment.unenroll(SAKURA)
    told = [(f.body["action"], f.body["did"], f.body.get("boundaries")) for f in subscriber.received]
    assert told == [
        ("enroll", REI, [WRITERS]),
        ("enroll", SAKURA, [WRITERS]),
        ("enroll", REI, [EDITORS]),
        ("unenroll", SAKURA, None),
    ]


async def test_a_change_while_the_enrollments_are_replayed_follows_the_replay(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    subscriber = Subscriber(hold=trio.Event())
    async with subscribed(engine, StreamRequest(), subscriber):
        assert subscriber.hold is not None
        await engine.enroll(SAKURA, EDITORS)
        await engine.enroll(REI, EDITORS)
        subscriber.hold.set()
    last = {frame.body["did"]: frame.body["boundaries"] for frame in subscriber.received}
    assert last == {REI: [EDITORS], SAKURA: [EDITORS]}


async def test_a_scoped_stream_is_exact_view_maintenance(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS, EDITORS)
    scoped = StreamRequest(include_commits=True, domains=frozenset({WRITERS}))
    path = f"{POST}/{RKEY}"

    async def put(*boundaries: Boundary) -> None:
        await engine.service.repository.write(REI, [Put(POST, RKEY, post("moving", *boundaries))])

    async with subscribed(engine, scoped) as subscriber:
        await put(EDITORS)
        await put(WRITERS, EDITORS)
        await put(WRITERS)
        await put(EDITORS)
        await engine.service.repository.write(REI, [Delete(POST, RKEY)])
    assert subscriber.paths() == [("create", path), ("update", path), ("delete", path)]


async def test_a_cursor_above_the_head_is_in_the_future(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    request = StreamRequest(cursor=engine.service.log.head + 1, include_commits=True)
    async with subscribed(engine, request) as subscriber:
        pass
    assert subscriber.end == StreamEnd("FutureCursor", "Cursor is in the future")


async def test_an_unknown_actor_has_no_stream(engine: Engine) -> None:
    async with subscribed(engine, StreamRequest(did=KAORUKO)) as subscriber:
        pass
    assert subscriber.end == StreamEnd("NotFound", "Account not found")


async def test_an_actor_stream_ends_when_the_account_leaves(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    async with subscribed(engine, StreamRequest(did=REI)) as subscriber:
        await engine.service.enrollment.unenroll(REI)
    assert subscriber.end == StreamEnd("NotFound", "Account is no longer enrolled")


async def test_a_cursor_behind_retention_is_told_so_and_goes_on_from_the_oldest(backend: Backend, nursery: trio.Nursery) -> None:
    engine = await start_engine(backend, nursery, ServiceLimits(log=LogLimits(tail_entries=1)))
    await engine.enroll(REI, WRITERS)
    await engine.post(REI, "old", WRITERS)
    old_head = engine.service.log.head
    engine.clock.now += timedelta(hours=100)
    await engine.post(REI, "new", WRITERS)
    assert await engine.service.retention.trim() == 3
    async with subscribed(engine, StreamRequest(cursor=1, include_commits=True)) as subscriber:
        pass
    assert [frame.kind for frame in subscriber.received] == ["#info", "#commit"]
    assert subscriber.received[0].body["name"] == "OutdatedCursor"
    async with subscribed(engine, StreamRequest(cursor=old_head, include_commits=True)) as precise:
        pass
    assert [frame.kind for frame in precise.received] == ["#commit"]
    await engine.stop()


async def test_what_is_trimmed_while_a_backlog_is_replayed_is_no_silent_gap(backend: Backend, nursery: trio.Nursery) -> None:
    engine = await start_engine(backend, nursery, ServiceLimits(log=LogLimits(tail_entries=1)))
    for did in (REI, SAKURA):
        await engine.enroll(did, WRITERS)
        for number in range(PAGE_ENTRIES * 3 // 5):
            await engine.post(did, f"post {number}", WRITERS)
    engine.clock.now += timedelta(hours=100)
    newest = await engine.post(REI, "newest", WRITERS)
    slow = Subscriber(hold=trio.Event())
    async with subscribed(engine, EVERYTHING, slow):
        assert slow.hold is not None
        await engine.service.retention.trim()
        slow.hold.set()
    seqs = slow.seqs()
    assert seqs[-2:] == [seqs[PAGE_ENTRIES - 1], engine.service.log.head]
    assert [frame.kind for frame in slow.received[PAGE_ENTRIES:]] == ["#info", "#commit"]
    assert slow.received[-1].body["rev"] == newest.rev
    await engine.stop()


async def test_cursor_zero_of_an_untrimmed_log_is_not_outdated(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    async with subscribed(engine, StreamRequest(cursor=0, include_commits=True)) as subscriber:
        pass
    assert [frame.kind for frame in subscriber.received] == ["#enrollment", "#commit"]


async def test_a_subscriber_that_takes_nothing_is_closed_as_too_slow(
    backend: Backend, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    engine = await start_engine(backend, nursery, ServiceLimits(stream=StreamLimits(send_timeout=5)))
    await engine.enroll(REI, WRITERS)
    stuck = Subscriber(hold=trio.Event())
    with trio.fail_after(60):
        stuck.end = await engine.service.firehose.serve(EVERYTHING, stuck.take)
    assert stuck.end.error == "ConsumerTooSlow"
    assert engine.service.firehose.statistics()["too_slow_total"] == 1
    await engine.stop()


async def test_a_live_subscriber_that_falls_out_of_the_tail_is_closed_and_nobody_else(
    backend: Backend, nursery: trio.Nursery
) -> None:
    engine = await start_engine(backend, nursery, ServiceLimits(log=LogLimits(tail_entries=3)))
    await engine.enroll(REI, WRITERS)
    slow = Subscriber()
    async with subscribed(engine, EVERYTHING, slow), subscribed(engine, EVERYTHING) as quick:
        slow.hold = trio.Event()
        for number in range(6):
            await engine.post(REI, f"post {number}", WRITERS)
            await settle(engine)
        slow.hold.set()
        await settle(engine)
        assert slow.end is not None
        assert slow.end.error == "ConsumerTooSlow"
        assert quick.end is None
    assert len(quick.seqs()) == 8
    await engine.stop()


async def test_closing_the_firehose_ends_every_stream_and_admits_no_new_one(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    async with subscribed(engine, EVERYTHING) as subscriber:
        engine.service.firehose.close()
        await settle(engine)
        assert subscriber.end is not None
        assert subscriber.end.error is None
        assert (await engine.service.firehose.serve(EVERYTHING, subscriber.take)).error is None


async def test_there_are_no_more_subscribers_than_the_limit(backend: Backend, nursery: trio.Nursery) -> None:
    engine = await start_engine(backend, nursery, ServiceLimits(stream=StreamLimits(max_subscribers=1)))
    async with subscribed(engine, EVERYTHING), subscribed(engine, EVERYTHING) as refused:
        pass
    assert refused.end is not None
    assert refused.end.error == "TooManySubscribers"
    await engine.stop()


async def test_subscribers_that_come_together_count_each_other(backend: Backend, nursery: trio.Nursery) -> None:
    engine = await start_engine(backend, nursery, ServiceLimits(stream=StreamLimits(max_subscribers=1)))
    await engine.enroll(REI, WRITERS)
    engine.service.firehose._reads = StoreReads(backend.actors, 2)
    ends: list[StreamEnd] = []

    async def subscribe() -> None:
        ends.append(await engine.service.firehose.serve(StreamRequest(did=REI), Subscriber().take))

    async with trio.open_nursery() as together:
        together.start_soon(subscribe)
        together.start_soon(subscribe)
        await settle(engine)
        together.cancel_scope.cancel()
    assert [end.error for end in ends] == ["TooManySubscribers"]
    await engine.stop()


async def test_nothing_of_an_unenrolled_actor_is_replayed(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    await engine.post(REI, "a secret", WRITERS)
    await engine.service.enrollment.unenroll(REI)
    async with subscribed(engine, EVERYTHING) as subscriber:
        pass
    assert [(frame.kind, frame.body["action"]) for frame in subscriber.received] == [("#enrollment", "unenroll")]


async def test_what_a_subscriber_still_waits_for_of_an_account_that_leaves_is_not_sent(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    for number in range(CHUNK_FRAMES + 20):
        await engine.post(REI, f"post {number}", WRITERS)
    slow = Subscriber(hold=trio.Event())
    async with subscribed(engine, EVERYTHING, slow):
        assert slow.hold is not None
        await engine.service.enrollment.unenroll(REI)
        slow.hold.set()
    assert len(slow.received) == CHUNK_FRAMES + 1
    assert slow.received[-1].body["action"] == "unenroll"


@pytest.mark.parametrize("cut", range(0, 12, 3))
async def test_replay_and_live_meet_without_gap_wherever_the_subscriber_stands(engine: Engine, cut: int) -> None:
    await engine.enroll(REI, WRITERS)
    subscriber = Subscriber(hold=trio.Event())
    async with subscribed(engine, EVERYTHING, subscriber):
        for number in range(12):
            if number == cut and subscriber.hold is not None:
                subscriber.hold.set()
            await engine.post(REI, f"post {number}", WRITERS)
    logged = engine.service.backend.log.after(0, limit=100, max_bytes=1_000_000)
    assert subscriber.seqs() == [entry.seq for entry in logged]


async def test_a_stream_that_cannot_be_read_on_ends_with_a_reason_and_those_in_memory_go_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.enroll(REI, WRITERS)
    async with subscribed(engine, EVERYTHING) as live:
        with monkeypatch.context() as away:
            away.setattr(engine.service.log, "tail_after", lambda *_: None)
            away.setattr(engine.service.backend.log, "after", _broken)
            end = await engine.service.firehose.serve(EVERYTHING, Subscriber().take)
        await engine.post(REI, "still live", WRITERS)
    assert end.error == "ServiceUnavailable"
    assert live.end is None
    assert live.paths()


def _broken(*_: object, **__: object) -> None:
    raise StorageFault("the server does not answer")
