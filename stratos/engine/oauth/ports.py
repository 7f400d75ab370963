"""What the OAuth client needs from the rest of the house."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeAlias, TypeVar

from stratos.atproto.syntax import Did
from stratos.engine.identity import Answer
from stratos.storage.oauth_port import OAuthStore

__all__ = ["ExclusiveUse", "Http", "OAuthStore", "Sealer", "StoreThread"]

T = TypeVar("T")

ExclusiveUse: TypeAlias = Callable[[Did], AbstractAsyncContextManager[None]]
"""Holds an account's session exclusively for a block; across processes where several share one store."""


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
