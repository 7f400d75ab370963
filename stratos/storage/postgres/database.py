"""The connections to PostgreSQL: a pool for reads and small writes, and single ones for whoever needs his own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import Final, TypeAlias

import psycopg
from psycopg import Cursor
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from stratos.storage.ports import StorageFault
from stratos.storage.postgres.config import PostgresConfig
from stratos.storage.postgres.patient_connection import PatientConnection, patient
from stratos.storage.sql_files import Statements

Parameters: TypeAlias = Sequence[object] | Mapping[str, object]

WAITING_PER_CONNECTION: Final = 16
"""Callers that may wait for a connection of the pool, for each that it has."""
KEEPALIVE_SECONDS: Final = 5
"""How long a connection is silent before its other end is asked whether it is there; by two questions a machine that is gone is
noticed, also by one that only listens."""
_KEEPALIVES: Final = "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=2"
"""By these the server notices that a client's machine is gone, and frees its locks."""


_POOL_ERRORS: Final = (PoolTimeout, TooManyRequests, PoolClosed)


class PgConnection:
    """A connection in autocommit mode, with what our statements need."""

    def __init__(self, raw: psycopg.Connection[TupleRow]) -> None:
        self.raw = raw

    def execute(self, statement: str, parameters: Parameters = (), *, prepare: bool | None = None) -> Cursor[TupleRow]:
        """Run one statement. `prepare=False` for those that are run once."""
        return self.raw.execute(statement.encode(), parameters, prepare=prepare)

    @contextmanager
    def pipeline(self) -> Iterator[None]:
        """Send the statements of the block without waiting for each; those that came in before an error are not carried out
        either where all are one transaction. Results are there after the block."""
        with self.raw.pipeline():
            yield

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what the block did, or roll it back."""
        self.execute("BEGIN")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            self.roll_back()
            raise

    def roll_back(self) -> None:
        """Leave a transaction, if there is one and the connection still works."""
        if not self.raw.closed and self.raw.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            try:
                self.execute("ROLLBACK")
            except psycopg.Error:
                self.raw.close()


class PostgresDatabase:
    """One database, used from several threads."""

    def __init__(self, config: PostgresConfig, sql: Statements) -> None:
        """Connects to nothing yet; see `open`."""
        self.sql = sql
        self.config = config
        self._faults = 0
        self._renewing = Lock()
        self._renewed_at = 0.0
        self._conninfo = _conninfo(config)
        self._pool: ConnectionPool[PatientConnection] = ConnectionPool(
            self._conninfo,
            min_size=1,
            max_size=config.pool_size,
            max_waiting=config.pool_size * WAITING_PER_CONNECTION,
            timeout=config.checkout_timeout,
            reconnect_timeout=config.connect_timeout,
            open=False,
            kwargs={"autocommit": True},
            connection_class=PatientConnection,
            configure=partial(patient, patience=config.answer_timeout),
        )

    def open(self) -> None:
        """Begin to connect. Raises StorageFault when the server cannot be reached."""
        with faults("connecting to PostgreSQL"):
            self._pool.open(wait=True, timeout=self.config.connect_timeout)

    def close(self) -> None:
        """Close every connection of the pool; a second call does nothing."""
        self._pool.close()

    @contextmanager
    def read(self, doing: str) -> Iterator[PgConnection]:
        """A connection of the pool for the block, each statement a transaction. Raises StorageFault."""
        with faults(doing):
            try:
                with self._pool.connection() as raw, self._watched(raw):
                    yield PgConnection(raw)
            except psycopg.OperationalError:
                self._faults += 1
                raise

    @contextmanager
    def write(self, doing: str) -> Iterator[PgConnection]:
        """One transaction. Raises StorageFault; whether a COMMIT that was not answered took place is then unknown."""
        with self.read(doing) as connection, connection.transaction():
            yield connection

    def connect(self) -> PgConnection:
        """A connection of one's own, in autocommit mode. Raises psycopg.Error."""
        raw = PatientConnection.connect(self._conninfo, autocommit=True)
        patient(raw, self.config.answer_timeout)
        return PgConnection(raw)

    @contextmanager
    def _watched(self, raw: PatientConnection) -> Iterator[None]:
        """Renew the pool where the connection breaks in the block."""
        try:
            yield
        except (psycopg.OperationalError, StorageFault) as error:
            cause = error.__cause__ if isinstance(error, StorageFault) else error
            if isinstance(cause, psycopg.OperationalError) and is_disconnection(cause):
                self._renew(raw)
            raise

    def _renew(self, lost: PatientConnection) -> None:
        """Replace what lies in the pool: where one connection is broken others are too, as after a restart of the server.

        Nothing is asked over them first: one that is stalled would not answer. Those made since the last time are spared.
        """
        with self._renewing:
            if lost.made_at >= self._renewed_at:
                self._pool.drain()
                self._renewed_at = time.monotonic()

    def statistics(self) -> Mapping[str, int]:
        """Gauges and counters: the pool's connections, idle ones, waiting callers, limits, failures."""
        pool = self._pool.get_stats()
        return {
            "connections": pool.get("pool_size", 0),
            "connections_limit": self.config.pool_size,
            "idle": pool.get("pool_available", 0),
            "waiting": pool.get("requests_waiting", 0),
            "waiting_limit": self.config.pool_size * WAITING_PER_CONNECTION,
            "failures_total": self._faults,
        }


@contextmanager
def faults(doing: str) -> Iterator[None]:
    """Turn the store's own errors into a StorageFault that says what was being done."""
    try:
        yield
    except (PoolTimeout, TooManyRequests) as error:
        raise StorageFault(f"{doing}: every connection to PostgreSQL is in use or cannot be made") from error
    except (psycopg.Error, PoolClosed, OSError) as error:
        raise StorageFault(f"{doing}: {described(error)}") from error


def is_lost(connection: PgConnection) -> bool:
    """Whether nothing more can be asked over a connection."""
    return connection.raw.closed or connection.raw.broken


def is_disconnection(error: psycopg.Error) -> bool:
    """Whether the connection is at fault, not the statement; 57P is the server being shut down."""
    if isinstance(error, _POOL_ERRORS):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))


def described(error: BaseException) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _conninfo(config: PostgresConfig) -> str:
    """The address with our limits; what the operator put into its `options` stays and has the last word."""
    limits = {
        "statement_timeout": config.statement_timeout,
        "lock_timeout": config.lock_timeout,
        "idle_in_transaction_session_timeout": config.idle_transaction_timeout,
    }
    ours = " ".join(f"-c {name}={round(seconds * 1000)}" for name, seconds in limits.items())
    theirs = conninfo_to_dict(config.url).get("options") or ""
    return make_conninfo(
        config.url,
        connect_timeout=max(2, round(config.connect_timeout)),  # libpq takes anything less for two seconds
        application_name=config.application_name,
        keepalives_idle=KEEPALIVE_SECONDS,
        keepalives_interval=2,
        keepalives_count=2,
        options=f"{ours} {_KEEPALIVES} {theirs}".strip(),
    )
