"""Comparing every actor with the service, after the stream has said or shown that events were missed."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final

import structlog
import trio

from stratos.atproto.syntax import format_datetime
from stratos.core.backoff import BackoffPolicy
from stratos.indexer.appview_db import AppViewDatabase, Connection, DatabaseUnavailable
from stratos.indexer.projection import ProjectionWriter
from stratos.indexer.service_client import ListedRepo, ServiceClient, ServiceFault

RECONCILE_BACKOFF: Final = BackoffPolicy(initial=1.0, longest=60.0)

_log = structlog.get_logger(__name__)


class Reconciler:
    """Takes the service's list of active repositories and blocks every actor that differs, so that it is fetched anew.

    The wish for it is kept in the stream's cursor row and only cleared together with the blocks, so that no crash loses it.
    """

    def __init__(
        self,
        database: AppViewDatabase,
        writer: ProjectionWriter,
        service: ServiceClient,
        *,
        source: str,
        wake_resync: Callable[[], None],
        clock: Callable[[], datetime],
        rng: random.Random,
        backoff: BackoffPolicy = RECONCILE_BACKOFF,
    ) -> None:
        self._database = database
        self._writer = writer
        self._service = service
        self._source = source
        self._wake_resync = wake_resync
        self._clock = clock
        self._rng = rng
        self._backoff = backoff
        self._wanted = trio.Event()
        self._running = False
        self._runs = self._failures = self._listed = 0

    def want(self) -> None:
        """The cursor row says that a comparison is wanted."""
        self._wanted.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Compare whenever it is wanted, repeating what fails, until cancelled."""
        task_status.started()
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            self._running = True
            await self._compare_persistently()
            self._running = False
            self._wake_resync()

    def statistics(self) -> Mapping[str, float]:
        """Gauges and counters: whether a comparison is under way, how many were made, failed, and how many actors were listed."""
        return {
            "running": self._running,
            "runs_total": self._runs,
            "failures_total": self._failures,
            "listed_total": self._listed,
        }

    async def _compare_persistently(self) -> None:
        failures = 0
        while True:
            try:
                await self._compare()
                self._runs += 1
                return
            except (ServiceFault, DatabaseUnavailable) as error:
                failures += 1
                self._failures += 1
                delay = self._backoff.delay(failures, self._rng)
                _log.warning("comparison with the service failed", error=str(error), retry_seconds=round(delay, 1))
                await trio.sleep(delay)

    async def _compare(self) -> None:
        listed = 0
        wishes = await self._database.run(partial(self._begin, self._clock()))
        cursor: str | None = None
        while True:
            page = await self._service.repos(cursor)
            await self._database.run(partial(self._note, [repo for repo in page.repos if repo.active]))
            listed += len(page.repos)
            self._listed += len(page.repos)
            if page.cursor is None or page.cursor == cursor:
                break
            cursor = page.cursor
        blocked = await self._database.run(partial(self._block_differing, wishes, self._clock()))
        _log.info("compared with the service", listed=listed, differing=blocked)

    def _begin(self, now: datetime, connection: Connection) -> int:
        self._forget(connection)
        _, wishes = self._writer.position(connection, now)
        return wishes

    def _forget(self, connection: Connection) -> None:
        connection.execute(self._database.queries.forget_listed_actors, {"source": self._source})

    def _note(self, repos: Sequence[ListedRepo], connection: Connection) -> None:
        if repos:
            connection.execute(
                self._database.queries.note_listed_actors,
                {"source": self._source, "did": [repo.did for repo in repos], "rev": [repo.rev for repo in repos]},
            )

    def _block_differing(self, wishes: int, now: datetime, connection: Connection) -> int:
        self._writer.position(connection, now)  # Locks: the projector must see these blocks with its next batch.
        parameters = {"source": self._source, "now": format_datetime(now)}
        blocked = connection.execute(self._database.queries.block_differing_actors, parameters).rowcount
        connection.execute(self._database.queries.clear_reconcile, {**parameters, "wishes": wishes})
        self._forget(connection)
        return blocked
