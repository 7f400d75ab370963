"""What the service's stream says, as typed events.

Reads every shape that producers have sent: operations with or without a leading slash, CIDs as links or as text, one frame per
operation or per commit, qualified message types, enrollments without `seq`. Sources: spec indexer.md §1.3.3–1.3.5, design §4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from stratos.atproto.cid import Cid
from stratos.atproto.dag_cbor import MAX_INTEGER, DataModel, InvalidDagCbor, decode_own
from stratos.atproto.frames import ErrorFrame, InvalidFrame, MessageFrame, decode_frame, encode_message
from stratos.atproto.syntax import Did, Tid, parse_did, parse_nsid, parse_rkey
from stratos.core.log_entry import Action
from stratos.core.stream_events import (
    EnrollmentEvent,
    MalformedEvent,
    MalformedMessage,
    OutdatedCursor,
    Record,
    event_of,
    normal_datetime,
    read_tid,
    seq_of,
    text_of,
    time_of,
)

__all__ = [
    "POST_COLLECTION",
    "CommitEvent",
    "EnrollmentEvent",
    "Event",
    "MalformedEvent",
    "OutdatedCursor",
    "PostChange",
    "Record",
    "decode_event",
    "normal_datetime",
]

POST_COLLECTION: Final = "zone.stratos.feed.post"
_OWN_COMMIT: Final = encode_message("#commit", b"")


@dataclass(frozen=True, slots=True)
class PostChange:
    """One operation on a post. `record` is None for a delete."""

    action: Action
    rkey: str
    cid: str
    record: Record | None


@dataclass(frozen=True, slots=True)
class CommitEvent:
    """A commit of one actor, reduced to its posts; other collections only move positions.

    `chained`: the producer names the preceding rev (`since`, None for the first commit), so that gaps can be seen. `rev` is None
    only in old shapes. `time` is a normalised datetime text. `queued_at` is seconds since 1970, `requests` the ids of write
    requests: both only where the producer traces them.
    """

    seq: int
    did: Did
    rev: Tid | None
    chained: bool
    since: Tid | None
    time: str
    changes: tuple[PostChange, ...]
    queued_at: float | None = None
    requests: tuple[str, ...] = ()


Event: TypeAlias = CommitEvent | EnrollmentEvent | MalformedEvent | OutdatedCursor


def decode_event(frame: bytes) -> Event | ErrorFrame | None:
    """Read one websocket message; None for what a consumer ignores. Never raises on any input."""
    try:
        message = _own_commit(frame) or decode_frame(frame)
    except InvalidFrame as error:
        return MalformedEvent(None, None, f"undecodable frame: {error}")
    if message is None or isinstance(message, ErrorFrame):
        return message
    return event_of(message, _commit)


def _own_commit(frame: bytes) -> MessageFrame | None:
    """A `#commit` as our own services write it, read without checking that its encoding is canonical; None for anything else.

    Three times as fast, and nothing is lost: the service is the authority for what its rows hold, no CID is computed from what is
    read here, every field is checked below, and a value from outside the data model blocks its actor until a resync, which is
    strict.
    """
    if not frame.startswith(_OWN_COMMIT):
        return None
    try:
        body = decode_own(frame[len(_OWN_COMMIT) :])
    except InvalidDagCbor:
        return None
    return MessageFrame("#commit", body) if isinstance(body, dict) else None


def _commit(body: Record) -> CommitEvent:
    seq = seq_of(body)
    if seq is None:
        raise MalformedMessage("no seq")
    ops = body.get("ops")
    if not isinstance(ops, list):
        raise MalformedMessage("ops is not a list")
    changes: list[PostChange] = []
    queued: list[int] = []
    requests: list[str] = []
    for op in ops:
        if not isinstance(op, dict):
            raise MalformedMessage("an operation is not a map")
        change = _post_change(op)
        if change is not None:
            changes.append(change)
        if "trace" in op:
            _read_trace(op["trace"], queued, requests)
    return CommitEvent(
        seq=seq,
        did=parse_did(text_of(body, "did")),
        rev=read_tid(body.get("rev")),
        chained="since" in body,
        since=read_tid(body.get("since")),
        time=time_of(body),
        changes=tuple(changes),
        queued_at=min(queued) / 1000 if queued else None,
        requests=tuple(requests),
    )


def _post_change(op: Record) -> PostChange | None:
    """The operation if it is on a post. An update or create without a record is not one (spec indexer.md §1.5.4)."""
    path = text_of(op, "path").lstrip("/")
    collection, slash, rkey = path.partition("/")
    if collection != POST_COLLECTION:
        if not slash:
            raise MalformedMessage(f"path {path[:80]!r} is not collection/rkey")
        parse_nsid(collection)
        return None
    parse_rkey(rkey)
    action = op.get("action")
    if action == "delete":
        return PostChange(Action.DELETE, rkey, "", None)
    if action not in ("create", "update"):
        raise MalformedMessage(f"unknown action {action!r:.40}")
    record = op.get("record")
    if record is None:
        return None
    if not isinstance(record, dict):
        raise MalformedMessage("a record is not a map")
    return PostChange(Action.CREATE if action == "create" else Action.UPDATE, rkey, _cid(op.get("cid")), record)


def _read_trace(trace: DataModel, queued: list[int], requests: list[str]) -> None:
    """Old producers trace the write request, for measuring lag; whatever is not understood is left out."""
    if isinstance(trace, dict):
        queued_at, request = trace.get("queuedAtMs"), trace.get("requestId")
        if type(queued_at) is int and 0 <= queued_at <= MAX_INTEGER:
            queued.append(queued_at)
        if isinstance(request, str):
            requests.append(request)


def _cid(value: DataModel) -> str:
    """A link or text; '' where absent."""
    if isinstance(value, Cid):
        return str(value)
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    raise MalformedMessage("a cid is neither link nor text")
