"""Export of one repository: all its blocks as of one moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Final

from stratos.atproto.cid import Cid
from stratos.atproto.syntax import Tid
from stratos.storage.ports import RepoRoot, StorageFault
from stratos.storage.sql_files import Statements
from stratos.storage.sqlite.connection import connect, faults

EXPORT_PAGE_BLOCKS: Final = 500
EXPORT_PAGE_BYTES: Final = 512 * 1024
"""A page ends with the block that reaches this size."""

_PRAGMAS: Final = ("query_only = ON", "cache_size = -512")

_BlockRow = tuple[str, int, bytes, bytes]


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
            self._connection = connect(path, create=False, pragmas=_PRAGMAS)
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
        """All blocks (with `since`: those of later revs), the commit block first, in pages of bounded bytes."""
        commit = self._root.commit
        found: list[tuple[bytes]] = self._rows("export.commit_block", (commit.bytes, since or ""))
        if not found:
            return
        yield [(commit, found[0][0])]
        # Every rowid is positive: nothing of the rev `since` itself comes after this position but what is newer.
        rev, rowid = since or "", _LAST_ROWID
        while True:
            rows: list[_BlockRow] = self._page(rev, rowid)
            if not rows:
                return
            rev, rowid = rows[-1][0], rows[-1][1]
            yield [(Cid(raw), content) for _, _, raw, content in rows]

    def close(self) -> None:
        """End the picture, after a page under way; a second call does nothing."""
        with self._lock:
            self._connection.close()

    def _page(self, rev: str, rowid: int) -> list[_BlockRow]:
        page: list[_BlockRow] = []
        size = 0
        with faults(f"exporting {self._path}"), self._lock:
            cursor = self._connection.execute(
                self._sql["export.page"], (rev, rowid, self._root.commit.bytes, EXPORT_PAGE_BLOCKS)
            )
            try:
                for row in cursor:
                    page.append(row)
                    size += len(row[3])
                    if size >= EXPORT_PAGE_BYTES:
                        break
            finally:
                cursor.close()
        return page

    def _rows(self, statement: str, parameters: Sequence[str | bytes]) -> list[tuple[bytes]]:
        with faults(f"exporting {self._path}"), self._lock:
            return self._connection.execute(self._sql[statement], parameters).fetchall()


_LAST_ROWID: Final = 2**63 - 1
