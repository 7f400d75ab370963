"""How tasks read the store: at once where a read is a call into this process, in a thread where it asks a server.

On SQLite a read takes some ten microseconds, and a thread hop would cost more than it saves (design §2). On PostgreSQL a read may
wait for a server that does not answer; then the event loop, and with it every stream, must go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

import trio

from stratos.atproto.syntax import Did
from stratos.storage.ports import ActorStore, ActorStores, RecordPath, StorageFault, StoredRecord

T = TypeVar("T")

QUEUE_SECONDS: Final = 5.0
"""How long a read waits for a thread: while a server is silent, each of them waits for it, much longer."""
PROBE_SECONDS: Final = 2.0
"""How long `promptly` waits for an answer."""


class StoreReads:
    """Makes reads for tasks, at most `threads` at the same time; with none, each is made at once on the event loop."""

    def __init__(self, actors: ActorStores, threads: int = 0) -> None:
        self._actors = actors
        self._limiter = trio.CapacityLimiter(threads) if threads else None
        self._probe = trio.CapacityLimiter(1)

    async def __call__(self, read: Callable[[], T]) -> T:
        """Make a read and give its result; what it raises passes through. One that has begun is awaited, also when cancelled.

        Raises StorageFault where no thread becomes free within `QUEUE_SECONDS`.
        """
        if self._limiter is None:
            return read()
        with trio.move_on_after(QUEUE_SECONDS):  # ends the waiting for a thread only
            return await trio.to_thread.run_sync(read, limiter=self._limiter)
        raise StorageFault("every thread that reads the store waits for it")

    async def promptly(self, read: Callable[[], T]) -> T:
        """Make a read whose answer is worth nothing if it comes late. Raises StorageFault after `PROBE_SECONDS`.

        It does not wait behind other reads, and what is still under way then is left alone, one such read at a time.
        """
        if self._limiter is None:
            return read()
        with trio.move_on_after(PROBE_SECONDS):
            return await trio.to_thread.run_sync(read, limiter=self._probe, abandon_on_cancel=True)
        raise StorageFault(f"the store did not answer within {PROBE_SECONDS:g} seconds")

    async def of_actor(self, did: Did, read: Callable[[ActorStore], T]) -> T | None:
        """Make a read of one actor's store; None where the DID has no repository. Raises StorageFault."""
        return await self(lambda: self._read_actor(did, read))

    async def records_at(self, asked: Mapping[Did, Sequence[RecordPath]]) -> Mapping[Did, Mapping[RecordPath, StoredRecord]]:
        """Read several records of several actors; a DID without repository is left out. Raises StorageFault."""
        return await self(lambda: self._actors.records_at(asked))

    def statistics(self) -> Mapping[str, int]:
        """Gauges: threads that read, tasks that wait for one, and the limit; zeros where reads are made at once."""
        if self._limiter is None:
            return {"reading": 0, "waiting": 0, "threads_limit": 0}
        state = self._limiter.statistics()
        return {"reading": state.borrowed_tokens, "waiting": state.tasks_waiting, "threads_limit": int(state.total_tokens)}

    def _read_actor(self, did: Did, read: Callable[[ActorStore], T]) -> T | None:
        with self._actors.open(did) as store:
            return None if store is None else read(store)
