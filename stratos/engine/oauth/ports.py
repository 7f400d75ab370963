"""What the OAuth client needs from the rest of the house."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol, TypeAlias, TypeVar

from stratos.atproto.syntax import Did
from stratos.engine.identity import Answer

T = TypeVar("T")

ExclusiveUse: TypeAlias = Callable[[Did], AbstractAsyncContextManager[None]]
"""Holds an account's session exclusively for a block; across processes where several share one store."""


class OAuthStore(Protocol):
    """Keeps sessions and states, sealed. Synchronous, as all storage; every call is one durable transaction.

    It never looks into a value. Called from one thread at a time, not always the same.
    """

    def put_state(self, key: str, sealed: bytes, expires_at: datetime) -> None:
        """Keep the state of an authorization that has begun."""
        ...

    def take_state(self, key: str) -> bytes | None:
        """Read and delete a state in one step: two callers never both get it."""
        ...

    def count_states(self) -> int:
        """States kept, expired ones included."""
        ...

    def expire_states(self, now: datetime) -> int:
        """Delete the states that have expired; how many."""
        ...

    def put_session(self, did: Did, sealed: bytes, now: datetime) -> None:
        """Keep an account's session in place of the former."""
        ...

    def get_session(self, did: Did) -> bytes | None:
        """An account's session."""
        ...

    def delete_session(self, did: Did) -> bool:
        """Forget an account's session; whether there was one."""
        ...

    def sessions_put_before(self, instant: datetime, *, after: Did | None, limit: int) -> Sequence[Did]:
        """Whose sessions were last put before an instant, in the order of their DIDs, from beyond `after` on."""
        ...


class Sealer(Protocol):
    """Encrypts what is stored. A value opens only with the context that it was sealed with."""

    def seal(self, plain: bytes, context: str) -> bytes:
        """Encrypt and authenticate."""
        ...

    def open(self, sealed: bytes, context: str) -> bytes:
        """Decrypt. Raises KeyFault where the key or the context is another, or the value was changed."""
        ...


class StoreThread(Protocol):
    """How a blocking call to the store is made from a task."""

    async def __call__(self, call: Callable[[], T]) -> T:
        """Make the call and give its result; once begun it is not abandoned by cancellation."""
        ...


class Http(Protocol):
    """Requests to addresses that others chose; `OutgoingHttp` is one."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        max_bytes: int | None = None,
        max_redirects: int | None = None,
        total_timeout: float | None = None,
    ) -> Answer:
        """Ask and read the whole answer, whatever its status. Raises OutgoingError."""
        ...
