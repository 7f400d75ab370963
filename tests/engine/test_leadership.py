"""Single-runner tasks: one process runs them, and the next takes over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from stratos.engine.leadership import CHECK_SECONDS, LedTask
from stratos.engine.store_reads import StoreReads
from tests.engine.shared_store import SharedBackend


@pytest.fixture
def shared(data_dir: Path) -> Iterator[SharedBackend]:
    """A store that says that other processes use it too."""
    backend = SharedBackend.of(data_dir)
    yield backend
    backend.close()


class Runner:
    """A task that notes whether it runs, in one of two processes."""

    def __init__(self, backend: SharedBackend) -> None:
        self.running = False
        self.led = LedTask("retention", self.run, backend=backend, reads=StoreReads(backend.actors))

    async def run(self, *, task_status: trio.TaskStatus[object]) -> None:
        self.running = True
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            self.running = False


async def in_a_process(runner: Runner, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await runner.led.run()


async def test_one_process_runs_it_at_a_time_and_the_next_takes_over(
    shared: SharedBackend, autojump_clock: trio.testing.MockClock
) -> None:
    leader, other = Runner(shared), Runner(shared)
    async with trio.open_nursery() as nursery:
        dying = await nursery.start(in_a_process, leader)
        await trio.sleep(CHECK_SECONDS / 2)
        await nursery.start(in_a_process, other)
        await trio.sleep(3 * CHECK_SECONDS)
        assert (leader.running, other.running) == (True, False)
        dying.cancel()
        await trio.sleep(2 * CHECK_SECONDS)
        assert (leader.running, other.running) == (False, True)
        nursery.cancel_scope.cancel()
    assert shared.holders == {}


async def test_a_leader_that_lost_its_right_stops_before_long(
    shared: SharedBackend, autojump_clock: trio.testing.MockClock
) -> None:
    leader = Runner(shared)
    async with trio.open_nursery() as nursery:
        await nursery.start(leader.led.run)
        await trio.sleep(CHECK_SECONDS / 2)
        assert leader.led.statistics() == {"leading": 1, "taken_total": 1}
        shared.holders["retention"] = shared.leadership("retention")
        await trio.sleep(2 * CHECK_SECONDS)
        assert not leader.running
        assert leader.led.statistics() == {"leading": 0, "taken_total": 1}
        nursery.cancel_scope.cancel()


async def test_a_process_that_waits_asks_over_one_connection(
    shared: SharedBackend, autojump_clock: trio.testing.MockClock
) -> None:
    leader, other = Runner(shared), Runner(shared)
    async with trio.open_nursery() as nursery:
        await nursery.start(leader.led.run)
        await trio.sleep(CHECK_SECONDS / 2)
        await nursery.start(other.led.run)
        await trio.sleep(20 * CHECK_SECONDS)
        assert shared.rights_made == 2
        nursery.cancel_scope.cancel()


async def test_a_right_that_cannot_be_asked_for_is_asked_for_again(
    shared: SharedBackend, autojump_clock: trio.testing.MockClock
) -> None:
    runner = Runner(shared)
    shared.rights_fail = True
    async with trio.open_nursery() as nursery:
        await nursery.start(runner.led.run)
        await trio.sleep(3 * CHECK_SECONDS)
        assert runner.led.statistics()["leading"] == 0
        shared.rights_fail = False
        await trio.sleep(2 * CHECK_SECONDS)
        assert runner.running
        nursery.cancel_scope.cancel()
