"""Export of one repository: all its blocks as of one moment."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Final

from stratos.atproto.cid import Cid
from stratos.atproto.syntax import Tid
from stratos.storage.ports import RepoRoot, StorageFault
from stratos.storage.sql_files import Statements
from stratos.storage.sqlite.connection import connect, faults

EXPORT_PAGE_BYTES: Final = 512 * 1024
"""A page ends with the block that reaches this size."""

_PRAGMAS: Final = ("cache_size = -512",)


class SqliteRepoExport:
    """A repository as it was when the export was opened, on a connection of its own; implements `ports.RepoExport`.

    Pages may be fetched from different threads, one at a time. After `close` they raise StorageFault.
    """

    def __init__(self, path: Path, sql: Statements) -> None:
        """Open the database file and begin the reading transaction. Raises StorageFault."""
        self._path = path
        self._sql = sql
        self._lock = Lock()
        with faults(f"exporting {path}"):
            self._connection = connect(path, "ro", pragmas=_PRAGMAS)
            try:
                self._connection.execute("BEGIN")
                row: tuple[bytes, str, int] | None = self._connection.execute(sql["read.root"]).fetchone()
            except BaseException:
                self._connection.close()
                raise
        if row is None:
            self._connection.close()
            raise StorageFault(f"{path} has no root")
        self._root = RepoRoot(Cid(row[0]), Tid(row[1]), row[2])

    @property
    def root(self) -> RepoRoot:
        """The root of the picture."""
        return self._root

    def pages(self, since: Tid | None) -> Iterator[list[tuple[Cid, bytes]]]:
        """All blocks (with `since`: those of later revs, none when there is no later one), the commit block first, in pages of
        bounded bytes."""
        commit = self._root.commit.bytes
        first = self._begin("export.commit_block", (commit, since or ""))
        others = self._begin("export.other_blocks", (commit, since or ""))
        while page := self._page(first) or self._page(others):
            yield page

    def close(self) -> None:
        """End the picture, after a page under way; a second call does nothing."""
        with self._lock:
            self._connection.close()

    def _begin(self, statement: str, parameters: Sequence[str | bytes]) -> sqlite3.Cursor:
        with faults(f"exporting {self._path}"), self._lock:
            return self._connection.execute(self._sql[statement], parameters)

    def _page(self, blocks: sqlite3.Cursor) -> list[tuple[Cid, bytes]]:
        page: list[tuple[Cid, bytes]] = []
        size = 0
        with faults(f"exporting {self._path}"), self._lock:
            for raw, content in blocks:
                page.append((Cid(raw), content))
                size += len(content)
                if size >= EXPORT_PAGE_BYTES:
                    break
        return page
