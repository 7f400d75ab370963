"""One lock per actor, held while a write of that actor is planned and appended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import trio

from stratos.atproto.syntax import Did


class ActorLocks:
    """FIFO locks by DID; one exists only while somebody holds it or waits for it."""

    def __init__(self) -> None:
        self._locks: dict[Did, trio.Lock] = {}

    @asynccontextmanager
    async def hold(self, did: Did) -> AsyncIterator[None]:
        """Hold the actor's lock for the block. Cancellation while waiting leaves nothing behind."""
        lock = self._locks.get(did)
        if lock is None:
            lock = self._locks[did] = trio.Lock()
        try:
            async with lock:
                yield
        finally:
            if not lock.locked() and self._locks.get(did) is lock:
                del self._locks[did]

    def statistics(self) -> Mapping[str, int]:
        """Gauges: locks in use, tasks waiting for one."""
        waiting = sum(lock.statistics().tasks_waiting for lock in self._locks.values())
        return {"held": len(self._locks), "waiting": waiting}
