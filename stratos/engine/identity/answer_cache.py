"""Answers of the network, remembered: fresh, then stale for when nobody answers; each question under way once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

import trio

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Found(Generic[V]):
    """An answer; `size` in bytes, as its source sent it."""

    value: V
    size: int


@dataclass(frozen=True, slots=True)
class Absent:
    """The answer that there is nothing."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer, or none that can be used."""

    reason: str


Outcome: TypeAlias = Found[V] | Absent | Failed


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """How long answers hold, in seconds, and how many are kept.

    `fresh`: an answer is given without asking. `stale`: it is still given when asking fails. `absent`: that there is nothing is
    believed without asking. `retry`: after a failure nobody is asked. `refresh`: what is younger is not asked for anew even when
    a caller wants it. What was found and what was not are kept apart, at most `max_entries` of each, so that questions for
    nonsense displace no answers.
    """

    fresh: float = 3600.0
    stale: float = 86_400.0
    absent: float = 60.0
    retry: float = 10.0
    refresh: float = 30.0
    max_entries: int = 10_000
    max_bytes: int = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Known(Generic[V]):
    found: Found[V]
    since: float


@dataclass(frozen=True, slots=True)
class _Missed:
    outcome: Absent | Failed
    since: float


class _Flight(Generic[V]):
    """A question under way. `outcome` stays None when whoever asked was cancelled."""

    def __init__(self) -> None:
        self.landed = trio.Event()
        self.outcome: Outcome[V] | None = None


class AnswerCache(Generic[K, V]):
    """Answers by key, least recently used ones leaving first. `clock` is monotonic, in seconds."""

    def __init__(self, ask: Callable[[K], Awaitable[Outcome[V]]], limits: CacheLimits, *, clock: Callable[[], float]) -> None:
        """`ask` raises nothing that is expected: it returns Failed."""
        self._ask = ask
        self._limits = limits
        self._clock = clock
        self._known: OrderedDict[K, _Known[V]] = OrderedDict()
        self._missed: OrderedDict[K, _Missed] = OrderedDict()
        self._flights: dict[K, _Flight[V]] = {}
        self._bytes = 0
        self._hits = self._asked = self._failures = self._stale_answers = 0

    async def get(self, key: K, *, refresh: bool = False) -> Outcome[V]:
        """The answer: remembered, or asked for. Failed only when no earlier answer is young enough to be given in its place.

        Callers with the same question share one asking; when the one who asks is cancelled, another takes over.
        """
        while True:
            remembered = self._remembered(key, refresh=refresh)
            if remembered is not None:
                self._hits += 1
                return remembered
            flight = self._flights.get(key)
            if flight is None:
                return await self._lead(key)
            await flight.landed.wait()
            if flight.outcome is not None:
                return flight.outcome

    def statistics(self) -> Mapping[str, int]:
        """Gauges of what is kept and under way, with limits, and counters."""
        return {
            "entries": len(self._known),
            "entries_limit": self._limits.max_entries,
            "bytes": self._bytes,
            "bytes_limit": self._limits.max_bytes,
            "misses": len(self._missed),
            "misses_limit": self._limits.max_entries,
            "under_way": len(self._flights),
            "hits_total": self._hits,
            "asked_total": self._asked,
            "failures_total": self._failures,
            "stale_answers_total": self._stale_answers,
        }

    def _remembered(self, key: K, *, refresh: bool) -> Outcome[V] | None:
        """What can be answered without asking; None when it is time to ask."""
        limits, now = self._limits, self._clock()
        missed, known = self._missed.get(key), self._known.get(key)
        if missed is not None:
            age = now - missed.since
            if isinstance(missed.outcome, Failed):
                if age < limits.retry:
                    return self._instead_of(missed.outcome, key)
            elif age < (min(limits.absent, limits.refresh) if refresh else limits.absent):
                return missed.outcome
        if known is not None and now - known.since < (min(limits.fresh, limits.refresh) if refresh else limits.fresh):
            self._known.move_to_end(key)
            return known.found
        return None

    async def _lead(self, key: K) -> Outcome[V]:
        flight = self._flights[key] = _Flight[V]()
        try:
            self._asked += 1
            flight.outcome = self._settle(key, await self._ask(key))
            return flight.outcome
        finally:
            del self._flights[key]
            flight.landed.set()

    def _settle(self, key: K, outcome: Outcome[V]) -> Outcome[V]:
        """Remember an outcome; what callers get for it."""
        match outcome:
            case Found():
                self._missed.pop(key, None)
                self._keep(key, outcome)
                return outcome
            case Absent():
                self._drop(key)
                self._miss(key, outcome)
                return outcome
            case Failed():
                self._failures += 1
                self._miss(key, outcome)
                return self._instead_of(outcome, key)

    def _instead_of(self, failed: Failed, key: K) -> Outcome[V]:
        known = self._known.get(key)
        if known is None:
            return failed
        if self._clock() - known.since >= self._limits.stale:
            self._drop(key)
            return failed
        self._known.move_to_end(key)
        self._stale_answers += 1
        return known.found

    def _keep(self, key: K, found: Found[V]) -> None:
        self._drop(key)
        self._known[key] = _Known(found, self._clock())
        self._bytes += found.size
        while len(self._known) > self._limits.max_entries or self._bytes > self._limits.max_bytes:
            self._drop(next(iter(self._known)))

    def _drop(self, key: K) -> None:
        known = self._known.pop(key, None)
        if known is not None:
            self._bytes -= known.found.size

    def _miss(self, key: K, outcome: Absent | Failed) -> None:
        self._missed[key] = _Missed(outcome, self._clock())
        self._missed.move_to_end(key)
        if len(self._missed) > self._limits.max_entries:
            self._missed.popitem(last=False)
