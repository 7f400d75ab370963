"""View maintenance (design §4): what a subscriber scoped to chosen boundaries gets."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.atproto import dag_cbor
from stratos.atproto.cid import Cid
from stratos.atproto.dag_cbor import DataModel, InvalidDagCbor
from stratos.atproto.frames import MessageFrame, decode_frame
from stratos.atproto.syntax import Did, Tid
from stratos.core.boundaries import OWNER_ONLY, Boundary
from stratos.core.enrollment import Enrollment
from stratos.core.log_codec import logged
from stratos.core.log_entry import (
    Action,
    CommitEntry,
    EnrollmentAction,
    EnrollmentEntry,
    EntryKind,
    LoggedEntry,
    RecordOp,
)
from stratos.core.view import in_view
from tests.core.builders import (
    ALICE,
    BOB,
    EDITORS,
    POST,
    READERS,
    REV,
    TIME,
    WRITERS,
    cid_of,
    commit_entry,
    created,
    deleted,
    post,
    updated,
)

SEQ = 1_780_000_000_000_000
PATH = f"{POST}/3lgoldenzzzz2"
CHOSEN = frozenset({WRITERS})
Sides = tuple[Boundary, ...]


def _scoped(*ops: RecordOp, chosen: frozenset[Boundary] = CHOSEN) -> list[DataModel] | None:
    """The operations that a scoped subscriber gets of a commit; None without a frame."""
    frame = in_view(logged(commit_entry(ops), SEQ, TIME), chosen)
    if frame is None:
        return None
    body = _body(frame)
    assert body.keys() == {"did", "ops", "rev", "seq", "time"}
    assert (body["did"], body["rev"], body["seq"], body["time"]) == (ALICE, REV, SEQ, TIME)
    ops_seen = body["ops"]
    assert isinstance(ops_seen, list)
    return ops_seen


def _body(frame: bytes) -> dict[str, DataModel]:
    decoded = decode_frame(frame)
    assert isinstance(decoded, MessageFrame)
    return decoded.body


def test_record_created_in_view_arrives_as_create() -> None:
    op = created(PATH, post(WRITERS), (WRITERS,))
    assert _scoped(op) == [{"action": "create", "path": PATH, "cid": op.cid, "record": post(WRITERS)}]


def test_record_updated_in_view_arrives_as_update_with_prev() -> None:
    op = updated(PATH, post(WRITERS), cid_of("old"), (WRITERS,), (WRITERS,))
    assert _scoped(op) == [{"action": "update", "path": PATH, "cid": op.cid, "record": post(WRITERS), "prev": cid_of("old")}]


def test_record_moved_out_of_view_arrives_as_delete() -> None:
    op = updated(PATH, post(EDITORS), cid_of("old"), (WRITERS,), (EDITORS,))
    assert _scoped(op) == [{"action": "delete", "path": PATH, "prev": cid_of("old")}]


def test_record_moved_into_view_arrives_as_create_without_prev() -> None:
    op = updated(PATH, post(WRITERS), cid_of("hidden"), (EDITORS,), (WRITERS,))
    assert _scoped(op) == [{"action": "create", "path": PATH, "cid": op.cid, "record": post(WRITERS)}]


def test_record_deleted_in_view_arrives_as_delete() -> None:
    assert _scoped(deleted(PATH, cid_of("old"), (WRITERS,))) == [{"action": "delete", "path": PATH, "prev": cid_of("old")}]


@pytest.mark.parametrize(
    "op",
    [
        created(PATH, post(EDITORS), (EDITORS,)),
        created(PATH, post(), ()),
        created(PATH, post(), (OWNER_ONLY,)),
        updated(PATH, post(EDITORS), cid_of("old"), (READERS,), (EDITORS,)),
        updated(PATH, post(), cid_of("old"), (), ()),
        deleted(PATH, cid_of("old"), (EDITORS,)),
        deleted(PATH, cid_of("old"), ()),
        deleted(PATH, None, None),
    ],
)
def test_nothing_is_told_of_a_record_out_of_view(op: RecordOp) -> None:
    assert _scoped(op) is None


def test_commit_without_operations_is_not_told() -> None:
    assert _scoped() is None


def test_record_also_in_other_boundaries_stays_whole() -> None:
    op = created(PATH, post(EDITORS, WRITERS), (EDITORS, WRITERS))
    assert _scoped(op) == [{"action": "create", "path": PATH, "cid": op.cid, "record": post(EDITORS, WRITERS)}]


def test_only_operations_in_view_travel_and_keep_their_order() -> None:
    seen = _scoped(
        deleted(f"{POST}/a", cid_of("a"), (WRITERS,)),
        created(f"{POST}/b", post(EDITORS), (EDITORS,)),
        updated(f"{POST}/c", post(READERS), cid_of("c"), (WRITERS, EDITORS), (READERS,)),
    )
    assert seen == [
        {"action": "delete", "path": f"{POST}/a", "prev": cid_of("a")},
        {"action": "delete", "path": f"{POST}/c", "prev": cid_of("c")},
    ]


def test_empty_choice_sees_no_record() -> None:
    assert _scoped(created(PATH, post(WRITERS), (WRITERS,)), chosen=frozenset()) is None


def test_owner_only_cannot_be_chosen() -> None:
    assert _scoped(created(PATH, post(), (OWNER_ONLY,)), chosen=frozenset({OWNER_ONLY, WRITERS})) is None


def test_entry_whose_views_do_not_fit_is_reported() -> None:
    entry = logged(commit_entry([created(PATH, post(WRITERS), (WRITERS,))]), SEQ, TIME)
    damaged = LoggedEntry(entry.seq, entry.did, entry.kind, entry.frame, entry.views * 2)
    with pytest.raises(InvalidDagCbor, match="damaged"):
        in_view(damaged, CHOSEN)


# Enrollments


def _enrolled(did: Did, *boundaries: Boundary, rev: Tid | None = None) -> LoggedEntry:
    enrollment = Enrollment(did=did, boundaries=boundaries, enrolled_at=TIME, active=True, signing_key="did:key:z")
    entry = EnrollmentEntry(did, EnrollmentAction.ENROLL, "https://stratos.example.com", enrollment)
    return logged(entry, SEQ, TIME, rev=rev)


def _unenrolled(did: Did, seq: int = SEQ) -> LoggedEntry:
    return logged(EnrollmentEntry(did, EnrollmentAction.UNENROLL, "https://stratos.example.com"), seq, TIME)


def test_enrollment_shows_the_chosen_boundaries_only_and_no_rev() -> None:
    entry = _enrolled(ALICE, EDITORS, WRITERS, rev=REV)
    frame = in_view(entry, CHOSEN)
    assert frame is not None
    assert _body(frame) == {
        "did": ALICE,
        "action": "enroll",
        "boundaries": [WRITERS],
        "service": "https://stratos.example.com",
        "seq": SEQ,
        "time": TIME,
    }


def test_account_that_left_the_chosen_boundaries_is_told_with_none() -> None:
    frame = in_view(_enrolled(ALICE, EDITORS), CHOSEN)
    assert frame is not None
    assert _body(frame)["boundaries"] == []


def test_enrollment_within_the_chosen_boundaries_is_the_very_same_bytes() -> None:
    entry = _enrolled(ALICE, WRITERS)
    assert in_view(entry, CHOSEN) is entry.frame


def test_unenrollment_is_the_very_same_bytes() -> None:
    entry = _unenrolled(ALICE)
    assert in_view(entry, CHOSEN) is entry.frame


# Histories


@dataclass
class Standing:
    """A version of a record as the repository holds it."""

    cid: Cid
    block: bytes
    boundaries: Sides


@dataclass
class History:
    """A made-up log, the repositories after each entry, and everything that must or must not be told of it."""

    entries: list[LoggedEntry] = field(default_factory=list)
    states: list[dict[tuple[Did, str], Standing]] = field(default_factory=list)
    versions: list[Standing] = field(default_factory=list)
    commits: list[CommitEntry] = field(default_factory=list)


_BOUNDARY_POOL = (WRITERS, EDITORS, READERS)
_boundary_sets = st.lists(st.sampled_from((*_BOUNDARY_POOL, OWNER_ONLY)), unique=True).map(lambda items: tuple(sorted(items)))
_steps = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from([ALICE, BOB]),
            st.dictionaries(st.sampled_from("abcd"), st.none() | _boundary_sets, min_size=1, max_size=3),
        ),
        st.tuples(st.sampled_from([ALICE, BOB]), st.none()),
    ),
    max_size=14,
)
"""Each step: an account and what it puts (boundaries) or deletes (None) by rkey, or its hard unenrollment (None)."""


def _play(steps: list[tuple[Did, dict[str, Sides | None] | None]]) -> History:
    history = History()
    state: dict[tuple[Did, str], Standing] = {}
    revs: dict[Did, Tid] = {}
    for number, (did, writes) in enumerate(steps, start=1):
        if writes is None:
            state = {key: standing for key, standing in state.items() if key[0] != did}
            revs.pop(did, None)
            history.entries.append(_unenrolled(did, number))
        else:
            ops = tuple(_written(history, state, did, rkey, sides) for rkey, sides in writes.items())
            rev = Tid(f"rev{number:010}")
            entry = CommitEntry(did, rev, revs.get(did), cid_of(f"{did} {rev}"), None, ops, (), ())
            revs[did] = rev
            history.commits.append(entry)
            history.entries.append(logged(entry, number, TIME))
        history.states.append(dict(state))
    return history


def _written(history: History, state: dict[tuple[Did, str], Standing], did: Did, rkey: str, sides: Sides | None) -> RecordOp:
    """Put or delete one record in the state, as a planner would."""
    path = f"{POST}/{rkey}"
    before = state.pop((did, path), None)
    if sides is None:
        return deleted(path, None, None) if before is None else deleted(path, before.cid, before.boundaries)
    block = dag_cbor.encode({"marker": f"version <{len(history.versions)}>"})
    after = Standing(Cid.of_dag_cbor(block), block, sides)
    state[(did, path)] = after
    history.versions.append(after)
    if before is None:
        return RecordOp(Action.CREATE, path, after.cid, block, None, None, sides)
    return RecordOp(Action.UPDATE, path, after.cid, block, before.cid, before.boundaries, sides)


def _in_filter(side: Sides | None, chosen: frozenset[Boundary]) -> bool:
    """The filter itself, as the model states it."""
    return side is not None and any(boundary in chosen for boundary in side) and OWNER_ONLY not in side


class Consumer:
    """Folds scoped frames as strictly as a consumer may: nothing arrives that does not fit what it has."""

    def __init__(self) -> None:
        self.records: dict[tuple[Did, str], tuple[Cid, bytes]] = {}

    def take(self, frame: bytes, kind: EntryKind) -> None:
        body = _body(frame)
        did, ops = body["did"], body.get("ops", [])
        assert isinstance(did, str)
        assert isinstance(ops, list)
        if kind is EntryKind.ENROLLMENT:
            self.records = {key: held for key, held in self.records.items() if key[0] != did}
        assert ops or kind is EntryKind.ENROLLMENT
        for op in ops:
            assert isinstance(op, dict)
            self._take_operation(Did(did), op)

    def _take_operation(self, did: Did, op: dict[str, DataModel]) -> None:
        path, cid = op["path"], op.get("cid")
        assert isinstance(path, str)
        held = self.records.pop((did, path), None)
        assert op.get("prev") == (held and held[0])
        assert (op["action"] == "create") == (held is None)
        if op["action"] == "delete":
            assert op.keys() == {"action", "path", "prev"}
            return
        assert isinstance(cid, Cid)
        self.records[(did, path)] = (cid, dag_cbor.encode(op["record"]))


@given(steps=_steps, chosen=st.frozensets(st.sampled_from(_BOUNDARY_POOL)))
def test_folded_view_equals_the_filter_over_the_state_at_every_step(
    steps: list[tuple[Did, dict[str, Sides | None] | None]], chosen: frozenset[Boundary]
) -> None:
    history = _play(steps)
    consumer = Consumer()
    for entry, state in zip(history.entries, history.states, strict=True):
        frame = in_view(entry, chosen)
        if frame is not None:
            consumer.take(frame, entry.kind)
        assert consumer.records == {
            key: (standing.cid, standing.block) for key, standing in state.items() if _in_filter(standing.boundaries, chosen)
        }


@given(steps=_steps, chosen=st.frozensets(st.sampled_from(_BOUNDARY_POOL)))
def test_no_scoped_frame_betrays_what_is_out_of_view(
    steps: list[tuple[Did, dict[str, Sides | None] | None]], chosen: frozenset[Boundary]
) -> None:
    history = _play(steps)
    told = b"".join(frame for frame in (in_view(entry, chosen) for entry in history.entries) if frame is not None)
    for version in history.versions:
        visible = _in_filter(version.boundaries, chosen)
        assert (version.block in told) is visible
        assert visible or version.cid.bytes not in told
    for commit in history.commits:
        assert commit.commit.bytes not in told
        visible = any(_in_filter(side, chosen) for op in commit.ops for side in (op.before, op.after))
        assert told.count(commit.rev.encode()) == (1 if visible else 0)
