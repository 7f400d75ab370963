"""Applying log entries to an actor's database: the third step of a write (design §3)."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from stratos.atproto.syntax import format_datetime
from stratos.core.backlinks import block_backlinks
from stratos.core.log_entry import Action
from stratos.storage.appending import LoggedCommit
from stratos.storage.instants import from_microseconds
from stratos.storage.ports import RepoRoot, StorageFault
from stratos.storage.sql_files import Statements
from stratos.storage.sqlite.actor_database import ActorDatabase


class GapBefore(StorageFault):
    """The store's root is not the commit upon which the next entry was planned: entries between them are missing."""


def apply_commits(database: ActorDatabase, commits: Sequence[LoggedCommit]) -> None:
    """Apply an actor's commits, in log order, in one transaction; those that were applied before are passed over.

    Raises GapBefore, or StorageFault when the store could not do it; nothing was applied then.
    """
    root = database.root()
    database.applied(None)
    with database.write() as connection:
        commit, seq = (None, 0) if root is None else (root.commit, root.seq)
        for logged in commits:
            if logged.seq <= seq:
                continue
            if logged.entry.prev_commit != commit:
                raise GapBefore(
                    f"{database.path} is at entry {seq}, commit {commit}, "
                    f"but entry {logged.seq} follows commit {logged.entry.prev_commit}"
                )
            _Application(connection, database.sql, logged).run()
            commit, seq = logged.entry.commit, logged.seq
            root = RepoRoot(commit, logged.entry.rev, seq)
    database.applied(root)


class _Application:
    """One commit on its way into the tables."""

    def __init__(self, connection: sqlite3.Connection, sql: Statements, logged: LoggedCommit) -> None:
        self._connection = connection
        self._sql = sql
        self._entry = logged.entry
        self._seq = logged.seq
        self._time = format_datetime(from_microseconds(logged.time))

    def run(self) -> None:
        """Blocks and rows first, then what nothing refers to any more, then the root; no path occurs twice in an entry."""
        entry = self._entry
        records = [(op, op.cid, op.record) for op in entry.ops if op.cid is not None and op.record is not None]
        blocks = [*((cid, block) for _, cid, block in records), *entry.blocks]
        self._run_many("put_block", [(cid.bytes, entry.rev, len(block), block) for cid, block in blocks])
        standing = [op.split_path() for op in entry.ops if op.action is not Action.CREATE]
        self._run_many("delete_backlinks", standing)
        self._run_many("delete_record", [op.split_path() for op in entry.ops if op.cid is None])
        self._run_many("put_record", [(*op.split_path(), cid.bytes, entry.rev, self._time) for op, cid, _ in records])
        self._run_many("put_backlink", [(*op.split_path(), *link) for op, _, block in records for link in block_backlinks(block)])
        self._run_many("delete_block", [(cid.bytes,) for cid in entry.removed])
        self._run_many("delete_superseded", [(op.prev.bytes,) for op in entry.ops if op.prev is not None])
        self._run_many("put_root", [(entry.did, entry.commit.bytes, entry.rev, self._seq, self._time)])

    def _run_many(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        if rows:
            self._connection.executemany(self._sql[f"apply.{statement}"], rows)
