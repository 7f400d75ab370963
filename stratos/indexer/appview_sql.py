"""The AppView's statements: one file per operation under `sql/appview/queries`, and the numbered migrations beside them."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, LiteralString

_MIGRATION_NAME: Final = re.compile(r"([0-9]{4})_([a-z0-9_]+)\.sql")


class InvalidSqlFiles(Exception):
    """The folder of SQL files is not the one this version was built with."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered step of the schema."""

    number: int
    name: str
    statements: LiteralString


@dataclass(frozen=True, slots=True)
class AppViewQueries:
    """Every statement of the indexer and the AppView; the field is the file's name.

    They are shipped with the program and never built from input, hence as trustworthy as literals in the source.
    """

    select_actor_states: LiteralString
    lock_stream_cursor: LiteralString
    save_stream_cursor: LiteralString
    reset_stream_cursor: LiteralString
    clear_reconcile: LiteralString
    purge_actors: LiteralString
    delete_boundaries: LiteralString
    delete_posts: LiteralString
    write_posts: LiteralString
    upsert_enrollments: LiteralString
    distrust_enrollments: LiteralString
    upsert_cursors: LiteralString
    block_actors: LiteralString
    forget_listed_actors: LiteralString
    note_listed_actors: LiteralString
    block_differing_actors: LiteralString
    select_due_actors: LiteralString
    select_blocked_summary: LiteralString
    lock_blocked_actor: LiteralString
    postpone_blocked_actor: LiteralString
    unblock_actor: LiteralString
    block_named_actors: LiteralString
    select_blocked_actors: LiteralString
    select_known_actors: LiteralString
    select_actor_standing: LiteralString
    select_actor_posts: LiteralString
    select_stray_boundaries: LiteralString
    count_actor_posts: LiteralString
    select_sources: LiteralString
    delete_actor_boundaries: LiteralString
    select_post_cids: LiteralString
    save_resynced_actor: LiteralString
    adopt_enrollment: LiteralString
    count_enrollments: LiteralString
    select_enrollment: LiteralString
    refresh_enrollment: LiteralString
    timeline: LiteralString
    author_feed: LiteralString
    own_feed: LiteralString
    post: LiteralString
    diagnostics: LiteralString


@dataclass(frozen=True, slots=True)
class AppViewSql:
    """The AppView's SQL, read once."""

    queries: AppViewQueries
    migrations: tuple[Migration, ...]

    @classmethod
    def load(cls, directory: Path) -> AppViewSql:
        """Read `sql/appview`. Raises InvalidSqlFiles where a statement is missing or migrations are not numbered 1, 2, 3, …"""
        texts = {field.name: _read(directory / "queries" / f"{field.name}.sql") for field in fields(AppViewQueries)}
        return cls(AppViewQueries(**texts), _migrations(directory / "migrations"))


def _migrations(directory: Path) -> tuple[Migration, ...]:
    found: list[Migration] = []
    for path in sorted(directory.glob("*.sql")):
        name = _MIGRATION_NAME.fullmatch(path.name)
        if name is None or int(name[1]) != len(found) + 1:
            raise InvalidSqlFiles(f"{path}: expected migration number {len(found) + 1}, as in 0001_name.sql")
        found.append(Migration(int(name[1]), name[2], _read(path)))
    if not found:
        raise InvalidSqlFiles(f"no migrations in {directory}")
    return tuple(found)


def _read(path: Path) -> LiteralString:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidSqlFiles(f"cannot read {path}: {error}") from error
