"""Port of everything that is sealed under the master key, for sealing it anew; the store never looks into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class SealedKind(StrEnum):
    """What a sealed value is."""

    SIGNING_KEY = "signing key"
    SESSION = "OAuth session"
    STATE = "OAuth state"


@dataclass(frozen=True, slots=True)
class SealedValue:
    """A sealed value, and whose it is: a DID, or the state of an authorization that has begun."""

    kind: SealedKind
    owner: str
    sealed: bytes = field(repr=False)


class SealedValues(Protocol):
    """Keys, OAuth sessions and states. Every call is one durable transaction, and raises StorageFault."""

    def count(self) -> int:
        """How many values there are."""

    def page(self, kind: SealedKind, *, after: str | None, limit: int) -> Sequence[SealedValue]:
        """Values of one kind in the order of their owners, exclusive of `after`."""

    def replace(self, changes: Sequence[tuple[SealedValue, bytes]]) -> int:
        """Put values in place of others, all or none; how many. One that is not there any more as it was read is left alone."""
