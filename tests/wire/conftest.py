"""The one service that all hostile input goes to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.wire.service import Wire, serving


@pytest.fixture(scope="session")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """A running service with the probe in it; after everything it still stops cleanly."""
    with serving(tmp_path_factory.mktemp("wire")) as wire:
        yield wire
        assert wire.stop() == 0
