"""The outbox: what may have to be done on accounts' PDSes, kept until it is done. Decisions: docs/adr/0012-publisher.md.

Work is keyed by account and path, and says only *where* to look; what to do is seen when it is done, so later work upon a path
takes the place of earlier work. An account with work is *due* at some moment, or *parked* until somebody signs in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from stratos.atproto.syntax import Did

PUBLISHER: Final = "publisher"
"""The consumer whose cursor moves with the outbox."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something changed at `path` of an account, at a moment.

    `wake` makes a parked or postponed account due at once; `only` drops all other work of the account first.
    """

    did: Did
    path: str
    at: datetime
    wake: bool = False
    only: bool = False


@dataclass(frozen=True, slots=True)
class DueAccount:
    """An account whose turn has come.

    `pds` is where it was last known to be, empty while we never had a session of it. `failures` counts those since its last
    success. `generation` changes with every mark.
    """

    did: Did
    pds: str
    failures: int
    generation: int


@dataclass(frozen=True, slots=True)
class WorkItem:
    """A path to look at. It was marked first at `since` and last at `marked`; `generation` tells whether it was marked again."""

    did: Did
    path: str
    generation: int
    since: datetime
    marked: datetime


@dataclass(frozen=True, slots=True)
class BlockedItem:
    """Work that the PDS refuses for good, until its path is marked again or the operator asks to try again."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class AccountWork:
    """Where an account with unfinished work stands. `items` counts all of it, `blocked` lists the first refused ones."""

    did: Did
    pds: str
    due: datetime | None
    failures: int
    parked: str | None
    last_error: str | None
    items: int
    since: datetime
    blocked: tuple[BlockedItem, ...]


@dataclass(frozen=True, slots=True)
class OutboxCounts:
    """Gauges. `pending`, `parked` and `blocked` are items, `failing` accounts that failed at least so often in a row.

    `oldest` is the first mark among the pending ones.
    """

    pending: int
    parked: int
    blocked: int
    failing: int
    oldest: datetime | None


class Outbox(Protocol):
    """Every method is one durable transaction."""

    def advance(self, seq: int, marks: Sequence[Mark], *, now: datetime) -> None:
        """Move the publisher's cursor to `seq` and keep the marks, in one transaction (I5)."""

    def mark(self, marks: Sequence[Mark], *, now: datetime) -> None:
        """Keep marks that come from elsewhere than the log."""

    def due(self, now: datetime, *, limit: int, per_pds: int) -> list[DueAccount]:
        """Accounts that are due, the longest waiting first, at most `per_pds` of each PDS."""

    def next_due(self, after: datetime) -> datetime | None:
        """When the first account becomes due after a moment."""

    def items(self, did: Did, *, first: str | None, last: tuple[str, str] | None, limit: int) -> list[WorkItem]:
        """Work of an account that is not blocked: `first`, what failed least in the order of its marks, `last` in that order."""

    def done(self, item: WorkItem) -> None:
        """Take an item out unless it was marked again; the account's failures begin at zero again."""

    def block(self, item: WorkItem, reason: str) -> None:
        """Set an item aside as refused, unless it was marked again. As with `done`, the account's failures end."""

    def postpone(self, item: WorkItem, until: datetime, *, failures: int, reason: str) -> None:
        """The account is due again at a moment; the item goes behind its others. `failures` is the account's new count."""

    def rest(self, did: Did, now: datetime) -> None:
        """End an account's turn: it stands at the end of the line if there is more to do, else in none."""

    def settle(self, did: Did, pds: str) -> None:
        """Remember where an account is."""

    def park(self, account: DueAccount, reason: str) -> None:
        """The account waits for a mark that wakes it, unless it was marked since it was found due."""

    def forget(self, item: WorkItem) -> None:
        """As `done`; an account without further work is forgotten as well."""

    def unpark_all(self, now: datetime) -> None:
        """Make every parked account due."""

    def hurry(self, did: Did | None, now: datetime) -> int:
        """Make an account, or all, due now whatever stood in the way: blocked, parked or postponed. How many have work."""

    def page(self, *, after: Did | None, limit: int, blocked: int) -> list[AccountWork]:
        """Accounts with work in the order of their DIDs, exclusive of `after`, each with up to `blocked` blocked items."""

    def counts(self, failures: int) -> OutboxCounts:
        """Gauges; `failures` is from when on an account counts as failing."""
