"""Mending blocked actors: each is fetched whole from the service, checked, and its rows replaced in one transaction."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import psycopg
import structlog
import trio

from stratos.atproto.syntax import Did, format_datetime
from stratos.core.backoff import BackoffPolicy
from stratos.indexer.appview_db import AppViewDatabase, DatabaseUnavailable, describe_refusal
from stratos.indexer.blocked_actors import BlockedActor, BlockedActors, Mending
from stratos.indexer.repo_snapshot import InvalidSnapshot, Snapshot, read_snapshot
from stratos.indexer.service_client import ServiceClient, ServiceFault

RESYNC_BACKOFF: Final = BackoffPolicy(initial=1.0, longest=600.0)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ResyncConfig:
    """How many repositories are fetched at once, how often the table is looked at (seconds), and when a failure is an alarm."""

    concurrency: int = 2
    poll_interval: float = 2.0
    alarm_attempts: int = 5
    backoff: BackoffPolicy = RESYNC_BACKOFF


DEFAULT_RESYNC: Final = ResyncConfig()


class Resyncer:
    """Works through the blocked actors; a failed attempt is repeated after a growing delay, for ever."""

    def __init__(
        self,
        database: AppViewDatabase,
        service: ServiceClient,
        config: ResyncConfig,
        *,
        clock: Callable[[], datetime],
        rng: random.Random,
    ) -> None:
        self._database = database
        self._service = service
        self._config = config
        self._actors = BlockedActors(database.queries, service_url=service.url)
        self._clock = clock
        self._rng = rng
        self._busy: set[Did] = set()
        self._woken = trio.Event()
        self._thread = trio.CapacityLimiter(1)
        self._blocked = self._alarming = 0
        self._counts = dict.fromkeys(("mended", "purged", "failed", "overtaken"), 0)

    def wake(self) -> None:
        """There may be something due."""
        self._woken.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Mend what is due until cancelled; an attempt that is cancelled has written nothing or everything."""
        task_status.started()
        async with trio.open_nursery() as nursery:
            while True:
                for actor in await self._due():
                    self._busy.add(actor.did)
                    nursery.start_soon(self._attempt, actor)
                with trio.move_on_after(self._config.poll_interval):
                    await self._woken.wait()
                self._woken = trio.Event()

    def statistics(self) -> Mapping[str, float]:
        """Gauges and counters: actors blocked, those past the alarm, fetches under way, and outcomes."""
        return {
            "blocked_actors": self._blocked,
            "alarming_actors": self._alarming,
            "under_way": len(self._busy),
            "concurrency_limit": self._config.concurrency,
            **{f"{name}_total": count for name, count in self._counts.items()},
        }

    async def _due(self) -> list[BlockedActor]:
        """What is to be started now; nothing while the database is away."""
        room = self._config.concurrency - len(self._busy)
        try:
            summary = await self._database.run(partial(self._actors.summary, alarm_attempts=self._config.alarm_attempts))
            self._blocked, self._alarming = summary.blocked, summary.alarming
            if room <= 0 or not summary.blocked:
                return []
            busy = frozenset(self._busy)
            return await self._database.run(partial(self._actors.due, now=self._clock(), busy=busy, limit=room))
        except DatabaseUnavailable as fault:
            _log.warning("resync waits for the database", error=str(fault))
            return []

    async def _attempt(self, actor: BlockedActor) -> None:
        try:
            await self._mend(actor)
        except DatabaseUnavailable as fault:
            # Nothing could be noted; the actor stays due, and waiting is what an outage asks for.
            _log.warning("resync interrupted", did=actor.did, error=str(fault))
            await trio.sleep(self._config.poll_interval)
        finally:
            self._busy.discard(actor.did)
            self.wake()

    async def _mend(self, actor: BlockedActor) -> None:
        try:
            outcome = await self._fetch_and_write(actor)
        except (ServiceFault, InvalidSnapshot, psycopg.Error) as error:
            await self._postpone(actor, describe_refusal(error))
            return
        if outcome is Mending.OVERTAKEN:
            self._counts["overtaken"] += 1
            await self._postpone(actor, "the service's answer is older than what the stream has carried since")

    async def _fetch_and_write(self, actor: BlockedActor) -> Mending:
        """Fetch, check, write. Raises ServiceFault, InvalidSnapshot, psycopg.Error, DatabaseUnavailable."""
        status = await self._service.status(actor.did)
        repo = None if status is None else await self._service.repo(actor.did)
        if repo is not None:
            # Once more: only who asks after the repository knows the key of its newest commit, which may be a moment old.
            status = await self._service.status(actor.did)
        if status is None or repo is None:
            outcome = await self._database.run(partial(self._actors.purge, actor=actor))
            if outcome is Mending.MENDED:
                self._counts["purged"] += 1
                _log.info("actor purged, the service no longer has it", did=actor.did)
            return outcome
        now = self._clock()
        read = partial(read_snapshot, actor.did, repo, status.signing_keys, format_datetime(now))
        snapshot: Snapshot = await trio.to_thread.run_sync(read, limiter=self._thread)
        outcome = await self._database.run(
            lambda connection: self._actors.mend(connection, actor, snapshot, status.enrolled_at, now)
        )
        if outcome is Mending.MENDED:
            self._counts["mended"] += 1
            _log.info("actor fetched anew", did=actor.did, rev=snapshot.rev, posts=len(snapshot.posts))
        return outcome

    async def _postpone(self, actor: BlockedActor, error: str) -> None:
        self._counts["failed"] += 1
        attempts = actor.attempts + 1
        delay = self._config.backoff.delay(attempts, self._rng)
        until = self._clock() + timedelta(seconds=delay)
        await self._database.run(partial(self._actors.postpone, actor=actor, error=error, until=until))
        report = _log.error if attempts >= self._config.alarm_attempts else _log.warning
        report("actor stays blocked", did=actor.did, attempts=attempts, error=error, retry_seconds=round(delay, 1))
