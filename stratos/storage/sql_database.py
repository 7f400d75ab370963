"""What SQL databases have in common: enough for tables whose statements differ between dialects and whose use does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from stratos.storage.sql_files import Statements


class Rows(Protocol):
    """What a statement gave."""

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""

    def fetchone(self) -> Any:
        """The next row, None after the last."""

    def fetchall(self) -> list[Any]:
        """All rows that are left."""

    def __iter__(self) -> Iterator[Any]: ...


class SqlConnection(Protocol):
    """A connection, for the block that it was handed out for."""

    def execute(self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = ..., /) -> Rows:
        """Run one statement."""


class SqlDatabase(Protocol):
    """A database with its statements by name."""

    @property
    def sql(self) -> Statements:
        """The statements, in the database's dialect."""

    def read(self, doing: str) -> AbstractContextManager[SqlConnection]:
        """A connection for reading; `doing` names the work in messages. Raises StorageFault."""

    def write(self, doing: str) -> AbstractContextManager[SqlConnection]:
        """One durable transaction. Raises StorageFault; nothing was written then."""
