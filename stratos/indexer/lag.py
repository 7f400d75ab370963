"""How long records take from the write request to the AppView's tables."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Final

BOUNDS_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)


@dataclass(frozen=True, slots=True)
class Histogram:
    """A reading: for each upper bound in seconds, and for all, how many observations were at most that; and their sum."""

    bounds: tuple[float, ...]
    cumulative: tuple[int, ...]
    count: int
    sum: float


class LagHistogram:
    """Counts observations in fixed buckets."""

    def __init__(self, bounds: tuple[float, ...] = BOUNDS_SECONDS) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one observation; a negative one (clocks differ) counts as zero."""
        seconds = max(0.0, seconds)
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def reading(self) -> Histogram:
        """The counts so far."""
        cumulative: list[int] = []
        total = 0
        for count in self._counts[:-1]:
            total += count
            cumulative.append(total)
        return Histogram(self._bounds, tuple(cumulative), total + self._counts[-1], self._sum)
