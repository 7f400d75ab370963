"""Frames and stored forms of log entries (spec service.md §7.3, design §3 and §4)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.atproto import dag_cbor
from stratos.atproto.dag_cbor import MAX_BLOCK_DEPTH, DataModel, InvalidDagCbor
from stratos.atproto.frames import MessageFrame, decode_frame
from stratos.atproto.syntax import Did, Tid
from stratos.core.boundaries import Boundary
from stratos.core.enrollment import Enrollment
from stratos.core.log_codec import (
    InvalidRedo,
    Sides,
    body_of,
    decode_redo,
    decode_views,
    encode_redo,
    encode_views,
    entry_frame,
    logged,
)
from stratos.core.log_entry import (
    Action,
    CommitEntry,
    EnrollmentAction,
    EnrollmentEntry,
    EntryKind,
    LoggedEntry,
    RecordOp,
)
from tests.core.builders import (
    ALICE,
    EDITORS,
    POST,
    REV,
    TIME,
    WRITERS,
    cid_of,
    cids,
    commit_entry,
    created,
    data_records,
    deleted,
    post,
    texts,
    updated,
)

SEQ = 1_780_000_000_000_000
PATH = f"{POST}/3lgoldenzzzz2"

_revs = st.text("234567abcdefghij", min_size=13, max_size=13).map(Tid)
_sides = st.none() | st.lists(texts.map(Boundary), max_size=3).map(tuple)
_seqs = st.integers(0, 2**53 - 1)


@st.composite
def _operations(draw: st.DrawFn) -> RecordOp:
    action = draw(st.sampled_from(Action))
    prev = draw(st.none() | cids)
    if action is Action.DELETE:
        return RecordOp(action, draw(texts), None, None, prev, draw(_sides), None)
    block = dag_cbor.encode(draw(data_records))
    return RecordOp(action, draw(texts), draw(cids), block, prev, draw(_sides), draw(_sides))


_commits = st.builds(
    CommitEntry,
    did=texts.map(Did),
    rev=_revs,
    since=st.none() | _revs,
    commit=cids,
    prev_commit=st.none() | cids,
    ops=st.lists(_operations(), max_size=30).map(tuple),
    blocks=st.lists(st.tuples(cids, st.binary(max_size=60)), max_size=4).map(tuple),
    removed=st.lists(cids, max_size=4).map(tuple),
)


def _plain_operation(op: RecordOp) -> dict[str, DataModel]:
    plain: dict[str, DataModel] = {"action": op.action.value, "path": op.path}
    if op.action is not Action.DELETE:
        assert op.record is not None
        plain |= {"cid": op.cid, "record": dag_cbor.decode(op.record)}
    if op.action is not Action.CREATE and op.prev is not None:
        plain["prev"] = op.prev
    return plain


def _plain_frame(entry: CommitEntry, seq: int, time: str) -> bytes:
    body: dict[str, DataModel] = {
        "did": entry.did,
        "ops": [_plain_operation(op) for op in entry.ops],
        "rev": entry.rev,
        "seq": seq,
        "time": time,
        "since": entry.since,
        "commit": entry.commit,
    }
    return dag_cbor.encode({"op": 1, "t": "#commit"}) + dag_cbor.encode(body)


def _body(frame: bytes) -> dict[str, DataModel]:
    decoded = decode_frame(frame)
    assert isinstance(decoded, MessageFrame)
    return decoded.body


# Commit frames


@given(entry=_commits, seq=_seqs, time=texts)
def test_spliced_frame_equals_the_plain_encoding(entry: CommitEntry, seq: int, time: str) -> None:
    frame = entry_frame(entry, seq, time)
    assert frame == _plain_frame(entry, seq, time)
    assert isinstance(decode_frame(frame), MessageFrame)


@pytest.mark.parametrize("count", [0, 1, 23, 24, 200, 256, 1000])
def test_frame_holds_any_number_of_operations(count: int) -> None:
    entry = commit_entry(created(f"{POST}/{number}", {"text": str(number)}) for number in range(count))
    assert entry_frame(entry, SEQ, TIME) == _plain_frame(entry, SEQ, TIME)


def test_deepest_block_still_gives_a_frame_that_decodes() -> None:
    record: DataModel = {"x": 1}
    for _ in range(MAX_BLOCK_DEPTH - 1):
        record = {"x": record}
    frame = entry_frame(commit_entry([created(PATH, record)]), SEQ, TIME)
    assert isinstance(decode_frame(frame), MessageFrame)


def test_create_carries_cid_and_record_and_no_prev() -> None:
    op = created(PATH, post(WRITERS), (WRITERS,))
    body = _body(entry_frame(commit_entry([op]), SEQ, TIME))
    assert body["ops"] == [{"action": "create", "path": PATH, "cid": op.cid, "record": post(WRITERS)}]
    assert (body["did"], body["rev"], body["seq"], body["time"]) == (ALICE, REV, SEQ, TIME)
    assert body["commit"] == cid_of(f"commit {REV}")


def test_update_and_delete_carry_what_stood_there() -> None:
    ops = [
        updated(PATH, post(WRITERS), cid_of("old"), (EDITORS,), (WRITERS,)),
        deleted(f"{POST}/gone", cid_of("gone"), (WRITERS,)),
    ]
    body = _body(entry_frame(commit_entry(ops), SEQ, TIME))
    assert body["ops"] == [
        {"action": "update", "path": PATH, "cid": ops[0].cid, "record": post(WRITERS), "prev": cid_of("old")},
        {"action": "delete", "path": f"{POST}/gone", "prev": cid_of("gone")},
    ]


def test_deletion_of_nothing_names_only_the_path() -> None:
    body = _body(entry_frame(commit_entry([deleted(PATH, None, None)]), SEQ, TIME))
    assert body["ops"] == [{"action": "delete", "path": PATH}]


def test_first_commit_has_a_null_since() -> None:
    body = _body(entry_frame(commit_entry([], since=None), SEQ, TIME))
    assert "since" in body
    assert body["since"] is None


def test_seq_beyond_53_bits_is_refused() -> None:
    with pytest.raises(InvalidDagCbor):
        entry_frame(commit_entry([]), 2**53, TIME)


# Enrollment frames


def _enrollment(*boundaries: Boundary, active: bool = True) -> Enrollment:
    return Enrollment(did=ALICE, boundaries=boundaries, enrolled_at=TIME, active=active, signing_key="did:key:z")


def _enrolled(*boundaries: Boundary, active: bool = True) -> EnrollmentEntry:
    enrollment = _enrollment(*boundaries, active=active)
    return EnrollmentEntry(ALICE, EnrollmentAction.ENROLL, "https://stratos.example.com", enrollment, sealed_key=b"secret")


UNENROLLED = EnrollmentEntry(ALICE, EnrollmentAction.UNENROLL, "https://stratos.example.com")


def test_enrollment_tells_boundaries_service_and_head_rev() -> None:
    decoded = decode_frame(entry_frame(_enrolled(WRITERS, EDITORS), SEQ, TIME, rev=REV))
    assert isinstance(decoded, MessageFrame)
    assert decoded.kind == "#enrollment"
    assert decoded.body == {
        "did": ALICE,
        "action": "enroll",
        "boundaries": [WRITERS, EDITORS],
        "service": "https://stratos.example.com",
        "seq": SEQ,
        "time": TIME,
        "rev": REV,
    }


def test_enrollment_without_a_repository_has_no_rev() -> None:
    assert "rev" not in _body(entry_frame(_enrolled(), SEQ, TIME))
    assert _body(entry_frame(_enrolled(), SEQ, TIME))["boundaries"] == []


def test_unenrollment_has_no_boundaries() -> None:
    body = _body(entry_frame(UNENROLLED, SEQ, TIME))
    assert body["action"] == "unenroll"
    assert "boundaries" not in body


def test_inactive_enrollment_is_told_as_unenrollment() -> None:
    body = _body(entry_frame(_enrolled(WRITERS, active=False), SEQ, TIME, rev=REV))
    assert body["action"] == "unenroll"
    assert "boundaries" not in body
    assert body["rev"] == REV


def test_sealed_key_never_enters_a_frame() -> None:
    assert b"secret" not in entry_frame(_enrolled(WRITERS), SEQ, TIME)


def test_enroll_without_its_enrollment_is_a_fault() -> None:
    with pytest.raises(ValueError, match="without its enrollment"):
        entry_frame(EnrollmentEntry(ALICE, EnrollmentAction.ENROLL, "https://s"), SEQ, TIME)


# Logged entries


def test_logged_commit_has_one_view_for_each_operation() -> None:
    entry = commit_entry([created(PATH, post(WRITERS), (WRITERS,)), deleted(f"{POST}/gone", cid_of("gone"), (EDITORS,))])
    assert logged(entry, SEQ, TIME) == LoggedEntry(
        SEQ, ALICE, EntryKind.COMMIT, entry_frame(entry, SEQ, TIME), ((None, (WRITERS,)), ((EDITORS,), None))
    )


def test_logged_enrollment_has_no_views() -> None:
    entry = _enrolled(WRITERS)
    expected = LoggedEntry(SEQ, ALICE, EntryKind.ENROLLMENT, entry_frame(entry, SEQ, TIME, rev=REV))
    assert logged(entry, SEQ, TIME, rev=REV) == expected


def test_body_of_a_logged_entry_is_the_frames_body() -> None:
    for entry in (commit_entry([created(PATH, post(WRITERS))]), _enrolled(WRITERS)):
        assert body_of(logged(entry, SEQ, TIME)) == _body(entry_frame(entry, SEQ, TIME))


def test_damaged_body_is_reported() -> None:
    entry = logged(commit_entry([]), SEQ, TIME)
    for frame in (entry.frame[:-3], entry.frame[:15], b"", entry_frame(commit_entry([]), SEQ, TIME)[:15] + b"\x80"):
        with pytest.raises(InvalidDagCbor, match="damaged"):
            body_of(replace(entry, frame=frame))


# Redo and views


@given(entry=_commits)
def test_redo_round_trips(entry: CommitEntry) -> None:
    assert decode_redo(encode_redo(entry)) == entry


def test_redo_gives_the_declared_types() -> None:
    op = decode_redo(encode_redo(commit_entry([created(PATH, post(WRITERS), (WRITERS,))]))).ops[0]
    assert type(op.action) is Action
    assert type(op.after) is tuple
    assert type(op.record) is bytes


@given(views=st.lists(st.tuples(_sides, _sides), max_size=5).map(tuple))
def test_views_round_trip(views: tuple[Sides, ...]) -> None:
    assert decode_views(encode_views(views)) == views


def test_absent_and_empty_boundaries_stay_apart() -> None:
    views: tuple[Sides, ...] = (((), None), (None, ()))
    assert decode_views(encode_views(views)) == views


def _good_redo() -> list[DataModel]:
    decoded = dag_cbor.decode(encode_redo(commit_entry([created(PATH, post(WRITERS), (WRITERS,))])))
    assert isinstance(decoded, list)
    return decoded


@pytest.mark.parametrize("position", range(9))
def test_redo_with_a_wrong_item_is_refused(position: int) -> None:
    items = _good_redo()
    wrongs: list[DataModel] = [7, {"x": 1}, [[1, 2]], [["create", PATH, 1, None, None, None, None]], ["x"], 3]
    wrongs += [[["revive", PATH, None, None, None, None, None]], [["x", "x", "x", "x", "x", "x", "x"]]]
    for wrong in wrongs:
        items[position] = wrong
        with pytest.raises(InvalidRedo):
            decode_redo(dag_cbor.encode(items))


@pytest.mark.parametrize("data", [b"", b"\xff", b"\x80", b"\xa0", b"\x81\x01", dag_cbor.encode(["x"] * 9), dag_cbor.encode("x")])
def test_damaged_redo_and_views_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidRedo):
        decode_redo(data)
    if data != b"\x80":
        with pytest.raises(InvalidRedo):
            decode_views(data)


def test_redo_of_a_later_format_is_refused_by_its_number() -> None:
    items = _good_redo()
    items[0] = 3
    with pytest.raises(InvalidRedo, match="format 3"):
        decode_redo(dag_cbor.encode([*items, "more"]))


@given(entry=_commits)
def test_redo_of_the_former_format_is_read(entry: CommitEntry) -> None:
    ops = [(op.action.value, op.path, op.cid, op.record, op.prev, op.before, op.after) for op in entry.ops]
    head = (1, entry.did, entry.rev, entry.since, entry.commit, entry.prev_commit)
    assert decode_redo(dag_cbor.encode((*head, ops, entry.blocks, entry.removed))) == entry
