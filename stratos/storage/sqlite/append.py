"""Appending a batch of proposals to the log: the second step of a write (design §3), inside the caller's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from stratos.atproto.cid import Cid
from stratos.atproto.syntax import Did, Tid, format_datetime
from stratos.core.log_codec import encode_redo, encode_views, logged
from stratos.core.log_entry import CommitEntry, EnrollmentAction, EnrollmentEntry, Entry, LoggedEntry, Proposal
from stratos.storage.ports import Appended, AppendOutcome, HeadMoved
from stratos.storage.sql_files import Statements
from stratos.storage.sqlite.actor_paths import check_nameable
from stratos.storage.sqlite.apply import LoggedCommit
from stratos.storage.sqlite.enrollments import put_enrollment
from stratos.storage.sqlite.entry_kinds import KIND_NUMBERS
from stratos.storage.sqlite.instants import to_microseconds


@dataclass(frozen=True, slots=True)
class Batch:
    """What an append did: outcomes in the order of the proposals, the log's new head, and what is to be done to actor stores.

    `purges` come before `commits`: a commit that a later unenroll of the batch erased is not among them.
    """

    outcomes: list[AppendOutcome]
    head: int
    purges: tuple[Did, ...]
    commits: dict[Did, list[LoggedCommit]]


@dataclass(frozen=True, slots=True)
class _Head:
    """A repository at this point of the batch. `commit` is None where there is none; `rev` and `seq` outlive a purge."""

    commit: Cid | None
    rev: str
    seq: int
    enrolled: bool


_LogRow = tuple[int, str, int, str, int, bytes, bytes, bytes]


def append_batch(
    connection: sqlite3.Connection, sql: Statements, proposals: Sequence[Proposal], *, last_seq: int, now: datetime
) -> Batch:
    """Append every proposal whose head has not moved, in order.

    Raises what SQLite raises, and ValueError for a malformed entry.
    """
    return _Append(connection, sql, last_seq, now).run(proposals)


class _Append:
    """A batch under way: heads and log rows are gathered and written in one go."""

    def __init__(self, connection: sqlite3.Connection, sql: Statements, last_seq: int, now: datetime) -> None:
        self._connection = connection
        self._sql = sql
        self._now = to_microseconds(now)
        self._time = format_datetime(now)
        self._seq = last_seq
        self._heads: dict[Did, _Head] = {}
        self._moved: set[Did] = set()
        self._rows: list[_LogRow] = []
        self._purges: dict[Did, None] = {}
        self._commits: dict[Did, list[LoggedCommit]] = {}

    def run(self, proposals: Sequence[Proposal]) -> Batch:
        outcomes = [self._append(proposal) for proposal in proposals]
        self._flush_rows()
        heads = [(did, self._heads[did]) for did in self._moved]
        self._connection.executemany(
            self._sql["append.put_head"],
            [(did, None if head.commit is None else head.commit.bytes, head.rev, head.seq) for did, head in heads],
        )
        if any(isinstance(outcome, Appended) for outcome in outcomes):
            self._connection.execute(self._sql["append.put_last_seq"], (self._seq,))
        return Batch(outcomes, self._seq, tuple(self._purges), self._commits)

    def _append(self, proposal: Proposal) -> AppendOutcome:
        if self._head_after(proposal) is None:
            return HeadMoved(proposal.did)
        after = self._seq
        return Appended(tuple(self._append_entry(entry) for entry in proposal.entries), after)

    def _head_after(self, proposal: Proposal) -> _Head | None:
        """The head that a proposal leads to; None when one of its commits does not follow the head before it."""
        head: _Head | None = self._head(proposal.did)
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
            put_enrollment(self._connection, self._sql, entry.enrollment, entry.sealed_key, self._time)
        self._add_row(result, "", b"")
        return result

    def _unenroll(self, did: Did, *, had_repository: bool) -> None:
        """Erase the account and all of its entries so far; its actor store is destroyed after the commit."""
        self._flush_rows()
        for statement in ("unenroll.delete_enrollment", "unenroll.erase_entries", "unenroll.queue_purge"):
            self._connection.execute(self._sql[statement], (did,))
        if had_repository:
            self._moved.add(did)
        self._commits.pop(did, None)
        self._purges[did] = None

    def _head(self, did: Did) -> _Head:
        head = self._heads.get(did)
        if head is None:
            commit, rev, seq, enrolled = self._connection.execute(self._sql["append.head"], (did,)).fetchone()
            head = _Head(None if commit is None else Cid(commit), rev or "", seq or 0, bool(enrolled))
            self._heads[did] = head
        return head

    def _add_row(self, entry: LoggedEntry, rev: str, redo: bytes) -> None:
        number = KIND_NUMBERS[entry.kind]
        self._rows.append((entry.seq, entry.did, number, rev, self._now, encode_views(entry.views), entry.frame, redo))

    def _flush_rows(self) -> None:
        self._connection.executemany(self._sql["append.insert_entry"], self._rows)
        self._rows.clear()


def _moved(head: _Head, entry: Entry, seq: int) -> _Head | None:
    """The head after an entry; None for a commit that was planned upon another head, or for an account that is not enrolled."""
    if isinstance(entry, EnrollmentEntry):
        if entry.action is EnrollmentAction.ENROLL:
            if entry.enrollment is None or entry.enrollment.did != entry.did:
                raise ValueError(f"an enroll entry of {entry.did} without its enrollment")
            check_nameable(entry.did)
            return replace(head, enrolled=True)
        return replace(head, commit=None, enrolled=False)
    if not head.enrolled or entry.prev_commit != head.commit or entry.rev <= head.rev:
        return None
    return _Head(entry.commit, entry.rev, seq, enrolled=True)
