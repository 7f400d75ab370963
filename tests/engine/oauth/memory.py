"""Stand-ins of what the OAuth client asks of the house: a store in memory, a seal, a clock to set, store calls in place."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import trio
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stratos.atproto.syntax import Did
from stratos.engine.key_files import KeyFault

T = TypeVar("T")


class MemoryStore:
    """An `OAuthStore` in memory: the twin of the database's."""

    def __init__(self) -> None:
        self.states: dict[str, tuple[bytes, datetime]] = {}
        self.sessions: dict[Did, bytes] = {}
        self.put_at: dict[Did, datetime] = {}

    def put_state(self, key: str, sealed: bytes, expires_at: datetime, *, most: int) -> int:
        self.states[key] = (sealed, expires_at)
        first = sorted(self.states, key=lambda key: self.states[key][1])[: max(0, len(self.states) - most)]
        for key in first:
            del self.states[key]
        return len(first)

    def take_state(self, key: str) -> bytes | None:
        taken = self.states.pop(key, None)
        return None if taken is None else taken[0]

    def count_states(self) -> int:
        return len(self.states)

    def expire_states(self, now: datetime) -> int:
        expired = [key for key, (_, expires_at) in self.states.items() if expires_at <= now]
        for key in expired:
            del self.states[key]
        return len(expired)

    def put_session(self, did: Did, sealed: bytes, now: datetime) -> None:
        self.sessions[did] = sealed
        self.put_at[did] = now

    def get_session(self, did: Did) -> bytes | None:
        return self.sessions.get(did)

    def delete_session(self, did: Did) -> bool:
        return self.sessions.pop(did, None) is not None

    def sessions_put_before(self, instant: datetime, *, after: Did | None, limit: int) -> Sequence[Did]:
        return sorted(did for did in self.sessions if self.put_at[did] < instant and did > (after or ""))[:limit]


class Seal:
    """AES-GCM under a key of its own, bound to the context."""

    def __init__(self) -> None:
        self._aead = AESGCM(os.urandom(32))

    def seal(self, plain: bytes, context: str) -> bytes:
        nonce = os.urandom(12)
        return nonce + self._aead.encrypt(nonce, plain, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        try:
            return self._aead.decrypt(sealed[:12], sealed[12:], context.encode())
        except InvalidTag as error:
            raise KeyFault(f"{context} does not open") from error


class WallClock:
    """A wall clock that runs on by what a test adds."""

    def __init__(self, *, real: bool = False) -> None:
        self._real = real
        self._ahead = timedelta()

    def __call__(self) -> datetime:
        return (datetime.now(UTC) if self._real else datetime(2026, 5, 28, 12, 0, tzinfo=UTC)) + self._ahead

    def advance(self, by: timedelta) -> None:
        self._ahead += by


async def in_place(call: Callable[[], T]) -> T:
    """Store calls without a thread, for tests on a virtual clock: a thread would look like idleness to it."""
    await trio.lowlevel.checkpoint()
    return call()
