"""The service's composition root: `stratos serve`. The order of the nurseries is the order of shutdown, from the inside out."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from functools import partial
from typing import Final

import structlog
import trio

from stratos import __version__
from stratos.api.app import StratosApp
from stratos.api.server import HttpServer, ServerConfig
from stratos.assembly import (
    api_config,
    build_allow_list,
    build_credentials,
    build_eligibility,
    build_service,
    build_sign_in,
    load_keys,
)
from stratos.engine.identity import OutgoingPolicy, open_identity, user_agent
from stratos.engine.service import StratosService, World
from stratos.engine.supervisor import Supervisor
from stratos.settings import ServiceSettings
from stratos.signals import StopOverdue
from stratos.storage.ports import Backend
from stratos.workers import attend_parent

GRACEFUL_SHARE: Final = 0.8
"""Part of the time for stopping that open connections get; the rest is for the log's writer and the store."""

log = structlog.stdlib.get_logger(__name__)


async def run_service(
    settings: ServiceSettings,
    backend: Backend,
    stop: trio.Event,
    *,
    sockets: Sequence[socket.socket] = (),
    worker: int = 0,
    task_status: trio.TaskStatus[tuple[str, ...]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `stop` is set; reports the base URLs that it listens on: of `sockets`, if given, instead of its port.

    Then: no new connections, subscribers are closed with 1001, requests under way end, the log's writer answers what it was
    handed. Cancellation skips the waiting and loses nothing that was acknowledged.
    """
    world = World.real()
    async with open_identity(
        plc_url=settings.plc_url,
        policy=OutgoingPolicy(allow_private=bool(settings.allow_private_network)),
        user_agent=user_agent(__version__, settings.repo_url, settings.operator_contact),
        clock=world.monotonic,
    ) as identity:
        keys = load_keys(settings)
        service = build_service(settings, backend, identity, keys, world)
        allow_list = build_allow_list(settings, identity)
        eligibility = build_eligibility(settings, identity, allow_list)
        credentials = build_credentials(settings, identity, keys, eligibility, service, world)
        binds = listening_addresses(settings, worker) if sockets else (f"{settings.host}:{settings.port}",)
        server = ServerConfig(
            binds=binds,
            sockets=tuple(sockets),
            max_connections=settings.max_connections,
            graceful=settings.shutdown_seconds * GRACEFUL_SHARE,
        )
        supervisor = Supervisor(rng=world.rng)
        app = StratosApp(
            service,
            api_config(settings),
            credentials=credentials,
            sign_in=build_sign_in(settings, service, eligibility),
            identity=identity,
            allow_list=allow_list,
            supervisor=supervisor,
            monotonic=world.monotonic,
        )
        async with trio.open_nursery() as lists:
            if allow_list is not None:
                await lists.start(supervisor.run, "allow list", allow_list.run)
            await _serve(settings, service, app, supervisor, server, stop, task_status)
            lists.cancel_scope.cancel()
    log.info("stratos server stopped")


async def _serve(
    settings: ServiceSettings,
    service: StratosService,
    app: StratosApp,
    supervisor: Supervisor,
    config: ServerConfig,
    stop: trio.Event,
    task_status: trio.TaskStatus[tuple[str, ...]],
) -> None:
    server = HttpServer(app, config)
    async with trio.open_nursery() as engine:
        await engine.start(supervisor.run, "commit log", service.log.run)
        if service.backend.shared:
            await engine.start(supervisor.run, "log follower", service.follower.run)
        for name, led in service.led.items():
            await engine.start(supervisor.run, name, led.run)
        await service.enrollment.repair_boundaries()
        if service.keyring.former_service_key is not None:
            renewed = await service.publisher.refresh_all()
            log.warning("the service key is another: attestations are being renewed", accounts=renewed)
        async with trio.open_nursery() as listening:
            urls = await listening.start(server.run)
            log.info("stratos server started", urls=urls, public_url=settings.public_url, did=settings.service_did)
            if settings.dev_mode:
                log.warning("dev mode: anybody who reaches this service can act as anybody")
            task_status.started(urls)
            await stop.wait()
            service.firehose.close()
            app.stopping.set()
        engine.cancel_scope.cancel()


async def run_worker(
    settings: ServiceSettings, backend: Backend, stop: trio.Event, *, sockets: Sequence[socket.socket], number: int
) -> None:
    """Serve as one of several workers of a host, until `stop` is set or the parent process is gone.

    Raises StopOverdue when the clean stop takes too long, whoever asked for it.
    """
    serving = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(attend_parent, stop, serving)
        nursery.start_soon(_end_in_time, stop, settings.shutdown_seconds)
        async with trio.open_nursery() as service:
            await service.start(partial(run_service, settings, backend, stop, sockets=sockets, worker=number))
            serving.set()
        nursery.cancel_scope.cancel()


async def _end_in_time(stop: trio.Event, seconds: float) -> None:
    await stop.wait()
    await trio.sleep(seconds)
    raise StopOverdue


def listening_addresses(settings: ServiceSettings, worker: int) -> tuple[str, ...]:
    """Where a worker listens beside the port that it shares: for its own health and metrics."""
    return () if settings.worker_port is None else (f"127.0.0.1:{settings.worker_port + worker}",)
