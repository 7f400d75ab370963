"""The encodings of log entries: the frame that subscribers get, what redo needs, and the boundaries around every operation.

A frame is written by splicing: a record's block is already canonical DAG-CBOR and is embedded as it is. Map members are therefore
written in canonical order by hand: shorter keys first, equally long ones bytewise. Sources: spec service.md §7.3, design §3, §4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from stratos.atproto.cid import Cid, InvalidCid
from stratos.atproto.dag_cbor import DataModel, InvalidDagCbor, decode_own, encode, encode_rows
from stratos.atproto.frames import encode_message
from stratos.atproto.syntax import Did, Tid
from stratos.core.boundaries import Boundary
from stratos.core.log_entry import (
    Action,
    CommitEntry,
    EnrollmentAction,
    EnrollmentEntry,
    Entry,
    EntryKind,
    LoggedEntry,
    RecordOp,
)

Sides: TypeAlias = tuple[tuple[Boundary, ...] | None, tuple[Boundary, ...] | None]
"""A record's boundaries before and after an operation; None where there is no record."""

REDO_FORMAT: Final = 2
"""First item of every encoded redo, so that a later format can be told apart. In format 1 the CIDs were links."""
_READABLE_FORMATS: Final = frozenset({1, REDO_FORMAT})

_MAP: Final = 0xA0
_HEADERS: Final = {kind: encode_message(kind.value, b"") for kind in EntryKind}
_DID, _OPS, _REV, _SEQ, _TIME = encode("did"), encode("ops"), encode("rev"), encode("seq"), encode("time")
_SINCE, _COMMIT = encode("since"), encode("commit")
_CID, _PATH, _PREV, _RECORD = encode("cid"), encode("path"), encode("prev"), encode("record")
_ACTIONS: Final = {action: encode("action") + encode(action.value) for action in Action}
_ACTION_VALUES: Final = frozenset(action.value for action in Action)
_COMMIT_START: Final = _HEADERS[EntryKind.COMMIT] + bytes((_MAP | 7,)) + _DID
_NONE: Final = encode(None)


class InvalidRedo(ValueError):
    """The bytes are not what this module wrote."""


def entry_frame(entry: Entry, seq: int, time: str, *, rev: Tid | None = None) -> bytes:
    """The complete websocket message of an entry; `time` is a datetime text with milliseconds.

    A `#commit` carries did, ops, rev, seq, time, since (the previous rev, null for the first commit) and commit; each operation
    action and path, cid and record unless it deletes, prev where it replaces or deletes something. An `#enrollment` carries did,
    action, seq, time, service, the boundaries of an `enroll`, and `rev`: the head rev of the account's repository at that moment,
    which the caller passes where there is one. An enrollment that is not active is told as `unenroll` with its `rev`: the
    repository waits for its owner. An `unenroll` without `rev` is for good.
    """
    if isinstance(entry, CommitEntry):
        return _commit_frame(entry, seq, time)
    return _enrollment_frame(entry, seq, time, rev)


def logged(entry: Entry, seq: int, time: str, *, rev: Tid | None = None) -> LoggedEntry:
    """The entry as the log holds it; arguments as for `entry_frame`."""
    frame = entry_frame(entry, seq, time, rev=rev)
    if isinstance(entry, CommitEntry):
        return LoggedEntry(seq, entry.did, EntryKind.COMMIT, frame, views_of(entry))
    return LoggedEntry(seq, entry.did, EntryKind.ENROLLMENT, frame)


def views_of(entry: CommitEntry) -> tuple[Sides, ...]:
    """The boundaries around each operation of a commit, in order."""
    return tuple((op.before, op.after) for op in entry.ops)


def body_of(entry: LoggedEntry) -> dict[str, DataModel]:
    """The decoded body of a logged entry's frame. Raises InvalidDagCbor when the log is damaged."""
    body = decode_own(entry.frame[len(_HEADERS[entry.kind]) :])
    if not isinstance(body, dict):
        raise InvalidDagCbor(f"damaged: the body of entry {entry.seq} is not a map")
    return body


def purges(entry: LoggedEntry) -> bool:
    """Whether an entry ended an account for good. Raises InvalidDagCbor when the log is damaged."""
    if entry.kind is not EntryKind.ENROLLMENT:
        return False
    body = body_of(entry)
    return body.get("action") == EnrollmentAction.UNENROLL.value and "rev" not in body


def encode_views(views: Sequence[Sides]) -> bytes:
    """The stored form of `LoggedEntry.views`."""
    return encode_rows(views)


def decode_views(data: bytes) -> tuple[Sides, ...]:
    """Read what `encode_views` wrote. Raises InvalidRedo."""
    return tuple((_side(before), _side(after)) for before, after in _rows(_decoded(data), 2))


def encode_redo(entry: CommitEntry) -> bytes:
    """All of a commit entry, for applying it again; CIDs as their bytes."""
    return encode_rows(
        (
            REDO_FORMAT,
            entry.did,
            entry.rev,
            entry.since,
            entry.commit.bytes,
            _raw(entry.prev_commit),
            [(op.action.value, op.path, _raw(op.cid), op.record, _raw(op.prev), op.before, op.after) for op in entry.ops],
            [(cid.bytes, block) for cid, block in entry.blocks],
            [cid.bytes for cid in entry.removed],
        )
    )


def decode_redo(data: bytes) -> CommitEntry:
    """Read what `encode_redo` wrote; equal to the entry that was encoded. Raises InvalidRedo."""
    match _decoded(data):
        case [int(redo_format), *_] if redo_format not in _READABLE_FORMATS:
            raise InvalidRedo(f"redo format {redo_format} is not known to this version")
        case [int(), str(did), str(rev), str() | None as since, commit, prev_commit, ops, blocks, removed]:
            return CommitEntry(
                did=Did(did),
                rev=Tid(rev),
                since=None if since is None else Tid(since),
                commit=_cid(commit),
                prev_commit=_optional_cid(prev_commit),
                ops=tuple(_operation(row) for row in _rows(ops, 7)),
                blocks=tuple((_cid(cid), _block(block)) for cid, block in _rows(blocks, 2)),
                removed=tuple(_cid(cid) for cid in _list(removed)),
            )
    raise InvalidRedo("a redo must be a list of nine items")


def _commit_frame(entry: CommitEntry, seq: int, time: str) -> bytes:
    parts = [_COMMIT_START, encode(entry.did), _OPS, _list_head(len(entry.ops))]
    for op in entry.ops:
        _add_operation(parts, op)
    parts += (_REV, encode(entry.rev), _SEQ, encode(seq), _TIME, encode(time))
    parts += (_SINCE, encode(entry.since), _COMMIT, encode(entry.commit))
    return b"".join(parts)


def _add_operation(parts: list[bytes], op: RecordOp) -> None:
    """Append the members of one operation: cid, path, prev, action, record, as far as it has them."""
    prev = None if op.action is Action.CREATE else op.prev
    members = 2 + (op.cid is not None) + (prev is not None) + (op.record is not None)
    parts.append(bytes((_MAP | members,)))
    if op.cid is not None:
        parts += (_CID, encode(op.cid))
    parts += (_PATH, encode(op.path))
    if prev is not None:
        parts += (_PREV, encode(prev))
    parts.append(_ACTIONS[op.action])
    if op.record is not None:
        parts += (_RECORD, op.record)


def _enrollment_frame(entry: EnrollmentEntry, seq: int, time: str, rev: Tid | None) -> bytes:
    enrollment = entry.enrollment
    if entry.action is EnrollmentAction.ENROLL and enrollment is None:
        raise ValueError(f"an enroll entry of {entry.did} without its enrollment")
    body: dict[str, DataModel] = {"did": entry.did, "seq": seq, "time": time, "service": entry.service_url}
    if rev is not None and entry.action is EnrollmentAction.ENROLL:
        body["rev"] = rev
    if entry.action is EnrollmentAction.ENROLL and enrollment is not None and enrollment.active:
        body["action"] = EnrollmentAction.ENROLL.value
        body["boundaries"] = [*enrollment.boundaries]
    else:
        body["action"] = EnrollmentAction.UNENROLL.value
    return encode_message(EntryKind.ENROLLMENT.value, encode(body))


def _list_head(count: int) -> bytes:
    """What the encoding of a list of `count` items begins with."""
    return encode([None] * count)[: -count * len(_NONE) or None]


def _decoded(data: bytes) -> DataModel:
    try:
        return decode_own(data)
    except InvalidDagCbor as error:
        raise InvalidRedo(str(error)) from error


def _operation(row: Sequence[DataModel]) -> RecordOp:
    match row:
        case [str(action), str(path), cid, bytes() | None as record, prev, before, after]:
            if action not in _ACTION_VALUES:
                raise InvalidRedo(f"unknown action {action!r:.80}")
            return RecordOp(Action(action), path, _optional_cid(cid), record, _optional_cid(prev), _side(before), _side(after))
    raise InvalidRedo("an operation of another shape")


def _side(value: DataModel) -> tuple[Boundary, ...] | None:
    return None if value is None else tuple(Boundary(_text(item)) for item in _list(value))


def _rows(value: DataModel, width: int) -> list[list[DataModel]]:
    rows = [_list(row) for row in _list(value)]
    if any(len(row) != width for row in rows):
        raise InvalidRedo(f"a row that has not {width} items")
    return rows


def _list(value: DataModel) -> list[DataModel]:
    if not isinstance(value, list):
        raise InvalidRedo("a list is missing")
    return value


def _text(value: DataModel) -> str:
    if not isinstance(value, str):
        raise InvalidRedo("a text is missing")
    return value


def _raw(cid: Cid | None) -> bytes | None:
    return None if cid is None else cid.bytes


def _optional_cid(value: DataModel) -> Cid | None:
    return None if value is None else _cid(value)


def _cid(value: DataModel) -> Cid:
    if isinstance(value, Cid):
        return value
    if not isinstance(value, bytes):
        raise InvalidRedo("a CID is missing")
    try:
        return Cid(value)
    except InvalidCid as error:
        raise InvalidRedo(str(error)) from error


def _block(value: DataModel) -> bytes:
    if not isinstance(value, bytes):
        raise InvalidRedo("the bytes of a block are missing")
    return value
