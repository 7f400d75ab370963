"""The PostgreSQL backend: shared service tables and one schema per actor, used by any number of processes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from typing import Final

from stratos.atproto.syntax import Did
from stratos.core.log_entry import EnrollmentEntry, Proposal
from stratos.storage.ports import AppendOutcome, StorageFault
from stratos.storage.postgres.actor_schema import ActorSchema
from stratos.storage.postgres.actor_stores import PostgresActorStores
from stratos.storage.postgres.batch_writer import BatchWriter
from stratos.storage.postgres.config import PostgresConfig
from stratos.storage.postgres.database import PostgresDatabase, faults
from stratos.storage.postgres.enrollments import PostgresEnrollments
from stratos.storage.postgres.leadership import PostgresLeadership
from stratos.storage.postgres.log import PostgresLog
from stratos.storage.postgres.migrations import migrate_service
from stratos.storage.postgres.preflight import check_database
from stratos.storage.postgres.schema_migrator import SchemaMigrator
from stratos.storage.postgres.wakeups import PostgresWakeups
from stratos.storage.sql_consumer_cursors import SqlConsumerCursors
from stratos.storage.sql_files import SqlFiles
from stratos.storage.sql_oauth_store import SqlOAuthStore
from stratos.storage.sql_outbox import SqlOutbox
from stratos.storage.sql_sealed_values import SqlSealedValues

NODES_PER_STORE: Final = 128
"""Decoded MST nodes kept per actor: some ten paths of a large repository."""

_SERVICE: Final = "postgres/service"
_ACTOR: Final = "postgres/actor"

_log = logging.getLogger(__name__)


class PostgresBackend:
    """Implements `ports.Backend`."""

    def __init__(self, database: PostgresDatabase, actors: PostgresActorStores, writer: BatchWriter) -> None:
        """Use `PostgresBackend.open`."""
        self._database = database
        self._actors = actors
        self._writer = writer
        self._log = PostgresLog(database)
        self._enrollments = PostgresEnrollments(database)
        self._cursors = SqlConsumerCursors(database)
        self._oauth = SqlOAuthStore(database)
        self._sealed = SqlSealedValues(database)
        self._outbox = SqlOutbox(database)
        self._purge_unfinished = False

    @classmethod
    def open(
        cls,
        config: PostgresConfig,
        *,
        sql: SqlFiles,
        max_open_actors: int,
        writer: str,
        now: datetime,
        nodes_per_store: int = NODES_PER_STORE,
    ) -> PostgresBackend:
        """Connect, look at the database, migrate the service's tables, and finish purges that were interrupted.

        Actors' schemas are migrated when they are next used. Up to `nodes_per_store` decoded nodes are kept of each of the last
        `max_open_actors` actors. `writer` is a name that no other process has or ever had. Raises StorageFault.
        """
        with ExitStack() as undo:
            database = PostgresDatabase(config, sql.statements(_SERVICE))
            undo.callback(database.close)
            database.open()
            with database.read("preparing the database") as connection:
                diagnostics = check_database(connection)
                migrate_service(connection, sql.migrations(_SERVICE), diagnostics)
            schema = ActorSchema(sql.statements(_ACTOR), sql.migrations(_ACTOR))
            migrator = SchemaMigrator(database, schema, diagnostics)
            actors = PostgresActorStores(database, schema, migrator, max_nodes=max_open_actors, nodes_per_store=nodes_per_store)
            backend = cls(database, actors, BatchWriter(database, schema, writer))
            backend._writer.forget_silent_writers(now)
            backend._finish_purges()
            undo.pop_all()
        return backend

    @property
    def shared(self) -> bool:
        """Always: any number of processes may use the database."""
        return True

    @property
    def actors(self) -> PostgresActorStores:
        """All actors' stores."""
        return self._actors

    @property
    def enrollments(self) -> PostgresEnrollments:
        """Reads of enrollment."""
        return self._enrollments

    @property
    def log(self) -> PostgresLog:
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
        """Append a batch and apply it to the actor stores, in one transaction; outcomes in order.

        Only for the log-writer thread. Raises StorageFault when nothing was appended, OutcomeUnknown when the connection was lost
        and it could not be found out.
        """
        try:
            written = self._writer.commit(batch, now)
        finally:
            # After the transaction, and also where it failed: nobody is let in by an enrollment that may be gone (I9).
            for proposal in batch:
                if any(isinstance(entry, EnrollmentEntry) for entry in proposal.entries):
                    self._enrollments.changed(proposal.did)
        for did in written.purges:
            self._actors.forget(did)
        if written.purges or self._purge_unfinished:
            self._finish_purges()
        return written.outcomes

    def wakeups(self) -> PostgresWakeups:
        """Listen for the commits of all processes, on a connection of its own."""
        with faults("listening for other processes"):
            return PostgresWakeups(self._database.connect())

    def leadership(self, name: str) -> PostgresLeadership:
        """The right of this name, not acquired yet."""
        return PostgresLeadership(name, self._database.connect)

    def check(self) -> None:
        """Answer a trivial query. Raises StorageFault."""
        with self._database.read("checking the database") as connection:
            connection.execute("SELECT 1")

    def close(self) -> None:
        """Close every connection; a second call does nothing."""
        self._actors.close()
        self._writer.close()
        self._database.close()

    def _finish_purges(self) -> None:
        """Drop the schemas of unenrolled actors, one by one; what fails is reported and tried again with the next batch."""
        try:
            with self._database.read("listing unfinished purges") as connection:
                pending = connection.execute(self._database.sql["unenroll.pending_purges"]).fetchall()
            left = [did for did, name in pending if not self._dropped(Did(did), name)]
            self._purge_unfinished = bool(left)
        except StorageFault:
            self._purge_unfinished = True
            _log.exception("purge failed, schemas of unenrolled actors may still be there")

    def _dropped(self, did: Did, name: str) -> bool:
        """Two processes may try it at the same time: what is gone already is done."""
        try:
            with self._database.write(f"dropping the schema of {did}") as connection:
                # Whoever enrolls the account again holds the row of the purge until he has made the schema anew.
                row = connection.execute(self._database.sql["unenroll.lock_purge"], (did,)).fetchone()
                if row is not None:
                    connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE", prepare=False)
                    connection.execute(self._database.sql["unenroll.purge_done"], (did,))
        except StorageFault:
            _log.exception("purge failed, the schema of %s is still to be dropped", did)
            return False
        return True
