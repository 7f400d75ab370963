"""The AppView's PostgreSQL: a pool of synchronous connections, used from trio's worker threads, and the schema's migrations."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final, TypeVar

import psycopg
import trio
from psycopg import sql
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from stratos.atproto.syntax import format_datetime
from stratos.core.fault_text import describe
from stratos.indexer.appview_sql import AppViewQueries, AppViewSql

_SCHEMA_NAME: Final = re.compile("[A-Za-z_]{1,63}")

Connection = psycopg.Connection[TupleRow]
T = TypeVar("T")


class DatabaseUnavailable(Exception):
    """PostgreSQL cannot be reached, is too busy, or broke off; whether the transaction happened may be unknown."""


class InvalidSchemaName(ValueError):
    """A schema name may have letters and `_` only, at most 63."""


class SchemaTooNew(Exception):
    """The database was migrated by a later version of this program."""


@dataclass(frozen=True, slots=True)
class AppViewDbConfig:
    """Where the database is and how patiently it is used. `schema`: letters and `_`; all durations are seconds."""

    url: str
    schema: str = "bsky"
    pool_size: int = 20
    connect_timeout: float = 5.0
    checkout_timeout: float = 5.0
    statement_timeout: float = 60.0
    application_name: str = "stratos"

    def __post_init__(self) -> None:
        if _SCHEMA_NAME.fullmatch(self.schema) is None:
            raise InvalidSchemaName(f"schema name {self.schema!r} must consist of letters and _")


def describe_refusal(error: Exception) -> str:
    """One line that names why a change was refused; of PostgreSQL's words those that do not quote the row, which is private."""
    if not isinstance(error, psycopg.Error) or error.diag.message_primary is None:
        return describe(error)
    return describe(type(error)(f"{error.diag.message_primary} ({error.sqlstate})"))


class AppViewDatabase:
    """The pool. `run` is the way in from trio, `transaction` the way in from a worker thread."""

    def __init__(self, config: AppViewDbConfig, files: AppViewSql) -> None:
        self._config = config
        self._files = files
        self._threads = trio.CapacityLimiter(config.pool_size)
        self._transactions = self._failures = 0
        self._pool = ConnectionPool(
            config.url,
            min_size=1,
            max_size=config.pool_size,
            max_waiting=config.pool_size * 10,
            timeout=config.checkout_timeout,
            reconnect_timeout=config.connect_timeout,
            open=False,
            configure=self._configure,
            kwargs={
                "connect_timeout": max(1, round(config.connect_timeout)),
                "application_name": config.application_name,
            },
        )

    @property
    def queries(self) -> AppViewQueries:
        """The statements, by name."""
        return self._files.queries

    def open(self) -> None:
        """Start connecting in the background; returns at once, also when PostgreSQL is away."""
        self._pool.open(wait=False)

    def close(self) -> None:
        """Close every connection; transactions under way in other threads fail."""
        self._pool.close()

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a worker thread inside one transaction, which commits when it returns.

        Raises DatabaseUnavailable where trying again later may help; other psycopg errors and those of `work` pass through.
        Cancellation waits for the transaction to end: it either happened or not when this returns.
        """
        return await trio.to_thread.run_sync(self._in_transaction, work, limiter=self._threads)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection in a transaction, for callers in worker threads. Raises as `run` does."""
        try:
            with self._pool.connection() as connection:
                yield connection
            self._transactions += 1
        except psycopg.Error as error:
            self._failures += 1
            if is_outage(error):
                raise DatabaseUnavailable(describe(error)) from error
            raise

    def migrate(self, now: datetime) -> int:
        """Create the schema or bring it up to date; returns its version. Several processes may call this at once.

        Raises SchemaTooNew, DatabaseUnavailable.
        """
        schema = self._config.schema
        with self.transaction() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_lock_number(schema),))
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
            connection.execute(
                "CREATE TABLE IF NOT EXISTS stratos_appview_migration ("
                'number integer PRIMARY KEY, name text NOT NULL, "appliedAt" text NOT NULL)'
            )
            row = connection.execute("SELECT coalesce(max(number), 0) FROM stratos_appview_migration").fetchone()
            version = int(row[0]) if row else 0
            if version > len(self._files.migrations):
                raise SchemaTooNew(f"schema {schema!r} has version {version}; this program knows {len(self._files.migrations)}")
            for migration in self._files.migrations[version:]:
                connection.execute(migration.statements)
                connection.execute(
                    "INSERT INTO stratos_appview_migration VALUES (%s, %s, %s)",
                    (migration.number, migration.name, format_datetime(now)),
                )
        return len(self._files.migrations)

    async def reachable(self) -> bool:
        """Whether the database answers a trivial query."""
        try:
            await self.run(lambda connection: connection.execute("SELECT 1").fetchone())
        except (DatabaseUnavailable, psycopg.Error):
            return False
        return True

    def statistics(self) -> Mapping[str, float]:
        """Gauges and counters of the pool and its threads."""
        pool = self._pool.get_stats()
        return {
            "pool_size": pool.get("pool_size", 0),
            "pool_limit": self._config.pool_size,
            "pool_available": pool.get("pool_available", 0),
            "pool_waiting": pool.get("requests_waiting", 0),
            "threads_busy": self._threads.borrowed_tokens,
            "transactions_total": self._transactions,
            "failures_total": self._failures,
        }

    def _in_transaction(self, work: Callable[[Connection], T]) -> T:
        with self.transaction() as connection:
            return work(connection)

    def _configure(self, connection: Connection) -> None:
        path = sql.SQL("SET search_path TO {}, public").format(sql.Identifier(self._config.schema))
        connection.execute(path)
        milliseconds = round(self._config.statement_timeout * 1000)
        connection.execute("SELECT set_config('statement_timeout', %s, false)", (str(milliseconds),))
        connection.commit()


_OUTAGE_CLASSES: Final = frozenset({"08", "25", "28", "3D", "3F", "40", "42", "53", "55", "57", "58", "0A"})


def is_outage(error: Exception) -> bool:
    """Whether the fault lies with the database or its schema as a whole, rather than with the data that was written.

    By SQLSTATE class: connection, transaction state, authorization, missing objects, conflicts between transactions, resources,
    operator intervention and system errors. Without SQLSTATE: a connection that broke or was not to be had.
    """
    if isinstance(error, psycopg.Error) and error.sqlstate is not None:
        return error.sqlstate[:2] in _OUTAGE_CLASSES
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)


def _lock_number(schema: str) -> int:
    """A 63-bit advisory lock number that belongs to this schema."""
    return int.from_bytes(sha256(f"stratos appview {schema}".encode()).digest()[:8], "big") >> 1
