"""Builders of real log entries: signed commits over real trees, as the repository writer would plan them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from stratos.atproto import dag_cbor
from stratos.atproto.cid import Cid
from stratos.atproto.commit import sign_commit
from stratos.atproto.dag_cbor import DataModel
from stratos.atproto.keys import SigningKey
from stratos.atproto.mst import EMPTY_MST_ROOT, Mst
from stratos.atproto.syntax import Did, Tid, format_datetime
from stratos.atproto.tid import tid_from, tid_time_us
from stratos.core.boundaries import Boundary, record_boundaries
from stratos.core.enrollment import Enrollment
from stratos.core.log_entry import Action, CommitEntry, EnrollmentAction, EnrollmentEntry, Entry, Proposal, RecordOp

POSTS: Final = "zone.stratos.feed.post"
SERVICE_URL: Final = "https://stratos.example.com"
WRITERS: Final = Boundary("did:web:stratos.example.com/writers")
READERS: Final = Boundary("did:web:stratos.example.com/readers")
START: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def did_of(name: str) -> Did:
    """A did:plc made of a name in base32 letters."""
    return Did(f"did:plc:{name:a<24}")


def post(text: str, *boundaries: Boundary, created_at: str = "2026-01-02T03:04:05.678Z") -> dict[str, DataModel]:
    """A post record, visible in the given boundaries."""
    record: dict[str, DataModel] = {"$type": POSTS, "text": text, "createdAt": created_at}
    if boundaries:
        record["boundary"] = {
            "$type": "zone.stratos.boundary.defs#Domains",
            "values": [{"value": boundary} for boundary in boundaries],
        }
    return record


@dataclass(frozen=True, slots=True)
class Put:
    """Create or replace the record at `path`."""

    path: str
    record: dict[str, DataModel]


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete the record at `path`."""

    path: str


@dataclass(eq=False, slots=True)
class RepoBuilder:
    """One actor's repository in memory, and the entries that take it from head to head.

    Every entry built counts as appended: the next one follows it. `copy` makes a second history from here. `records` and `blocks`
    are what a store must hold after all entries built so far.
    """

    did: Did
    key: SigningKey = field(default_factory=SigningKey.generate_p256)
    boundaries: tuple[Boundary, ...] = (WRITERS,)
    commit: Cid | None = None
    rev: Tid | None = None
    last_us: int = 1_767_000_000_000_000
    records: dict[str, bytes] = field(default_factory=dict)
    blocks: dict[Cid, bytes] = field(default_factory=dict)

    def block(self, cid: Cid) -> bytes | None:
        """The block source of the tree."""
        return self.blocks.get(cid)

    def copy(self) -> RepoBuilder:
        """A builder that goes on from here without this one noticing."""
        return RepoBuilder(
            self.did,
            self.key,
            self.boundaries,
            self.commit,
            self.rev,
            self.last_us,
            dict(self.records),
            dict(self.blocks),
        )

    def restarted(self) -> RepoBuilder:
        """An empty repository of the same DID with a new key and later revs: an account that enrolls again."""
        return RepoBuilder(self.did, boundaries=self.boundaries, last_us=self.last_us)

    def enrollment(self, *, active: bool = True) -> Enrollment:
        """The account's enrollment."""
        return Enrollment(
            did=self.did,
            boundaries=self.boundaries,
            enrolled_at=format_datetime(START),
            active=active,
            signing_key=self.key.did_key,
        )

    def enroll(self, *, sealed_key: bytes | None = b"sealed", active: bool = True) -> EnrollmentEntry:
        """The entry that enrolls the account, or changes its enrollment."""
        enrollment = self.enrollment(active=active)
        return EnrollmentEntry(self.did, EnrollmentAction.ENROLL, SERVICE_URL, enrollment, sealed_key)

    def unenroll(self) -> EnrollmentEntry:
        """The entry that ends the enrollment for good."""
        return EnrollmentEntry(self.did, EnrollmentAction.UNENROLL, SERVICE_URL)

    def proposal(self, *entries: Entry) -> Proposal:
        """Entries of this DID, to be appended together."""
        return Proposal(self.did, entries)

    def enrolled(self) -> Proposal:
        """What enrolling proposes: the enrollment with its key, and the empty first commit."""
        return self.proposal(self.enroll(), self.entry())

    def create(self, collection: str, rkey: str, record: dict[str, DataModel]) -> CommitEntry:
        """A commit that creates one record."""
        return self.entry(Put(f"{collection}/{rkey}", record))

    def update(self, collection: str, rkey: str, record: dict[str, DataModel]) -> CommitEntry:
        """A commit that replaces one record."""
        return self.entry(Put(f"{collection}/{rkey}", record))

    def delete(self, collection: str, rkey: str) -> CommitEntry:
        """A commit that deletes one record."""
        return self.entry(Remove(f"{collection}/{rkey}"))

    def entry(self, *writes: Put | Remove) -> CommitEntry:
        """One signed commit with all these writes; without any, a commit of the tree as it is."""
        tree = Mst.open(self._tree_root(), self) if self.commit else Mst.empty()
        ops = tuple(self._operation(tree, write) for write in writes)
        change = tree.change()
        since, previous = self.rev, self.commit
        self.last_us += 1
        rev = tid_from(self.last_us, 7)
        signed = sign_commit(self.did, rev, change.root, self.key)
        entry = CommitEntry(
            did=self.did,
            rev=rev,
            since=since,
            commit=signed.cid,
            prev_commit=previous,
            ops=ops,
            blocks=(*change.created, (signed.cid, signed.block)),
            removed=(*change.removed, *(() if previous is None else (previous,))),
        )
        self._become(entry)
        return entry

    def at_rev(self, microseconds: int) -> RepoBuilder:
        """This builder, giving revs after a moment from now on."""
        self.last_us = microseconds
        return self

    def rev_us(self) -> int:
        """The time in the current rev."""
        return 0 if self.rev is None else tid_time_us(self.rev)

    def _tree_root(self) -> Cid:
        if self.commit is None:
            return EMPTY_MST_ROOT
        commit = dag_cbor.decode(self.blocks[self.commit])
        assert isinstance(commit, dict)
        root = commit["data"]
        assert isinstance(root, Cid)
        return root

    def _operation(self, tree: Mst, write: Put | Remove) -> RecordOp:
        standing = tree.get(write.path)
        before = None if standing is None else _boundaries(self.records[write.path])
        if isinstance(write, Remove):
            tree.delete(write.path)
            return RecordOp(Action.DELETE, write.path, None, None, standing, before, None)
        block = dag_cbor.encode(write.record)
        cid = Cid.of_dag_cbor(block)
        tree.put(write.path, cid)
        action = Action.CREATE if standing is None else Action.UPDATE
        return RecordOp(action, write.path, cid, block, standing, before, record_boundaries(write.record))

    def _become(self, entry: CommitEntry) -> None:
        self.commit, self.rev = entry.commit, entry.rev
        for op in entry.ops:
            if op.record is None:
                self.records.pop(op.path, None)
            else:
                self.records[op.path] = op.record
        for cid in entry.removed:
            self.blocks.pop(cid, None)
        self.blocks.update(entry.blocks)
        living = {Cid.of_dag_cbor(block): block for block in self.records.values()}
        gone = [op.prev for op in entry.ops if op.prev is not None and op.prev not in living]
        for cid in gone:
            self.blocks.pop(cid, None)
        self.blocks.update(living)


@dataclass(slots=True)
class Clock:
    """A wall clock that tests move by hand."""

    now: datetime = START

    def __call__(self) -> datetime:
        """The time now."""
        return self.now

    def advance(self, **duration: float) -> datetime:
        """Move on by a duration, given as for `timedelta`."""
        self.now += timedelta(**duration)
        return self.now


def paths(records: Sequence[str]) -> list[tuple[str, str]]:
    """`collection/rkey` texts as pairs."""
    return [(path.partition("/")[0], path.partition("/")[2]) for path in records]


def _boundaries(block: bytes) -> tuple[Boundary, ...]:
    record = dag_cbor.decode(block)
    assert isinstance(record, dict)
    return record_boundaries(record)
