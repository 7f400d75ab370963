"""Enrollments and sealed keys that were read, kept until the one process that writes them changes them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

from stratos.atproto.syntax import Did
from stratos.core.enrollment import Enrollment


@dataclass(frozen=True, slots=True)
class Held:
    """What the database says of a DID: None where it has no enrollment, or no key."""

    enrollment: Enrollment | None
    sealed_key: bytes | None


class EnrollmentCache:
    """A bounded cache that never outlives a change (I9).

    A reader takes the `generation` before it reads the database and hands it to `put`: what was read before a change is not kept
    after it.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = Lock()
        self._held: OrderedDict[Did, Held] = OrderedDict()
        self._generation = 0

    def get(self, did: Did) -> tuple[Held | None, int]:
        """What is held of the DID, and the generation to read under where that is nothing."""
        with self._lock:
            held = self._held.get(did)
            if held is not None:
                self._held.move_to_end(did)
            return held, self._generation

    def put(self, did: Did, held: Held, generation: int) -> None:
        """Keep what was read, unless something changed since; the least recently used leaves when there are too many."""
        with self._lock:
            if generation == self._generation:
                self._held[did] = held
                if len(self._held) > self._limit:
                    self._held.popitem(last=False)

    def forget(self, did: Did) -> None:
        """The DID's rows have changed: the next reader asks the database."""
        with self._lock:
            self._generation += 1
            self._held.pop(did, None)

    def __len__(self) -> int:
        return len(self._held)
