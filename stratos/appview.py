"""The AppView's composition root: `stratos appview`."""

from __future__ import annotations

from datetime import timedelta

import httpx
import structlog
import trio

from stratos import __version__
from stratos.api.appview import APPVIEW_FRAGMENT, AppviewApp, AppviewIdentity
from stratos.api.config import ApiConfig
from stratos.api.credentials import AccountCredentials
from stratos.api.server import HttpServer, ServerConfig
from stratos.atproto.lexicon import Lexicons
from stratos.engine.identity import OutgoingPolicy, open_identity, user_agent
from stratos.engine.service import World
from stratos.indexer.appview_db import AppViewDbConfig
from stratos.indexer.appview_sql import AppViewSql
from stratos.indexer.opened_database import opened_database
from stratos.indexer.service_client import ServiceClient, ServiceConfig
from stratos.indexer.viewers import ViewerDirectory
from stratos.resources import lexicon_directory, sql_directory
from stratos.settings import AppviewSettings

log = structlog.stdlib.get_logger(__name__)


async def run_appview(
    settings: AppviewSettings,
    stop: trio.Event,
    *,
    task_status: trio.TaskStatus[tuple[str, ...]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer feed queries until `stop` is set; reports the base URLs that it listens on."""
    world = World.real()
    token = settings.sync_token
    database_config = AppViewDbConfig(settings.postgres_url.get_secret_value(), settings.postgres_schema, settings.pool_size)
    files = AppViewSql.load(sql_directory() / "appview")
    async with (
        open_identity(
            plc_url=settings.plc_url,
            policy=OutgoingPolicy(allow_private=bool(settings.allow_private_network)),
            user_agent=user_agent(__version__, settings.public_url, None),
            clock=world.monotonic,
        ) as identity,
        opened_database(database_config, files, clock=world.clock) as database,
        httpx.AsyncClient() as http,
    ):
        services = tuple(
            ServiceClient(ServiceConfig(url, "" if token is None else token.get_secret_value()), http)
            for url in settings.service_urls
        )
        viewers = ViewerDirectory(
            database, services, max_staleness=timedelta(seconds=settings.max_staleness_seconds), clock=world.clock
        )
        app = AppviewApp(
            AppviewIdentity(settings.did, settings.public_url, __version__),
            database,
            viewers,
            lexicons=Lexicons.load(lexicon_directory()),
            config=ApiConfig(dev_mode=settings.dev_mode),
            credentials=AccountCredentials(settings.did, (APPVIEW_FRAGMENT,), identity=identity.resolver, clock=world.clock),
            hide_boundary_mismatch=settings.hide_boundary_mismatch,
        )
        server = HttpServer(
            app,
            ServerConfig(
                binds=(f"{settings.host}:{settings.port}",),
                max_connections=settings.max_connections,
                graceful=settings.shutdown_seconds / 2,
            ),
        )
        async with trio.open_nursery() as listening:
            urls = await listening.start(server.run)
            log.info("stratos appview started", urls=urls, did=settings.did)
            task_status.started(urls)
            await stop.wait()
            app.stopping.set()
    log.info("stratos appview stopped")
