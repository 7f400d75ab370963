"""Appending a batch of proposals to the log: the second step of a write (design §3), the same for every database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from stratos.atproto.cid import Cid
from stratos.atproto.syntax import Did, Tid, format_datetime
from stratos.core.enrollment import Enrollment
from stratos.core.log_codec import encode_redo, encode_views, logged
from stratos.core.log_entry import CommitEntry, EnrollmentAction, EnrollmentEntry, Entry, LoggedEntry, Proposal
from stratos.storage.entry_kinds import KIND_NUMBERS
from stratos.storage.instants import to_microseconds
from stratos.storage.names import check_nameable
from stratos.storage.ports import Appended, AppendOutcome, HeadMoved


@dataclass(frozen=True, slots=True)
class LogHead:
    """A repository at one point of the log. `commit` is None where there is none; `rev` and `seq` outlive a purge.

    `signing_key` is the did:key that its next commit has to be signed with.
    """

    commit: Cid | None
    rev: str
    seq: int
    enrolled: bool
    signing_key: str | None


@dataclass(frozen=True, slots=True)
class LogRow:
    """A row of the log. `time` is in microseconds since 1970; `rev` and `redo` are empty for what is no commit."""

    seq: int
    did: Did
    kind: int
    rev: str
    time: int
    views: bytes
    frame: bytes
    redo: bytes


@dataclass(frozen=True, slots=True)
class LoggedCommit:
    """A commit at its place in the log; `time` in microseconds since 1970."""

    seq: int
    time: int
    entry: CommitEntry


@dataclass(frozen=True, slots=True)
class Batch:
    """What an append did: outcomes in the order of the proposals, the log's new head, and what is to be done to actor stores.

    `purges` come before `commits`: a commit that a later unenroll of the batch erased is not among them.
    """

    outcomes: list[AppendOutcome]
    head: int
    purges: tuple[Did, ...]
    commits: dict[Did, list[LoggedCommit]]


class AppendTarget(Protocol):
    """The transaction that a batch is appended in. Effects are carried out in the order of the calls."""

    def head(self, did: Did) -> LogHead:
        """What the log knows of a DID before this batch."""

    def insert_rows(self, rows: Sequence[LogRow]) -> None:
        """Add rows to the log."""

    def put_enrollment(self, entry: EnrollmentEntry, enrollment: Enrollment, time: str) -> None:
        """Upsert an entry's enrollment whole; its sealed key, if any, becomes current, the former is retired at `time`."""

    def erase(self, did: Did) -> None:
        """Delete an account's enrollment, boundaries and keys, erase its log entries so far, and see to its store's end."""

    def finish(self, heads: Sequence[tuple[Did, LogHead]], last_seq: int | None) -> None:
        """Store the heads that moved, and the log's last `seq`; None where nothing was appended."""


def append_batch(target: AppendTarget, proposals: Sequence[Proposal], *, last_seq: int, now: datetime) -> Batch:
    """Append every proposal whose head has not moved, in order.

    Raises what the target raises, and ValueError for a malformed entry.
    """
    return _Append(target, last_seq, now).run(proposals)


class _Append:
    """A batch under way: heads and log rows are gathered and written in one go."""

    def __init__(self, target: AppendTarget, last_seq: int, now: datetime) -> None:
        self._target = target
        self._now = to_microseconds(now)
        self._time = format_datetime(now)
        self._seq = last_seq
        self._heads: dict[Did, LogHead] = {}
        self._moved: set[Did] = set()
        self._rows: list[LogRow] = []
        self._purges: dict[Did, None] = {}
        self._commits: dict[Did, list[LoggedCommit]] = {}

    def run(self, proposals: Sequence[Proposal]) -> Batch:
        outcomes = [self._append(proposal) for proposal in proposals]
        self._flush_rows()
        appended = any(isinstance(outcome, Appended) for outcome in outcomes)
        self._target.finish([(did, self._heads[did]) for did in sorted(self._moved)], self._seq if appended else None)
        return Batch(outcomes, self._seq, tuple(self._purges), self._commits)

    def _append(self, proposal: Proposal) -> AppendOutcome:
        if self._head_after(proposal) is None:
            return HeadMoved(proposal.did)
        after = self._seq
        return Appended(tuple(self._append_entry(entry) for entry in proposal.entries), after)

    def _head_after(self, proposal: Proposal) -> LogHead | None:
        """The head that a proposal leads to; None when one of its commits does not follow the head before it."""
        head: LogHead | None = self._head(proposal.did)
        for entry in proposal.entries:
            if entry.did != proposal.did:
                raise ValueError(f"a proposal of {proposal.did} with an entry of {entry.did}")
            head = None if head is None else _moved(head, entry, seq=0)
        return head

    def _append_entry(self, entry: Entry) -> LoggedEntry:
        before = self._head(entry.did)
        self._seq = max(self._seq + 1, self._now)
        after = _moved(before, entry, self._seq)
        if after is None:
            raise AssertionError("the whole proposal was tried before")
        self._heads[entry.did] = after
        if isinstance(entry, CommitEntry):
            result = logged(entry, self._seq, self._time)
            self._moved.add(entry.did)
            self._commits.setdefault(entry.did, []).append(LoggedCommit(self._seq, self._now, entry))
            self._add_row(result, entry.rev, encode_redo(entry))
            return result
        result = logged(entry, self._seq, self._time, rev=None if before.commit is None else Tid(before.rev))
        if entry.action is EnrollmentAction.UNENROLL:
            self._unenroll(entry.did, had_repository=before.rev != "")
        elif entry.enrollment is not None:
            self._target.put_enrollment(entry, entry.enrollment, self._time)
        self._add_row(result, "", b"")
        return result

    def _unenroll(self, did: Did, *, had_repository: bool) -> None:
        """Erase the account and all of its entries so far, those of this batch too."""
        self._flush_rows()
        self._target.erase(did)
        if had_repository:
            self._moved.add(did)
        self._commits.pop(did, None)
        self._purges[did] = None

    def _head(self, did: Did) -> LogHead:
        head = self._heads.get(did)
        if head is None:
            head = self._heads[did] = self._target.head(did)
        return head

    def _add_row(self, entry: LoggedEntry, rev: str, redo: bytes) -> None:
        views = encode_views(entry.views)
        self._rows.append(LogRow(entry.seq, entry.did, KIND_NUMBERS[entry.kind], rev, self._now, views, entry.frame, redo))

    def _flush_rows(self) -> None:
        self._target.insert_rows(self._rows)
        self._rows = []


def _moved(head: LogHead, entry: Entry, seq: int) -> LogHead | None:
    """The head after an entry; None for a commit that was planned upon another head or signed with a key that was retired since,
    or for an account that is not enrolled."""
    if isinstance(entry, EnrollmentEntry):
        if entry.action is EnrollmentAction.ENROLL:
            if entry.enrollment is None or entry.enrollment.did != entry.did:
                raise ValueError(f"an enroll entry of {entry.did} without its enrollment")
            check_nameable(entry.did)
            return replace(head, enrolled=entry.enrollment.active, signing_key=entry.enrollment.signing_key)
        return replace(head, commit=None, enrolled=False, signing_key=None)
    if not head.enrolled or entry.prev_commit != head.commit or entry.rev <= head.rev:
        return None
    if entry.signing_key not in (None, head.signing_key):
        return None
    return replace(head, commit=entry.commit, rev=entry.rev, seq=seq)
