"""The `backend` fixture, once for every kind of backend: a further kind is a further parameter here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol
from uuid import uuid4

import pytest

from stratos.resources import sql_directory
from stratos.storage.ports import Backend
from stratos.storage.postgres.backend import PostgresBackend
from stratos.storage.postgres.config import PostgresConfig
from stratos.storage.sql_files import SqlFiles
from stratos.storage.sqlite.backend import SqliteBackend
from tests.postgres import postgres_database, postgres_url, service_database
from tests.storage.builders import START

__all__ = ["postgres_database", "postgres_url", "service_database"]


SHIPPED: Final = SqlFiles(sql_directory())


class Storage(Protocol):
    """Persistent storage of one kind, empty at first, that can be opened again and again."""

    def open(self, *, max_open_actors: int = ..., sql: SqlFiles = ...) -> Backend:
        """Open it, with the SQL files of some version; the one opened before must be closed."""

    def close(self) -> None:
        """Close whatever is open."""


class SqliteStorage:
    """A data directory. `kind` may be a subclass that fails on purpose."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._opened: list[SqliteBackend] = []

    def open(
        self, kind: type[SqliteBackend] = SqliteBackend, *, max_open_actors: int = 8, sql: SqlFiles = SHIPPED
    ) -> SqliteBackend:
        """Open the data directory."""
        backend = kind.open(self.directory, sql=sql, max_open_actors=max_open_actors)
        self._opened.append(backend)
        return backend

    def close(self) -> None:
        """Close every backend that was opened here."""
        while self._opened:
            self._opened.pop().close()


@pytest.fixture
def sqlite_storage(data_dir: Path) -> Iterator[SqliteStorage]:
    """An empty data directory of the SQLite backend."""
    storage = SqliteStorage(data_dir)
    yield storage
    storage.close()


class PostgresStorage:
    """A database of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._opened: list[PostgresBackend] = []

    def open(self, *, max_open_actors: int = 8, sql: SqlFiles = SHIPPED, pool_size: int = 4) -> PostgresBackend:
        """Connect once more; others that are open stay so."""
        config = PostgresConfig(self.url, pool_size=pool_size, answer_timeout=10.0)
        writer = uuid4().hex
        backend = PostgresBackend.open(config, sql=sql, max_open_actors=max_open_actors, writer=writer, now=START)
        self._opened.append(backend)
        return backend

    def close(self) -> None:
        """Close every backend that was opened here."""
        while self._opened:
            self._opened.pop().close()


@pytest.fixture
def postgres_storage(postgres_database: str) -> Iterator[PostgresStorage]:
    """An empty PostgreSQL database."""
    storage = PostgresStorage(postgres_database)
    yield storage
    storage.close()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def storage(request: pytest.FixtureRequest) -> Storage:
    """Empty storage of each kind."""
    found: Storage = request.getfixturevalue(f"{request.param}_storage")
    return found


@pytest.fixture
def backend(storage: Storage) -> Backend:
    """An open, empty backend of each kind."""
    return storage.open()
