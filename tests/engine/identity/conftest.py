"""A small internet on loopback: name server, web servers with and without TLS, and clients that take 127.0.0.1 for public."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from tests.engine.identity.certificates import Authority
from tests.engine.identity.internet import HOSTS, Internet, open_internet


@pytest.fixture(scope="session")
def authority() -> Authority:
    """Everybody's certificates."""
    return Authority(HOSTS, ["127.0.0.1"])


@pytest.fixture
async def internet(authority: Authority, nursery: trio.Nursery) -> AsyncIterator[Internet]:
    """The running internet."""
    async with open_internet(authority, nursery) as internet:
        yield internet
