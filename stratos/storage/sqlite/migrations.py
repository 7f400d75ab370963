"""Schema migrations: run at opening, all missing ones in one transaction. `user_version` is the version table."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

from stratos.storage.ports import StorageFault
from stratos.storage.sql_files import Migration
from stratos.storage.sqlite.connection import transaction


def is_outdated(connection: sqlite3.Connection, migrations: Sequence[Migration], what: str) -> bool:
    """Whether a database lacks migrations; `what` names it in messages.

    Raises StorageFault when a newer version of the program wrote it, and sqlite3.Error when it is no database.
    """
    return _version(connection, what, len(migrations)) < len(migrations)


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration], what: str) -> None:
    """Bring a database to the newest version. Raises as `is_outdated` does; nothing is changed then."""
    if not is_outdated(connection, migrations, what):
        return
    newest = len(migrations)
    with transaction(connection):
        # Asked again under the lock: another thread may have been faster.
        for migration in migrations[_version(connection, what, newest) :]:
            for statement in _statements(migration.script):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {newest}")


def _version(connection: sqlite3.Connection, what: str, newest: int) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > newest:
        raise StorageFault(
            f"{what} has schema version {version}, but this program knows versions up to {newest}: "
            "it was written by a newer version of Stratos"
        )
    return version


def _statements(script: str) -> Iterator[str]:
    """The single statements of a script; `executescript` would end the transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement
