"""The projector: takes batches of events from the stream and makes them rows, in order, each exactly once."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, TypeVar

import structlog
import trio

from stratos.core.backoff import BackoffPolicy
from stratos.indexer.appview_db import AppViewDatabase, Connection, DatabaseUnavailable
from stratos.indexer.events import CommitEvent, Event
from stratos.indexer.lag import Histogram, LagHistogram
from stratos.indexer.projection import Applied, ProjectionWriter

LAG_WARNING_SECONDS: Final = 5.0
LAG_WARNING_INTERVAL_SECONDS: Final = 10.0
DATABASE_BACKOFF: Final = BackoffPolicy(initial=0.2, longest=10.0)
_SHOWN_REQUESTS: Final = 3

_log = structlog.get_logger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ProjectorSignals:
    """Whom to wake: `actors_waiting` when an actor is to be fetched anew, `reconcile_wanted` when all are to be compared."""

    actors_waiting: Callable[[], None]
    reconcile_wanted: Callable[[], None]


class Projector:
    """Applies batches; while PostgreSQL is away it holds its batch and the stream waits behind it."""

    def __init__(
        self,
        database: AppViewDatabase,
        writer: ProjectionWriter,
        signals: ProjectorSignals,
        *,
        clock: Callable[[], datetime],
        rng: random.Random,
        backoff: BackoffPolicy = DATABASE_BACKOFF,
    ) -> None:
        self._database = database
        self._writer = writer
        self._signals = signals
        self._clock = clock
        self._rng = rng
        self._backoff = backoff
        self._lag = LagHistogram()
        self._lag_warned_at = -LAG_WARNING_INTERVAL_SECONDS
        self._stalled = False
        self._seq = 0
        self._event_time = 0.0
        self._counts = dict.fromkeys(
            ("batches", "commits", "upserts", "deletes", "purged", "duplicates", "malformed", "blocked", "stalls"), 0
        )

    async def position(self) -> int:
        """The saved position of the stream. Waits for the database; leaves nothing behind when cancelled."""
        seq, wishes = await self._persistently(self._writer.position)
        self._seq = seq
        if wishes:
            self._signals.reconcile_wanted()
        return seq

    async def start_again(self) -> None:
        """Forget the saved position, which is not one of this service's log, and have every actor compared."""
        await self._persistently(self._writer.start_again)
        self._seq = 0
        self._signals.reconcile_wanted()

    async def run(self, batches: trio.MemoryReceiveChannel[Sequence[Event]]) -> None:
        """Apply batches until the channel closes.

        A batch is either applied whole, with its position, or not at all; cancellation between batches loses nothing, because the
        stream is taken up from the saved position.
        """
        async with batches:
            async for events in batches:
                applied = await self._persistently(partial(self._apply, events))
                self._note(events, applied)

    def lag(self) -> Histogram:
        """Seconds from the write request, or else from the entry in the service's log, to the committed row."""
        return self._lag.reading()

    def statistics(self) -> Mapping[str, float]:
        """Gauges and counters: the position, the time of the last event, and what was done so far."""
        return {
            "seq": self._seq,
            "last_event_time": self._event_time,
            "stalled": self._stalled,
            **{f"{name}_total": count for name, count in self._counts.items()},
        }

    def _apply(self, events: Sequence[Event], connection: Connection, now: datetime) -> Applied:
        return self._writer.apply(connection, events, now)

    async def _persistently(self, work: Callable[[Connection, datetime], T]) -> T:
        """Run a transaction, again and again while the database is away."""
        failures = 0
        while True:
            try:
                result = await self._database.run(partial(_at, work, self._clock()))
            except DatabaseUnavailable as fault:
                failures += 1
                self._stalled = True
                self._counts["stalls"] += 1
                delay = self._backoff.delay(failures, self._rng)
                _log.warning("projector waits for the database", error=str(fault), retry_seconds=round(delay, 2))
                await trio.sleep(delay)
            else:
                self._stalled = False
                return result

    def _note(self, events: Sequence[Event], applied: Applied) -> None:
        counts = self._counts
        counts["batches"] += 1
        counts["commits"] += applied.commits
        counts["upserts"] += applied.upserts
        counts["deletes"] += applied.deletes
        counts["purged"] += applied.purged
        counts["duplicates"] += applied.duplicates
        counts["malformed"] += applied.malformed
        counts["blocked"] += len(applied.blocked)
        self._measure_lag([event for event in events if isinstance(event, CommitEvent) and event.seq > self._seq], applied)
        self._seq = max(self._seq, applied.seq)
        for did, reason in applied.blocked:
            _log.warning("actor blocked, fetching it anew", did=did, reason=reason)
        if applied.waiting:
            self._signals.actors_waiting()
        if applied.reconcile:
            self._signals.reconcile_wanted()

    def _measure_lag(self, commits: Sequence[CommitEvent], applied: Applied) -> None:
        if not commits:
            return
        now = self._clock().timestamp()
        worst, largest = commits[0], 0.0
        for commit in commits:
            self._event_time = datetime.fromisoformat(commit.time).timestamp()
            lag = now - (self._event_time if commit.queued_at is None else commit.queued_at)
            self._lag.observe(lag)
            if lag > largest:
                worst, largest = commit, lag
        if largest >= LAG_WARNING_SECONDS and now - self._lag_warned_at >= LAG_WARNING_INTERVAL_SECONDS:
            self._lag_warned_at = now
            _log.warning(
                "high create-to-index lag observed",
                did=worst.did,
                seq=worst.seq,
                indexed=applied.upserts,
                lag_seconds=round(largest, 3),
                requests=worst.requests[:_SHOWN_REQUESTS],
            )


def _at(work: Callable[[Connection, datetime], T], now: datetime, connection: Connection) -> T:
    return work(connection, now)
