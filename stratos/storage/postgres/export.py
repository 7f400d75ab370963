"""Export of one repository: all its blocks as of one moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import Final

from psycopg.rows import TupleRow

from stratos.atproto.cid import Cid
from stratos.atproto.syntax import Tid
from stratos.storage.ports import RepoRoot, StorageFault
from stratos.storage.postgres.actor_schema import ActorSchema
from stratos.storage.postgres.database import PgConnection, faults

EXPORT_PAGE_BYTES: Final = 512 * 1024
"""A page ends with the block that reaches this size."""
_MOST_ROWS: Final = 256
"""Rows fetched at once: what a page may be too large by, where large blocks follow upon small ones."""


class PostgresRepoExport:
    """A repository as it was when the export was opened, on a connection of its own; implements `ports.RepoExport`.

    Pages may be fetched from different threads, one at a time. After `close`, or when the account is gone, they raise
    StorageFault: the picture would still hold what an unenrolled account has deleted (I7).
    """

    def __init__(self, connection: PgConnection, schema: ActorSchema, name: str, *, still_there: Callable[[], bool]) -> None:
        """Take over a connection and begin the reading transaction. Raises StorageFault, and psycopg.Error."""
        self._connection = connection
        self._schema = schema
        self._name = name
        self._still_there = still_there
        self._lock = Lock()
        # The client may take its time with a page; meanwhile the transaction is idle.
        connection.execute("SET idle_in_transaction_session_timeout = 0")
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        row = connection.execute(schema.statement("read.root", name), prepare=False).fetchone()
        if row is None:
            raise StorageFault(f"the schema {name} has no root")
        self._root = RepoRoot(Cid(row[0]), Tid(row[1]), row[2])

    @property
    def root(self) -> RepoRoot:
        """The root of the picture."""
        return self._root

    def pages(self, since: Tid | None) -> Iterator[list[tuple[Cid, bytes]]]:
        """All blocks (with `since`: those of later revs, none when there is no later one), the commit block first, in pages of
        bounded bytes."""
        bounds = (self._root.commit.bytes, since or "")
        for statement in ("export.commit_block", "export.other_blocks"):
            self._execute(f"DECLARE blocks NO SCROLL CURSOR FOR {self._schema.statement(statement, self._name)}", bounds)
            while page := self._page():
                yield page
            self._execute("CLOSE blocks")

    def close(self) -> None:
        """End the picture, after a page under way; a second call does nothing."""
        with self._lock:
            self._connection.raw.close()

    def _page(self) -> list[tuple[Cid, bytes]]:
        if not self._still_there():
            raise StorageFault(f"exporting {self._name}: the account is gone")
        page: list[tuple[Cid, bytes]] = []
        size, wanted = 0, 1
        while size < EXPORT_PAGE_BYTES:
            rows = self._execute(f"FETCH {wanted} FROM blocks")
            page += [(Cid(raw), content) for raw, content in rows]
            size += sum(len(content) for _, content in rows)
            if len(rows) < wanted:
                break
            # As many rows as the rest of the page has room for, going by those before.
            wanted = max(1, min(2 * wanted, _MOST_ROWS, (EXPORT_PAGE_BYTES - size) * len(page) // size))
        return page

    def _execute(self, statement: str, parameters: Sequence[str | bytes] = ()) -> list[TupleRow]:
        with faults(f"exporting {self._name}"), self._lock:
            cursor = self._connection.execute(statement, parameters, prepare=False)
            return cursor.fetchall() if cursor.description else []
