"""Where an actor's repository lies: a schema of its own, named after its DID."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType
from typing import Final

from stratos.atproto.syntax import Did
from stratos.storage.names import check_nameable
from stratos.storage.postgres.migrations import statements_of
from stratos.storage.sql_files import Migration, Statements

_DIGITS: Final = 40
"""Hexadecimal digits of the DID's SHA-256 in the name: 160 bits."""
_PLACEHOLDER: Final = "{actor}"


def schema_name(did: Did) -> str:
    """The schema of an actor; safe to stand in a statement as it is. Raises InvalidSyntax for what is no DID."""
    check_nameable(did)
    return f"actor_{sha256(did.encode('ascii')).hexdigest()[:_DIGITS]}"


@dataclass(frozen=True, slots=True)
class ActorSchema:
    """The statements and migrations of actors' schemas."""

    sql: Statements
    migrations: Sequence[Migration]

    @property
    def version(self) -> int:
        """The newest version."""
        return len(self.migrations)

    def statements(self, name: str) -> Mapping[str, str]:
        """The statements for one actor's schema."""
        return MappingProxyType({key: statement.replace(_PLACEHOLDER, name) for key, statement in self.sql.items()})

    def statement(self, key: str, name: str) -> str:
        """One statement for one actor's schema."""
        return self.sql[key].replace(_PLACEHOLDER, name)

    def steps_of(self, migration: Migration, name: str) -> list[str]:
        """One migration, for one actor's schema."""
        return [statement.replace(_PLACEHOLDER, name) for statement in statements_of(migration.script)]

    def creation(self, name: str) -> list[str]:
        """What makes an actor's schema, empty; one that a purge has left behind goes first."""
        steps = [step for migration in self.migrations for step in self.steps_of(migration, name)]
        return [f"DROP SCHEMA IF EXISTS {name} CASCADE", f"CREATE SCHEMA {name}", *steps]
