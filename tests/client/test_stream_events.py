"""Frames in full: what is read of them, and what is found wrong with them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.atproto.cid import Cid
from stratos.atproto.dag_cbor import DataModel, encode
from stratos.atproto.frames import ErrorFrame, encode_error, encode_info, encode_message
from stratos.atproto.syntax import Nsid, Rkey
from stratos.client import (
    Action,
    CommitEvent,
    EnrollmentAction,
    EnrollmentEvent,
    MalformedEvent,
    OutdatedCursor,
    RecordChange,
)
from stratos.client.stream_events import decode_event
from tests.client.builders import ALICE, POST, REV, TIME, post
from tests.indexer.stratos_model import ModelService
from tests.indexer.stratos_model import post as model_post
from tests.vectors import reference

CID = Cid.of_dag_cbor(encode(post()))
OP: dict[str, DataModel] = {"action": "create", "path": f"{POST}/a", "cid": CID, "record": post()}


def commit(*ops: DataModel, **changes: DataModel) -> bytes:
    """A `#commit` frame."""
    body: dict[str, DataModel] = {"seq": 7, "did": ALICE, "time": TIME, "rev": REV, "since": None, "ops": list(ops or (OP,))}
    return encode_message("#commit", encode({**body, **changes}))


def test_a_commit_has_every_operation_with_its_record() -> None:
    event = decode_event(commit(OP, {"action": "delete", "path": "app.test.thing/b", "prev": CID}, commit=CID))
    changes = (
        RecordChange(Action.CREATE, Nsid(POST), Rkey("a"), CID, post(), None),
        RecordChange(Action.DELETE, Nsid("app.test.thing"), Rkey("b"), None, None, CID),
    )
    assert event == CommitEvent(7, ALICE, REV, chained=True, since=None, commit=CID, time=TIME, changes=changes)


def test_our_own_service_s_frames_are_read() -> None:
    service = ModelService()
    service.enroll(ALICE, "writers")
    service.create(ALICE, "3mgaaaaaaaa2c", model_post("hello", "writers"))
    service.update(ALICE, "3mgaaaaaaaa2c", model_post("hullo", "writers"))
    service.delete(ALICE, "3mgaaaaaaaa2c")
    service.unenroll(ALICE)
    enrolled, first, created, updated, deleted, gone = map(decode_event, service.frames())
    assert isinstance(enrolled, EnrollmentEvent)
    assert isinstance(gone, EnrollmentEvent)
    assert (enrolled.action, gone.action) == (EnrollmentAction.ENROLL, EnrollmentAction.UNENROLL)
    for event, actions in ((first, []), (created, ["create"]), (updated, ["update"]), (deleted, ["delete"])):
        assert isinstance(event, CommitEvent)
        assert [change.action for change in event.changes] == actions


def recorded_frames() -> Iterator[bytes]:
    """Every frame of a recording: each behind its length in four bytes."""
    data, at = reference("frames-all-cursor0.lp.bin").read_bytes(), 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4])
        yield data[at + 4 : at + 4 + size]
        at += 4 + size


def test_the_reference_s_frames_are_read_and_its_wrong_cids_are_found() -> None:
    events = [decode_event(frame) for frame in recorded_frames()]
    commits = [event for event in events if isinstance(event, CommitEvent)]
    wrong = [event for event in events if isinstance(event, MalformedEvent)]
    assert len(commits) + len(wrong) + 1 == len(events) == 58
    assert isinstance(events[0], OutdatedCursor)
    assert len(wrong) == 42, "createRecord of the reference gave records the CID of something else"
    assert all("is not what its CID" in event.problem and event.did and event.seq for event in wrong)
    assert all(not event.chained and event.changes for event in commits)


def test_string_cids_and_leading_slashes_are_read() -> None:
    event = decode_event(commit({**OP, "cid": str(CID), "path": f"/{POST}/a"}))
    assert isinstance(event, CommitEvent)
    assert (event.changes[0].cid, event.changes[0].collection, event.changes[0].rkey) == (CID, POST, "a")


@pytest.mark.parametrize(
    ("op", "problem"),
    [
        ({**OP, "record": post("jello")}, "is not what its CID"),
        ({**OP, "cid": Cid.of_raw(encode(post()))}, "is not what its CID"),
        ({**OP, "record": None}, "without its record"),
        ({**OP, "cid": None}, "without its record"),
        ({**OP, "cid": "bafy"}, "not a base32 CIDv1"),
        ({**OP, "cid": 7}, "neither link nor text"),
        ({**OP, "action": "replace"}, "unknown action"),
        ({**OP, "action": 7}, "unknown action"),
        ({**OP, "path": POST}, "is not collection/rkey"),
        ({**OP, "path": "no/a"}, "NSID"),
        ({**OP, "path": f"{POST}/ä"}, "record key"),
        ({**OP, "path": None}, "path is not text"),
        ("text", "not a map"),
    ],
)
def test_a_commit_with_a_wrong_operation_is_malformed_as_a_whole(op: DataModel, problem: str) -> None:
    event = decode_event(commit(OP, op))
    assert isinstance(event, MalformedEvent)
    assert (event.seq, event.did) == (7, ALICE)
    assert problem in event.problem


@pytest.mark.parametrize("changes", [{"seq": -1}, {"ops": 7}, {"did": "no"}, {"time": "late"}, {"rev": "no"}, {"commit": 7}])
def test_a_commit_with_a_wrong_member_is_malformed(changes: dict[str, DataModel]) -> None:
    assert isinstance(decode_event(commit(**changes)), MalformedEvent)


def test_notices_errors_and_what_is_to_be_ignored() -> None:
    assert decode_event(encode_info("OutdatedCursor", "gone")) == OutdatedCursor("gone")
    assert decode_event(encode_info("Later", "x")) is None
    assert decode_event(encode_message("#later", encode({}))) is None
    assert decode_event(encode_error("FutureCursor", "x")) == ErrorFrame("FutureCursor", "x")


@given(st.binary(max_size=200))
def test_no_bytes_raise(data: bytes) -> None:
    decode_event(data)
    decode_event(commit()[: len(data)] + data)
