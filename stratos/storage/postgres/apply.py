"""The statements that carry a commit's effects into an actor's schema: the third step of a write (design §3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stratos.atproto.syntax import format_datetime
from stratos.core.backlinks import block_backlinks
from stratos.core.log_entry import Action
from stratos.storage.appending import LoggedCommit
from stratos.storage.instants import from_microseconds
from stratos.storage.postgres.database import Parameters

Run = Callable[[str, Parameters], None]
"""Runs a statement of `sql/postgres/actor/apply.sql`, by name, with its parameters."""


def apply_commit(run: Run, commit: LoggedCommit) -> None:
    """What stood at the paths first, then what is new and the root, then what nothing refers to any more.

    No path occurs twice in an entry.
    """
    entry = commit.entry
    records = [(op, op.cid, op.record) for op in entry.ops if op.cid is not None and op.record is not None]
    blocks = {cid.bytes: block for cid, block in (*((cid, block) for _, cid, block in records), *entry.blocks)}
    collections, rkeys = _columns([op.split_path() for op, _, _ in records])
    if standing := [op.split_path() for op in entry.ops if op.action is not Action.CREATE]:
        run("delete_backlinks", _columns(standing))
    if gone := [op.split_path() for op in entry.ops if op.cid is None]:
        run("delete_records", _columns(gone))
    new = {
        "did": entry.did,
        "rev": entry.rev,
        "seq": commit.seq,
        "time": format_datetime(from_microseconds(commit.time)),
        "commit": entry.commit.bytes,
        "blocks": list(blocks),
        "contents": list(blocks.values()),
        "collections": collections,
        "rkeys": rkeys,
        "records": [cid.bytes for _, cid, _ in records],
        "removed": [cid.bytes for cid in entry.removed],
    }
    run("put", new)
    if links := [(*op.split_path(), *link) for op, _, block in records for link in block_backlinks(block)]:
        run("put_backlinks", [list(column) for column in zip(*links, strict=True)])
    if superseded := [op.prev.bytes for op in entry.ops if op.prev is not None]:
        run("delete_superseded", (superseded,))


def _columns(paths: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return [collection for collection, _ in paths], [rkey for _, rkey in paths]
