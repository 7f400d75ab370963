"""The statements that carry a commit's effects into an actor's schema: the third step of a write (design §3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stratos.atproto import dag_cbor
from stratos.atproto.syntax import format_datetime
from stratos.core.backlinks import backlinks
from stratos.core.log_entry import Action, RecordOp
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
    if standing := [_path(op) for op in entry.ops if op.action is not Action.CREATE]:
        run("delete_backlinks", _columns(standing))
    if gone := [_path(op) for op in entry.ops if op.cid is None]:
        run("delete_records", _columns(gone))
    if records:
        paths = [_path(op) for op, _, _ in records]
        run("put_records", (entry.rev, time, *_columns(paths), [cid.bytes for _, cid, _ in records]))
    if links := [(*_path(op), *link) for op, _, block in records for link in _links(block)]:
        run("put_backlinks", [list(column) for column in zip(*links, strict=True)])
    if entry.removed:
        run("delete_blocks", ([cid.bytes for cid in entry.removed],))
    if superseded := [op.prev.bytes for op in entry.ops if op.prev is not None]:
        run("delete_superseded", (superseded,))
    run("put_root", (entry.did, entry.commit.bytes, entry.rev, commit.seq, time))


def _columns(paths: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return [collection for collection, _ in paths], [rkey for _, rkey in paths]


def _path(op: RecordOp) -> tuple[str, str]:
    collection, _, rkey = op.path.partition("/")
    return collection, rkey


def _links(block: bytes) -> list[tuple[str, str]]:
    # Most records have no subject; looking for the word is a hundred times cheaper than reading the record.
    if b"subject" not in block:
        return []
    record = dag_cbor.decode_own(block)
    return backlinks(record) if isinstance(record, dict) else []
