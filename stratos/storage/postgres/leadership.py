"""Rights that one process of several has: advisory locks of a session."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import psycopg

from stratos.storage.postgres.database import PgConnection, faults


class PostgresLeadership:
    """Implements `ports.Leadership`: a lock that is the connection's, and goes with it."""

    def __init__(self, name: str, connect: Callable[[], PgConnection]) -> None:
        self._name = name
        self._key = int.from_bytes(sha256(name.encode()).digest()[:8], "big", signed=True)
        self._connect = connect
        self._connection: PgConnection | None = None

    def acquire(self) -> bool:
        """Try to get the right, without waiting. Raises StorageFault."""
        with faults(f"asking for the right to {self._name}"):
            if self._connection is None:
                self._connection = self._connect()
            row = self._connection.execute("SELECT pg_try_advisory_lock(%s)", (self._key,)).fetchone()
        return row is not None and row[0] is True

    def held(self) -> bool:
        """Whether the connection, and with it the lock, is still there."""
        if self._connection is None:
            return False
        try:
            self._connection.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True

    def release(self) -> None:
        """Give the right back; a second call does nothing."""
        if self._connection is not None:
            self._connection.raw.close()
            self._connection = None
