"""The table of open actor stores: bounded, least recently used first out, pinned ones excepted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock, RLock

from stratos.atproto.syntax import Did
from stratos.storage.ports import StorageFault
from stratos.storage.sqlite.actor_database import ActorDatabase
from stratos.storage.sqlite.actor_store import SqliteActorStore


@dataclass(eq=False, slots=True)
class Slot:
    """The place of one actor's store while somebody uses it or it is kept open.

    `lock` guards opening, writing, closing and removing: whatever touches the actor's files as such happens under it, so that
    there is never a second handle on files that are being closed or removed. `store` is set once the store has caught up, and may
    be read without the lock by whoever has the slot pinned. `behind` says that an apply or a catching up failed since.
    `pins` and `closing` belong to the table.
    """

    lock: RLock = field(default_factory=RLock)
    database: ActorDatabase | None = None
    store: SqliteActorStore | None = None
    behind: bool = False
    pins: int = 0
    closing: bool = False

    def close(self) -> None:
        """Close the store, if it is open. Called with the lock held; reads under way in other threads fail from here on."""
        database = self._emptied()
        if database is not None:
            database.close()

    def lay_aside(self) -> None:
        """Close the store as `close` does, but without waiting for the disk where that can be put off."""
        database = self._emptied()
        if database is not None:
            database.lay_aside()

    def _emptied(self) -> ActorDatabase | None:
        database, self.database, self.store, self.behind = self.database, None, None, False
        return database


class SlotTable:
    """Slots by DID. More than `limit` stores are open only while all of them are pinned."""

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError("at least one store must be allowed to stay open")
        self.limit = limit
        self._lock = Lock()
        self._slots: OrderedDict[Did, Slot] = OrderedDict()
        self._closed = False
        self._evicted = 0

    @property
    def evicted(self) -> int:
        """How many stores were closed to keep to the limit."""
        return self._evicted

    @contextmanager
    def pinned(self, did: Did) -> Iterator[Slot]:
        """The slot of a DID, not evicted during the block. Raises StorageFault once the table is closed."""
        with self._lock:
            if self._closed:
                raise StorageFault("the actor stores are closed")
            slot = self._slots.get(did)
            if slot is None:
                slot = self._slots[did] = Slot()
            else:
                self._slots.move_to_end(did)
            slot.pins += 1
        try:
            yield slot
        finally:
            self._unpin(did, slot)

    def slots(self) -> list[Slot]:
        """Every slot at this moment."""
        with self._lock:
            return list(self._slots.values())

    def close(self) -> None:
        """Close every store, pinned or not; a second call does nothing."""
        with self._lock:
            self._closed = True
            slots, self._slots = self._slots, OrderedDict()
        for slot in slots.values():
            with slot.lock:
                slot.close()

    def _unpin(self, did: Did, slot: Slot) -> None:
        with self._lock:
            slot.pins -= 1
            self._drop_if_empty(did, slot)
            victims = self._victims()
        for victim_did, victim in victims:
            try:
                victim.lay_aside()
            finally:
                victim.lock.release()
            with self._lock:
                victim.closing = False
                self._drop_if_empty(victim_did, victim)

    def _victims(self) -> list[tuple[Did, Slot]]:
        """Unpinned slots beyond the limit, each with its lock taken: whoever pins one meanwhile waits until it is closed."""
        if len(self._slots) <= self.limit:
            return []
        candidates = [(did, slot) for did, slot in self._slots.items() if not slot.closing]
        excess = max(0, len(candidates) - self.limit)
        victims = [(did, slot) for did, slot in candidates if slot.pins == 0][:excess]
        for _, slot in victims:
            slot.lock.acquire()  # without waiting: only those who have the slot pinned hold it
            slot.store, slot.closing = None, True
        self._evicted += len(victims)
        return victims

    def _drop_if_empty(self, did: Did, slot: Slot) -> None:
        if slot.pins == 0 and not slot.closing and slot.database is None and not slot.behind and self._slots.get(did) is slot:
            del self._slots[did]
