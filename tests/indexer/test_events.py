"""Reading the stream, in every shape that producers have sent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stratos.atproto.cid import Cid
from stratos.atproto.dag_cbor import DataModel, encode
from stratos.atproto.frames import ErrorFrame, encode_error, encode_info, encode_message
from stratos.atproto.syntax import Did
from stratos.core.log_entry import Action, EnrollmentAction
from stratos.indexer.events import CommitEvent, EnrollmentEvent, Event, MalformedEvent, OutdatedCursor, decode_event
from tests.indexer.stratos_model import START, ModelService, boundary, post
from tests.postgres import recorded
from tests.vectors import reference

DID = Did("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
TIME = "2026-03-01T00:00:00.000Z"


def commit_frame(**changes: DataModel) -> bytes:
    body: dict[str, DataModel] = {"seq": 5, "did": DID, "rev": "3mgaaaaaaaaaa", "time": TIME, "ops": [], "since": None}
    body |= changes
    return encode_message("#commit", encode({name: value for name, value in body.items() if value != "absent"}))


def commit(**changes: DataModel) -> CommitEvent:
    event = decode_event(commit_frame(**changes))
    assert isinstance(event, CommitEvent)
    return event


def op(**changes: DataModel) -> dict[str, DataModel]:
    base: dict[str, DataModel] = {
        "action": "create",
        "path": "zone.stratos.feed.post/3mgaaaaaaaaaa",
        "cid": Cid.of_raw(b""),
        "record": post("x", "a"),
    }
    return {name: value for name, value in (base | changes).items() if value != "absent"}


def test_own_frames_are_read_with_their_chain() -> None:
    service = ModelService()
    service.enroll(DID, "writers")
    service.create(DID, "3mgaaaaaaaaaa", post("hello", "writers"))
    enroll, first, second = (decode_event(frame) for frame in service.frames())
    assert isinstance(enroll, EnrollmentEvent)
    assert (enroll.action, enroll.boundaries, enroll.rev) == (EnrollmentAction.ENROLL, (boundary("writers"),), None)
    assert isinstance(first, CommitEvent)
    assert isinstance(second, CommitEvent)
    assert (first.since, first.chained, first.changes) == (None, True, ())
    assert (second.since, second.chained) == (first.rev, True)
    assert second.changes[0].cid == service.posts()[f"at://{DID}/zone.stratos.feed.post/3mgaaaaaaaaaa"][0]
    assert enroll.seq is not None
    assert enroll.seq < first.seq < second.seq
    assert START.isoformat()[:10] in second.time


def test_recorded_frames_of_the_reference_are_read() -> None:
    events = [decode_event(frame) for frame in recorded(reference("frames-all-cursor0.lp.bin"))]
    assert isinstance(events[0], OutdatedCursor)
    commits = [event for event in events[1:] if isinstance(event, CommitEvent)]
    assert [event.seq for event in commits] == list(range(1, 58))
    assert not any(event.chained for event in commits)
    assert [len(event.changes) for event in commits] == [1] * 57
    assert commits[0].changes[0].rkey == "3lgoldenzzzzb"
    assert commits[0].changes[0].cid.startswith("bafyrei")
    assert commits[0].queued_at == 1795378421.142
    assert commits[0].requests == ("createRecord-mws9yfti-tmst7w",)


def test_recorded_enrollments_and_errors_of_the_reference_are_read() -> None:
    enroll = decode_event(reference("frame-enrollment-replay-enroll.bin").read_bytes())
    unenroll = decode_event(reference("frame-enrollment-live-unenroll.bin").read_bytes())
    assert isinstance(enroll, EnrollmentEvent)
    assert isinstance(unenroll, EnrollmentEvent)
    assert (enroll.action, enroll.seq, enroll.service_url) == (EnrollmentAction.ENROLL, None, None)
    assert enroll.boundaries
    assert unenroll.action is EnrollmentAction.UNENROLL
    error = decode_event(reference("frame-error-futurecursor.bin").read_bytes())
    assert isinstance(error, ErrorFrame)
    assert error.error == "FutureCursor"


def test_leading_slash_text_cid_and_qualified_type_are_accepted() -> None:
    body: dict[str, DataModel] = {
        "seq": 1,
        "did": DID,
        "rev": "",
        "time": TIME,
        "ops": [op(path="/zone.stratos.feed.post/abc", cid="bafytext")],
    }
    event = decode_event(encode_message("zone.stratos.sync.subscribeRecords#commit", encode(body)))
    assert isinstance(event, CommitEvent)
    assert (event.rev, event.chained, event.changes[0].rkey, event.changes[0].cid) == (None, False, "abc", "bafytext")


def test_other_collections_only_move_the_position() -> None:
    assert commit(ops=[op(path="app.test.thing/self")]).changes == ()


def test_create_without_record_is_ignored_and_delete_needs_none() -> None:
    assert commit(ops=[op(record="absent")]).changes == ()
    deleted = commit(ops=[op(action="delete", record="absent", cid="absent")]).changes
    assert [(change.action, change.record) for change in deleted] == [(Action.DELETE, None)]


def test_times_are_normalised_to_milliseconds_of_utc() -> None:
    assert commit(time="2026-03-01T02:00:00.1234567+02:00").time == "2026-03-01T00:00:00.123Z"


def test_what_cannot_be_applied_names_its_actor() -> None:
    broken: list[dict[str, DataModel]] = [
        {"ops": "none"},
        {"ops": [op(path="no-slash")]},
        {"ops": [op(path="zone.stratos.feed.post/in/valid")]},
        {"ops": [op(action="replace")]},
        {"ops": [op(record="text")]},
        {"ops": [1]},
        {"rev": "not-a-tid"},
        {"rev": 1},
        {"time": "yesterday"},
    ]
    for changes in broken:
        event = decode_event(commit_frame(**changes))
        assert isinstance(event, MalformedEvent), changes
        assert (event.did, event.seq) == (DID, 5)


def test_what_names_no_actor_is_malformed_without_one() -> None:
    for frame in (b"", b"\xa0", b"\xff" * 20, commit_frame(did="not-a-did"), commit_frame(did="absent")):
        event = decode_event(frame)
        assert isinstance(event, MalformedEvent)
        assert event.did is None


def test_unknown_types_ops_and_infos_are_ignored() -> None:
    assert decode_event(encode_message("#later", encode({"seq": 1}))) is None
    assert decode_event(encode_info("SomethingElse", "")) is None
    assert decode_event(encode({"op": 2}) + encode({})) is None
    assert isinstance(decode_event(encode_error("AuthRequired")), ErrorFrame)


@given(st.binary(max_size=200))
def test_no_bytes_make_the_decoder_raise(data: bytes) -> None:
    _read(decode_event(data))


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.sampled_from(["#commit", "#enrollment", "#info"]),
    st.dictionaries(
        st.sampled_from(["seq", "did", "rev", "since", "time", "ops", "action", "boundaries", "name", "service"]),
        st.sampled_from([DID, TIME, 7, "enroll", [], [{"action": "create", "path": "zone.stratos.feed.post/a"}]]) | _values,
    ),
)
def test_no_body_makes_the_decoder_raise(kind: str, body: dict[str, DataModel]) -> None:
    _read(decode_event(encode_message(kind, encode(body))))


def _read(event: Event | ErrorFrame | None) -> None:
    """A decoded event has sound identifiers or says that it is malformed."""
    if isinstance(event, CommitEvent):
        assert event.did.startswith("did:")
        assert event.seq >= 0
