"""The log as an actor store needs it: where the store should stand, and what it lacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from stratos.atproto.syntax import Did
from stratos.core.log_codec import InvalidRedo, decode_redo
from stratos.storage.appending import LoggedCommit
from stratos.storage.ports import StorageFault
from stratos.storage.sqlite.service_database import ServiceDatabase

REDO_PAGE: Final = 100
"""Commits applied in one transaction while a store catches up."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The seq of a repository's head. `purging`: files of an earlier, unenrolled repository of this DID may still be there."""

    seq: int
    purging: bool


class Redo:
    """Reads redo from the log. Safe to use from any thread."""

    def __init__(self, database: ServiceDatabase) -> None:
        self._database = database

    def standing(self, did: Did) -> Standing | None:
        """Where the log's head of a repository is; None where the DID has no repository."""
        with self._database.read(f"reading the head of {did}") as connection:
            row: tuple[int, int] | None = connection.execute(self._database.sql["redo.standing"], (did,)).fetchone()
        return None if row is None else Standing(row[0], bool(row[1]))

    def repositories(self, *, after: Did | None, limit: int) -> list[Did]:
        """Who has a repository, but for those whose former one is still being purged, in DID order, exclusive of `after`."""
        with self._database.read("listing repositories") as connection:
            rows = connection.execute(self._database.sql["redo.repositories"], (after or "", limit)).fetchall()
        return [Did(did) for (did,) in rows]

    def commits_after(self, did: Did, seq: int) -> list[LoggedCommit]:
        """The next commits of a repository, a page at most. Raises StorageFault, also when the log is damaged."""
        with self._database.read(f"reading the log of {did}") as connection:
            rows: list[tuple[int, int, bytes]] = connection.execute(
                self._database.sql["redo.entries"], (did, seq, REDO_PAGE)
            ).fetchall()
        try:
            return [LoggedCommit(entry_seq, time, decode_redo(redo)) for entry_seq, time, redo in rows]
        except InvalidRedo as error:
            raise StorageFault(f"the log entries of {did} after {seq} are damaged: {error}") from error
