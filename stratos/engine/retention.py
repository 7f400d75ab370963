"""Retention: old log entries leave once their actor stores are durable without them (design §3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
import trio

from stratos.atproto.syntax import Did
from stratos.storage.ports import Backend, StorageFault

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """Age after which entries may go, seconds between rounds, and how much one slice of a round does."""

    keep: timedelta
    interval: float = 600.0
    actors_per_slice: int = 32
    entries_per_slice: int = 250


class Retention:
    """Trims the log in slices on the bulk thread, so that writes go on in between."""

    def __init__(
        self,
        backend: Backend,
        policy: RetentionPolicy,
        *,
        clock: Callable[[], datetime],
        bulk_thread: trio.CapacityLimiter,
    ) -> None:
        self._backend = backend
        self._policy = policy
        self._clock = clock
        self._bulk_thread = bulk_thread
        self._trimmed = self._rounds = self._failed = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Trim now and then until cancelled; cancellation waits for the slice under way."""
        task_status.started()
        while True:
            try:
                await self.trim()
            except StorageFault as fault:
                log.warning("log not trimmed, tried again in the next round", error=str(fault))
            await trio.sleep(self._policy.interval)

    async def trim(self) -> int:
        """One round; returns how many entries left the log."""
        before = self._clock() - self._policy.keep
        await self._checkpoint_actors(before)
        trimmed = 0
        while True:
            gone = await trio.to_thread.run_sync(self._trim_slice, before, limiter=self._bulk_thread)
            trimmed += gone
            if gone < self._policy.entries_per_slice:
                break
        self._trimmed += trimmed
        self._rounds += 1
        if trimmed:
            log.info("log trimmed", entries=trimmed, before=before.isoformat())
        return trimmed

    def statistics(self) -> Mapping[str, int]:
        """Counters: rounds, entries trimmed, checkpoints that failed."""
        return {
            "rounds_total": self._rounds,
            "trimmed_total": self._trimmed,
            "checkpoint_failures_total": self._failed,
        }

    async def _checkpoint_actors(self, before: datetime) -> None:
        after: Did | None = None
        while True:
            dids = await trio.to_thread.run_sync(self._checkpoint_slice, before, after, limiter=self._bulk_thread)
            if len(dids) < self._policy.actors_per_slice:
                return
            after = dids[-1]

    def _checkpoint_slice(self, before: datetime, after: Did | None) -> list[Did]:
        """One slice; a store that cannot be checkpointed keeps its own entries in the log, and nobody else's."""
        dids = self._backend.log.trimmable(before=before, limit=self._policy.actors_per_slice, after=after)
        for did in dids:
            try:
                self._backend.actors.checkpoint(did)
            except StorageFault as fault:
                self._failed += 1
                log.error("checkpoint failed, its log entries stay", did=did, error=str(fault))
        return dids

    def _trim_slice(self, before: datetime) -> int:
        return self._backend.log.trim(before=before, limit=self._policy.entries_per_slice)
