"""A real engine upon a real SQLite backend, with a clock and a chance that the test holds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio

from stratos.storage.sqlite.backend import SqliteBackend
from tests.engine.builders import Engine, open_backend, start_engine
from tests.engine.shared_store import SharedBackend
from tests.postgres import postgres_database, postgres_url, service_database

__all__ = ["postgres_database", "postgres_url", "service_database"]


@pytest.fixture
def backend(data_dir: Path) -> Iterator[SqliteBackend]:
    """An open backend in an empty data directory."""
    backend = open_backend(data_dir)
    yield backend
    backend.close()


@pytest.fixture
async def engine(backend: SqliteBackend, nursery: trio.Nursery) -> AsyncIterator[Engine]:
    """A running engine; its log writer ends before the backend closes."""
    engine = await start_engine(backend, nursery)
    yield engine
    await engine.stop()


@pytest.fixture
def shared(data_dir: Path) -> Iterator[SharedBackend]:
    """A store that says that other processes use it too."""
    backend = SharedBackend.of(data_dir)
    yield backend
    backend.close()
