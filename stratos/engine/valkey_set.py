"""The allow list as a Valkey (or Redis) set that other programs share. Needs the extra `valkey`; imported only where configured.

Each use opens a connection of its own: it is used by whoever is not on the list in memory, and a set that was away is there again
at once when it is back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from itertools import islice
from typing import Final

import trio
from coredis import Redis
from coredis.retry import NoRetryPolicy

from stratos.atproto.syntax import Did
from stratos.engine.allow_list import ListFault

MEMBERS_PER_COMMAND: Final = 1_000
MAX_CONNECTIONS: Final = 8
ANSWER_SECONDS: Final = 2.0
"""To connect and learn whether a DID is a member, with the wait for one of the connections."""
REPLACE_SECONDS: Final = 60.0
_NAME_OF_SCHEME: Final = {"valkey": "redis", "valkeys": "rediss"}
"""What coredis calls them."""


class ValkeySet:
    """One set at one server. Raises ListFault, never with the address, which may hold a password."""

    def __init__(self, url: str, name: str) -> None:
        scheme, colon, rest = url.partition(":")
        self._url = f"{_NAME_OF_SCHEME.get(scheme, scheme)}{colon}{rest}"
        self._name = name
        self._room = trio.CapacityLimiter(MAX_CONNECTIONS)

    async def replace(self, dids: Collection[Did]) -> None:
        """Make these its members, in several commands: whoever asks in between may find some missing. Raises ListFault."""
        remaining = iter(dids)
        async with self._connected(REPLACE_SECONDS) as client:
            await client.delete([self._name])
            while chunk := list(islice(remaining, MEMBERS_PER_COMMAND)):
                await client.sadd(self._name, chunk)

    async def contains(self, did: Did) -> bool:
        """Whether the set has this member. Raises ListFault."""
        async with self._connected(ANSWER_SECONDS) as client:
            found = await client.sismember(self._name, did)
        return found  # noqa: RET504 - inside, mypy would take the block for one that may swallow its exceptions

    @asynccontextmanager
    async def _connected(self, seconds: float) -> AsyncIterator[Redis[bytes]]:
        try:
            with trio.fail_after(seconds):
                async with self._room, Redis.from_url(self._url, retry_policy=NoRetryPolicy()) as client:
                    yield client
        except trio.TooSlowError as error:
            raise ListFault(f"the set {self._name} did not answer within {seconds:g} s") from error
        except Exception as error:  # coredis raises whatever a server's answer provokes, bare or in groups
            raise ListFault(f"the set {self._name} cannot be asked: {type(error).__name__}") from error
