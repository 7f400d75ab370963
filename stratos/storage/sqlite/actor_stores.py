"""All actors' stores, each caught up with the log before it is handed out."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from stratos.atproto.syntax import Did
from stratos.storage.appending import LoggedCommit
from stratos.storage.node_cache import LruNodeCache
from stratos.storage.ports import RecordPath, SchemaCounts, StorageFault, StoredRecord
from stratos.storage.sqlite.actor_database import ActorDatabase, ActorSchema
from stratos.storage.sqlite.actor_paths import actor_directory, sync_directories
from stratos.storage.sqlite.actor_store import SqliteActorStore
from stratos.storage.sqlite.apply import GapBefore, apply_commits
from stratos.storage.sqlite.connection import faults
from stratos.storage.sqlite.export import SqliteRepoExport
from stratos.storage.sqlite.redo import Redo
from stratos.storage.sqlite.schema_survey import SchemaSurvey
from stratos.storage.sqlite.store_slots import Slot, SlotTable


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """Stores kept open, and decoded MST nodes kept for each."""

    open_stores: int
    nodes_per_store: int


class SqliteActorStores:
    """Implements `ports.ActorStores`, and applies commits and purges for the backend."""

    def __init__(
        self,
        directory: Path,
        schema: ActorSchema,
        redo: Redo,
        limits: StoreLimits,
        *,
        purged: Callable[[Did], None],
        checkpointed: Callable[[Did, int], None],
    ) -> None:
        """`purged` is told that an actor's files are gone, `checkpointed` up to which seq a store is durable."""
        self._directory = directory
        self._schema = schema
        self._redo = redo
        self._survey = SchemaSurvey(directory, redo, len(schema.migrations))
        self._nodes_per_store = limits.nodes_per_store
        self._purged = purged
        self._checkpointed = checkpointed
        self._slots = SlotTable(limits.open_stores)
        self._lock = Lock()
        self._exports: dict[Did, list[SqliteRepoExport]] = {}
        self._opened = self._caught_up = self._failed = 0

    @contextmanager
    def open(self, did: Did) -> Iterator[SqliteActorStore | None]:
        """Open and pin an actor's store for the block; None where the DID has no repository."""
        with self._slots.pinned(did) as slot:
            store = slot.store
            if store is None or slot.behind:
                with slot.lock:
                    store = self._caught_up_store(did, slot)
            yield store

    def records_at(self, asked: Mapping[Did, Sequence[RecordPath]]) -> Mapping[Did, Mapping[RecordPath, StoredRecord]]:
        """Records of several actors, one store after the other; a DID without repository is left out."""
        found: dict[Did, Mapping[RecordPath, StoredRecord]] = {}
        for did, paths in asked.items():
            with self.open(did) as store:
                if store is not None:
                    found[did] = store.records_at(paths)
        return found

    @contextmanager
    def export(self, did: Did) -> Iterator[SqliteRepoExport | None]:
        """Open a consistent picture for export; None where the DID has no repository."""
        with self._slots.pinned(did) as slot, slot.lock:
            store = self._caught_up_store(did, slot)
            export = None if store is None or slot.database is None else self._begin_export(did, slot.database)
        try:
            yield export
        finally:
            if export is not None:
                self._end_export(did, export)

    def checkpoint(self, did: Did) -> None:
        """Make everything applied so far durable in the store's own file, so that its log entries may be trimmed."""
        with self._slots.pinned(did) as slot, slot.lock:
            store = self._caught_up_store(did, slot)
            if store is None or slot.database is None:
                return
            seq = store.root().seq
            slot.database.checkpoint(self._directory)
            self._checkpointed(did, seq)

    def schemas(self) -> SchemaCounts:
        """How far the databases are from the newest schema; opens every one of them."""
        return self._survey.counts()

    def outdated(self, *, after: Did | None, limit: int) -> list[Did]:
        """Actors whose databases lack migrations, in DID order, exclusive of `after`."""
        return self._survey.outdated(after=after, limit=limit)

    def migrate(self, did: Did) -> bool:
        """Bring a database to the newest schema, as opening it does; whether there was anything to do. Raises StorageFault."""
        if not self._survey.is_outdated(did):
            return False
        with self.open(did):
            return True

    def apply(self, did: Did, commits: Sequence[LoggedCommit]) -> None:
        """Apply an actor's newest commits; the first ever creates the store.

        Raises StorageFault; the store is then behind the log, and is caught up by whoever opens it next.
        """
        with self._slots.pinned(did) as slot, slot.lock:
            try:
                database = slot.database or self._open_database(did, slot)
                if database is not None:
                    self._apply_or_catch_up(did, database, commits)
                slot.behind = False
            except BaseException:
                slot.behind = True
                with self._lock:
                    self._failed += 1
                raise

    def destroy(self, did: Did) -> None:
        """Close whatever is open of an actor and remove all of its files, durably. Raises StorageFault."""
        with self._slots.pinned(did) as slot, slot.lock:
            with self._lock:
                exports = self._exports.pop(did, [])
            for export in exports:
                export.close()
            slot.close()
            self._remove_files(did)

    def statistics(self) -> Mapping[str, int]:
        """Gauges and counters: open stores and their limit, pinned ones, cached nodes, stores behind the log, exports, events."""
        slots = self._slots.slots()
        stores = [slot.store for slot in slots]
        with self._lock:
            exports = sum(len(running) for running in self._exports.values())
        return {
            "open": sum(slot.database is not None for slot in slots),
            "open_limit": self._slots.limit,
            "pinned": sum(slot.pins > 0 for slot in slots),
            "nodes": sum(len(store.nodes()) for store in stores if store is not None),
            "nodes_limit": self._nodes_per_store * self._slots.limit,
            "behind": sum(slot.behind for slot in slots),
            "exports": exports,
            "opened_total": self._opened,
            "evicted_total": self._slots.evicted,
            "caught_up_total": self._caught_up,
            "apply_failed_total": self._failed,
        }

    def close(self) -> None:
        """Close every store and export; afterwards opening raises StorageFault. A second call does nothing."""
        self._slots.close()
        with self._lock:
            exports, self._exports = self._exports, {}
        for export in (export for running in exports.values() for export in running):
            export.close()

    def _caught_up_store(self, did: Did, slot: Slot) -> SqliteActorStore | None:
        """The slot's store, opened and caught up where necessary. Called with the slot's lock held."""
        if slot.store is not None and not slot.behind:
            return slot.store
        try:
            database = slot.database or self._open_database(did, slot)
            if database is not None:
                self._catch_up(did, database)
                slot.store = slot.store or SqliteActorStore(database, LruNodeCache(self._nodes_per_store))
            slot.behind = False
        except BaseException:
            slot.behind = True
            raise
        return slot.store

    def _open_database(self, did: Did, slot: Slot) -> ActorDatabase | None:
        """Open or create an actor's database; None where the log knows no repository of the DID."""
        standing = self._redo.standing(did)
        if standing is None:
            return None
        if standing.purging:
            self._remove_files(did)
        slot.database = ActorDatabase(actor_directory(self._directory, did), self._schema, create=True)
        with self._lock:
            self._opened += 1
        return slot.database

    def _apply_or_catch_up(self, did: Did, database: ActorDatabase, commits: Sequence[LoggedCommit]) -> None:
        try:
            apply_commits(database, commits)
        except GapBefore:
            self._catch_up(did, database)

    def _catch_up(self, did: Did, database: ActorDatabase) -> None:
        """Apply what the log holds beyond the store's root (I3). Raises StorageFault when the two do not meet."""
        standing = self._redo.standing(did)
        if standing is None:
            return
        seq = _root_seq(database)
        if seq == standing.seq:
            return
        if seq > standing.seq:
            raise StorageFault(f"{database.path} is at entry {seq}, ahead of the log's head at {standing.seq}")
        while seq < standing.seq:
            commits = self._redo.commits_after(did, seq)
            if not commits:
                raise StorageFault(f"{database.path} is at entry {seq}, but the log lacks what follows up to {standing.seq}")
            apply_commits(database, commits)
            seq = commits[-1].seq
        with self._lock:
            self._caught_up += 1

    def _begin_export(self, did: Did, database: ActorDatabase) -> SqliteRepoExport:
        """Called with the slot's lock held: whoever purges the actor takes that lock first, and then finds the export."""
        export = SqliteRepoExport(database.path, self._schema.sql)
        with self._lock:
            self._exports.setdefault(did, []).append(export)
        return export

    def _end_export(self, did: Did, export: SqliteRepoExport) -> None:
        with self._lock:
            running = self._exports.get(did, [])
            if export in running:
                running.remove(export)
            if not running:
                self._exports.pop(did, None)
        export.close()

    def _remove_files(self, did: Did) -> None:
        """Called with the slot's lock held and nothing of the actor open."""
        with faults(f"removing the files of {did}"):
            directory = actor_directory(self._directory, did)
            if directory.exists():
                shutil.rmtree(directory)
                sync_directories(directory.parent, highest=self._directory)
        self._purged(did)


def _root_seq(database: ActorDatabase) -> int:
    """The seq of the last commit applied; 0 for none."""
    root = database.root()
    return 0 if root is None else root.seq
