"""SQLite connections: how they are opened, what a transaction is, and which errors become StorageFault."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, TypeAlias

from stratos.storage.ports import StorageFault

BUSY_TIMEOUT: Final = 5.0
"""Seconds that a connection waits for a lock of another one."""

CACHED_STATEMENTS: Final = 128
"""Prepared statements that a connection keeps; more than there are in any one statement folder."""


Mode: TypeAlias = Literal["ro", "rw", "rwc"]
"""SQLite's own names: read, write, or write and create the file where it is absent."""


def connect(path: Path, mode: Mode, *, pragmas: Sequence[str]) -> sqlite3.Connection:
    """A connection in autocommit mode that may be used from any thread, one at a time.

    Raises sqlite3.OperationalError where the file is absent and not to be created.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=CACHED_STATEMENTS,
    )
    try:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[sqlite3.Connection]:
    """Commit what the block did, or roll all of it back when the block or the commit raises."""
    connection.execute(begin)
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def faults(doing: str) -> Iterator[None]:
    """Turn the store's own errors into a StorageFault that says what was being done."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StorageFault(f"{doing}: {error}") from error
