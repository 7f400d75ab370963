"""The AppView's database for the life of a process: opened, brought up to date, closed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

import structlog
import trio
from structlog.typing import FilteringBoundLogger

from stratos.indexer.appview_db import AppViewDatabase, AppViewDbConfig, DatabaseUnavailable
from stratos.indexer.appview_sql import AppViewSql

ATTEMPTS: Final = 30
WAIT_SECONDS: Final = 2.0

_log: FilteringBoundLogger = structlog.get_logger(__name__)


@asynccontextmanager
async def opened_database(
    config: AppViewDbConfig, files: AppViewSql, *, clock: Callable[[], datetime]
) -> AsyncIterator[AppViewDatabase]:
    """Open the pool and migrate the schema, waiting a while for a PostgreSQL that is starting.

    Raises DatabaseUnavailable after ATTEMPTS, and SchemaTooNew.
    """
    database = AppViewDatabase(config, files)
    database.open()
    try:
        await _migrate(database, clock)
        yield database
    finally:
        database.close()


async def _migrate(database: AppViewDatabase, clock: Callable[[], datetime]) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            await trio.to_thread.run_sync(database.migrate, clock())
        except DatabaseUnavailable as error:
            if attempt == ATTEMPTS:
                raise
            _log.warning("the database cannot be reached yet", attempt=attempt, error=str(error))
            await trio.sleep(WAIT_SECONDS)
        else:
            return
