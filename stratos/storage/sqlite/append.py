"""The service database as what a batch is appended to."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from stratos.atproto.cid import Cid
from stratos.atproto.syntax import Did
from stratos.core.enrollment import Enrollment
from stratos.core.log_entry import EnrollmentEntry, Proposal
from stratos.storage.appending import Batch, LogHead, LogRow
from stratos.storage.appending import append_batch as append_to
from stratos.storage.sql_files import Statements
from stratos.storage.sqlite.enrollments import put_enrollment


def append_batch(
    connection: sqlite3.Connection, sql: Statements, proposals: Sequence[Proposal], *, last_seq: int, now: datetime
) -> Batch:
    """Append a batch inside the caller's transaction. Raises what SQLite raises, and ValueError for a malformed entry."""
    return append_to(_Target(connection, sql), proposals, last_seq=last_seq, now=now)


class _Target:
    """Implements `appending.AppendTarget`. Erased accounts are queued for the destruction of their stores, after the commit."""

    def __init__(self, connection: sqlite3.Connection, sql: Statements) -> None:
        self._connection = connection
        self._sql = sql

    def head(self, did: Did) -> LogHead:
        commit, rev, seq, enrolled, key = self._connection.execute(self._sql["append.head"], (did,)).fetchone()
        return LogHead(None if commit is None else Cid(commit), rev or "", seq or 0, bool(enrolled), key)

    def insert_rows(self, rows: Sequence[LogRow]) -> None:
        self._connection.executemany(
            self._sql["append.insert_entry"],
            [(row.seq, row.did, row.kind, row.rev, row.time, row.views, row.frame, row.redo) for row in rows],
        )

    def put_enrollment(self, entry: EnrollmentEntry, enrollment: Enrollment, time: str) -> None:
        put_enrollment(self._connection, self._sql, entry, enrollment, time)

    def erase(self, did: Did) -> None:
        for statement in ("unenroll.delete_enrollment", "unenroll.erase_entries", "unenroll.queue_purge"):
            self._connection.execute(self._sql[statement], (did,))

    def finish(self, heads: Sequence[tuple[Did, LogHead]], last_seq: int | None) -> None:
        self._connection.executemany(
            self._sql["append.put_head"],
            [(did, None if head.commit is None else head.commit.bytes, head.rev, head.seq) for did, head in heads],
        )
        if last_seq is not None:
            self._connection.execute(self._sql["append.put_last_seq"], (last_seq,))
