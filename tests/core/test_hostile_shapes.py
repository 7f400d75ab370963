"""Whatever shape arrives, the core answers with a declared outcome and never with an exception."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stratos.atproto.dag_cbor import DataModel
from stratos.core.access import Viewer, may_read
from stratos.core.backlinks import backlinks
from stratos.core.boundaries import (
    Boundary,
    belongs_to,
    ensure_qualified,
    mismatch_message,
    record_boundaries,
    split_boundary,
    written_boundaries,
)
from stratos.core.enrollment_record import EnrollmentRecord, parse_enrollment_record
from stratos.core.outcomes import Refusal
from stratos.core.record_rules import NO_PARENT, PARENT_UNSEEN, Parent, ParentOf, RecordRules, check_public_post
from stratos.core.stubs import Source, parse_source, stub_record
from tests.core.builders import ALICE, BOB, EDITORS, POST, SERVICE, TIME, WRITERS, cid_of, data_records, data_values
from tests.core.test_stubs import URI

RULES = RecordRules(SERVICE, (EDITORS, WRITERS))
_parents = st.sampled_from([NO_PARENT, PARENT_UNSEEN, ParentOf(()), ParentOf((WRITERS,))])


@given(value=data_values)
def test_every_reader_answers_every_value(value: DataModel) -> None:
    parsed = parse_enrollment_record(value)
    assert parsed is None or isinstance(parsed, EnrollmentRecord)
    source = parse_source(value)
    assert source is None or isinstance(source, Source)
    written = written_boundaries(value)
    assert written is None or all(isinstance(item, str) for item in written)
    typed = RULES.typed_record(POST, value)
    assert isinstance(typed, Refusal) or typed["$type"] == POST


@given(record=data_records, parent=_parents, collection=st.sampled_from([POST, "zone.stratos.example.note"]))
def test_every_rule_answers_every_record(record: dict[str, DataModel], parent: Parent, collection: str) -> None:
    refusal = RULES.check(collection, record, parent)
    assert refusal is None or isinstance(refusal, Refusal)
    assert check_public_post(record) is None or "embed" in record
    assert all(path in ("subject", "subject.uri") for path, _ in backlinks(record))
    stub = stub_record(URI, cid_of("x"), record, service=SERVICE, fragment="x", now=TIME)
    assert stub.keys() == {"$type", "source", "createdAt"}


@given(record=data_records, parent=_parents)
def test_post_that_passes_the_rules_is_read_within_allowed_boundaries_only(record: dict[str, DataModel], parent: Parent) -> None:
    if RULES.check(POST, record, parent) is None:
        boundaries = record_boundaries(record)
        assert boundaries
        assert set(boundaries) <= {EDITORS, WRITERS}
        assert not may_read(Viewer(BOB, frozenset({Boundary("did:web:other/x")}), enrolled=True), ALICE, boundaries)


@given(boundary=data_values)
def test_boundary_that_may_be_written_is_read_as_written(boundary: DataModel) -> None:
    written = written_boundaries(boundary)
    if written is not None:
        assert record_boundaries({"boundary": boundary}) == tuple(sorted(set(written)))


@given(value=st.text() | st.text(alphabet="did:web/").map(lambda tail: "did:" + tail))
def test_every_text_gets_a_verdict_as_a_boundary(value: str) -> None:
    qualified = ensure_qualified(SERVICE, value)
    if not isinstance(qualified, Refusal):
        assert belongs_to(SERVICE, qualified)
    parts = split_boundary(value)
    if parts is not None:
        assert "/".join(parts) == value
        assert all(parts)
    assert value in mismatch_message(SERVICE, value)
