"""The indexer's health server: `/health`, `/ready`, `/metrics`. Source: indexer spec §1.14."""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import orjson
import psycopg
from quart import Response

from stratos.api.errors import RETRY_LATER, SERVICE_UNAVAILABLE
from stratos.api.metrics import CONTENT_TYPE, Parts, RequestStatistics, StratosCollector, render
from stratos.api.xrpc import JSON
from stratos.api.xrpc_app import XrpcApp
from stratos.engine.supervisor import TaskStatistics
from stratos.indexer.appview_db import AppViewDatabase, DatabaseUnavailable
from stratos.indexer.lag import Histogram

KIB: Final = 1024


class IndexerPages:
    """Tells whether the database answers and every service's stream is connected."""

    def __init__(
        self,
        database: AppViewDatabase,
        parts: Callable[[], Parts],
        tasks: Callable[[], Sequence[TaskStatistics]],
        lags: Callable[[], Mapping[str, Histogram]],
        version: str,
    ) -> None:
        """`parts` gives the figures of every followed service's parts, by name, and the database's; `lags` by service."""
        self._database = database
        self._parts = parts
        self._collector = StratosCollector(parts, requests=RequestStatistics(), tasks=tasks, version=version, lags=lags)

    def add_to(self, app: XrpcApp) -> None:
        """Add the routes."""
        app.get("/health")(self.health)
        app.get("/ready")(self.ready)
        app.get("/metrics")(self.metrics)

    async def health(self) -> Response:
        """The state; always 200."""
        return _json(await self._state())

    async def ready(self) -> Response:
        """The state; 503 unless healthy."""
        state = await self._state()
        return _json(state) if state["status"] == "healthy" else _json(state, SERVICE_UNAVAILABLE, RETRY_LATER)

    async def metrics(self) -> Response:
        """The figures of every part, for Prometheus."""
        return Response(render(self._collector), content_type=CONTENT_TYPE)

    async def _state(self) -> dict[str, object]:
        """The keys of the contract. One stream carries all accounts, so what counts per account there counts per stream here."""
        enrolled = await self._enrolled()
        streams = [figures for name, figures in self._parts().items() if name.startswith("indexer_stream")]
        resyncs = [figures for name, figures in self._parts().items() if name.startswith("indexer_resync")]
        connected = bool(streams) and all(figures["connected"] for figures in streams)
        under_way = _sum(resyncs, "under_way")
        pages = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {
            "status": "healthy" if enrolled is not None and connected else "degraded",
            "db": _connected(enrolled is not None),
            "firehose": "disabled",
            "stratosService": _connected(connected),
            "enrolledActors": enrolled or 0,
            "activeActorSyncs": under_way,
            "workerPool": {"pending": 0, "active": 0},
            "actorSync": {
                "activeConnections": _sum(streams, "connected"),
                "waitingActors": _sum(resyncs, "blocked_actors"),
                "globalPending": _sum(streams, "pending_frames"),
                "activeSyncs": under_way,
            },
            "memory": {"rss": pages * KIB, "heapTotal": pages * KIB, "heapUsed": pages * KIB, "external": 0},
        }

    async def _enrolled(self) -> int | None:
        """How many accounts are enrolled; None where the database does not answer."""
        statement = self._database.queries.count_enrollments
        try:
            row = await self._database.run(lambda connection: connection.execute(statement).fetchone())
        except (DatabaseUnavailable, psycopg.Error):
            return None
        return int(row[0]) if row else 0


def _sum(parts: Sequence[Mapping[str, float]], figure: str) -> int:
    return int(sum(figures.get(figure, 0) for figures in parts))


def _connected(value: bool) -> str:
    return "connected" if value else "disconnected"


def _json(value: Mapping[str, object], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, dict(headers or {}), content_type=JSON)
