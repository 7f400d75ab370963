"""The statements that carry a commit's effects into an actor's schema: the third step of a write (design §3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stratos.atproto.syntax import format_datetime
from stratos.core.backlinks import block_backlinks
from stratos.core.log_entry import Action
from stratos.storage.appending import LoggedCommit
from stratos.storage.instants import from_microseconds

Run = Callable[[str, Sequence[object]], None]
"""Runs a statement of `sql/postgres/actor/apply.sql`, by name, with its parameters."""


def apply_commit(run: Run, commit: LoggedCommit) -> None:
    """Blocks and rows first, then what nothing refers to any more, then the root; no path occurs twice in an entry."""
    entry = commit.entry
    time = format_datetime(from_microseconds(commit.time))
    records = [(op, op.cid, op.record) for op in entry.ops if op.cid is not None and op.record is not None]
    blocks = {cid.bytes: block for cid, block in (*((cid, block) for _, cid, block in records), *entry.blocks)}
    if blocks:
        run("put_blocks", (entry.rev, list(blocks), list(blocks.values())))
    if standing := [op.split_path() for op in entry.ops if op.action is not Action.CREATE]:
        run("delete_backlinks", _columns(standing))
    if gone := [op.split_path() for op in entry.ops if op.cid is None]:
        run("delete_records", _columns(gone))
    if records:
        paths = [op.split_path() for op, _, _ in records]
        run("put_records", (entry.rev, time, *_columns(paths), [cid.bytes for _, cid, _ in records]))
    if links := [(*op.split_path(), *link) for op, _, block in records for link in block_backlinks(block)]:
        run("put_backlinks", [list(column) for column in zip(*links, strict=True)])
    if entry.removed:
        run("delete_blocks", ([cid.bytes for cid in entry.removed],))
    if superseded := [op.prev.bytes for op in entry.ops if op.prev is not None]:
        run("delete_superseded", (superseded,))
    run("put_root", (entry.did, entry.commit.bytes, entry.rev, commit.seq, time))


def _columns(paths: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return [collection for collection, _ in paths], [rkey for _, rkey in paths]
