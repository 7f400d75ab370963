"""Everything that is sealed under the master key, in the tables of either database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from stratos.storage.sealed_port import SealedKind, SealedValue
from stratos.storage.sql_database import SqlDatabase

_NAMES: Final = {SealedKind.SIGNING_KEY: "keys", SealedKind.SESSION: "sessions", SealedKind.STATE: "states"}


class SqlSealedValues:
    """Implements `sealed_port.SealedValues`."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    def count(self) -> int:
        """How many values there are."""
        with self._database.read("counting sealed values") as connection:
            return sum(
                int(connection.execute(self._database.sql[f"sealed.count_{name}"]).fetchone()[0]) for name in _NAMES.values()
            )

    def page(self, kind: SealedKind, *, after: str | None, limit: int) -> Sequence[SealedValue]:
        """Values of one kind in the order of their owners, exclusive of `after`."""
        with self._database.read("reading sealed values") as connection:
            rows: list[tuple[str, bytes]] = connection.execute(
                self._database.sql[f"sealed.page_{_NAMES[kind]}"], (after or "", limit)
            ).fetchall()
        return [SealedValue(kind, owner, bytes(sealed)) for owner, sealed in rows]

    def replace(self, changes: Sequence[tuple[SealedValue, bytes]]) -> int:
        """Put values in place of others, all or none; how many."""
        replaced = 0
        with self._database.write("sealing values anew") as connection:
            for value, sealed in changes:
                statement = self._database.sql[f"sealed.replace_{_NAMES[value.kind]}"]
                replaced += connection.execute(statement, (sealed, value.owner, value.sealed)).rowcount
        return replaced
