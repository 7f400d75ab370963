"""One actor's database, open: a reading connection, and a writing one once something is applied."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, RLock
from typing import Final
from zlib import crc32

from stratos.atproto.cid import Cid
from stratos.atproto.syntax import Tid
from stratos.storage.ports import RepoRoot
from stratos.storage.sql_files import Migration, Statements
from stratos.storage.sqlite.actor_paths import DATABASE_NAME, sync_directories
from stratos.storage.sqlite.connection import connect, faults, transaction
from stratos.storage.sqlite.migrations import is_outdated, migrate

_WRITER_PRAGMAS: Final = ("synchronous = NORMAL", "secure_delete = FAST", "cache_size = -256")
_READER_PRAGMAS: Final = ("cache_size = -128",)
_FIRST_CHECKPOINT_PAGES: Final = 800
_CHECKPOINT_SPREAD: Final = 512
"""Automatic checkpoints come after 800 to 1,311 pages, differently for each actor, so that actors who write at one pace do not
all checkpoint in one batch."""
_LONG_WAL_BYTES: Final = 256 * 1024
"""A write-ahead log of more than this, some twenty commits, is emptied when the database is laid aside."""


@dataclass(frozen=True, slots=True)
class ActorSchema:
    """The statements and migrations of actor databases."""

    sql: Statements
    migrations: Sequence[Migration]


class ActorDatabase:
    """Open connections to one actor's database.

    Reading is safe from any thread. Writing (`write`, `checkpoint`) is for one thread at a time: the caller sees to it. After
    `close` everything raises StorageFault.
    """

    def __init__(self, directory: Path, schema: ActorSchema, *, create: bool) -> None:
        """Open the database in `directory` and migrate it; with `create`, make it where it is absent. Raises StorageFault."""
        self.sql = schema.sql
        self.path = directory / DATABASE_NAME
        # `_turn` is held for a whole snapshot, `_use` only while the connection works: `close` waits for the latter alone.
        self._turn = RLock()
        self._use = Lock()
        self._snapshots = 0
        self._applied_root: RepoRoot | None = None
        self._closed = False
        self._writer: sqlite3.Connection | None = None
        with faults(f"opening {self.path}"):
            if create and not self.path.exists():
                directory.mkdir(parents=True, exist_ok=True)
                self._writer = self._migrated_writer(schema.migrations)
            self._reader = connect(self.path, "ro", pragmas=_READER_PRAGMAS)
            try:
                if is_outdated(self._reader, schema.migrations, str(self.path)):
                    self._writer = self._migrated_writer(schema.migrations)
            except BaseException:
                self._reader.close()
                raise

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """The reading connection for the block, which must be short and must not wait for anything."""
        with faults(f"reading {self.path}"), self._turn, self._use:
            yield self._reader

    def root(self) -> RepoRoot | None:
        """The repository's root, None before the first commit; from memory where it was applied by this process.

        The one writer says what it applied; inside a snapshot the root is that of the snapshot.
        """
        if self._applied_root is not None and self._snapshots == 0:
            return self._applied_root
        with self.read() as connection:
            row: tuple[bytes, str, int] | None = connection.execute(self.sql["read.root"]).fetchone()
        return None if row is None else RepoRoot(Cid(row[0]), Tid(row[1]), row[2])

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All reads of the block, by this thread, see one moment; other threads' reads wait. May be nested."""
        with self._turn:
            if self._snapshots == 0:
                self._execute("BEGIN")
            self._snapshots += 1
            try:
                yield
            finally:
                self._snapshots -= 1
                if self._snapshots == 0 and not self._closed:
                    self._execute("COMMIT")

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction. Raises StorageFault; nothing was written then."""
        with faults(f"writing {self.path}"), transaction(self._open_writer()) as connection:
            yield connection

    def applied(self, root: RepoRoot | None) -> None:
        """What the one writer made the root; None where it cannot say."""
        self._applied_root = root

    def checkpoint(self, actors: Path) -> None:
        """Make everything written so far durable, and the directories up to `actors` that lead to it."""
        with faults(f"checkpointing {self.path}"):
            busy, logged, moved = self._open_writer().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if busy or logged != moved:
                # A long read, such as an export, holds pages back in the write-ahead log: then that file must be durable.
                self._sync_wal()
            sync_directories(self.path.parent, highest=actors)

    def close(self) -> None:
        """Close both connections, after a read under way; a second call does nothing.

        What was written is moved out of the write-ahead log, which costs several waits for the disk.
        """
        self._close_reader()
        self._close_writer()

    def lay_aside(self) -> None:
        """Close both connections as `close` does, but leave the write-ahead log as it is unless it is long.

        For making room at every moment; `checkpoint` empties it in time, or whoever opens the database next goes on with it.
        """
        if self._wal_bytes() > _LONG_WAL_BYTES:
            self.close()
            return
        # The last connection to close empties the log, but for one that may only read.
        self._close_writer()
        self._close_reader()

    def _close_reader(self) -> None:
        with self._use:
            self._closed = True
            self._applied_root = None
            self._reader.close()

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _wal_bytes(self) -> int:
        with suppress(FileNotFoundError):
            return os.stat(f"{self.path}-wal").st_size
        return 0

    def _execute(self, statement: str) -> None:
        with self.read() as connection:
            connection.execute(statement)

    def _open_writer(self) -> sqlite3.Connection:
        if self._writer is None:
            self._writer = self._connect_writer(fresh=False)
        return self._writer

    def _migrated_writer(self, migrations: Sequence[Migration]) -> sqlite3.Connection:
        writer = self._connect_writer(fresh=True)
        try:
            migrate(writer, migrations, str(self.path))
        except BaseException:
            writer.close()
            raise
        return writer

    def _connect_writer(self, *, fresh: bool) -> sqlite3.Connection:
        pages = _FIRST_CHECKPOINT_PAGES + crc32(self.path.parent.name.encode()) % _CHECKPOINT_SPREAD
        mode = ("journal_mode = WAL",) if fresh else ()
        return connect(self.path, "rwc" if fresh else "rw", pragmas=(*mode, *_WRITER_PRAGMAS, f"wal_autocheckpoint = {pages}"))

    def _sync_wal(self) -> None:
        """Sync the `-wal` file. SQLite keeps its locks on other files, so opening and closing this one loses none of them."""
        descriptor = os.open(f"{self.path}-wal", os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
