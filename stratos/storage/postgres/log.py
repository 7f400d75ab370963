"""Reads and housekeeping of the commit log."""

from __future__ import annotations

from datetime import datetime

from stratos.atproto.syntax import Did
from stratos.core.log_entry import EntryKind, LoggedEntry
from stratos.storage.entry_kinds import KIND_NUMBERS
from stratos.storage.instants import to_microseconds
from stratos.storage.log_rows import EntryReader, highest_by_actor, repo_head
from stratos.storage.ports import RepoHead
from stratos.storage.postgres.database import PostgresDatabase


class PostgresLog:
    """The table `log`; implements `ports.Log`. Actors' stores are never behind it: both are written in one transaction."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database

    def head(self) -> int:
        """The last `seq` handed out by any process; 0 for none."""
        with self._database.read("reading the head of the log") as connection:
            row = connection.execute(self._database.sql["append.last_seq"]).fetchone()
        return 0 if row is None else int(row[0])

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
        statement = "log.page_of_actor" if did is not None else "log.page" if kind is None else "log.page_of_kind"
        number = None if kind is None else KIND_NUMBERS[kind]
        bounds = {"cursor": cursor, "limit": limit, "max_bytes": max_bytes, "did": did, "kind": number}
        with self._database.read("reading the log") as connection:
            rows = connection.execute(self._database.sql[statement], bounds).fetchall()
        reader = EntryReader()
        return [reader.entry(row) for row in rows]

    def outdated(self, cursor: int, did: Did | None = None) -> bool:
        """Whether an entry (of `did`) after the cursor has been trimmed."""
        statement, parameters = ("log.trimmed", ()) if did is None else ("log.actor_trimmed", (did,))
        with self._database.read("asking what was trimmed") as connection:
            row = connection.execute(self._database.sql[statement], parameters).fetchone()
        return row is not None and row[0] > cursor

    def repo_head(self, did: Did) -> RepoHead | None:
        """The head of one repository as the log knows it."""
        with self._database.read(f"reading the head of {did}") as connection:
            row = connection.execute(self._database.sql["log.repo_head"], (did,)).fetchone()
        return None if row is None else repo_head(row)

    def repo_heads(self, *, after: Did | None, limit: int) -> list[RepoHead]:
        """Heads in DID order, exclusive of `after`."""
        with self._database.read("listing repositories") as connection:
            rows = connection.execute(self._database.sql["log.repo_heads"], (after or "", limit)).fetchall()
        return [repo_head(row) for row in rows]

    def trimmable(self, *, before: datetime, limit: int, after: Did | None = None) -> list[Did]:  # noqa: ARG002 - see the class
        """Nobody: no store needs the log in order to be durable."""
        return []

    def trim(self, *, before: datetime, limit: int) -> int:
        """Delete up to `limit` entries older than `before` that no consumer needs; returns how many went."""
        with self._database.write("trimming the log") as connection:
            gone = connection.execute(self._database.sql["retention.trim"], (to_microseconds(before), limit)).fetchall()
            if gone:
                highest = highest_by_actor(gone)
                dids = sorted(highest)
                connection.execute(self._database.sql["retention.mark_actors"], (dids, [highest[did] for did in dids]))
                connection.execute(self._database.sql["retention.mark_all"], (max(highest.values()),))
        return len(gone)
