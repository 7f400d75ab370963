"""Rows of the log and of the repositories' heads, as both databases give them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from stratos.atproto.cid import Cid
from stratos.atproto.syntax import Did, Tid
from stratos.core.log_codec import InvalidRedo, Sides, decode_views
from stratos.core.log_entry import LoggedEntry
from stratos.storage.entry_kinds import KINDS
from stratos.storage.ports import RepoHead, StorageFault

EntryRow: TypeAlias = tuple[int, str, int, bytes, bytes]
"""seq, did, kind, views, frame."""
HeadRow: TypeAlias = tuple[str, bytes, str, int, str]
"""did, commit, rev, seq, active."""


class EntryReader:
    """Reads the rows of one page, most of which have the same few views."""

    def __init__(self) -> None:
        self._decoded: dict[bytes, tuple[Sides, ...]] = {}

    def entry(self, row: EntryRow) -> LoggedEntry:
        """The entry of a row. Raises StorageFault where it is damaged."""
        seq, did, kind, encoded, frame = row
        views = self._decoded.get(encoded)
        if views is None:
            try:
                views = self._decoded[encoded] = decode_views(encoded)
            except InvalidRedo as error:
                raise StorageFault(f"log entry {seq} is damaged: {error}") from error
        return LoggedEntry(seq, Did(did), KINDS[kind], frame, views)


def repo_head(row: HeadRow) -> RepoHead:
    """The head of a row."""
    did, commit, rev, seq, active = row
    return RepoHead(Did(did), Cid(commit), Tid(rev), seq, active == "true")


def highest_by_actor(trimmed: Iterable[tuple[int, str]]) -> dict[str, int]:
    """The highest seq of each actor among (seq, did) pairs."""
    highest: dict[str, int] = {}
    for seq, did in trimmed:
        highest[did] = max(seq, highest.get(did, 0))
    return highest
