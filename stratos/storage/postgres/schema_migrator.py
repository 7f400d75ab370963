"""Bringing actors' schemas to the newest version: one when it is next used, or all of them while services run."""

from __future__ import annotations

from typing import Final

from stratos.atproto.syntax import Did
from stratos.storage.ports import SchemaCounts
from stratos.storage.postgres.actor_schema import ActorSchema, schema_name
from stratos.storage.postgres.database import PgConnection, PostgresDatabase
from stratos.storage.postgres.migrations import check_version, run_steps

LOCK_PATIENCE_MS: Final = 2_000
"""How long a migration waits for whoever uses an actor's tables, such as an export; readers wait behind it meanwhile."""


class SchemaMigrator:
    """Migrates actors' schemas, each in a transaction of its own. Any number of processes may do so at the same time."""

    def __init__(self, database: PostgresDatabase, schema: ActorSchema, diagnostics: str) -> None:
        """`diagnostics` end the report of a failure."""
        self._database = database
        self._schema = schema
        self._diagnostics = diagnostics
        self._migrated = 0

    @property
    def migrated(self) -> int:
        """Schemas that this process has migrated."""
        return self._migrated

    def counts(self) -> SchemaCounts:
        """How many schemas lack migrations, and how many are of a newer program. Raises StorageFault."""
        with self._database.read("counting outdated schemas") as connection:
            newest = {"newest": self._schema.version}
            row = connection.execute(self._database.sql["actor.count_versions"], newest).fetchone()
        return SchemaCounts(0, 0) if row is None else SchemaCounts(row[0], row[1])

    def outdated(self, *, after: Did | None, limit: int) -> list[Did]:
        """Actors whose schemas lack migrations, in DID order, exclusive of `after`. Raises StorageFault."""
        with self._database.read("looking for outdated schemas") as connection:
            bounds = (self._schema.version, after or "", limit)
            return [Did(did) for (did,) in connection.execute(self._database.sql["actor.outdated"], bounds).fetchall()]

    def migrate(self, connection: PgConnection, did: Did) -> bool:
        """Bring one schema to the newest version, over a connection outside of a transaction; whether there was anything to do.

        Raises StorageFault, and psycopg.Error; nothing has been changed then.
        """
        sql = self._database.sql
        with connection.transaction():
            connection.execute(sql["actor.lock_patience"], (str(LOCK_PATIENCE_MS),))
            row = connection.execute(sql["actor.lock_version"], (did,)).fetchone()
            if row is None:
                return False
            version: int = row[0]
            check_version(f"the schema of {did}", version, self._schema.version)
            if version == self._schema.version:
                return False
            for migration in self._schema.migrations[version:]:
                what = f"the schema of {did} to version {migration.number} ({migration.name})"
                run_steps(connection, self._schema.steps_of(migration, schema_name(did)), what, self._diagnostics)
            connection.execute(sql["actor.put_version"], (self._schema.version, did))
        self._migrated += 1
        return True
