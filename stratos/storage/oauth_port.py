"""Port of what the OAuth client keeps: sealed values, into which the store never looks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from stratos.atproto.syntax import Did


class OAuthStore(Protocol):
    """Sessions by account, and the states of authorizations that have begun. Every call is one durable transaction.

    Called from any thread. Every method raises StorageFault.
    """

    def put_state(self, key: str, sealed: bytes, expires_at: datetime, *, most: int) -> int:
        """Keep the state of an authorization that has begun, and `most` in all: those that expire first go. How many went."""

    def take_state(self, key: str) -> bytes | None:
        """Read and delete a state in one step: two callers never both get it."""

    def count_states(self) -> int:
        """States kept, expired ones included."""

    def expire_states(self, now: datetime) -> int:
        """Delete the states that have expired; how many."""

    def put_session(self, did: Did, sealed: bytes, now: datetime) -> None:
        """Keep an account's session in place of the former."""

    def get_session(self, did: Did) -> bytes | None:
        """An account's session."""

    def delete_session(self, did: Did) -> bool:
        """Forget an account's session; whether there was one."""

    def sessions_put_before(self, instant: datetime, *, after: Did | None, limit: int) -> Sequence[Did]:
        """Whose sessions were last put before an instant, in the order of their DIDs, from beyond `after` on."""
