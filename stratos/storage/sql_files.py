"""SQL as files: numbered migrations, and statements by operation.

A folder such as `sql/sqlite/service` holds migrations (`0001_initial.sql`, numbered from 1 without gaps) and statement files
(`log.sql`), in which every statement begins with a line `-- name: <name>`; it is asked for as `<file>.<name>`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

Statements = Mapping[str, str]

_MIGRATION: Final = re.compile(r"(\d{4})_(\w+)\.sql")
_NAME_LINE: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


class InvalidSqlFiles(Exception):
    """The SQL files that came with the program are incomplete or malformed."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of a schema: running `script` takes it from version `number - 1` to `number`."""

    number: int
    name: str
    script: str


class SqlFiles:
    """The SQL files below one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def statements(self, folder: str) -> Statements:
        """All statements of a folder by `<file>.<name>`. Raises InvalidSqlFiles."""
        found: dict[str, str] = {}
        for path in self._files(folder):
            if not _MIGRATION.fullmatch(path.name):
                found.update(_named_statements(path))
        return MappingProxyType(found)

    def migrations(self, folder: str) -> tuple[Migration, ...]:
        """The migrations of a folder in order. Raises InvalidSqlFiles when there is none or a number is missing."""
        matches = [(match, path) for path in self._files(folder) if (match := _MIGRATION.fullmatch(path.name))]
        found = tuple(Migration(int(match[1]), match[2], path.read_text("utf-8")) for match, path in matches)
        if not found or [migration.number for migration in found] != list(range(1, len(found) + 1)):
            raise InvalidSqlFiles(f"{self._directory / folder}: migrations must be numbered 0001, 0002, … without gaps")
        return found

    def _files(self, folder: str) -> list[Path]:
        return sorted((self._directory / folder).glob("*.sql"))


def _named_statements(path: Path) -> dict[str, str]:
    _, *parts = _NAME_LINE.split(path.read_text("utf-8"))
    names, bodies = parts[::2], parts[1::2]
    if not names or len(set(names)) != len(names):
        raise InvalidSqlFiles(f"{path}: every statement needs a `-- name:` line of its own")
    return {f"{path.stem}.{name}": body.strip() for name, body in zip(names, bodies, strict=True)}
