"""Waiting longer after every failure: jittered exponential backoff."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

_MOST_DOUBLINGS: Final = 32
LEAST_SHARE: Final = 0.5
"""A delay is drawn uniformly between this share of the full delay and the full delay."""


@dataclass(frozen=True, slots=True)
class BackoffPolicy:
    """The first and the longest delay, in seconds."""

    initial: float = 1.0
    longest: float = 60.0

    def delay(self, failures: int, rng: random.Random) -> float:
        """Seconds to wait after so many failures in a row (at least one)."""
        full = min(self.initial * 2.0 ** min(failures - 1, _MOST_DOUBLINGS), self.longest)
        return full * rng.uniform(LEAST_SHARE, 1.0)
