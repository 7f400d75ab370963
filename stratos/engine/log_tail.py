"""The newest log entries in memory, so that live subscribers need no database read."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping

from stratos.atproto.syntax import Did
from stratos.core.log_entry import LoggedEntry


class LogTail:
    """All entries after `floor`, bounded by count and by bytes of frames."""

    def __init__(self, *, floor: int, max_entries: int, max_bytes: int) -> None:
        self._floor = floor
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: list[LoggedEntry] = []
        self._seqs: list[int] = []
        self._bytes = 0

    def extend(self, entries: Iterable[LoggedEntry]) -> None:
        """Add entries in `seq` order; the oldest leave when a bound is passed."""
        for entry in entries:
            self._entries.append(entry)
            self._seqs.append(entry.seq)
            self._bytes += len(entry.frame)
        excess = max(0, len(self._entries) - self._max_entries)
        dropped_bytes = sum(len(entry.frame) for entry in self._entries[:excess])
        while excess < len(self._entries) and self._bytes - dropped_bytes > self._max_bytes:
            dropped_bytes += len(self._entries[excess].frame)
            excess += 1
        if excess:
            self._floor = self._seqs[excess - 1]
            self._bytes -= dropped_bytes
            del self._entries[:excess]
            del self._seqs[:excess]

    def after(self, cursor: int, limit: int) -> list[LoggedEntry] | None:
        """Up to `limit` entries after the cursor; None when the cursor lies before the tail and the log must be read."""
        if cursor < self._floor:
            return None
        start = bisect_right(self._seqs, cursor)
        return self._entries[start : start + limit]

    def forget(self, did: Did, before: int) -> None:
        """Drop an actor's entries older than the entry `before` (I7)."""
        kept = [entry for entry in self._entries if entry.did != did or entry.seq >= before]
        self._entries = kept
        self._seqs = [entry.seq for entry in kept]
        self._bytes = sum(len(entry.frame) for entry in kept)

    def statistics(self) -> Mapping[str, int]:
        """Gauges: entries and bytes held, and their limits."""
        return {
            "entries": len(self._entries),
            "entries_limit": self._max_entries,
            "bytes": self._bytes,
            "bytes_limit": self._max_bytes,
        }
