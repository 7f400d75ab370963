"""Tokens that were used: each may be used once while it is valid.

The memory is that of one process. Several processes in front of one log each accept a token once; `docs/adr/0007-credentials.md`
says why that is good enough.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from hashlib import sha256
from heapq import heappop, heappush
from typing import Final

DEFAULT_MAX_TOKENS: Final = 200_000
DEFAULT_SHARES: Final = 50
"""One holder gets this part of the room that is free, not of all: the more others hold, the less any of them may still take, so
that room is left for whoever comes with few, however many holders are greedy."""
_DIGEST_BYTES: Final = 16


class Use(Enum):
    """What the memory says of a token that is presented."""

    FIRST = "first"
    AGAIN = "again"
    UNKNOWN = "unknown"
    """The holder has used up its share, so that nothing can be said; such a token must be refused."""


@dataclass(frozen=True, slots=True)
class _Expiry:
    at: float
    digest: bytes
    holder: str

    def __lt__(self, other: _Expiry) -> bool:
        return self.at < other.at


class UsedTokens:
    """Remembers tokens until they expire; bounded, and never forgets one early to make room for another.

    Present a token only once its signature has been checked, and only of holders that not just anybody can be: keys cost nothing.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], datetime],
        max_tokens: int = DEFAULT_MAX_TOKENS,
        shares: int = DEFAULT_SHARES,
    ) -> None:
        """A holder may have at most the `shares`-th part of the free room."""
        self._clock = clock
        self._max_tokens = max_tokens
        self._shares = shares
        self._used: set[bytes] = set()
        self._expiries: list[_Expiry] = []
        self._per_holder: Counter[str] = Counter()
        self._replayed = 0
        self._overflowed = 0

    def use(self, holder: str, token_id: str, *, until: float) -> Use:
        """Note that `holder` presents the token `token_id`, which nobody accepts after `until` (seconds since 1970)."""
        self._forget_expired()
        digest = sha256(f"{len(holder)}:{holder}{token_id}".encode("utf-8", "surrogatepass")).digest()[:_DIGEST_BYTES]
        if digest in self._used:
            self._replayed += 1
            return Use.AGAIN
        if self._per_holder[holder] >= (self._max_tokens - len(self._used)) // self._shares:
            self._overflowed += 1
            return Use.UNKNOWN
        self._used.add(digest)
        self._per_holder[holder] += 1
        heappush(self._expiries, _Expiry(until, digest, holder))
        return Use.FIRST

    def statistics(self) -> Mapping[str, int]:
        """Gauges: remembered tokens, their limit, their holders; counters: tokens presented again, refused for want of room."""
        return {
            "tokens": len(self._used),
            "tokens_limit": self._max_tokens,
            "holders": len(self._per_holder),
            "replayed_total": self._replayed,
            "overflowed_total": self._overflowed,
        }

    def _forget_expired(self) -> None:
        now = self._clock().timestamp()
        while self._expiries and self._expiries[0].at < now:
            expired = heappop(self._expiries)
            self._used.remove(expired.digest)
            self._per_holder[expired.holder] -= 1
            if not self._per_holder[expired.holder]:
                del self._per_holder[expired.holder]
