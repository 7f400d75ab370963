"""The indexer of one Stratos service, put together: stream, projector, resync and comparison, each under the supervisor."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import httpx
import trio

from stratos.engine.supervisor import Supervisor
from stratos.indexer.appview_db import AppViewDatabase
from stratos.indexer.events import Event
from stratos.indexer.lag import Histogram
from stratos.indexer.projection import ProjectionWriter
from stratos.indexer.projector import Projector, ProjectorSignals
from stratos.indexer.reconcile import Reconciler
from stratos.indexer.resync import DEFAULT_RESYNC, ResyncConfig, Resyncer
from stratos.indexer.service_client import ServiceClient, ServiceConfig
from stratos.indexer.stream_client import StreamClient, StreamConfig
from stratos.transport.websocket import Connect, websocket_connector


@dataclass(frozen=True, slots=True)
class IndexerConfig:
    """One service to follow, and how."""

    stream: StreamConfig
    service: ServiceConfig
    resync: ResyncConfig = DEFAULT_RESYNC

    @classmethod
    def of(cls, service_url: str, sync_token: str) -> IndexerConfig:
        """The defaults for a service."""
        return cls(StreamConfig(service_url, sync_token), ServiceConfig(service_url, sync_token))


class Indexer:
    """Keeps the AppView's tables in step with one service."""

    def __init__(
        self,
        config: IndexerConfig,
        database: AppViewDatabase,
        http: httpx.AsyncClient,
        *,
        clock: Callable[[], datetime],
        rng: random.Random,
        connect: Connect | None = None,
    ) -> None:
        """`database` and `http` are the caller's to open and close. `connect` opens websockets; by default over the network."""
        url = config.service.url
        self._service = ServiceClient(config.service, http)
        writer = ProjectionWriter(database.queries, source=url, service_url=url)
        self.resync = Resyncer(database, self._service, config.resync, clock=clock, rng=rng)
        self.reconcile = Reconciler(
            database, writer, self._service, source=url, wake_resync=self.resync.wake, clock=clock, rng=rng
        )
        signals = ProjectorSignals(actors_waiting=self.resync.wake, reconcile_wanted=self.reconcile.want)
        self.projector = Projector(database, writer, signals, clock=clock, rng=rng)
        self.stream = StreamClient(config.stream, connect or websocket_connector(config.stream.socket), rng=rng)
        self._database = database

    async def run(self, supervisor: Supervisor, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the service until cancelled; the schema must be there.

        Reports started when every task has begun, be the service or the database reachable or not. Cancellation is clean at any
        moment: positions move only together with rows. Raises EscalatedFailure when a task keeps failing.
        """
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run, "indexer-resync", self.resync.run)
            await nursery.start(supervisor.run, "indexer-reconcile", self.reconcile.run)
            await nursery.start(supervisor.run, "indexer-stream", self._follow)
            task_status.started()

    def lag(self) -> Histogram:
        """Create-to-index lag."""
        return self.projector.lag()

    def statistics(self) -> Mapping[str, Mapping[str, float]]:
        """The gauges and counters of every part, by name."""
        return {
            "indexer_stream": self.stream.statistics(),
            "indexer_projector": self.projector.statistics(),
            "indexer_resync": self.resync.statistics(),
            "indexer_reconcile": self.reconcile.statistics(),
            "indexer_service": self._service.statistics(),
            "appview_db": self._database.statistics(),
        }

    async def _follow(self, *, task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED) -> None:
        """Stream into projector, from the saved position; from the beginning where the service does not know that position."""
        task_status.started()
        position = await self.projector.position()
        while True:
            async with trio.open_nursery() as nursery:
                send, receive = trio.open_memory_channel[Sequence[Event]](1)
                nursery.start_soon(self.projector.run, receive)
                async with send:
                    await self.stream.run(position, send)
            await self.projector.start_again()
            position = 0
