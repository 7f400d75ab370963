"""All actors' stores to the newest schema, one after the other: what opening each of them would do, done beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from stratos.atproto.syntax import Did
from stratos.storage.ports import ActorStores, StorageFault

PAGE: Final = 200
ROUNDS: Final = 3
"""How often one that fails is tried, the others in between: whoever held its tables may have let go."""


@dataclass(slots=True)
class Migrated:
    """How many stores were brought to the newest schema, and what stood in the way of the others."""

    done: int = 0
    failed: dict[Did, str] = field(default_factory=dict)


def migrate_actors(stores: ActorStores, *, progress: Callable[[int], None]) -> Migrated:
    """Migrate every store that is outdated; one that fails keeps no other from it.

    `progress` is told how many are done after each. May be interrupted at any moment and begun again, and run several times at
    once: each store is one transaction. Raises StorageFault where the stores cannot be listed.
    """
    outcome = Migrated()
    for _ in range(ROUNDS):
        outcome.failed.clear()
        for did in _outdated(stores):
            try:
                outcome.done += stores.migrate(did)
                progress(outcome.done)
            except StorageFault as fault:
                outcome.failed[did] = str(fault)
        if not outcome.failed:
            break
    return outcome


def _outdated(stores: ActorStores) -> Iterator[Did]:
    after: Did | None = None
    while page := stores.outdated(after=after, limit=PAGE):
        yield from page
        after = page[-1]
