"""DPoP nonces: values that only this service can have given out, and that grow old by themselves.

A nonce is HMAC-SHA256 over a counter that advances with the wall clock; nothing is stored. Processes that share the secret and
whose clocks agree within a minute accept each other's. Source: service spec §2.3; RFC 9449 §8.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from typing import Final

from stratos.api.credentials.jws import encode_base64url

ROTATION_SECONDS: Final = 60
NONCE_LIFETIME_SECONDS: Final = 3 * ROTATION_SECONDS
"""How long a nonce can be accepted at most: while its counter is the next one, the current one and the previous one."""


class DpopNonces:
    """Gives out the next nonce; accepts the previous, the current and the next one."""

    def __init__(self, secret: bytes, *, clock: Callable[[], datetime]) -> None:
        """`secret` should have 32 random bytes. Raises ValueError for an empty one, which anybody could use."""
        if not secret:
            raise ValueError("the secret of DPoP nonces is empty")
        self._secret = secret
        self._clock = clock
        self._counter = -1
        self._nonces = ("", "", "")

    def next(self) -> str:
        """The nonce to give out now."""
        return self._around_now()[2]

    def accepts(self, nonce: str) -> bool:
        """Whether the nonce was given out lately."""
        presented = nonce.encode("utf-8", "surrogatepass")
        return any(hmac.compare_digest(presented, known.encode()) for known in self._around_now())

    def _around_now(self) -> tuple[str, str, str]:
        counter = int(self._clock().timestamp()) // ROTATION_SECONDS
        if counter != self._counter:
            self._counter = counter
            self._nonces = (self._nonce(counter - 1), self._nonce(counter), self._nonce(counter + 1))
        return self._nonces

    def _nonce(self, counter: int) -> str:
        return encode_base64url(hmac.digest(self._secret, counter.to_bytes(8, "big"), sha256))
