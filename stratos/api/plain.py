"""Pages: banner, health, robots, DID document, metrics. Source: service spec §1.1, §1.4, §1.5; design §9."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

import orjson
from quart import Response

from stratos.api.errors import RETRY_LATER, SERVICE_UNAVAILABLE
from stratos.api.metrics import CONTENT_TYPE, StratosCollector, render
from stratos.api.xrpc import JSON
from stratos.api.xrpc_app import HEALTH_PATH, XrpcApp
from stratos.atproto.did_document import service_document
from stratos.engine.service import StratosService
from stratos.engine.supervisor import TaskState, TaskStatistics
from stratos.storage.ports import StorageFault

TEXT: Final = "text/plain; charset=utf-8"
_OK: Final = "ok"
_ERROR: Final = "error"


class Pages:
    """The service's pages; `tasks` gives the supervised tasks."""

    def __init__(
        self, service: StratosService, *, tasks: Callable[[], Sequence[TaskStatistics]], collector: StratosCollector
    ) -> None:
        self._service = service
        self._tasks = tasks
        self._collector = collector

    def add_to(self, app: XrpcApp) -> None:
        """Add the routes."""
        app.get("/")(self.banner)
        app.get("/health")(self.health)
        app.get("/ready")(self.health)
        app.get(HEALTH_PATH)(self.version)
        app.get("/robots.txt")(self.robots)
        app.get("/.well-known/did.json")(self.did_document)
        app.get("/metrics")(self.metrics)

    async def banner(self) -> Response:
        """What this is, for people."""
        identity = self._service.identity
        lines = (
            "S T R A T O S",
            "",
            f"{identity.did} keeps private AT Protocol records for the people who are enrolled here.",
            "",
            f"Code:     {identity.repo_url}",
            "Protocol: https://atproto.com",
            "",
        )
        return Response("\n".join(lines), content_type=TEXT)

    async def health(self) -> Response:
        """Whether the store answers and every supervised task runs: 200, else 503."""
        tasks = self._tasks()
        database = await self._database()
        healthy = database == _OK and all(task.state in _HEALTHY for task in tasks)
        body: dict[str, object] = {
            "status": _OK if healthy else _ERROR,
            "components": {"db": database, "blobstore": _OK},
            "version": self._service.identity.version,
        }
        if tasks:
            body["tasks"] = {task.name: _task(task) for task in tasks}
        return _json(body) if healthy else _json(body, SERVICE_UNAVAILABLE, RETRY_LATER)

    async def version(self) -> Response:
        """The running version."""
        return _json({"version": self._service.identity.version})

    async def robots(self) -> Response:
        """Nothing here is for crawlers."""
        return Response("User-agent: *\nDisallow: /\n", content_type=TEXT)

    async def did_document(self) -> Response:
        """The service's DID document."""
        identity = self._service.identity
        service = self._service
        former = service.keyring.former_service_key
        document = service_document(identity.did, identity.fragment, identity.public_url, service.service_key, former)
        return _json(document)

    async def metrics(self) -> Response:
        """The figures of every part, for Prometheus; where the store does not answer, how many are enrolled is as it was."""
        with suppress(StorageFault):
            await self._service.reads.promptly(self._service.backend.enrollments.count)
        return Response(render(self._collector), content_type=CONTENT_TYPE)

    async def _database(self) -> str:
        try:
            await self._service.reads.promptly(self._service.backend.check)
        except StorageFault:
            return _ERROR
        return _OK


_HEALTHY: Final = frozenset({TaskState.STARTING, TaskState.RUNNING})


def _task(task: TaskStatistics) -> dict[str, object]:
    return {"state": task.state, "restarts": task.restarts, "lastError": task.last_error}


def _json(value: Mapping[str, object], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, dict(headers or {}), content_type=JSON)
