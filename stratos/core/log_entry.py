"""Entries of the commit log: what is proposed, and what was logged.

An entry keeps three things (design §3): the ready-to-send frame, what redo needs, and, for every operation, the boundaries
before and after it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from stratos.atproto.cid import Cid
from stratos.atproto.syntax import Did, Tid
from stratos.core.boundaries import Boundary
from stratos.core.enrollment import Enrollment


class Action(StrEnum):
    """What an operation does to its path."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class RecordOp:
    """One operation of a commit on `path` (`collection/rkey`).

    `record` is the DAG-CBOR block whose CID is `cid`; both are None for a delete. `prev` is the CID that stood there.
    `before` and `after` are the record's boundaries on either side of the operation; None where there is no record.
    """

    action: Action
    path: str
    cid: Cid | None
    record: bytes | None
    prev: Cid | None
    before: tuple[Boundary, ...] | None
    after: tuple[Boundary, ...] | None

    def split_path(self) -> tuple[str, str]:
        """Collection and rkey."""
        collection, _, rkey = self.path.partition("/")
        return collection, rkey


@dataclass(frozen=True, slots=True)
class CommitEntry:
    """A signed commit of one actor's repository, ready to append.

    `prev_commit` is the head that it was planned upon (None for the first commit): compare-and-swap at append.
    `since` is that head's rev. `blocks` are the commit block and the new MST nodes (record blocks are in `ops`);
    `removed` the MST nodes and the commit that it supersedes. `signing_key` is the did:key that signed it: one that has been
    retired since is refused at append. It is not kept with the entry.
    """

    did: Did
    rev: Tid
    since: Tid | None
    commit: Cid
    prev_commit: Cid | None
    ops: tuple[RecordOp, ...]
    blocks: tuple[tuple[Cid, bytes], ...]
    removed: tuple[Cid, ...]
    signing_key: str | None = field(default=None, compare=False)


class EnrollmentAction(StrEnum):
    """What an enrollment entry says on the stream. A boundary change is an `enroll` with the new list."""

    ENROLL = "enroll"
    UNENROLL = "unenroll"


@dataclass(frozen=True, slots=True)
class EnrollmentEntry:
    """An enrollment change; its row effect happens in the same transaction as its append.

    ENROLL: `enrollment` is upserted whole; `sealed_key`, if given, becomes the account's current signing key, whose first commit
    has the rev `first_rev`. One that is not active is a soft unenroll: the repository and its key wait, and no commit follows
    until the account is active again.
    UNENROLL: the enrollment, boundaries, keys, earlier log entries and actor store of `did` are purged (hard unenroll).
    """

    did: Did
    action: EnrollmentAction
    service_url: str
    enrollment: Enrollment | None = None
    sealed_key: bytes | None = None
    first_rev: Tid | None = None


Entry = CommitEntry | EnrollmentEntry


@dataclass(frozen=True, slots=True)
class Proposal:
    """Entries of one DID that are appended together, in this order, or not at all."""

    did: Did
    entries: tuple[Entry, ...]


class EntryKind(StrEnum):
    """The message type of an entry on the stream."""

    COMMIT = "#commit"
    ENROLLMENT = "#enrollment"


@dataclass(frozen=True, slots=True)
class LoggedEntry:
    """An entry as the log holds it.

    `frame` is the complete websocket message. `views` has one (before, after) pair per operation of a commit, in order.
    """

    seq: int
    did: Did
    kind: EntryKind
    frame: bytes
    views: tuple[tuple[tuple[Boundary, ...] | None, tuple[Boundary, ...] | None], ...] = ()
