"""The real application upon a real engine and a real socket on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.builders import Api, serving
from tests.engine.builders import EDITORS, KAORUKO, REI, SAKURA, WRITERS


@pytest.fixture
async def api(data_dir: Path) -> AsyncIterator[Api]:
    """A served application where Rei is enrolled with writers and editors, Sakura with writers, Kaoruko with editors."""
    async with serving(data_dir) as api:
        await api.engine.enroll(REI, WRITERS, EDITORS)
        await api.engine.enroll(SAKURA, WRITERS)
        await api.engine.enroll(KAORUKO, EDITORS)
        yield api
