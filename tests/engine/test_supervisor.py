"""The supervisor: restart, backoff, budget, escalation, and what it leaves alone."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from stratos.core.fault_text import describe
from stratos.engine.supervisor import EscalatedFailure, Supervisor, TaskState, TaskStatistics


class FullDelay(random.Random):
    """Chance that always draws the upper end: backoffs without jitter."""

    def uniform(self, a: float, b: float) -> float:
        return b


class Boom(Exception):
    """The fault of the tasks in these tests."""


class Failing:
    """A task that fails `times` times, a given while after its start, and then waits for ever; it notes when it began."""

    def __init__(self, times: int, *, after: float = 0.0) -> None:
        self.begun: list[float] = []
        self.healthy = trio.Event()
        self._times = times
        self._after = after

    async def run(self, *, task_status: trio.TaskStatus[str]) -> None:
        self.begun.append(trio.current_time())
        task_status.started(f"run {len(self.begun)}")
        if len(self.begun) <= self._times:
            await trio.sleep(self._after)
            raise Boom(f"failure {len(self.begun)}")
        self.healthy.set()
        await trio.sleep_forever()


def supervisor(*, rng: random.Random | None = None, budget: int = 5, window: float = 300.0) -> Supervisor:
    return Supervisor(rng=rng or FullDelay(), initial_backoff=1.0, max_backoff=8.0, restart_budget=budget, budget_window=window)


def waits(begun: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(begun)]


@pytest.mark.expects_error_log
async def test_backoff_doubles_up_to_its_maximum(autojump_clock: MockClock) -> None:
    task = Failing(times=5)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor().run, "task", task.run)
        await task.healthy.wait()
        nursery.cancel_scope.cancel()
    assert waits(task.begun) == [1.0, 2.0, 4.0, 8.0, 8.0]


@pytest.mark.expects_error_log
async def test_jitter_takes_away_up_to_half_of_a_backoff(autojump_clock: MockClock) -> None:
    task = Failing(times=40)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor(rng=random.Random(7), budget=40, window=1e9).run, "task", task.run)
        await task.healthy.wait()
        nursery.cancel_scope.cancel()
    at_maximum = waits(task.begun)[3:]
    assert all(4.0 <= wait <= 8.0 for wait in at_maximum)
    assert min(at_maximum) < 5.0
    assert max(at_maximum) > 7.0


@pytest.mark.expects_error_log
async def test_more_failures_than_the_budget_escalate_from_the_last_error(autojump_clock: MockClock) -> None:
    task = Failing(times=100)
    supervising = supervisor(budget=3)
    with pytest.raises(EscalatedFailure, match="'task' failed again after 3 restarts") as raised:
        await supervising.run("task", task.run)
    assert len(task.begun) == 4
    assert isinstance(raised.value.__cause__, Boom)
    assert str(raised.value.__cause__) == "failure 4"
    assert supervising.statistics() == (TaskStatistics("task", TaskState.ESCALATED, 3, "Boom: failure 4"),)


@pytest.mark.expects_error_log
async def test_failures_older_than_the_window_do_not_count(autojump_clock: MockClock) -> None:
    task = Failing(times=20, after=50.0)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor(budget=3, window=150.0).run, "task", task.run)
        await task.healthy.wait()
        nursery.cancel_scope.cancel()
    assert len(task.begun) == 21
    assert max(waits(task.begun)) == 54.0, "the backoff grows with the failures inside the window only"


async def test_cancellation_goes_through_and_the_task_is_forgotten(autojump_clock: MockClock) -> None:
    task = Failing(times=0)
    supervising = supervisor()
    with trio.move_on_after(60) as scope:
        await supervising.run("task", task.run)
    assert scope.cancelled_caught
    assert len(task.begun) == 1
    assert supervising.statistics() == ()


@pytest.mark.expects_error_log
async def test_cancellation_ends_a_backoff(autojump_clock: MockClock) -> None:
    task = Failing(times=1)
    with trio.move_on_after(0.5) as scope:
        await supervisor().run("task", task.run)
    assert scope.cancelled_caught
    assert len(task.begun) == 1


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
async def test_what_is_not_an_exception_is_never_caught(stop: type[BaseException]) -> None:
    async def task(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        raise stop

    with pytest.raises(stop):
        await supervisor().run("task", task)


async def test_a_group_with_something_that_is_not_an_exception_is_never_caught() -> None:
    async def task(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        raise BaseExceptionGroup("both", [Boom(), KeyboardInterrupt()])

    with pytest.raises(BaseExceptionGroup) as raised:
        await supervisor().run("task", task)
    assert [type(member) for member in raised.value.exceptions] == [Boom, KeyboardInterrupt]


@pytest.mark.expects_error_log
async def test_a_group_of_exceptions_is_restarted_and_every_member_is_named(autojump_clock: MockClock) -> None:
    supervising = supervisor()
    again = trio.Event()

    async def task(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        if supervising.statistics()[0].restarts:
            again.set()
            await trio.sleep_forever()
        raise ExceptionGroup("outer", [Boom("left"), ExceptionGroup("inner", [OSError("right")])])

    async with trio.open_nursery() as nursery:
        await nursery.start(supervising.run, "task", task)
        await again.wait()
        (row,) = supervising.statistics()
        nursery.cancel_scope.cancel()
    assert row.state is TaskState.RUNNING
    assert row.last_error == "Boom: left; OSError: right"


@pytest.mark.expects_error_log
async def test_started_passes_through_once_with_the_first_value(autojump_clock: MockClock) -> None:
    task = Failing(times=2)
    async with trio.open_nursery() as nursery:
        assert await nursery.start(supervisor().run, "task", task.run) == "run 1"
        await task.healthy.wait()
        nursery.cancel_scope.cancel()


@pytest.mark.expects_error_log
async def test_a_task_that_fails_before_it_started_is_tried_again_while_its_starter_waits(autojump_clock: MockClock) -> None:
    attempts: list[float] = []

    async def task(*, task_status: trio.TaskStatus[int]) -> None:
        attempts.append(trio.current_time())
        if len(attempts) < 3:
            raise Boom
        task_status.started(len(attempts))
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        assert await nursery.start(supervisor().run, "task", task) == 3
        nursery.cancel_scope.cancel()


@pytest.mark.expects_error_log
async def test_a_task_that_never_starts_escalates_to_its_starter(autojump_clock: MockClock) -> None:
    async def silent(*, task_status: trio.TaskStatus[None]) -> None:
        await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        with pytest.raises(EscalatedFailure) as raised:
            await nursery.start(supervisor(budget=1).run, "task", silent)
    assert "without calling task_status.started()" in str(raised.value.__cause__)


@pytest.mark.expects_error_log
async def test_started_twice_in_one_run_is_a_fault(autojump_clock: MockClock) -> None:
    async def task(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        task_status.started()

    with pytest.raises(EscalatedFailure) as raised:
        await supervisor(budget=0).run("task", task)
    assert isinstance(raised.value.__cause__, RuntimeError)


async def test_a_task_that_returns_is_done_and_its_name_is_free_again() -> None:
    runs: list[str] = []

    async def task(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        runs.append("run")

    supervising = supervisor()
    await supervising.run("task", task)
    await supervising.run("task", task)
    assert runs == ["run", "run"]
    assert supervising.statistics() == ()


async def test_two_tasks_of_one_name_are_refused() -> None:
    task = Failing(times=0)
    supervising = supervisor()
    async with trio.open_nursery() as nursery:
        await nursery.start(supervising.run, "task", task.run)
        with pytest.raises(ValueError, match="'task' is supervised already"):
            await supervising.run("task", task.run)
        assert [row.state for row in supervising.statistics()] == [TaskState.RUNNING]
        nursery.cancel_scope.cancel()


@pytest.mark.expects_error_log
async def test_statistics_tell_state_restarts_and_last_error(autojump_clock: MockClock) -> None:
    supervising = supervisor()
    flaky, steady = Failing(times=1, after=10.0), Failing(times=0)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervising.run, "flaky", flaky.run)
        await nursery.start(supervising.run, "steady", steady.run)
        assert [row.state for row in supervising.statistics()] == [TaskState.RUNNING, TaskState.RUNNING]
        await trio.sleep(10.5)
        assert supervising.statistics() == (
            TaskStatistics("flaky", TaskState.BACKING_OFF, 0, "Boom: failure 1"),
            TaskStatistics("steady", TaskState.RUNNING, 0, None),
        )
        await flaky.healthy.wait()
        assert supervising.statistics()[0] == TaskStatistics("flaky", TaskState.RUNNING, 1, "Boom: failure 1")
        nursery.cancel_scope.cancel()


@given(st.text(max_size=2_000), st.integers(1, 4))
def test_an_error_is_described_in_one_bounded_line(message: str, members: int) -> None:
    line = describe(ExceptionGroup("group", [ValueError(message)] * members))
    assert line.startswith("ValueError:")
    assert len(line) <= 300
    assert len(line.splitlines()) == 1
