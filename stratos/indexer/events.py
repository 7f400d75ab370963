"""What the service's stream says, as typed events.

Reads every shape that producers have sent: operations with or without a leading slash, CIDs as links or as text, one frame per
operation or per commit, qualified message types, enrollments without `seq`. Sources: spec indexer.md §1.3.3–1.3.5, design §4.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from stratos.atproto.cid import Cid
from stratos.atproto.dag_cbor import MAX_INTEGER, DataModel, InvalidDagCbor, decode_own
from stratos.atproto.frames import ErrorFrame, InvalidFrame, MessageFrame, decode_frame, encode_message
from stratos.atproto.syntax import (
    Did,
    InvalidSyntax,
    Tid,
    format_datetime,
    parse_datetime,
    parse_did,
    parse_nsid,
    parse_rkey,
    parse_tid,
)
from stratos.core.log_entry import Action, EnrollmentAction

POST_COLLECTION: Final = "zone.stratos.feed.post"
OUTDATED_CURSOR: Final = "OutdatedCursor"
_OWN_COMMIT: Final = encode_message("#commit", b"")
_is_normal_datetime: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z").fullmatch

Record: TypeAlias = dict[str, DataModel]


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


@dataclass(frozen=True, slots=True)
class EnrollmentEvent:
    """An enrollment change. `seq` is None in old shapes; `rev` is the head of the actor's repository at that moment, if told."""

    seq: int | None
    did: Did
    action: EnrollmentAction
    time: str
    service_url: str | None
    boundaries: tuple[str, ...]
    rev: Tid | None


@dataclass(frozen=True, slots=True)
class MalformedEvent:
    """A frame that cannot be applied: an actor (or, without `did`, the source) must be fetched anew."""

    seq: int | None
    did: Did | None
    problem: str


@dataclass(frozen=True, slots=True)
class OutdatedCursor:
    """Events between the cursor that was asked for and the next event are gone: actors must be compared with the service."""

    message: str


Event: TypeAlias = CommitEvent | EnrollmentEvent | MalformedEvent | OutdatedCursor


class _Malformed(ValueError):
    """Something in a message that an event cannot do without."""


def decode_event(frame: bytes) -> Event | ErrorFrame | None:
    """Read one websocket message; None for what a consumer ignores. Never raises on any input."""
    try:
        message = _own_commit(frame) or decode_frame(frame)
    except InvalidFrame as error:
        return MalformedEvent(None, None, f"undecodable frame: {error}")
    if message is None or isinstance(message, ErrorFrame):
        return message
    try:
        return _event(message)
    except (_Malformed, InvalidSyntax) as error:
        return MalformedEvent(_seq(message.body), _did_if_any(message.body), f"{message.kind}: {error}")


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


def _event(message: MessageFrame) -> Event | None:
    if message.kind == "#commit":
        return _commit(message.body)
    if message.kind == "#enrollment":
        return _enrollment(message.body)
    if message.kind == "#info" and message.body.get("name") == OUTDATED_CURSOR:
        return OutdatedCursor(str(message.body.get("message", "")))
    return None


def _commit(body: Record) -> CommitEvent:
    seq = _seq(body)
    if seq is None:
        raise _Malformed("no seq")
    ops = body.get("ops")
    if not isinstance(ops, list):
        raise _Malformed("ops is not a list")
    changes: list[PostChange] = []
    queued: list[int] = []
    requests: list[str] = []
    for op in ops:
        if not isinstance(op, dict):
            raise _Malformed("an operation is not a map")
        change = _post_change(op)
        if change is not None:
            changes.append(change)
        if "trace" in op:
            _read_trace(op["trace"], queued, requests)
    return CommitEvent(
        seq=seq,
        did=parse_did(_text(body, "did")),
        rev=_tid(body.get("rev")),
        chained="since" in body,
        since=_tid(body.get("since")),
        time=_time(body),
        changes=tuple(changes),
        queued_at=min(queued) / 1000 if queued else None,
        requests=tuple(requests),
    )


def _post_change(op: Record) -> PostChange | None:
    """The operation if it is on a post. An update or create without a record is not one (spec indexer.md §1.5.4)."""
    path = _text(op, "path").lstrip("/")
    collection, slash, rkey = path.partition("/")
    if collection != POST_COLLECTION:
        if not slash:
            raise _Malformed(f"path {path[:80]!r} is not collection/rkey")
        parse_nsid(collection)
        return None
    parse_rkey(rkey)
    action = op.get("action")
    if action == "delete":
        return PostChange(Action.DELETE, rkey, "", None)
    if action not in ("create", "update"):
        raise _Malformed(f"unknown action {action!r:.40}")
    record = op.get("record")
    if record is None:
        return None
    if not isinstance(record, dict):
        raise _Malformed("a record is not a map")
    return PostChange(Action.CREATE if action == "create" else Action.UPDATE, rkey, _cid(op.get("cid")), record)


def _enrollment(body: Record) -> EnrollmentEvent:
    enrolled = body.get("action") == "enroll"
    boundaries = body.get("boundaries", [])
    if not isinstance(boundaries, list):
        raise _Malformed("boundaries is not a list")
    service = body.get("service")
    return EnrollmentEvent(
        seq=_seq(body),
        did=parse_did(_text(body, "did")),
        action=EnrollmentAction.ENROLL if enrolled else EnrollmentAction.UNENROLL,
        time=_time(body),
        service_url=service if isinstance(service, str) else None,
        boundaries=tuple(sorted({value for value in boundaries if isinstance(value, str)})),
        rev=_tid(body.get("rev")),
    )


def _read_trace(trace: DataModel, queued: list[int], requests: list[str]) -> None:
    """Old producers trace the write request, for measuring lag; whatever is not understood is left out."""
    if isinstance(trace, dict):
        queued_at, request = trace.get("queuedAtMs"), trace.get("requestId")
        if type(queued_at) is int and 0 <= queued_at <= MAX_INTEGER:
            queued.append(queued_at)
        if isinstance(request, str):
            requests.append(request)


def _seq(body: Record) -> int | None:
    seq = body.get("seq")
    return seq if type(seq) is int and 0 <= seq <= MAX_INTEGER else None


def _did_if_any(body: Record) -> Did | None:
    try:
        return parse_did(_text(body, "did"))
    except ValueError:
        return None


def _text(body: Record, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise _Malformed(f"{name} is not text")
    return value


def normal_datetime(text: str) -> str:
    """A datetime as UTC text with milliseconds; one that is so already is only checked. Raises InvalidSyntax."""
    if _is_normal_datetime(text) is not None:
        try:
            datetime.fromisoformat(text)
        except ValueError:
            pass
        else:
            return text
    return format_datetime(parse_datetime(text))


def _time(body: Record) -> str:
    return normal_datetime(_text(body, "time"))


def _tid(value: DataModel) -> Tid | None:
    """A rev; an absent, null or (old producers) empty one is None."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise _Malformed("a rev is not text")
    return parse_tid(value)


def _cid(value: DataModel) -> str:
    """A link or text; '' where absent."""
    if isinstance(value, Cid):
        return str(value)
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    raise _Malformed("a cid is neither link nor text")
