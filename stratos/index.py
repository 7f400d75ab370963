"""The indexer's composition root: `stratos index`. The order of the nurseries is the order of shutdown, from the inside out."""

from __future__ import annotations

import httpx
import structlog
import trio

from stratos import __version__
from stratos.api.auth import Authenticator
from stratos.api.config import ApiConfig
from stratos.api.feeds import AnyUser
from stratos.api.indexer_pages import IndexerPages
from stratos.api.metrics import Parts, RequestStatistics
from stratos.api.server import HttpServer, ServerConfig
from stratos.api.xrpc import XrpcDispatcher
from stratos.api.xrpc_app import XrpcApp
from stratos.atproto.lexicon import Lexicons
from stratos.engine.service import World
from stratos.engine.supervisor import Supervisor
from stratos.indexer.appview_db import AppViewDatabase, AppViewDbConfig
from stratos.indexer.appview_sql import AppViewSql
from stratos.indexer.indexer import Indexer, IndexerConfig
from stratos.indexer.opened_database import opened_database
from stratos.resources import lexicon_directory, sql_directory
from stratos.settings import IndexerSettings

log = structlog.stdlib.get_logger(__name__)


async def run_indexer(
    settings: IndexerSettings,
    stop: trio.Event,
    *,
    task_status: trio.TaskStatus[tuple[str, ...]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Follow every configured service until `stop` is set; reports the base URLs of the health server.

    Rows and positions move together, so that stopping at any moment loses nothing.
    """
    if settings.stream_mode != "multiplexed":
        log.warning("per-actor streams are not there yet; following multiplexed streams")
    if settings.repo_providers:
        log.warning("providers are not watched yet; enrollments come from the services' streams")
    world = World.real()
    config = AppViewDbConfig(settings.postgres_url.get_secret_value(), settings.postgres_schema, settings.pool_size)
    files = AppViewSql.load(sql_directory() / "appview")
    async with opened_database(config, files, clock=world.clock) as database, httpx.AsyncClient() as http:
        await _follow(settings, world, database, http, stop, task_status)
    log.info("stratos indexer stopped")


async def _follow(
    settings: IndexerSettings,
    world: World,
    database: AppViewDatabase,
    http: httpx.AsyncClient,
    stop: trio.Event,
    task_status: trio.TaskStatus[tuple[str, ...]],
) -> None:
    token = settings.sync_token.get_secret_value()
    followed = [
        Indexer(IndexerConfig.of(url, token), database, http, clock=world.clock, rng=world.rng) for url in settings.service_urls
    ]
    supervisors = [Supervisor(rng=world.rng) for _ in followed]

    def parts() -> Parts:
        several = len(followed) > 1
        return {
            f"{name}_{number}" if several and name.startswith("indexer") else name: values
            for number, indexer in enumerate(followed)
            for name, values in indexer.statistics().items()
        }

    pages = IndexerPages(
        database,
        parts,
        tasks=lambda: [task for supervisor in supervisors for task in supervisor.statistics()],
        lags=lambda: {url: indexer.lag() for url, indexer in zip(settings.service_urls, followed, strict=True)},
        version=__version__,
    )
    app = XrpcApp(
        XrpcDispatcher(
            {}, lexicons=Lexicons.load(lexicon_directory()), authenticator=Authenticator([]), gate=AnyUser(), config=ApiConfig()
        ),
        sockets={},
        requests=RequestStatistics(),
    )
    pages.add_to(app)
    server = HttpServer(app, ServerConfig(binds=(f"{settings.host}:{settings.health_port}",), graceful=1.0))
    async with trio.open_nursery() as listening:
        urls = await listening.start(server.run)
        async with trio.open_nursery() as following:
            for indexer, supervisor in zip(followed, supervisors, strict=True):
                await following.start(indexer.run, supervisor)
            log.info("stratos indexer started", urls=urls, services=settings.service_urls)
            task_status.started(urls)
            await stop.wait()
            following.cancel_scope.cancel()
        app.stopping.set()
