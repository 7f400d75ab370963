"""Which actors' databases lack migrations: every file is asked, since nobody else knows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Final

from stratos.atproto.syntax import Did
from stratos.storage.ports import SchemaCounts
from stratos.storage.sqlite.actor_paths import DATABASE_NAME, actor_directory
from stratos.storage.sqlite.connection import connect
from stratos.storage.sqlite.redo import Redo

PAGE: Final = 500
_UNREADABLE: Final = 0
"""The version of what is no database: it counts as outdated, and who then migrates it learns what is wrong."""


class SchemaSurvey:
    """Looks at the versions of actors' databases, some thousands a second."""

    def __init__(self, directory: Path, redo: Redo, newest: int) -> None:
        self._directory = directory
        self._redo = redo
        self._newest = newest

    def counts(self) -> SchemaCounts:
        """How many databases lack migrations, and how many are of a newer program. Raises StorageFault."""
        versions = [version for _, version in self._versions(None)]
        older, newer = (sum(sign * (version - self._newest) > 0 for version in versions) for sign in (-1, 1))
        return SchemaCounts(older, newer)

    def outdated(self, *, after: Did | None, limit: int) -> list[Did]:
        """Actors whose databases lack migrations, in DID order, exclusive of `after`. Raises StorageFault."""
        return list(islice((did for did, version in self._versions(after) if version < self._newest), limit))

    def is_outdated(self, did: Did) -> bool:
        """Whether an actor has a database, and it lacks migrations."""
        path = self._path(did)
        return path.exists() and _version(path) < self._newest

    def _versions(self, after: Did | None) -> Iterator[tuple[Did, int]]:
        """Every database that is there: one that is not will be made with the newest schema."""
        while dids := self._redo.repositories(after=after, limit=PAGE):
            for did in dids:
                path = self._path(did)
                if path.exists():
                    yield did, _version(path)
            after = dids[-1]

    def _path(self, did: Did) -> Path:
        return actor_directory(self._directory, did) / DATABASE_NAME


def _version(path: Path) -> int:
    try:
        with closing(connect(path, "ro", pragmas=("query_only = ON",))) as connection:
            version: int = connection.execute("PRAGMA user_version").fetchone()[0]
            return version
    except sqlite3.Error:
        return _UNREADABLE
