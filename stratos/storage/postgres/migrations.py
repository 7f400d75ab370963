"""Schema migrations: of the service's tables at opening, of actors' schemas when they are next used or all at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import psycopg

from stratos.storage.ports import StorageFault
from stratos.storage.postgres.database import PgConnection, described
from stratos.storage.sql_files import Migration

SERVICE_LOCK: Final = 0x5354524154_01
"""Advisory lock: one process migrates at a time. The digits spell STRAT."""

_CREATE: Final = "CREATE TABLE IF NOT EXISTS stratos_migration (version INTEGER PRIMARY KEY, name TEXT NOT NULL)"
_TABLE: Final = re.compile(r"\b(?:TABLE|ON|INTO|UPDATE|FROM)\s+(?:IF\s+(?:NOT\s+)?EXISTS\s+)?([\w.\"]+)", re.IGNORECASE)
_SERVER_FIELDS: Final = (
    ("severity", "severity"),
    ("code", "sqlstate"),
    ("message", "message_primary"),
    ("detail", "message_detail"),
    ("hint", "message_hint"),
    ("schema", "schema_name"),
    ("column", "column_name"),
    ("constraint", "constraint_name"),
)
"""What we call a field of the server's error, and what psycopg does."""


def migrate_service(connection: PgConnection, migrations: Sequence[Migration], diagnostics: str) -> None:
    """Bring the service's tables to the newest version, in one transaction.

    Raises StorageFault when a newer version of the program wrote them or a migration fails, with the `diagnostics` then, and
    psycopg.Error.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (SERVICE_LOCK,))
        connection.execute(_CREATE)
        row = connection.execute("SELECT coalesce(max(version), 0) FROM stratos_migration").fetchone()
        version: int = 0 if row is None else row[0]
        check_version("the service's schema", version, len(migrations))
        for migration in migrations[version:]:
            what = f"the service's schema to version {migration.number} ({migration.name})"
            run_steps(connection, statements_of(migration.script), what, diagnostics)
            connection.execute("INSERT INTO stratos_migration VALUES (%s, %s)", (migration.number, migration.name))


def run_steps(connection: PgConnection, steps: Iterable[str], what: str, diagnostics: str) -> None:
    """Run a migration's statements. Raises StorageFault with all that the server says of a failure (service spec §8.3)."""
    for step in steps:
        try:
            connection.execute(step, prepare=False)
        except psycopg.Error as error:
            raise StorageFault(f"migrating {what} failed: {_report(error, step)}. {diagnostics}") from error


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


def _report(error: psycopg.Error, step: str) -> str:
    named = _TABLE.search(step)
    table = error.diag.table_name or (named[1] if named else "unknown")
    fields = [(name, getattr(error.diag, field)) for name, field in _SERVER_FIELDS]
    said = [f"{name}={' '.join(value.split())}" for name, value in fields if value]
    return ", ".join([f"table={table}", *(said or [f"message={described(error)}"])])
