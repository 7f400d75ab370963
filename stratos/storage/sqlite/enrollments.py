"""Enrollments: reads, and the row effects of an enrollment entry."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Final

from stratos.atproto.syntax import Did, Tid
from stratos.core.boundaries import Boundary
from stratos.core.enrollment import Enrollment
from stratos.core.key_history import SigningKeyPeriod
from stratos.core.log_entry import EnrollmentEntry
from stratos.storage.sql_files import Statements
from stratos.storage.sqlite.enrollment_cache import EnrollmentCache, Held
from stratos.storage.sqlite.service_database import ServiceDatabase

_EnrollmentRow = tuple[str, str, str | None, str, str, str | None, str]


CACHED_ENROLLMENTS: Final = 10_000


class SqliteEnrollments:
    """Implements `ports.Enrollments`. Boundaries read back in ascending order."""

    def __init__(self, database: ServiceDatabase, *, cached: int = CACHED_ENROLLMENTS) -> None:
        """`cached` bounds the enrollments that are kept in memory."""
        self._database = database
        self._cache = EnrollmentCache(cached)
        self._cached_limit = cached
        self._counted = 0

    def get(self, did: Did) -> Enrollment | None:
        """The enrollment of a DID, active or not."""
        return self._held(did).enrollment

    def changed(self, did: Did) -> None:
        """A committed transaction has changed the DID's rows."""
        self._cache.forget(did)

    def at_hand(self, did: Did) -> bool:  # noqa: ARG002 - the database is in this process
        """Always: there is no server to ask."""
        return True

    def current(self, did: Did) -> Enrollment | None:
        """As `get`: whatever changes an enrollment changes it here."""
        return self.get(did)

    def page(self, *, after: Did | None, limit: int, active_only: bool = False) -> list[Enrollment]:
        """Enrollments in DID order, exclusive of `after`."""
        also = "true" if active_only else "false"
        with self._database.read("listing enrollments") as connection:
            rows = connection.execute(self._database.sql["enrollment.page"], (after or "", also, limit))
            return [_enrollment(row) for row in rows]

    def count(self) -> int:
        """How many active enrollments there are."""
        with self._database.read("counting enrollments") as connection:
            self._counted = connection.execute(self._database.sql["enrollment.count_active"]).fetchone()[0]
        return self._counted

    def sealed_key(self, did: Did) -> bytes | None:
        """The account's current sealed signing key."""
        return self._held(did).sealed_key

    def signing_keys(self, did: Did) -> list[SigningKeyPeriod]:
        """Every key that the account has signed with here, the oldest first."""
        with self._database.read(f"reading the keys of {did}") as connection:
            rows = connection.execute(self._database.sql["enrollment.keys"], (did,)).fetchall()
        return [SigningKeyPeriod(key, Tid(rev) if rev else None, created, retired) for key, rev, created, retired in rows]

    def statistics(self) -> Mapping[str, int]:
        """Gauges: active enrollments when they were last counted, those in memory and their limit."""
        return {"active": self._counted, "cached": len(self._cache), "cached_limit": self._cached_limit}

    def _held(self, did: Did) -> Held:
        held, generation = self._cache.get(did)
        if held is None:
            with self._database.read(f"reading the enrollment of {did}") as connection:
                row: _EnrollmentRow | None = connection.execute(self._database.sql["enrollment.get"], (did,)).fetchone()
                key: tuple[bytes] | None = connection.execute(self._database.sql["enrollment.current_key"], (did,)).fetchone()
            held = Held(None if row is None else _enrollment(row), None if key is None else key[0])
            self._cache.put(did, held, generation)
        return held


def put_enrollment(
    connection: sqlite3.Connection, sql: Statements, entry: EnrollmentEntry, enrollment: Enrollment, time: str
) -> None:
    """Upsert an entry's enrollment whole; its sealed key, if any, becomes current, the former is retired at `time`."""
    did = enrollment.did
    connection.execute(
        sql["enrollment.put"],
        (
            did,
            enrollment.enrolled_at,
            enrollment.pds_endpoint,
            enrollment.signing_key,
            "true" if enrollment.active else "false",
            enrollment.enrollment_rkey,
        ),
    )
    connection.execute(sql["enrollment.delete_boundaries"], (did,))
    connection.executemany(sql["enrollment.put_boundary"], [(did, boundary) for boundary in enrollment.boundaries])
    if entry.sealed_key is not None:
        connection.execute(sql["enrollment.retire_key"], (time, did))
        values = (did, enrollment.signing_key, entry.sealed_key, time, entry.first_rev or "")
        connection.execute(sql["enrollment.put_key"], values)


def _enrollment(row: _EnrollmentRow) -> Enrollment:
    did, enrolled_at, pds_endpoint, signing_key, active, rkey, boundaries = row
    return Enrollment(
        did=Did(did),
        boundaries=tuple(Boundary(boundary) for boundary in json.loads(boundaries)),
        enrolled_at=enrolled_at,
        active=active == "true",
        signing_key=signing_key,
        enrollment_rkey=rkey,
        pds_endpoint=pds_endpoint,
    )
