"""Several processes on one log: what others append is shown too, once and in order, whatever happens to wake-ups and reads."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from stratos.atproto.syntax import Did
from stratos.core.enrollment import Enrollment
from stratos.engine.firehose import StreamRequest
from stratos.engine.log_follower import POLL_SECONDS
from stratos.storage.ports import Backend
from tests.engine.builders import EDITORS, KAORUKO, REI, SAKURA, WRITERS, Engine, message
from tests.engine.pairs import Pair, pair
from tests.engine.shared_store import SharedBackend


def logged(backend: Backend) -> list[int]:
    return [entry.seq for entry in backend.log.after(0, limit=1_000, max_bytes=10_000_000)]


async def shown(pair: Pair, backend: Backend) -> None:
    """Wait until the subscriber's process has shown the whole log."""
    await pair.here.service.log.wait_beyond(logged(backend)[-1] - 1)
    await trio.testing.wait_all_tasks_blocked()


async def test_a_subscriber_gets_every_processes_entries_once_and_in_order(stores: tuple[Backend, Backend]) -> None:
    async with pair(stores) as two:
        await two.here.enroll(REI, WRITERS)
        await two.there.enroll(SAKURA, WRITERS)
        for number in range(5):
            await two.there.post(SAKURA, f"there {number}", WRITERS)
            await two.here.post(REI, f"here {number}", WRITERS)
        await two.there.post(SAKURA, "the last", WRITERS)
        await shown(two, stores[0])
        assert two.seen == logged(stores[0])


async def test_our_own_entry_waits_for_those_before_it_even_without_a_follower(stores: tuple[Backend, Backend]) -> None:
    async with pair(stores, following=False) as two:
        await two.there.enroll(SAKURA, WRITERS)
        await two.here.enroll(REI, WRITERS)
        await trio.testing.wait_all_tasks_blocked()
        assert two.seen == logged(stores[0])


async def test_a_lost_wake_up_costs_a_poll_interval_and_no_entry(
    shared: SharedBackend, mock_clock: trio.testing.MockClock
) -> None:
    async with pair((shared, shared)) as two:
        shared.deaf = True
        await two.there.enroll(SAKURA, WRITERS)
        await trio.testing.wait_all_tasks_blocked()
        assert two.seen == []
        mock_clock.jump(POLL_SECONDS)
        await shown(two, shared)
        assert two.seen == logged(shared)


async def test_a_cursor_from_a_process_that_is_ahead_is_not_of_the_future(stores: tuple[Backend, Backend]) -> None:
    async with pair(stores, following=False) as two:
        await two.there.enroll(SAKURA, WRITERS)
        ahead = logged(stores[0])[-1]
        assert two.here.service.log.head < ahead
        later: list[bytes] = []

        async def take(frame: bytes) -> None:
            later.append(frame)

        async def resume(*, task_status: trio.TaskStatus[None]) -> None:
            task_status.started()
            await two.here.service.firehose.serve(StreamRequest(cursor=ahead, include_commits=True), take)

        async with trio.open_nursery() as nursery:
            await nursery.start(resume)
            await trio.testing.wait_all_tasks_blocked()
            await two.here.post(SAKURA, "next", WRITERS)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert [message(frame).body["seq"] for frame in later] == logged(stores[0])[-1:]
        ended = await two.here.service.firehose.serve(StreamRequest(cursor=logged(stores[0])[-1] + 1, include_commits=True), take)
        assert ended.error == "FutureCursor"


async def test_what_cannot_be_read_is_shown_later_and_in_order(shared: SharedBackend, mock_clock: trio.testing.MockClock) -> None:
    async with pair((shared, shared)) as two:
        shared.shy_log.blind = True
        await two.there.enroll(SAKURA, WRITERS)
        await two.here.enroll(REI, WRITERS)  # acknowledged, though nobody can be shown what came before it
        await trio.testing.wait_all_tasks_blocked()
        assert two.seen == []
        shared.shy_log.blind = False
        mock_clock.jump(POLL_SECONDS)
        await shown(two, shared)
        assert two.seen == logged(shared)


async def test_a_hard_unenroll_elsewhere_empties_memory_here(stores: tuple[Backend, Backend]) -> None:
    async with pair(stores) as two:
        await two.here.enroll(REI, WRITERS)
        await two.here.post(REI, "secret", WRITERS)
        assert await two.there.service.enrollment.unenroll(REI) is None
        await shown(two, stores[0])
        kept = two.here.service.log.tail_after(0, 100)
        assert kept is not None
        assert [b"secret" in entry.frame for entry in kept] == [False]


async def test_two_processes_that_change_one_account_lose_no_change(stores: tuple[Backend, Backend]) -> None:
    async with pair(stores) as two:
        await two.here.enroll(REI)

        async def add(engine: Engine, boundary: str) -> None:
            assert isinstance(await engine.service.enrollment.add_boundary(REI, boundary), Enrollment)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(add, two.here, WRITERS)
            nursery.start_soon(add, two.there, EDITORS)
        enrollment = stores[0].enrollments.current(REI)
        assert enrollment is not None
        assert set(enrollment.boundaries) == {WRITERS, EDITORS}


@pytest.mark.parametrize("did", [REI, SAKURA, KAORUKO])
async def test_two_processes_that_write_one_actor_never_fork_its_history(stores: tuple[Backend, Backend], did: Did) -> None:
    async with pair(stores) as two:
        await two.here.enroll(did, WRITERS)
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(two.here.post, did, f"here {number}", WRITERS)
                nursery.start_soon(two.there.post, did, f"there {number}", WRITERS)
        with stores[0].actors.open(did) as store:
            assert store is not None
            assert store.record_count() == 8
