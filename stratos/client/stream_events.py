"""What a service's stream says, in full: every operation with its record, whose CID is checked.

Sources: spec service.md §7.3, design §4. Old shapes are read as well: string CIDs, leading slashes, one operation per frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from stratos.atproto.cid import Cid, InvalidCid
from stratos.atproto.dag_cbor import DataModel, encode
from stratos.atproto.frames import ErrorFrame, InvalidFrame, decode_frame
from stratos.atproto.syntax import Did, Nsid, Rkey, Tid, parse_did, parse_nsid, parse_rkey
from stratos.core.log_entry import Action
from stratos.core.stream_events import (
    EnrollmentEvent,
    MalformedEvent,
    MalformedMessage,
    OutdatedCursor,
    Record,
    event_of,
    read_tid,
    seq_of,
    text_of,
    time_of,
)


@dataclass(frozen=True, slots=True)
class RecordChange:
    """One operation of a commit. `cid` and `record` are None for a delete; `prev` is what stood there, where it is told."""

    action: Action
    collection: Nsid
    rkey: Rkey
    cid: Cid | None
    record: Record | None
    prev: Cid | None


@dataclass(frozen=True, slots=True)
class CommitEvent:
    """A commit of one actor, whole.

    `chained`: the producer names the preceding rev (`since`, None for the first commit). `rev` is None only in old shapes,
    `commit` where the view is limited to boundaries. `time` is a normalised datetime text.
    """

    seq: int
    did: Did
    rev: Tid | None
    chained: bool
    since: Tid | None
    commit: Cid | None
    time: str
    changes: tuple[RecordChange, ...]


@dataclass(frozen=True, slots=True)
class Gap:
    """Commits of an actor between the revs `known` and `since` never arrived; the event behind it follows upon `since`.

    Fetch the actor's repository (`zone.stratos.sync.getRepo`), then go on with the commits above its rev.
    """

    seq: int
    did: Did
    known: Tid
    since: Tid | None


@dataclass(frozen=True, slots=True)
class ConsumerTooSlow:
    """The service ended the connection because batches were not taken in time; the stream goes on behind the cursor."""

    message: str


StreamEvent: TypeAlias = CommitEvent | EnrollmentEvent | Gap | MalformedEvent | OutdatedCursor | ConsumerTooSlow


def decode_event(frame: bytes) -> CommitEvent | EnrollmentEvent | MalformedEvent | OutdatedCursor | ErrorFrame | None:
    """Read one websocket message; None for what a consumer ignores. Never raises on any input.

    A record that is not what its CID says makes its whole commit a MalformedEvent.
    """
    try:
        message = decode_frame(frame)
    except InvalidFrame as error:
        return MalformedEvent(None, None, f"undecodable frame: {error}")
    if message is None or isinstance(message, ErrorFrame):
        return message
    return event_of(message, _commit)


def _commit(body: Record) -> CommitEvent:
    seq, ops = seq_of(body), body.get("ops")
    if seq is None:
        raise MalformedMessage("no seq")
    if not isinstance(ops, list):
        raise MalformedMessage("ops is not a list")
    return CommitEvent(
        seq=seq,
        did=parse_did(text_of(body, "did")),
        rev=read_tid(body.get("rev")),
        chained="since" in body,
        since=read_tid(body.get("since")),
        commit=_cid(body.get("commit")),
        time=time_of(body),
        changes=tuple(map(_change, ops)),
    )


def _change(op: DataModel) -> RecordChange:
    if not isinstance(op, dict):
        raise MalformedMessage("an operation is not a map")
    collection, slash, rkey = text_of(op, "path").lstrip("/").partition("/")
    if not slash:
        raise MalformedMessage(f"path {collection[:80]!r} is not collection/rkey")
    path = parse_nsid(collection), parse_rkey(rkey)
    action, prev = op.get("action"), _cid(op.get("prev"))
    if action == Action.DELETE:
        return RecordChange(Action.DELETE, *path, None, None, prev)
    written = Action.CREATE if action == Action.CREATE else Action.UPDATE if action == Action.UPDATE else None
    if written is None:
        raise MalformedMessage(f"unknown action {action!r:.40}")
    cid, record = _cid(op.get("cid")), op.get("record")
    if cid is None or not isinstance(record, dict):
        raise MalformedMessage(f"{collection}/{rkey} comes without its record")
    # The frame was canonical, so encoding gives the very bytes that were sent.
    if cid != Cid.of_dag_cbor(encode(record)):
        raise MalformedMessage(f"the record {collection}/{rkey} is not what its CID {cid} says")
    return RecordChange(written, *path, cid, record, prev)


def _cid(value: DataModel) -> Cid | None:
    """A link or its text; None where absent or, in old shapes, empty."""
    if isinstance(value, Cid):
        return value
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise MalformedMessage("a cid is neither link nor text")
    try:
        return Cid.parse(value)
    except InvalidCid as error:
        raise MalformedMessage(str(error)) from error
