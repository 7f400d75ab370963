"""Schema migrations: of the service's tables at opening, of actors' schemas when they are next used or all at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from stratos.storage.ports import StorageFault
from stratos.storage.postgres.database import PgConnection
from stratos.storage.sql_files import Migration

SERVICE_LOCK: Final = 0x5354524154_01
"""Advisory lock: one process migrates at a time. The digits spell STRAT."""

_CREATE: Final = "CREATE TABLE IF NOT EXISTS stratos_migration (version INTEGER PRIMARY KEY, name TEXT NOT NULL)"


def migrate_service(connection: PgConnection, migrations: Sequence[Migration]) -> None:
    """Bring the service's tables to the newest version, in one transaction.

    Raises StorageFault when a newer version of the program wrote them, and psycopg.Error.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (SERVICE_LOCK,))
        connection.execute(_CREATE)
        row = connection.execute("SELECT coalesce(max(version), 0) FROM stratos_migration").fetchone()
        version: int = 0 if row is None else row[0]
        check_version("the service's schema", version, len(migrations))
        for migration in migrations[version:]:
            for statement in statements_of(migration.script):
                connection.execute(statement)
            connection.execute("INSERT INTO stratos_migration VALUES (%s, %s)", (migration.number, migration.name))


def check_version(what: str, version: int, newest: int) -> None:
    """Raise StorageFault for a schema of a newer program."""
    if version > newest:
        raise StorageFault(
            f"{what} has version {version}, but this program knows versions up to {newest}: "
            "it was written by a newer version of Stratos"
        )


def statements_of(script: str) -> Iterator[str]:
    """The single statements of a script: each ends a line with a semicolon."""
    lines = [line for line in script.splitlines() if not line.lstrip().startswith("--")]
    for statement in "\n".join(lines).split(";\n"):
        if text := statement.strip().removesuffix(";"):
            yield text
