"""A real engine upon a real backend of each kind, with a clock and a chance that the test holds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest
import trio

from stratos.storage.ports import Backend
from tests.engine.builders import Engine, start_engine
from tests.engine.shared_store import SharedBackend
from tests.postgres import postgres_database, postgres_url, service_database
from tests.storage.conftest import Storage, postgres_storage, sqlite_storage, storage

__all__ = ["postgres_database", "postgres_storage", "postgres_url", "service_database", "sqlite_storage", "storage"]


ON_SQLITE: Final = pytest.mark.parametrize("storage", ["sqlite"], indirect=True)
"""For what only files have, or what a further store would say nothing about."""


@pytest.fixture
def backend(storage: Storage) -> Backend:
    """An open, empty backend of each kind.

    SQLite alone where a test is about what PostgreSQL has not: stores that are behind the log or still to be checkpointed
    (`ON_SQLITE`), or about PDSes that are away, to whose hours of virtual time the store adds nothing but seconds of ours; and
    the faults that `shared_store.py` plays, which tests/faults makes really on PostgreSQL.
    """
    return storage.open()


@pytest.fixture
async def engine(backend: Backend, nursery: trio.Nursery) -> AsyncIterator[Engine]:
    """A running engine; its log writer ends before the backend closes."""
    engine = await start_engine(backend, nursery)
    yield engine
    await engine.stop()


@pytest.fixture(params=["shared", pytest.param("postgres", marks=pytest.mark.slow)])
def stores(request: pytest.FixtureRequest) -> tuple[Backend, Backend]:
    """One store as two processes have it: two backends on PostgreSQL, and the `shared` one twice."""
    if request.param == "postgres":
        storage: Storage = request.getfixturevalue("postgres_storage")
        return storage.open(), storage.open()
    shared: SharedBackend = request.getfixturevalue("shared")
    return shared, shared


@pytest.fixture
def shared(data_dir: Path) -> Iterator[SharedBackend]:
    """A store that says that other processes use it too."""
    backend = SharedBackend.of(data_dir)
    yield backend
    backend.close()
