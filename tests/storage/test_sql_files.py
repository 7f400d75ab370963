"""SQL as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from stratos.resources import sql_directory
from stratos.storage.sql_files import InvalidSqlFiles, SqlFiles


def write(directory: Path, **files: str) -> SqlFiles:
    folder = directory / "db"
    folder.mkdir()
    for name, text in files.items():
        (folder / f"{name}.sql").write_text(text)
    return SqlFiles(directory)


def test_statements_are_named_after_file_and_line(tmp_path: Path) -> None:
    files = write(
        tmp_path, read="-- About it.\n\n-- name: one\nSELECT 1;\n\n-- name: two\n-- why\nSELECT\n  2;\n", **{"0001_a": "x"}
    )
    assert files.statements("db") == {"read.one": "SELECT 1;", "read.two": "-- why\nSELECT\n  2;"}


def test_migrations_come_in_order(tmp_path: Path) -> None:
    files = write(tmp_path, **{"0002_more": "B", "0001_initial": "A", "read": "-- name: one\nSELECT 1"})
    assert [(m.number, m.name, m.script) for m in files.migrations("db")] == [(1, "initial", "A"), (2, "more", "B")]


@pytest.mark.parametrize("names", [(), ("0002_b",), ("0001_a", "0003_c"), ("0001_a", "0001_b")])
def test_a_missing_migration_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    files = write(tmp_path, **dict.fromkeys(names, "SELECT 1"))
    with pytest.raises(InvalidSqlFiles, match="without gaps"):
        files.migrations("db")


@pytest.mark.parametrize("text", ["SELECT 1", "-- name: a\nSELECT 1\n-- name: a\nSELECT 2"])
def test_a_statement_without_a_name_of_its_own_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidSqlFiles, match="name"):
        write(tmp_path, read=text).statements("db")


def test_the_files_that_come_with_the_program_are_complete() -> None:
    files = SqlFiles(sql_directory())
    assert set(files.statements("sqlite/service")) > {"append.head", "log.after"}
    assert set(files.statements("sqlite/actor")) > {"apply.put_root", "read.record"}
    assert files.migrations("sqlite/service")[0].name == files.migrations("sqlite/actor")[0].name == "initial"
