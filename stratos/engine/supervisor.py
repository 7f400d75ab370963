"""Supervision of long-running tasks: restart with jittered exponential backoff, a restart budget, then escalation (design §7)."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

import structlog
import trio
from structlog.typing import FilteringBoundLogger

from stratos.core.fault_text import describe

INITIAL_BACKOFF_SECONDS: Final = 0.5
MAX_BACKOFF_SECONDS: Final = 30.0
RESTART_BUDGET: Final = 5
BUDGET_WINDOW_SECONDS: Final = 300.0
LEAST_JITTER: Final = 0.5
"""A backoff is drawn uniformly between this share of the full delay and the full delay."""
_MOST_DOUBLINGS: Final = 64
"""Keeps the power of two within a float, whatever the restart budget."""

_log: FilteringBoundLogger = structlog.get_logger(__name__)


class TaskState(StrEnum):
    """Where a supervised task stands."""

    STARTING = "starting"
    RUNNING = "running"
    BACKING_OFF = "backing-off"
    ESCALATED = "escalated"


@dataclass(frozen=True, slots=True)
class TaskStatistics:
    """One supervised task. `restarts` counts from its first start; `last_error` is one line, None while it never failed."""

    name: str
    state: TaskState
    restarts: int
    last_error: str | None


class SupervisedTask(Protocol):
    """A task in the shape that `nursery.start` takes; it reports `started()` on every run."""

    async def __call__(self, *, task_status: trio.TaskStatus[object]) -> None: ...


class EscalatedFailure(Exception):
    """A supervised task used up its restart budget; the cause is its last error."""

    def __init__(self, name: str, restarts: int) -> None:
        super().__init__(f"task {name!r} failed again after {restarts} restarts")
        self.name = name
        self.restarts = restarts


class Supervisor:
    """Keeps tasks running; reads of its table are for `/health`, `/metrics` and the console.

    A supervised task mends expected trouble (a lost connection, say) by itself: what it lets out counts as a fault. All durations
    are seconds. The nth failure within `budget_window` is followed by a wait of `initial_backoff * 2 ** (n - 1)`, at most
    `max_backoff`, less up to half of it by chance. More than `restart_budget` failures in the window escalate.
    """

    def __init__(
        self,
        *,
        rng: random.Random,
        clock: Callable[[], float] = trio.current_time,
        initial_backoff: float = INITIAL_BACKOFF_SECONDS,
        max_backoff: float = MAX_BACKOFF_SECONDS,
        restart_budget: int = RESTART_BUDGET,
        budget_window: float = BUDGET_WINDOW_SECONDS,
    ) -> None:
        self._rng = rng
        self._clock = clock
        self._initial_backoff = initial_backoff
        self._max_backoff = max_backoff
        self._restart_budget = restart_budget
        self._budget_window = budget_window
        self._tasks: dict[str, _Supervised] = {}

    async def run(
        self,
        name: str,
        task: SupervisedTask,
        *,
        task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run `task` until it returns, and again after every `Exception` (a group of them too).

        `started()` passes through once, with the value of the first run that gets that far. A task that returns is done and
        forgotten. Cancellation and every other non-`Exception` goes straight through. Raises EscalatedFailure when the budget
        is used up, and ValueError where a task of this name is running already.
        """
        if name in self._tasks:
            raise ValueError(f"a task named {name!r} is supervised already")
        supervised = self._tasks[name] = _Supervised(name, task_status)
        try:
            while True:
                try:
                    supervised.begin_run()
                    await task(task_status=supervised)
                    supervised.check_reported()
                    return
                except Exception as error:  # noqa: BLE001 - the purpose: any fault of a task becomes a restart or an escalation
                    delay = self._delay_after(supervised, error)
                await trio.sleep(delay)
                supervised.restarts += 1
        finally:
            if supervised.state is not TaskState.ESCALATED:
                del self._tasks[name]

    def statistics(self) -> tuple[TaskStatistics, ...]:
        """Every task that is supervised now or has escalated, in the order of its start."""
        return tuple(supervised.statistics() for supervised in self._tasks.values())

    def _delay_after(self, supervised: _Supervised, error: Exception) -> float:
        """Note a failure; seconds until the next run. Raises EscalatedFailure."""
        now = self._clock()
        failures = supervised.failures
        failures.append(now)
        while failures[0] <= now - self._budget_window:
            failures.popleft()
        supervised.last_error = describe(error)
        if len(failures) > self._restart_budget:
            supervised.state = TaskState.ESCALATED
            _log.error("task given up", task=supervised.name, restarts=supervised.restarts, exc_info=error)
            raise EscalatedFailure(supervised.name, supervised.restarts) from error
        supervised.state = TaskState.BACKING_OFF
        doublings = min(len(failures) - 1, _MOST_DOUBLINGS)
        full = min(self._initial_backoff * 2.0**doublings, self._max_backoff)
        delay = full * self._rng.uniform(LEAST_JITTER, 1.0)
        _log.error("task failed, restarting", task=supervised.name, delay_seconds=round(delay, 3), exc_info=error)
        return delay


class _Supervised(trio.TaskStatus[object]):
    """A row of the supervisor's table, and the `task_status` that the task's runs are given."""

    def __init__(self, name: str, caller: trio.TaskStatus[object]) -> None:
        self.name = name
        self.state = TaskState.STARTING
        self.restarts = 0
        self.last_error: str | None = None
        self.failures: deque[float] = deque()
        self._caller = caller
        self._caller_told = False

    def begin_run(self) -> None:
        self.state = TaskState.STARTING

    def started(self, value: object = None) -> None:
        """Report a run as started. Raises RuntimeError the second time in one run, as trio does."""
        if self.state is not TaskState.STARTING:
            raise RuntimeError("called 'started' twice in the same run of a task")
        if not self._caller_told:
            self._caller.started(value)
            self._caller_told = True
        self.state = TaskState.RUNNING

    def check_reported(self) -> None:
        """Refuse a task that returned without a word while its starter is still waiting, as trio does."""
        if not self._caller_told:
            raise RuntimeError("task returned without calling task_status.started()")

    def statistics(self) -> TaskStatistics:
        return TaskStatistics(self.name, self.state, self.restarts, self.last_error)
