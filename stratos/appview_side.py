"""The AppView's side as the operator's commands see it: its database, and the service that the indexer follows."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

import httpx
import psycopg
import trio

from stratos.atproto.syntax import Did
from stratos.engine.service import World
from stratos.indexer.appview_db import AppViewDatabase, AppViewDbConfig, Connection, DatabaseUnavailable, describe_refusal
from stratos.indexer.appview_sql import AppViewSql
from stratos.indexer.blocked_actors import BlockedActor, BlockedActors
from stratos.indexer.projection import ProjectionWriter
from stratos.indexer.service_client import ServiceClient, ServiceConfig, ServiceFault
from stratos.resources import sql_directory
from stratos.settings import IndexerSettings, InvalidSettings, load, read_environment
from stratos.terminal import give_up

CONNECTIONS: Final = 2
"""To the AppView's database: one is used at a time, another may be on its way out."""
STATEMENT_SECONDS: Final = 600.0
"""What one statement may take: the accounts of all posts are read, and nobody waits for an answer."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AppViewSide:
    """The AppView's database and the service that it follows."""

    settings: IndexerSettings
    database: AppViewDatabase
    http: httpx.AsyncClient
    service: ServiceClient
    actors: BlockedActors
    writer: ProjectionWriter
    clock: Callable[[], datetime]

    async def ask_for(self, dids: Collection[Did]) -> list[BlockedActor]:
        """Have the indexer fetch these anew, all in one transaction. Raises DatabaseUnavailable."""

        def work(connection: Connection) -> list[BlockedActor]:
            now = self.clock()
            self.writer.position(connection, now)  # locks: the projector sees these blocks with its next batch
            return self.actors.ask_for(connection, dids, now)

        return await self.database.run(work)

    async def known(self) -> set[Did]:
        """Whoever has rows. Raises DatabaseUnavailable."""
        rows = await self.database.run(
            lambda connection: connection.execute(self.database.queries.select_known_actors).fetchall()
        )
        return {Did(did) for (did,) in rows}

    async def listed(self) -> set[Did]:
        """Whose repositories the service lists as active. Raises ServiceFault."""
        found: set[Did] = set()
        cursor: str | None = None
        while True:
            page = await self.service.repos(cursor)
            found |= {repo.did for repo in page.repos if repo.active}
            if page.cursor is None or page.cursor == cursor:
                return found
            cursor = page.cursor


@asynccontextmanager
async def _opened(settings: IndexerSettings) -> AsyncIterator[AppViewSide]:
    """Both sides for the block. The schema is left as it is: bringing it up to date is the indexer's business."""
    url = settings.service_urls[0]
    config = AppViewDbConfig(
        settings.postgres_url.get_secret_value(),
        settings.postgres_schema,
        CONNECTIONS,
        statement_timeout=STATEMENT_SECONDS,
        application_name="stratos admin",
    )
    database = AppViewDatabase(config, AppViewSql.load(sql_directory() / "appview"))
    database.open()
    try:
        async with httpx.AsyncClient() as http:
            service = ServiceClient(ServiceConfig(url, settings.sync_token.get_secret_value()), http)
            actors = BlockedActors(database.queries, service_url=url)
            writer = ProjectionWriter(database.queries, source=url, service_url=url)
            yield AppViewSide(settings, database, http, service, actors, writer, World.real().clock)
    finally:
        database.close()


def run_beside(work: Callable[[AppViewSide], Awaitable[T]]) -> T:
    """Run an operator's command beside the indexer, with its settings from the environment.

    Where it cannot be done the process ends with status 1 and says what to look at.
    """

    async def with_both_sides(settings: IndexerSettings) -> T:
        async with _opened(settings) as side:
            return await work(side)

    try:
        return trio.run(with_both_sides, load(IndexerSettings, read_environment(os.environ, Path.cwd())))
    except InvalidSettings as error:
        give_up(f"{error}\nThese are the indexer's settings: run the command in its environment")
    except DatabaseUnavailable as error:
        give_up(f"The AppView's database (BSKY_DB_POSTGRES_URL, BSKY_DB_POSTGRES_SCHEMA): {error}")
    except psycopg.Error as error:
        give_up(f"The AppView's database refuses: {describe_refusal(error)}")
    except ServiceFault as error:
        give_up(f"The service (STRATOS_SERVICE_URL, STRATOS_SYNC_TOKEN): {error}")
