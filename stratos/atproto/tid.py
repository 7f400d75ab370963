"""Timestamp identifiers: 13 characters that sort as text in the order in which they were made.

Source: https://atproto.com/specs/tid. A zero bit, 53 bits of microseconds since 1970 and 10 bits of clock identifier, in 13
digits of base 32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from stratos.atproto.syntax import Tid

MAX_TIME_US: Final = 2**53 - 1
CLOCK_IDS: Final = 2**10
"""Number of clock identifiers: 0 to CLOCK_IDS − 1."""

_ALPHABET: Final = "234567abcdefghijklmnopqrstuvwxyz"
_TO_PYTHON_BASE_32: Final = str.maketrans(_ALPHABET, "0123456789abcdefghijklmnopqrstuv")
_DIGIT_SHIFTS: Final = tuple(range(60, -1, -5))
_TIME_SHIFT: Final = 10


class TidsExhausted(ValueError):
    """No TID follows the given one: its time is the last that 53 bits can hold, in the year 2255."""


def tid_from(us: int, clock_id: int) -> Tid:
    """The TID of a time in microseconds since 1970 and a clock identifier. Raises ValueError when either is out of range."""
    if not 0 <= us <= MAX_TIME_US:
        raise ValueError(f"time outside 53 bits of microseconds since 1970: {us}")
    if not 0 <= clock_id < CLOCK_IDS:
        raise ValueError(f"clock identifier outside 10 bits: {clock_id}")
    number = us << _TIME_SHIFT | clock_id
    return Tid("".join([_ALPHABET[number >> shift & 31] for shift in _DIGIT_SHIFTS]))


def tid_time_us(tid: Tid) -> int:
    """The time in a TID, in microseconds since 1970. The argument must have been parsed as a TID."""
    return int(tid.translate(_TO_PYTHON_BASE_32), 32) >> _TIME_SHIFT


class TidClock:
    """Gives TIDs that rise strictly, whatever the wall clock does; for use from one thread."""

    __slots__ = ("_clock_id", "_last_us", "_now_us")

    def __init__(self, now_us: Callable[[], int], clock_id: int) -> None:
        """Take the source of the time, in microseconds since 1970, and this process's clock identifier (0 to 1023)."""
        if not 0 <= clock_id < CLOCK_IDS:
            raise ValueError(f"clock identifier outside 10 bits: {clock_id}")
        self._now_us = now_us
        self._clock_id = clock_id
        self._last_us = -1

    def next(self, after: Tid | None = None) -> Tid:
        """A TID greater than every one that this clock gave and than `after`.

        Its time is now, or one microsecond beyond the greatest of those when the wall clock lags behind them. An `after` of the
        future therefore moves all later TIDs there: refuse such revs where they come in. Raises TidsExhausted.
        """
        us = max(self._now_us(), self._last_us + 1)
        if after is not None:
            us = max(us, tid_time_us(after) + 1)
        if us > MAX_TIME_US:
            raise TidsExhausted("no later TID exists")
        tid = tid_from(us, self._clock_id)
        self._last_us = us
        return tid
