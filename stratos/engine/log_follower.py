"""Following the other processes of one log: a wake-up for each of their commits, and a look every second all the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import structlog
import trio

from stratos.engine.commit_log import CommitLog
from stratos.engine.store_reads import StoreReads
from stratos.storage.ports import Backend, StorageFault, Wakeups

POLL_SECONDS: Final = 0.8
"""A lost wake-up costs no more than this; with the time of the look itself it stays below a second (design §3)."""

log = structlog.get_logger(__name__)


class LogFollower:
    """Keeps a commit log's head up with what other processes append."""

    def __init__(self, backend: Backend, commit_log: CommitLog, *, reads: StoreReads) -> None:
        self._backend = backend
        self._log = commit_log
        self._reads = reads
        self._well = True
        self._wakeups = self._polls = self._failures = 0

    async def run(self, *, task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow until cancelled. While the store cannot be asked, try again every `POLL_SECONDS`; nothing is skipped."""
        task_status.started()
        while True:
            try:
                await self._listen()
            except StorageFault as fault:
                self._failures += 1
                if self._well:
                    log.warning("other processes' entries cannot be followed now", error=str(fault))
                self._well = False
            await trio.sleep(POLL_SECONDS)

    def statistics(self) -> Mapping[str, int]:
        """Counters: wake-ups that led to a look, looks without one, failures."""
        return {"wakeups_total": self._wakeups, "polls_total": self._polls, "failures_total": self._failures}

    async def _listen(self) -> None:
        """Follow over one connection until it breaks. Raises StorageFault."""
        wakeups = await self._reads(self._backend.wakeups)
        if wakeups is None:
            raise StorageFault("this store has one process only")
        try:
            while True:
                await self._log.catch_up()
                if not self._well:
                    log.info("other processes' entries are followed again")
                self._well = True
                await self._until_worth_looking(wakeups)
        finally:
            wakeups.close()

    async def _until_worth_looking(self, wakeups: Wakeups) -> None:
        with trio.move_on_after(POLL_SECONDS):
            while wakeups.drain() <= self._log.head:
                await trio.lowlevel.wait_readable(wakeups.fileno())
            self._wakeups += 1
            return
        self._polls += 1
