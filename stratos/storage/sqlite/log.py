"""Reads of the commit log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from stratos.atproto.syntax import Did
from stratos.core.log_entry import EntryKind, LoggedEntry
from stratos.storage.log_rows import EntryReader, HeadRow, repo_head
from stratos.storage.ports import RepoHead
from stratos.storage.sqlite.log_trimming import LogTrimming
from stratos.storage.sqlite.service_database import ServiceDatabase

_AFTER: Final = {
    None: "log.after",
    EntryKind.COMMIT: "log.after_commits",
    EntryKind.ENROLLMENT: "log.after_enrollments",
}
_ACTOR_AFTER: Final = {
    None: "log.actor_after",
    EntryKind.COMMIT: "log.actor_commits_after",
    EntryKind.ENROLLMENT: "log.actor_enrollments_after",
}


class SqliteLog:
    """The commit log of `service.sqlite`; implements `ports.Log`."""

    def __init__(self, database: ServiceDatabase) -> None:
        self._database = database
        self._trimming = LogTrimming(database)
        with database.read("reading the head of the log") as connection:
            row: tuple[int] = connection.execute(database.sql["append.last_seq"]).fetchone()
        self._head = row[0]

    def head(self) -> int:
        """The last `seq` handed out; 0 for none."""
        return self._head

    def advance(self, seq: int) -> None:
        """The backend appended up to here."""
        self._head = seq

    def after(
        self,
        cursor: int,
        *,
        limit: int,
        max_bytes: int,
        did: Did | None = None,
        kind: EntryKind | None = None,
    ) -> list[LoggedEntry]:
        """Retained entries with `seq > cursor`, ascending; at least one if there is any, then up to either limit."""
        if did is None:
            return self._page(_AFTER[kind], (cursor, limit), max_bytes)
        return self._page(_ACTOR_AFTER[kind], (did, cursor, limit), max_bytes)

    def outdated(self, cursor: int, did: Did | None = None) -> bool:
        """Whether an entry (of `did`) after the cursor has been trimmed."""
        statement, parameters = ("log.trimmed", ()) if did is None else ("log.actor_trimmed", (did,))
        with self._database.read("asking what was trimmed") as connection:
            row: tuple[int] | None = connection.execute(self._database.sql[statement], parameters).fetchone()
        return row is not None and row[0] > cursor

    def repo_head(self, did: Did) -> RepoHead | None:
        """The head of one repository as the log knows it."""
        with self._database.read(f"reading the head of {did}") as connection:
            row: HeadRow | None = connection.execute(self._database.sql["log.repo_head"], (did,)).fetchone()
        return None if row is None else repo_head(row)

    def repo_heads(self, *, after: Did | None, limit: int) -> list[RepoHead]:
        """Heads in DID order, exclusive of `after`."""
        with self._database.read("listing repositories") as connection:
            return [repo_head(row) for row in connection.execute(self._database.sql["log.repo_heads"], (after or "", limit))]

    def trimmable(self, *, before: datetime, limit: int, after: Did | None = None) -> list[Did]:
        """Actors, in DID order, with entries older than `before` whose store must be checkpointed before these may go."""
        return self._trimming.trimmable(before, limit, after)

    def trim(self, *, before: datetime, limit: int) -> int:
        """Delete up to `limit` entries older than `before` that no store and no consumer needs; returns how many went."""
        return self._trimming.trim(before, limit)

    def checkpointed(self, did: Did, seq: int) -> None:
        """Remember durably that an actor's store needs nothing of the log up to `seq`."""
        with self._database.write("recording a checkpoint") as connection:
            connection.execute(self._database.sql["retention.checkpointed"], (seq, did))

    def _page(self, statement: str, parameters: Sequence[str | int], max_bytes: int) -> list[LoggedEntry]:
        page: list[LoggedEntry] = []
        left = max_bytes
        reader = EntryReader()
        with self._database.read("reading the log") as connection:
            cursor = connection.execute(self._database.sql[statement], parameters)
            try:
                for row in cursor:
                    left -= len(row[-1])
                    if page and left < 0:
                        break
                    page.append(reader.entry(row))
            finally:
                cursor.close()
        return page
