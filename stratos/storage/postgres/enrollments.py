"""Enrollments: reads, and those that were read a moment ago."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Final

from psycopg.rows import TupleRow

from stratos.atproto.syntax import Did, Tid
from stratos.core.boundaries import Boundary
from stratos.core.enrollment import Enrollment
from stratos.core.key_history import SigningKeyPeriod
from stratos.storage.postgres.database import PostgresDatabase

CACHED_ENROLLMENTS: Final = 10_000
FRESH_SECONDS: Final = 0.75
"""How long an answer holds, from before it was asked for: other processes' changes are effective within a second (I9)."""


@dataclass(frozen=True, slots=True)
class _Read:
    """What the database said of a DID, and until when it is believed."""

    enrollment: Enrollment | None
    sealed_key: bytes | None
    until: float


class PostgresEnrollments:
    """Implements `ports.Enrollments`. Boundaries read back in ascending order."""

    def __init__(
        self, database: PostgresDatabase, *, cached: int = CACHED_ENROLLMENTS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`cached` bounds the enrollments that are kept in memory; `clock` gives seconds."""
        self._database = database
        self._limit = cached
        self._clock = clock
        self._lock = Lock()
        self._reads: OrderedDict[Did, _Read] = OrderedDict()
        self._changes = 0
        self._counted = 0

    def get(self, did: Did) -> Enrollment | None:
        """The enrollment of a DID, active or not; never one that was replaced more than a second ago."""
        return self._read(did).enrollment

    def at_hand(self, did: Did) -> bool:
        """Whether `get` would answer from memory."""
        return self._fresh(did) is not None

    def current(self, did: Did) -> Enrollment | None:
        """The enrollment of a DID as it is at this moment."""
        return self._ask(did).enrollment

    def sealed_key(self, did: Did) -> bytes | None:
        """The account's current sealed signing key."""
        return self._read(did).sealed_key

    def signing_keys(self, did: Did) -> list[SigningKeyPeriod]:
        """Every key that the account has signed with here, the oldest first."""
        with self._database.read(f"reading the keys of {did}") as connection:
            rows = connection.execute(self._database.sql["enrollment.keys"], (did,)).fetchall()
        return [SigningKeyPeriod(key, Tid(rev) if rev else None, created, retired) for key, rev, created, retired in rows]

    def changed(self, did: Did) -> None:
        """This process has changed, or may have changed, the DID's rows: what was read before does not hold any more."""
        with self._lock:
            self._changes += 1
            self._reads.pop(did, None)

    def page(self, *, after: Did | None, limit: int, active_only: bool = False) -> list[Enrollment]:
        """Enrollments in DID order, exclusive of `after`."""
        also = "true" if active_only else "false"
        with self._database.read("listing enrollments") as connection:
            rows = connection.execute(self._database.sql["enrollment.page"], (after or "", also, limit)).fetchall()
        return [_enrollment(row) for row in rows]

    def count(self) -> int:
        """How many active enrollments there are."""
        with self._database.read("counting enrollments") as connection:
            row = connection.execute(self._database.sql["enrollment.count_active"]).fetchone()
        self._counted = 0 if row is None else int(row[0])
        return self._counted

    def statistics(self) -> Mapping[str, int]:
        """Gauges: active enrollments when they were last counted, those in memory and their limit."""
        return {"active": self._counted, "cached": len(self._reads), "cached_limit": self._limit}

    def _read(self, did: Did) -> _Read:
        return self._fresh(did) or self._ask(did)

    def _fresh(self, did: Did) -> _Read | None:
        with self._lock:
            read = self._reads.get(did)
            return read if read is not None and self._clock() < read.until else None

    def _ask(self, did: Did) -> _Read:
        until, changes = self._clock() + FRESH_SECONDS, self._changes
        with self._database.read(f"reading the enrollment of {did}") as connection:
            row = connection.execute(self._database.sql["enrollment.get"], (did,)).fetchone()
        read = _Read(None, None, until) if row is None else _Read(_enrollment(row), row[7], until)
        with self._lock:
            if changes == self._changes:
                self._reads[did] = read
                self._reads.move_to_end(did)
                if len(self._reads) > self._limit:
                    self._reads.popitem(last=False)
        return read


def _enrollment(row: TupleRow) -> Enrollment:
    did, enrolled_at, pds_endpoint, signing_key, active, rkey, boundaries, _ = row
    return Enrollment(
        did=Did(did),
        boundaries=tuple(Boundary(boundary) for boundary in boundaries),
        enrolled_at=enrolled_at,
        active=active == "true",
        signing_key=signing_key,
        pds_endpoint=pds_endpoint,
        enrollment_rkey=rkey,
    )
