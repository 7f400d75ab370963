"""The log's writer: one connection, one transaction per batch, two round trips."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

import psycopg
from psycopg import errors

from stratos.core.log_entry import Proposal
from stratos.storage.appending import Batch, append_batch
from stratos.storage.instants import to_microseconds
from stratos.storage.ports import OutcomeUnknown, StorageFault
from stratos.storage.postgres.actor_schema import ActorSchema
from stratos.storage.postgres.append import GatheredStatements
from stratos.storage.postgres.database import PgConnection, PostgresDatabase, faults, is_disconnection, is_lost

LOG_LOCK: Final = 0x5354524154_02
"""Advisory lock: one batch at a time."""
RETRY_SECONDS: Final = 0.2
HAS_TRANSACTION_TIMEOUT: Final = 17_00_00
"""From this version on PostgreSQL can end a transaction by its age."""
REPETITIONS: Final = 2
"""How often a batch that did not take place is tried again before its writers are told."""
FORGOTTEN_AFTER: Final = timedelta(days=1)
"""A writer that has been silent so long is no more."""

_APPENDING: Final = "appending to the log"


class _WorthRepeating(StorageFault):
    """Nothing was written, because of a conflict or of a connection that turned out to be broken."""


class BatchWriter:
    """For one thread at a time. Reconnects by itself, when it is next used."""

    def __init__(
        self, database: PostgresDatabase, schema: ActorSchema, name: str, *, pause: Callable[[float], None] = time.sleep
    ) -> None:
        """`name` is nobody else's, in no process and at no time; `pause` waits for some seconds."""
        self._database = database
        self._sql = database.sql
        self._schema = schema
        self._pause = pause
        self._name = name
        self._batches = 0
        self._connection: PgConnection | None = None
        self._committing = False

    def commit(self, proposals: Sequence[Proposal], now: datetime) -> Batch:
        """Append a batch and apply it, in one transaction.

        Raises StorageFault when nothing was written, and OutcomeUnknown when that could not be found out in time; whoever reads
        the log later sees what became of it.
        """
        for _ in range(REPETITIONS):
            with suppress(_WorthRepeating):
                return self._commit(proposals, now)
        return self._commit(proposals, now)

    def _commit(self, proposals: Sequence[Proposal], now: datetime) -> Batch:
        self._batches += 1
        self._committing = False
        batch: Batch | None = None
        try:
            with faults(_APPENDING):
                connection = self._connected()
                batch = self._prepare(connection, proposals, now)
                self._carry_out(connection)
        except StorageFault as fault:
            lost = self._connection is not None and is_lost(self._connection)
            # What was prepared in a pipeline that failed, psycopg believes to be there for ever after, and the server does not.
            self.close()
            if batch is not None and self._committing:
                if self._took_place(fault):
                    return batch
                raise
            if lost or isinstance(fault.__cause__, errors.SerializationFailure | errors.DeadlockDetected):
                raise _WorthRepeating(str(fault)) from fault.__cause__
            raise
        return batch

    def forget_silent_writers(self, now: datetime) -> None:
        """Delete the traces of processes that are long gone. Raises StorageFault."""
        with self._database.read("forgetting old writers") as connection:
            connection.execute(self._sql["append.forget_writers"], (to_microseconds(now - FORGOTTEN_AFTER),))

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        if self._connection is not None:
            self._connection.raw.close()
            self._connection = None

    def _connected(self) -> PgConnection:
        if self._connection is not None and is_lost(self._connection):
            self.close()
        if self._connection is None:
            self._connection = self._database.connect()
            if self._connection.raw.info.server_version >= HAS_TRANSACTION_TIMEOUT:
                # A batch of which half arrived is no idle transaction; without this it would keep the lock as long as it likes.
                timeout = round(self._database.config.answer_timeout * 1000)
                self._connection.execute(f"SET transaction_timeout = {timeout}", prepare=False)
        return self._connection

    def _prepare(self, connection: PgConnection, proposals: Sequence[Proposal], now: datetime) -> Batch:
        """Lock the log, read where it is, and work out the batch. The transaction is left open."""
        dids = sorted({proposal.did for proposal in proposals})
        try:
            with connection.pipeline():
                # Whatever is the default here: each statement must see what was committed before the lock was ours.
                connection.raw.execute(b"BEGIN ISOLATION LEVEL READ COMMITTED")
                connection.raw.execute(self._sql["append.lock"].encode(), (LOG_LOCK,))
                heads = connection.raw.execute(self._sql["append.heads"].encode(), (dids,))
                last = connection.raw.execute(self._sql["append.last_seq"].encode())
            row = last.fetchone()
            if row is None:
                raise StorageFault("the table meta lacks last_seq")
            self._gathered = GatheredStatements(self._sql, self._schema, heads.fetchall())
            batch = append_batch(self._gathered, proposals, last_seq=row[0], now=now)
            for did, commits in batch.commits.items():
                self._gathered.apply(did, commits)
            self._gathered.note_batch(self._name, self._batches, to_microseconds(now))
        except BaseException:
            connection.roll_back()
            raise
        return batch

    def _carry_out(self, connection: PgConnection) -> None:
        try:
            with connection.pipeline():
                for statement, parameters, prepare in self._gathered.statements:
                    connection.raw.execute(statement.encode(), parameters, prepare=None if prepare else False)
                self._committing = True
                connection.raw.execute(b"COMMIT")
        except BaseException as error:
            if not is_lost(connection) and not (isinstance(error, psycopg.Error) and is_disconnection(error)):
                # The server answered, with an error: the transaction did not take place.
                self._committing = False
            connection.roll_back()
            raise

    def _took_place(self, fault: StorageFault) -> bool:
        """Whether the batch whose COMMIT was not answered is there. Raises OutcomeUnknown."""
        deadline = time.monotonic() + self._database.config.finding_out
        while True:
            with suppress(psycopg.Error):
                connection = self._connected()
                with connection.transaction():
                    # Whoever has this lock knows that no transaction with it is under way any more: the lost one neither.
                    connection.execute(self._sql["append.lock"], (LOG_LOCK,))
                    row = connection.execute(self._sql["append.noted_batch"], (self._name,)).fetchone()
                return row is not None and row[0] == self._batches
            if time.monotonic() > deadline:
                raise OutcomeUnknown(f"{fault}; whether the batch was written is not known") from fault
            self._pause(RETRY_SECONDS)
