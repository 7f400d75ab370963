"""Fixtures for tests of faults."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.faults.own_postgres import OwnPostgres


@pytest.fixture(scope="session")
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPostgres]:
    """A PostgreSQL that tests may stop and start; whoever stops it, starts it again."""
    if "XDG_RUNTIME_DIR" not in os.environ:
        # Read by the embedded server's package when it is imported; without it, it warns.
        os.environ["XDG_RUNTIME_DIR"] = str(tmp_path_factory.mktemp("runtime"))
    with OwnPostgres.running() as server:
        yield server
