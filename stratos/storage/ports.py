"""Ports of persistence: what the engine and the API may ask of a backend.

Every method is synchronous and is one store transaction. SQLite is the first twin, PostgreSQL the second; one contract suite runs
against both. Reads may be called from any thread; `Backend.commit` only from the log-writer thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias

from stratos.atproto.cid import Cid
from stratos.atproto.syntax import Did, Tid
from stratos.core.enrollment import Enrollment
from stratos.core.key_history import SigningKeyPeriod
from stratos.core.log_entry import EntryKind, LoggedEntry, Proposal
from stratos.storage.oauth_port import OAuthStore
from stratos.storage.outbox_port import Outbox
from stratos.storage.sealed_port import SealedValues

RecordPath: TypeAlias = tuple[str, str]
"""Where a record is in its repository: collection and rkey."""


class StorageFault(Exception):
    """The store could not do its work (disk, connection, corruption); nothing that was acknowledged is lost."""


class OutcomeUnknown(StorageFault):
    """A batch was sent to a server that did not answer: it may be in the log, and then shows there. Read before writing again."""


class DataDirectoryInUse(Exception):
    """Another process has the data directory open."""


@dataclass(frozen=True, slots=True)
class Appended:
    """A proposal is durable: its entries as logged, in order, and the last `seq` of the log before them, whoever wrote that."""

    entries: tuple[LoggedEntry, ...]
    after: int


@dataclass(frozen=True, slots=True)
class HeadMoved:
    """A proposal was left out: the actor's head is no longer the one it was planned upon. Plan again."""

    did: Did


AppendOutcome = Appended | HeadMoved


@dataclass(frozen=True, slots=True)
class RepoHead:
    """The log's view of one repository: what `listRepos` answers. `active` follows the enrollment."""

    did: Did
    commit: Cid
    rev: Tid
    seq: int
    active: bool


@dataclass(frozen=True, slots=True)
class RepoRoot:
    """The actor store's own root: the last commit applied to it and that commit's `seq`."""

    commit: Cid
    rev: Tid
    seq: int


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record as stored: its block is DAG-CBOR and hashes to `cid`."""

    collection: str
    rkey: str
    cid: Cid
    rev: Tid
    block: bytes


@dataclass(frozen=True, slots=True)
class SchemaCounts:
    """How many actors' stores lack migrations, and how many were written by a newer program."""

    outdated: int
    newer: int


class ActorStore(Protocol):
    """One actor's repository, open and caught up with the log.

    When the actor is purged while the store is open, every read raises StorageFault from then on.
    """

    def root(self) -> RepoRoot:
        """The current root."""

    def snapshot(self) -> AbstractContextManager[None]:
        """All reads of the block see one moment, whatever is applied meanwhile.

        For reads that belong together, such as the nodes of a proof. Not to be held across an await: other threads' reads of this
        store wait.
        """

    def block(self, cid: Cid) -> bytes | None:
        """The bytes of one reachable block."""

    def blocks(self, cids: Sequence[Cid]) -> Mapping[Cid, bytes]:
        """The bytes of several blocks in one query; what is missing is left out."""

    def record(self, collection: str, rkey: str) -> StoredRecord | None:
        """One record; None where it is absent or taken down."""

    def records_at(self, paths: Sequence[RecordPath]) -> Mapping[RecordPath, StoredRecord]:
        """Several records by (collection, rkey) in one query; what is missing or taken down is left out."""

    def records(self, collection: str, *, limit: int, after: str | None = None, reverse: bool = False) -> list[StoredRecord]:
        """A page of a collection, rkey descending (`reverse`: ascending), `after` an exclusive rkey in that direction."""

    def collections(self) -> list[str]:
        """The distinct collections present, ascending."""

    def record_count(self) -> int:
        """How many records the repository holds."""

    def nodes(self) -> NodeCache:
        """A bounded cache of decoded blocks, MST nodes above all, that lives and dies with this open store."""


class NodeCache(Protocol):
    """A bounded mapping from a block's CID to what was decoded from it, safe to lose at any moment."""

    def get(self, cid: Cid) -> object | None:
        """The node, if it is cached."""

    def put(self, cid: Cid, node: object) -> None:
        """Remember a node; the least recently used one leaves when the cache is full."""


class RepoExport(Protocol):
    """A consistent picture of one repository for export, on a connection of its own."""

    @property
    def root(self) -> RepoRoot:
        """The root of the picture."""

    def pages(self, since: Tid | None) -> Iterator[list[tuple[Cid, bytes]]]:
        """All blocks (with `since`: those of later revs, none when there is no later one), the commit block first, in pages of
        bounded bytes. Raises StorageFault when the actor is purged meanwhile."""


class ActorStores(Protocol):
    """All actors' stores, with a bounded number of open ones."""

    def open(self, did: Did) -> AbstractContextManager[ActorStore | None]:
        """Open and pin an actor's store for the block; None where the DID has no repository.

        A store that is behind the log is brought up to date first (I3). Raises StorageFault.
        """

    def records_at(self, asked: Mapping[Did, Sequence[RecordPath]]) -> Mapping[Did, Mapping[RecordPath, StoredRecord]]:
        """Several records of several actors, as each store's `records_at`; a DID without repository is left out.

        Each actor's records are of one moment, different actors' may not be. Raises StorageFault.
        """

    def export(self, did: Did) -> AbstractContextManager[RepoExport | None]:
        """Open a consistent picture for export; None where the DID has no repository."""

    def checkpoint(self, did: Did) -> None:
        """Make everything applied so far durable in the store's own file, so that its log entries may be trimmed."""

    def schemas(self) -> SchemaCounts:
        """How far the stores are from the newest schema; looks at every one of them."""

    def outdated(self, *, after: Did | None, limit: int) -> list[Did]:
        """Actors whose stores lack migrations, in DID order, exclusive of `after`."""

    def migrate(self, did: Did) -> bool:
        """Bring one store to the newest schema in one transaction, as opening it does; whether there was anything to do.

        Raises StorageFault, also when somebody uses the store for too long.
        """

    def statistics(self) -> Mapping[str, int]:
        """Gauges: open stores, the limit, cached nodes, stores that are behind the log."""


class Enrollments(Protocol):
    """Reads of enrollment; changes travel through `Backend.commit` as EnrollmentEntry. Boundaries read back ascending."""

    def get(self, did: Did) -> Enrollment | None:
        """The enrollment of a DID, active or not; never one that was replaced more than a second ago (I9)."""

    def at_hand(self, did: Did) -> bool:
        """Whether `get` would answer without asking a server."""

    def current(self, did: Did) -> Enrollment | None:
        """The enrollment of a DID as it is at this moment; `get` and `sealed_key` know it from then on."""

    def page(self, *, after: Did | None, limit: int, active_only: bool = False) -> list[Enrollment]:
        """Enrollments in DID order, exclusive of `after`."""

    def count(self) -> int:
        """How many active enrollments there are."""

    def sealed_key(self, did: Did) -> bytes | None:
        """The account's current sealed signing key."""

    def signing_keys(self, did: Did) -> list[SigningKeyPeriod]:
        """Every key that the account has signed with here, the oldest first, as it is at this moment."""

    def statistics(self) -> Mapping[str, int]:
        """Gauges: `active` enrollments as of the last `count`, and those of any cache with its limit. Asks no server."""


class Log(Protocol):
    """Reads and housekeeping of the commit log."""

    def head(self) -> int:
        """The last `seq` handed out; 0 for none."""

    def after(
        self,
        cursor: int,
        *,
        limit: int,
        max_bytes: int,
        did: Did | None = None,
        kind: EntryKind | None = None,
    ) -> list[LoggedEntry]:
        """Retained entries with `seq > cursor`, ascending; at least one if there is any, then up to either limit."""

    def outdated(self, cursor: int, did: Did | None = None) -> bool:
        """Whether an entry (of `did`) after the cursor has been trimmed."""

    def repo_head(self, did: Did) -> RepoHead | None:
        """The head of one repository as the log knows it."""

    def repo_heads(self, *, after: Did | None, limit: int) -> list[RepoHead]:
        """Heads in DID order, exclusive of `after`."""

    def trimmable(self, *, before: datetime, limit: int, after: Did | None = None) -> list[Did]:
        """Actors with entries older than `before` whose store must be checkpointed before these may go.

        In DID order, exclusive of `after`, so that one whose store cannot be checkpointed does not keep the others from it.
        """

    def trim(self, *, before: datetime, limit: int) -> int:
        """Delete up to `limit` entries older than `before`, only where the actor's store is checkpointed past them and every
        consumer cursor is past them; returns how many went."""


class ConsumerCursors(Protocol):
    """Durable positions of internal consumers of the log."""

    def get(self, consumer: str) -> int | None:
        """The last `seq` that the consumer has handled."""

    def save(self, consumer: str, seq: int) -> None:
        """Remember a position; never moves backwards."""


class Wakeups(Protocol):
    """A connection on which other processes' commits announce themselves. What it tells is only that it is worth looking."""

    def fileno(self) -> int:
        """Readable when something may have arrived."""

    def drain(self) -> int:
        """Take what has arrived, without waiting: the highest `seq` announced, 0 for nothing.

        Raises StorageFault when the connection is lost.
        """

    def close(self) -> None:
        """Close the connection; a second call does nothing."""


class Leadership(Protocol):
    """A named right that one holder of all processes has at a time; it ends with its holder's connection."""

    def acquire(self) -> bool:
        """Try to get it, without waiting for another holder. Raises StorageFault."""

    def held(self) -> bool:
        """Whether it is still ours, asked of the server; False when the connection is lost."""

    def release(self) -> None:
        """Give it back and close the connection, waiting for nobody; a second call does nothing."""


class Backend(Protocol):
    """One open backend."""

    @property
    def shared(self) -> bool:
        """Whether other processes may use the same store at the same time."""

    @property
    def actors(self) -> ActorStores: ...
    @property
    def enrollments(self) -> Enrollments: ...
    @property
    def log(self) -> Log: ...
    @property
    def cursors(self) -> ConsumerCursors: ...
    @property
    def outbox(self) -> Outbox: ...
    @property
    def oauth(self) -> OAuthStore: ...
    @property
    def sealed(self) -> SealedValues: ...

    def commit(self, batch: Sequence[Proposal], *, now: datetime) -> list[AppendOutcome]:
        """Append a batch in one durable transaction, then apply it to the actor stores; outcomes in order.

        `seq = max(last + 1, microseconds of now)`. A proposal is left out (HeadMoved) when one of its commits was planned upon
        another head, has a rev that is not above every rev that the DID ever had here, is signed with another key than the
        account's, or belongs to an account without an enrollment at that point of the log. A failed apply is not a failed commit:
        the store is marked behind and caught up at its next opening. Raises StorageFault when nothing was appended.
        """

    def wakeups(self) -> Wakeups | None:
        """Listen for the commits of all processes, on a connection of its own; None where there is one process only.

        Raises StorageFault.
        """

    def leadership(self, name: str) -> Leadership:
        """The right of this name, not acquired yet; of a store that is not shared, everybody has every right."""

    def check(self) -> None:
        """Answer a trivial query. Raises StorageFault."""

    def close(self) -> None:
        """Close every connection and release the data directory."""
