"""The service database: one writing connection, and a few reading ones that never see an open transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Condition, Lock
from typing import Final

from stratos.storage.ports import StorageFault
from stratos.storage.sql_files import Migration, Statements
from stratos.storage.sqlite.connection import connect, faults, transaction
from stratos.storage.sqlite.migrations import migrate

_WRITER_PRAGMAS: Final = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "secure_delete = ON",
    "foreign_keys = ON",
    "cache_size = -4096",
)
_READER_PRAGMAS: Final = ("query_only = ON", "cache_size = -1024")


class ServiceDatabase:
    """`service.sqlite`, open. Every commit is on the disk when it returns. Safe to use from several threads."""

    def __init__(self, path: Path, sql: Statements, migrations: Sequence[Migration], *, readers: int) -> None:
        """Open or create the database and migrate it; at most `readers` reading connections. Raises StorageFault."""
        self.sql = sql
        self._path = path
        self._write_lock = Lock()
        self._reader_free = Condition()
        self._idle_readers: list[sqlite3.Connection] = []
        self._readers_left = readers
        self._closed = False
        with faults(f"opening {path}"):
            self._writer = connect(path, "rwc", pragmas=_WRITER_PRAGMAS)
            try:
                migrate(self._writer, migrations, str(path))
            except BaseException:
                self._writer.close()
                raise

    @contextmanager
    def write(self, doing: str) -> Iterator[sqlite3.Connection]:
        """One durable transaction; `doing` names it in messages. Raises StorageFault; nothing was written then."""
        with faults(doing), self._write_lock, transaction(self._writer) as connection:
            yield connection

    @contextmanager
    def read(self, doing: str) -> Iterator[sqlite3.Connection]:
        """A reading connection for the block. Raises StorageFault."""
        with faults(doing):
            reader = self._take_reader()
            try:
                yield reader
            finally:
                self._return_reader(reader)

    def truncate_wal(self) -> bool:
        """Move everything out of the write-ahead log and empty that file; False when readers were in the way."""
        with faults("truncating the write-ahead log"), self._write_lock:
            busy: int = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            return not busy

    def close(self) -> None:
        """Close every connection; a second call does nothing. A reader that is in use is closed when it comes back."""
        with self._reader_free:
            self._closed = True
            idle, self._idle_readers = self._idle_readers, []
            self._reader_free.notify_all()
        for reader in idle:
            reader.close()
        with self._write_lock:
            self._writer.close()

    def _take_reader(self) -> sqlite3.Connection:
        with self._reader_free:
            while not self._idle_readers and not self._readers_left and not self._closed:
                self._reader_free.wait()
            if self._closed:
                raise StorageFault(f"{self._path} is closed")
            if self._idle_readers:
                return self._idle_readers.pop()
            self._readers_left -= 1
        try:
            return connect(self._path, "rw", pragmas=_READER_PRAGMAS)
        except BaseException:
            with self._reader_free:
                self._readers_left += 1
                self._reader_free.notify()
            raise

    def _return_reader(self, reader: sqlite3.Connection) -> None:
        with self._reader_free:
            if not self._closed:
                self._idle_readers.append(reader)
                self._reader_free.notify()
                return
        reader.close()
