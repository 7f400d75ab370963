"""OAuth sessions and states, in the tables of either database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from stratos.atproto.syntax import Did
from stratos.storage.instants import to_microseconds
from stratos.storage.sql_database import SqlDatabase

_WRITING: Final = "writing OAuth values"
_READING: Final = "reading OAuth values"


class SqlOAuthStore:
    """Implements `oauth_port.OAuthStore`."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    def put_state(self, key: str, sealed: bytes, expires_at: datetime, *, most: int) -> int:
        """Keep a state, and `most` in all; how many that expire first had to go."""
        with self._database.write(_WRITING) as connection:
            connection.execute(self._database.sql["oauth.put_state"], (key, sealed, to_microseconds(expires_at)))
            return connection.execute(self._database.sql["oauth.drop_states"], (most,)).rowcount

    def take_state(self, key: str) -> bytes | None:
        """Read and delete a state in one step."""
        with self._database.write(_WRITING) as connection:
            rows: list[tuple[bytes]] = connection.execute(self._database.sql["oauth.take_state"], (key,)).fetchall()
        return rows[0][0] if rows else None

    def count_states(self) -> int:
        """States kept, expired ones included."""
        with self._database.read(_READING) as connection:
            count: int = connection.execute(self._database.sql["oauth.count_states"]).fetchone()[0]
        return count

    def expire_states(self, now: datetime) -> int:
        """Delete the states that have expired; how many."""
        with self._database.write(_WRITING) as connection:
            return connection.execute(self._database.sql["oauth.expire_states"], (to_microseconds(now),)).rowcount

    def put_session(self, did: Did, sealed: bytes, now: datetime) -> None:
        """Keep an account's session in place of the former."""
        with self._database.write(_WRITING) as connection:
            connection.execute(self._database.sql["oauth.put_session"], (did, sealed, to_microseconds(now)))

    def get_session(self, did: Did) -> bytes | None:
        """An account's session."""
        with self._database.read(_READING) as connection:
            row: tuple[bytes] | None = connection.execute(self._database.sql["oauth.get_session"], (did,)).fetchone()
        return None if row is None else row[0]

    def delete_session(self, did: Did) -> bool:
        """Forget an account's session; whether there was one."""
        with self._database.write(_WRITING) as connection:
            return connection.execute(self._database.sql["oauth.delete_session"], (did,)).rowcount > 0

    def sessions_put_before(self, instant: datetime, *, after: Did | None, limit: int) -> Sequence[Did]:
        """Whose sessions were last put before an instant, in DID order."""
        with self._database.read(_READING) as connection:
            bounds = (to_microseconds(instant), after or "", limit)
            rows: list[tuple[str]] = connection.execute(self._database.sql["oauth.sessions_put_before"], bounds).fetchall()
        return [Did(did) for (did,) in rows]
