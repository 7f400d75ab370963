"""Sealing everything anew under the current master key. Decisions: docs/adr/0013-key-rotation.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from stratos.atproto.syntax import Did
from stratos.engine.key_files import KeyFault
from stratos.engine.keyring import Keyring
from stratos.engine.oauth.vault import session_context, state_context
from stratos.storage.sealed_port import SealedKind, SealedValue, SealedValues

PAGE: Final = 500
"""Values sealed anew in one transaction."""
PASSES: Final = 10
"""More would mean that somebody goes on sealing with the former key."""

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Resealed:
    """What came of it: values sealed anew, and those that no known key opens, by what and whose they are."""

    resealed: int
    unreadable: tuple[str, ...]


class StillSealing(Exception):
    """Another process goes on sealing with the former key."""


def reseal(values: SealedValues, keyring: Keyring, *, progress: Progress, page: int = PAGE) -> Resealed:
    """Seal under the current master key whatever is not; `progress` is told of values that were looked at for the first time.

    May be done while services use the store that open both keys, and again after it was interrupted: a value is replaced only
    while it is as it was read. Looks through everything until it finds nothing more to do. Raises StorageFault, StillSealing.
    """
    resealed = 0
    for number in range(PASSES):
        unreadable: list[str] = []
        found = 0
        for batch in _pages(values, page):
            changes: list[tuple[SealedValue, bytes]] = []
            for value in batch:
                if keyring.sealer.is_current(value.sealed):
                    continue
                try:
                    changes.append((value, sealed_anew(keyring, value)))
                except KeyFault as fault:
                    unreadable.append(str(fault) if value.kind is not SealedKind.STATE else "an authorization that has begun")
            if changes:
                resealed += values.replace(changes)
            found += len(changes)
            progress(len(batch) if number == 0 else 0)
        if not found:
            return Resealed(resealed, tuple(unreadable))
    raise StillSealing("values are still being sealed with the former key: every process has to know the new one first")


def sealed_anew(keyring: Keyring, value: SealedValue) -> bytes:
    """A value as the current key seals it. Raises KeyFault where no known key opens it."""
    if value.kind is SealedKind.SIGNING_KEY:
        did = Did(value.owner)
        return keyring.seal(did, keyring.open(did, value.sealed))
    context = session_context(Did(value.owner)) if value.kind is SealedKind.SESSION else state_context(value.owner)
    return keyring.sealer.seal(keyring.sealer.open(value.sealed, context), context)


def check_master_key(values: SealedValues, keyring: Keyring, source: str) -> None:
    """Refuse to begin with a master key that does not open what is stored. Raises KeyFault naming its source, StorageFault."""
    for value in values.page(SealedKind.SIGNING_KEY, after=None, limit=1):
        try:
            keyring.open(Did(value.owner), value.sealed)
        except KeyFault as fault:
            raise KeyFault(f"{source}: is not the key that the stored keys are sealed with ({fault})") from fault


def _pages(values: SealedValues, limit: int) -> Iterator[list[SealedValue]]:
    for kind in SealedKind:
        after: str | None = None
        while True:
            batch = list(values.page(kind, after=after, limit=limit))
            if batch:
                yield batch
            if len(batch) < limit:
                break
            after = batch[-1].owner
