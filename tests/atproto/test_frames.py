"""Event-stream frames."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.atproto.cid import Cid
from stratos.atproto.dag_cbor import MAX_BLOCK_DEPTH, DataModel, decode, encode
from stratos.atproto.frames import ErrorFrame, InvalidFrame, MessageFrame, decode_frame, encode_error, encode_info, encode_message
from tests.atproto.values import keys, values
from tests.vectors import reference


def recorded_stream() -> Iterator[bytes]:
    data = reference("frames-all-cursor0.lp.bin").read_bytes()
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 4 + length]
        at += 4 + length


# --- what the reference sends ---


def test_every_frame_of_the_recorded_stream_is_read_and_is_what_we_would_write() -> None:
    frames = list(recorded_stream())
    seqs = []
    for data in frames:
        frame = decode_frame(data)
        assert isinstance(frame, MessageFrame)
        assert encode_message(frame.kind, encode(frame.body)) == data
        if frame.kind == "#commit":
            seqs.append(frame.body["seq"])
    declared = re.search(r"\d+$", reference("frames.count.txt").read_text().strip())
    assert declared is not None
    assert len(frames) == int(declared.group())
    assert seqs == list(range(1, len(frames)))


@pytest.mark.parametrize("number_and_action", ["01-commit-create", "45-commit-create", "55-commit-update", "57-commit-delete"])
def test_recorded_commits_are_read(number_and_action: str) -> None:
    frame = decode_frame(reference(f"frame-{number_and_action}.bin").read_bytes())
    assert isinstance(frame, MessageFrame)
    assert frame.kind == "#commit"
    operations = frame.body["ops"]
    assert isinstance(operations, list)
    (operation,) = operations
    assert isinstance(operation, dict)
    assert operation["action"] == number_and_action.rsplit("-", 1)[1]


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("notfound", ErrorFrame("NotFound", "Account not found")),
        ("futurecursor", ErrorFrame("FutureCursor", "Cursor is in the future")),
        ("badtoken", ErrorFrame("AuthenticationRequired", "Invalid sync token")),
    ],
)
def test_recorded_errors_are_read_and_written_identically(name: str, frame: ErrorFrame) -> None:
    data = reference(f"frame-error-{name}.bin").read_bytes()
    assert decode_frame(data) == frame
    assert encode_error(frame.error, frame.message) == data


def test_the_recorded_notice_is_written_identically() -> None:
    data = reference("frame-00-info-outdatedcursor.bin").read_bytes()
    assert encode_info("OutdatedCursor", "Cursor 0 is too old, some events may be missed") == data


@pytest.mark.parametrize(
    ("name", "action"), [("replay-enroll", "enroll"), ("replay-sqlite", "enroll"), ("live-unenroll", "unenroll")]
)
def test_recorded_enrollments_are_read(name: str, action: str) -> None:
    frame = decode_frame(reference(f"frame-enrollment-{name}.bin").read_bytes())
    assert isinstance(frame, MessageFrame)
    assert frame.kind == "#enrollment"
    assert frame.body["action"] == action


# --- ours ---


@given(st.dictionaries(keys, values, max_size=5), st.sampled_from(["#commit", "#enrollment", "#info", "#unknown"]))
def test_a_message_reads_back(body: dict[str, DataModel], kind: str) -> None:
    assert decode_frame(encode_message(kind, encode(body))) == MessageFrame(kind, body)


@given(st.text(), st.none() | st.text())
def test_an_error_reads_back(error: str, message: str | None) -> None:
    assert decode_frame(encode_error(error, message)) == ErrorFrame(error, message)


def test_a_fully_qualified_kind_is_given_in_the_short_form() -> None:
    data = encode({"op": 1, "t": "zone.stratos.sync.subscribeRecords#commit"}) + encode({"seq": 1})
    assert decode_frame(data) == MessageFrame("#commit", {"seq": 1})


def test_a_kind_without_a_fragment_passes_through_as_unknown() -> None:
    assert decode_frame(encode({"op": 1, "t": "commit"}) + encode({})) == MessageFrame("commit", {})


@pytest.mark.parametrize("op", [0, 2, -2, 2**53 - 1])
def test_a_frame_of_a_later_protocol_is_ignored_whatever_follows_its_header(op: int) -> None:
    for rest in (b"", encode({}), b"\xff\xff"):
        assert decode_frame(encode({"op": op, "t": "#commit"}) + rest) is None


def test_a_header_may_have_further_members() -> None:
    assert decode_frame(encode({"op": 1, "t": "#info", "later": [1]}) + encode({})) == MessageFrame("#info", {})


def test_links_and_the_deepest_block_fit_into_a_frame() -> None:
    record: DataModel = Cid.of_raw(b"")
    for _ in range(MAX_BLOCK_DEPTH):
        record = [record]
    assert decode(encode(record)) == record
    body: dict[str, DataModel] = {"ops": [{"record": record}]}
    assert decode_frame(encode_message("#commit", encode(body))) == MessageFrame("#commit", body)


# --- malformed ---

HEADER = encode({"op": 1, "t": "#commit"})
ERROR_HEADER = encode({"op": -1})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not DAG-CBOR: truncated"),
        (b"\xff", "not DAG-CBOR"),
        (encode([]) + encode({}), "header is not a map"),
        (encode("#commit") + encode({}), "header is not a map"),
        (encode({}) + encode({}), "no integer `op`"),
        (encode({"t": "#commit"}) + encode({}), "no integer `op`"),
        (encode({"op": "1", "t": "#commit"}) + encode({}), "no integer `op`"),
        (encode({"op": True, "t": "#commit"}) + encode({}), "no integer `op`"),
        (encode({"op": None, "t": "#commit"}) + encode({}), "no integer `op`"),
        (b"\xa2\x61t\x67#commit\x62op\xf9\x3c\x00" + encode({}), "float"),
        (b"\xa2\x62op\x01\x61t\x67#commit" + encode({}), "canonical order"),
        (HEADER, "no body"),
        (HEADER[:-1], "truncated"),
        (ERROR_HEADER, "no body"),
        (HEADER + encode([]), "body is not a map"),
        (HEADER + encode(None), "body is not a map"),
        (HEADER + encode({}) + b"\xa0", "1 bytes after the body"),
        (HEADER + encode({}) + HEADER + encode({}), "bytes after the body"),
        (HEADER + encode({"seq": 1})[:-1], "truncated"),
        (HEADER + b"\xa1\x61a\xfb\x3f\xf1\x99\x99\x99\x99\x99\x9a", "float"),
        (HEADER + b"\xbf\xff", "indefinite"),
        (HEADER + b"\x81" * 1000, "deep"),
        (HEADER + b"\xbb\x7f\xff\xff\xff\xff\xff\xff\xff", "truncated"),
        (encode({"op": 1}) + encode({}), "no text `t`"),
        (encode({"op": 1, "t": 1}) + encode({}), "no text `t`"),
        (encode({"op": 1, "t": None}) + encode({}), "no text `t`"),
        (ERROR_HEADER + encode({}), "no text `error`"),
        (ERROR_HEADER + encode({"error": 1}), "no text `error`"),
        (ERROR_HEADER + encode({"error": "NotFound", "message": 1}), "`message` of an error"),
    ],
)
def test_malformed_frames_are_refused_by_what_is_wrong_with_them(data: bytes, message: str) -> None:
    with pytest.raises(InvalidFrame, match=message):
        decode_frame(data)


def is_refused_or_ends_in_its_body(data: bytes) -> None:
    try:
        frame = decode_frame(data)
    except InvalidFrame:
        return
    if isinstance(frame, MessageFrame):
        assert data.endswith(encode(frame.body))


@given(st.binary(max_size=80) | st.binary(max_size=40).map(lambda rest: HEADER + rest))
def test_random_bytes_are_refused_or_are_a_frame(data: bytes) -> None:
    is_refused_or_ends_in_its_body(data)


@given(st.integers(0, 10_000), st.integers(0, 3), st.binary(max_size=3))
def test_changed_frames_are_refused_or_are_a_frame(at: int, removed: int, inserted: bytes) -> None:
    frame = encode_message("#commit", encode({"ops": [{"cid": Cid.of_raw(b""), "path": "a/b"}], "seq": 1}))
    at %= len(frame)
    is_refused_or_ends_in_its_body(frame[:at] + inserted + frame[at + removed :])
