"""The SQLite backend: one service database, one database per actor, one process."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Final

from stratos.atproto.syntax import Did
from stratos.core.log_entry import EnrollmentEntry, Proposal
from stratos.storage.appending import Batch, LoggedCommit
from stratos.storage.ports import AppendOutcome, StorageFault
from stratos.storage.sql_consumer_cursors import SqlConsumerCursors
from stratos.storage.sql_files import SqlFiles
from stratos.storage.sql_oauth_store import SqlOAuthStore
from stratos.storage.sql_outbox import SqlOutbox
from stratos.storage.sql_sealed_values import SqlSealedValues
from stratos.storage.sqlite.actor_database import ActorSchema
from stratos.storage.sqlite.actor_stores import SqliteActorStores, StoreLimits
from stratos.storage.sqlite.append import append_batch
from stratos.storage.sqlite.connection import faults
from stratos.storage.sqlite.directory_lock import DirectoryLock
from stratos.storage.sqlite.enrollments import SqliteEnrollments
from stratos.storage.sqlite.log import SqliteLog
from stratos.storage.sqlite.private_files import private_database, private_directory
from stratos.storage.sqlite.redo import Redo
from stratos.storage.sqlite.service_database import ServiceDatabase
from stratos.storage.sqlite.unrivalled import Unrivalled

NODES_PER_STORE: Final = 128
"""Decoded MST nodes kept per open store: some ten paths of a large repository."""
SERVICE_READERS: Final = 4
"""Reading connections to the service database."""

_SERVICE: Final = "sqlite/service"
_ACTOR: Final = "sqlite/actor"

_log = logging.getLogger(__name__)


class SqliteBackend:
    """Implements `ports.Backend`. The steps of `commit` are methods of their own, so that a test can fail between them."""

    def __init__(
        self, directory: Path, lock: DirectoryLock, database: ServiceDatabase, schema: ActorSchema, limits: StoreLimits
    ) -> None:
        """Use `SqliteBackend.open`."""
        self._lock = lock
        self._database = database
        self._purge_unfinished = False
        self._log = SqliteLog(database)
        self._enrollments = SqliteEnrollments(database)
        self._cursors = SqlConsumerCursors(database)
        self._outbox = SqlOutbox(database)
        self._oauth = SqlOAuthStore(database)
        self._sealed = SqlSealedValues(database)
        self._actors = SqliteActorStores(
            directory / "actors",
            schema,
            Redo(database),
            limits,
            purged=self._purge_done,
            checkpointed=self._log.checkpointed,
        )

    @classmethod
    def open(
        cls,
        data_dir: Path,
        *,
        sql: SqlFiles,
        max_open_actors: int,
        nodes_per_store: int = NODES_PER_STORE,
        service_readers: int = SERVICE_READERS,
    ) -> SqliteBackend:
        """Open or create everything below `data_dir`, migrate it, and finish purges that a crash interrupted.

        An actor store is opened, and caught up with the log, when it is first asked for. At most `max_open_actors` stay open,
        each with up to `nodes_per_store` decoded nodes. Raises DataDirectoryInUse, StorageFault.
        """
        directory = data_dir.absolute()
        with faults(f"preparing the data directory {directory}"):
            private_directory(directory / "actors")
            lock = DirectoryLock.acquire(directory)
        with ExitStack() as undo:
            undo.callback(lock.release)
            schema = ActorSchema(sql.statements(_ACTOR), sql.migrations(_ACTOR))
            statements, migrations = sql.statements(_SERVICE), sql.migrations(_SERVICE)
            with faults(f"preparing the data directory {directory}"):
                file = private_database(directory / "service.sqlite")
            database = ServiceDatabase(file, statements, migrations, readers=service_readers)
            undo.callback(database.close)
            backend = cls(directory, lock, database, schema, StoreLimits(max_open_actors, nodes_per_store))
            backend._finish_purges()
            undo.pop_all()
        return backend

    @property
    def shared(self) -> bool:
        """Never: the data directory belongs to one process."""
        return False

    @property
    def actors(self) -> SqliteActorStores:
        """All actors' stores."""
        return self._actors

    @property
    def enrollments(self) -> SqliteEnrollments:
        """Reads of enrollment."""
        return self._enrollments

    @property
    def log(self) -> SqliteLog:
        """The commit log."""
        return self._log

    @property
    def cursors(self) -> SqlConsumerCursors:
        """Positions of internal consumers."""
        return self._cursors

    @property
    def oauth(self) -> SqlOAuthStore:
        """OAuth sessions and states, sealed."""
        return self._oauth

    @property
    def sealed(self) -> SqlSealedValues:
        """Everything that is sealed under the master key."""
        return self._sealed

    @property
    def outbox(self) -> SqlOutbox:
        """What is to be published."""
        return self._outbox

    def commit(self, batch: Sequence[Proposal], *, now: datetime) -> list[AppendOutcome]:
        """Append a batch in one durable transaction, then apply it to the actor stores; outcomes in order.

        Only for the log-writer thread. Raises StorageFault when nothing was appended; whatever fails later is logged, and made
        good when the store concerned is opened next, or at the next purge or start.
        """
        appended = self._append(batch, now)
        if appended.purges or self._purge_unfinished:
            self._finish_purges()
        for did, commits in appended.commits.items():
            self._apply_actor(did, commits)
        return appended.outcomes

    def wakeups(self) -> None:
        """There is nobody else whose commits could be announced."""

    def leadership(self, name: str) -> Unrivalled:  # noqa: ARG002 - every right is ours
        """The right to anything: there is no other process."""
        return Unrivalled()

    def check(self) -> None:
        """Answer a trivial query. Raises StorageFault."""
        with self._database.read("checking the service database") as connection:
            connection.execute("SELECT 1").fetchone()

    def close(self) -> None:
        """Close every connection and release the data directory; a second call does nothing."""
        self._actors.close()
        self._database.close()
        self._lock.release()

    def _append(self, batch: Sequence[Proposal], now: datetime) -> Batch:
        """One transaction: when it returns, the batch is durable."""
        try:
            with self._database.write("appending to the log") as connection:
                appended = append_batch(connection, self._database.sql, batch, last_seq=self._log.head(), now=now)
        finally:
            # After the transaction, and also where it failed: nobody is let in by an enrollment that may be gone (I9).
            for proposal in batch:
                if any(isinstance(entry, EnrollmentEntry) for entry in proposal.entries):
                    self._enrollments.changed(proposal.did)
        self._log.advance(appended.head)
        return appended

    def _apply_actor(self, did: Did, commits: Sequence[LoggedCommit]) -> None:
        """Apply one actor's part of the batch; a failure leaves its store behind the log and is reported, not raised."""
        try:
            self._actors.apply(did, commits)
        except StorageFault:
            _log.exception("apply failed, the store of %s is behind the log", did)

    def _finish_purges(self) -> None:
        """Destroy the stores of unenrolled actors, then empty the write-ahead log of what was erased.

        What fails is reported, not raised, and is tried again with the next batch.
        """
        try:
            left = [did for did in self._pending_purges() if not self._purged(did)]
            # Readers may hold the write-ahead log for a moment.
            truncated = self._database.truncate_wal()
            self._purge_unfinished = bool(left) or not truncated
        except StorageFault:
            self._purge_unfinished = True
            _log.exception("purge failed, erased log entries may still be in the write-ahead log")

    def _pending_purges(self) -> list[Did]:
        with self._database.read("listing unfinished purges") as connection:
            return [Did(did) for (did,) in connection.execute(self._database.sql["unenroll.pending_purges"])]

    def _purged(self, did: Did) -> bool:
        try:
            self._destroy_actor(did)
        except StorageFault:
            _log.exception("purge failed, the store of %s is still to be destroyed", did)
            return False
        return True

    def _destroy_actor(self, did: Did) -> None:
        self._actors.destroy(did)

    def _purge_done(self, did: Did) -> None:
        with self._database.write("recording a purge") as connection:
            connection.execute(self._database.sql["unenroll.purge_done"], (did,))
