"""Holding an account's affairs exclusively: against everybody in this process, and against the other processes of one store.

For what is read, decided and written back: an enrollment, an OAuth session. Writes of records need no such lock between
processes; a commit that was planned upon another head is left out by the store, and planned again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from stratos.atproto.syntax import Did
from stratos.engine.actor_locks import ActorLocks
from stratos.engine.store_reads import StoreReads
from stratos.storage.ports import Backend, Leadership, StorageFault

FIRST_WAIT: Final = 0.01
LONGEST_WAIT: Final = 0.25
PATIENCE: Final = 20.0
"""Seconds between attempts to get what another process holds, and after which to give up."""


class AccountLocks:
    """Locks by purpose and DID. The local lock comes first, so that one process asks the server for a right once at a time."""

    def __init__(self, purpose: str, locks: ActorLocks, *, backend: Backend, reads: StoreReads) -> None:
        self._purpose = purpose
        self._locks = locks
        self._backend = backend
        self._reads = reads

    @asynccontextmanager
    async def hold(self, did: Did) -> AsyncIterator[None]:
        """Hold the account for the block. Raises StorageFault where another process does not let go in time."""
        async with self._locks.hold(did):
            if not self._backend.shared:
                yield
                return
            right = self._backend.leadership(f"{self._purpose}:{did}")
            try:
                await self._acquire(right, did)
                yield
            finally:
                right.release()

    async def _acquire(self, right: Leadership, did: Did) -> None:
        wait = FIRST_WAIT
        with trio.move_on_after(PATIENCE):
            while not await self._reads(right.acquire):
                await trio.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)
            return
        raise StorageFault(f"another process holds the {self._purpose} of {did}")
