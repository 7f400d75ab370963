"""All actors' repositories, a schema each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock

from psycopg import Cursor, errors
from psycopg.rows import TupleRow

from stratos.atproto.cid import Cid
from stratos.atproto.syntax import Did, Tid
from stratos.storage.names import is_nameable
from stratos.storage.node_cache import LruNodeCache
from stratos.storage.ports import RecordPath, RepoRoot, SchemaCounts, StorageFault, StoredRecord
from stratos.storage.postgres.actor_schema import ActorSchema
from stratos.storage.postgres.actor_store import PostgresActorStore, by_path, columns_of
from stratos.storage.postgres.database import PgConnection, PostgresDatabase, faults
from stratos.storage.postgres.export import PostgresRepoExport
from stratos.storage.postgres.migrations import check_version
from stratos.storage.postgres.schema_migrator import SchemaMigrator


class PostgresActorStores:
    """Implements `ports.ActorStores`. A store has no state here but its cached nodes; it is never behind the log."""

    def __init__(
        self,
        database: PostgresDatabase,
        schema: ActorSchema,
        migrator: SchemaMigrator,
        *,
        max_nodes: int,
        nodes_per_store: int,
    ) -> None:
        """Up to `nodes_per_store` decoded nodes are kept of each of the last `max_nodes` actors."""
        self._database = database
        self._schema = schema
        self._migrator = migrator
        self._max_nodes = max_nodes
        self._nodes_per_store = nodes_per_store
        self._lock = Lock()
        self._nodes: OrderedDict[Did, LruNodeCache] = OrderedDict()
        self._exports: dict[Did, list[PostgresRepoExport]] = {}
        self._opened = self._forgotten = 0

    @contextmanager
    def open(self, did: Did) -> Iterator[PostgresActorStore | None]:
        """Open an actor's store for the block; None where the DID has no repository."""
        with self._database.read(f"reading the repository of {did}") as connection:
            found = self._standing(connection, did)
            if found is None:
                yield None
                return
            name, root = found
            nodes = self._nodes_of(did)
            yield PostgresActorStore(connection, self._schema, name, nodes, opened_at=root, purges=lambda: self._forgotten)

    def records_at(self, asked: Mapping[Did, Sequence[RecordPath]]) -> Mapping[Did, Mapping[RecordPath, StoredRecord]]:
        """Records of several actors, by two round trips however many they are; a DID without repository is left out."""
        with self._database.read("reading records of several repositories") as connection:
            dids = [did for did in asked if is_nameable(did)]
            rows = connection.execute(self._database.sql["actor.standings"], (dids,)).fetchall()
            names = {Did(row[5]): self._usable(connection, Did(row[5]), row[:5])[0] for row in rows}
            found: dict[Did, Cursor[TupleRow]] = {}
            try:
                with connection.pipeline():
                    for did, name in names.items():
                        statement = self._schema.statement("read.records_at", name)
                        found[did] = connection.execute(statement, columns_of(asked[did]))
            except BaseException:
                # What was to be prepared, psycopg believes to be prepared; see GOTCHAS.
                connection.raw.close()
                raise
            return {did: by_path(cursor.fetchall()) for did, cursor in found.items()}

    @contextmanager
    def export(self, did: Did) -> Iterator[PostgresRepoExport | None]:
        """Open a consistent picture for export; None where the DID has no repository."""
        export = self._begin_export(did)
        try:
            yield export
        finally:
            if export is not None:
                self._end_export(did, export)

    def checkpoint(self, did: Did) -> None:
        """Nothing to do: what is applied is as durable as the log."""

    def forget(self, did: Did) -> None:
        """The actor was unenrolled: drop what memory has of it and end its exports."""
        with self._lock:
            self._forgotten += 1
            self._nodes.pop(did, None)
            exports = self._exports.pop(did, [])
        for export in exports:
            export.close()

    def schemas(self) -> SchemaCounts:
        """How far the schemas are from the newest version."""
        return self._migrator.counts()

    def outdated(self, *, after: Did | None, limit: int) -> list[Did]:
        """Actors whose schemas lack migrations, in DID order, exclusive of `after`."""
        return self._migrator.outdated(after=after, limit=limit)

    def migrate(self, did: Did) -> bool:
        """Bring an actor's schema to the newest version; whether there was anything to do. Raises StorageFault."""
        with self._database.read(f"migrating the schema of {did}") as connection:
            return self._migrator.migrate(connection, did)

    def statistics(self) -> Mapping[str, int]:
        """Gauges and counters: actors with cached nodes, their limit, nodes, exports, stores opened, schemas migrated."""
        with self._lock:
            nodes = sum(len(cache) for cache in self._nodes.values())
            exports = sum(len(running) for running in self._exports.values())
            cached = len(self._nodes)
        return {
            "open": cached,
            "open_limit": self._max_nodes,
            "nodes": nodes,
            "nodes_limit": self._max_nodes * self._nodes_per_store,
            "exports": exports,
            "opened_total": self._opened,
            "migrated_total": self._migrator.migrated,
            **{f"postgres_{name}": value for name, value in self._database.statistics().items()},
        }

    def close(self) -> None:
        """End every export; a second call does nothing."""
        with self._lock:
            exports, self._exports = self._exports, {}
        for export in (export for running in exports.values() for export in running):
            export.close()

    def _standing(self, connection: PgConnection, did: Did) -> tuple[str, RepoRoot] | None:
        """Where an actor's repository lies and its root, migrated where necessary."""
        if not is_nameable(did):
            return None
        row = connection.execute(self._database.sql["actor.standing"], (did,)).fetchone()
        return None if row is None else self._usable(connection, did, row)

    def _usable(self, connection: PgConnection, did: Did, row: TupleRow) -> tuple[str, RepoRoot]:
        """What a row of `actor.standing` says, after the migrations that its schema lacks."""
        name, version, commit, rev, seq = row
        check_version(f"the schema of {did}", version, self._schema.version)
        if version < self._schema.version:
            self._migrator.migrate(connection, did)
        self._opened += 1
        return name, RepoRoot(Cid(commit), Tid(rev), seq)

    def _nodes_of(self, did: Did) -> LruNodeCache:
        with self._lock:
            nodes = self._nodes.get(did)
            if nodes is None:
                nodes = self._nodes[did] = LruNodeCache(self._nodes_per_store)
                if len(self._nodes) > self._max_nodes:
                    self._nodes.popitem(last=False)
            self._nodes.move_to_end(did)
            return nodes

    def _begin_export(self, did: Did) -> PostgresRepoExport | None:
        with faults(f"exporting the repository of {did}"):
            connection = self._database.connect()
            try:
                found = self._standing(connection, did)
                if found is None:
                    connection.raw.close()
                    return None
                export = PostgresRepoExport(connection, self._schema, found[0], still_there=lambda: self._is_there(did))
            except errors.UndefinedTable as error:
                connection.raw.close()
                raise StorageFault(f"the repository of {did} is gone") from error
            except BaseException:
                connection.raw.close()
                raise
        with self._lock:
            self._exports.setdefault(did, []).append(export)
        return export

    def _is_there(self, did: Did) -> bool:
        with self._database.read(f"reading the repository of {did}") as connection:
            return connection.execute(self._database.sql["actor.standing"], (did,)).fetchone() is not None

    def _end_export(self, did: Did, export: PostgresRepoExport) -> None:
        with self._lock:
            running = self._exports.get(did, [])
            if export in running:
                running.remove(export)
            if not running:
                self._exports.pop(did, None)
        export.close()
