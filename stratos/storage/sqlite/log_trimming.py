"""Retention: what may leave the log, and how it leaves the file.

A trimmed or purged entry is first overwritten with zeros where it stands. Its row is deleted only later, in the inside of a run
of erased rows: a B-tree that loses rows moves their neighbours between pages and leaves stale copies behind, which not even
`secure_delete` clears (ADR 2). So only rows of zeros are ever moved.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime
from itertools import pairwise
from typing import Final

from stratos.atproto.syntax import Did
from stratos.storage.instants import to_microseconds
from stratos.storage.log_rows import highest_by_actor
from stratos.storage.sqlite.service_database import ServiceDatabase

GUARD_ROWS: Final = 128
"""Erased rows left standing beside a living one. A deletion moves rows of at most two neighbouring pages of 4 KiB, and the
smallest entry takes over 100 bytes: fewer than 128 rows."""
_RUNS_PER_TRIM: Final = 16
"""Runs of erased rows that one trim looks at."""
_NO_SEQ: Final = 2**63 - 1


class LogTrimming:
    """Housekeeping of the log table."""

    def __init__(self, database: ServiceDatabase) -> None:
        self._database = database
        self._sql = database.sql

    def trimmable(self, before: datetime, limit: int, after: Did | None) -> list[Did]:
        """Actors, in DID order after `after`, with entries older than `before` whose store must be checkpointed first."""
        with self._database.read("looking for old log entries") as connection:
            rows = connection.execute(self._sql["retention.trimmable"], (after or "", to_microseconds(before), limit))
            return [Did(did) for (did,) in rows]

    def trim(self, before: datetime, limit: int) -> int:
        """Erase up to `limit` entries and give the space of older ones free; returns how many were erased."""
        with self._database.write("trimming the log") as connection:
            slowest: int | None = connection.execute(self._sql["retention.slowest_consumer"]).fetchone()[0]
            floor = _NO_SEQ if slowest is None else slowest
            trimmed: list[tuple[int, str]] = connection.execute(
                self._sql["retention.candidates"], (to_microseconds(before), floor, limit)
            ).fetchall()
            connection.executemany(self._sql["retention.erase_entry"], [(seq,) for seq, _ in trimmed])
            self._mark(connection, trimmed)
            self._delete_erased(connection)
        return len(trimmed)

    def _mark(self, connection: sqlite3.Connection, trimmed: list[tuple[int, str]]) -> None:
        """Remember up to where each actor, and the log as a whole, has been trimmed: this is what makes a cursor outdated."""
        if not trimmed:
            return
        highest = highest_by_actor(trimmed)
        connection.executemany(self._sql["retention.mark_actor"], highest.items())
        connection.execute(self._sql["retention.mark_all"], (max(highest.values()),))

    def _delete_erased(self, connection: sqlite3.Connection) -> None:
        """Delete the inside of the first runs of erased rows, leaving a guard on every side where a living row is."""
        living: list[tuple[int]] = connection.execute(self._sql["retention.oldest_live"], (0, _RUNS_PER_TRIM)).fetchall()
        bounds = [0, *(seq for (seq,) in living)]
        if len(living) < _RUNS_PER_TRIM:
            bounds.append(_NO_SEQ)
        for left, right in pairwise(bounds):
            inside = (left, right)
            skipped = GUARD_ROWS if left else 0
            first = connection.execute(self._sql["retention.run_start"], (*inside, skipped)).fetchone()
            last = connection.execute(self._sql["retention.run_end"], (*inside, GUARD_ROWS)).fetchone()
            if first is not None and last is not None and first[0] <= last[0]:
                connection.execute(self._sql["retention.delete_run"], (first[0], last[0]))
