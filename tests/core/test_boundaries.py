"""Qualification of boundaries and their extraction from records (spec service.md §3.1, §3.5)."""

from __future__ import annotations

import pytest

from stratos.core.boundaries import (
    MAX_VALUE_BYTES,
    MAX_VALUES,
    OWNER_ONLY,
    belongs_to,
    ensure_qualified,
    mismatch_message,
    named_by,
    qualify,
    record_boundaries,
    split_boundary,
    written_boundaries,
)
from stratos.core.outcomes import Reason, Refusal
from tests.core.builders import EDITORS, OTHER_SERVICE, SERVICE, WRITERS, domains


def test_qualified_form_is_service_slash_name() -> None:
    assert qualify(SERVICE, "writers") == "did:web:stratos.example.com/writers"


@pytest.mark.parametrize(
    ("value", "service", "name"),
    [
        ("did:web:stratos.example.com/writers", "did:web:stratos.example.com", "writers"),
        ("did:plc:abc/writers", "did:plc:abc", "writers"),
        ("did:web:localhost%3A3100/a/b", "did:web:localhost%3A3100", "a/b"),
        ("did:web:host:path/name", "did:web:host:path", "name"),
        ("did:odd/method:host/name", "did:odd/method:host", "name"),
    ],
)
def test_boundary_splits_at_first_slash_after_second_colon(value: str, service: str, name: str) -> None:
    assert split_boundary(value) == (service, name)


@pytest.mark.parametrize(
    "value", ["", "writers", "a/b", "did:", "did:web", "did:web/x", "did:web:", "did:web:host", "did:web:host/", "did:web:/name"]
)
def test_unqualified_value_does_not_split(value: str) -> None:
    assert split_boundary(value) is None


@pytest.mark.parametrize(
    ("value", "belongs"),
    [
        ("did:web:stratos.example.com/writers", True),
        ("did:web:stratos.example.com/a/b", True),
        ("did:web:stratos.example.com", False),
        ("did:web:stratos.example.com/", False),
        ("did:web:stratos.example.com.evil/writers", False),
        ("did:web:stratos.example.co/writers", False),
        ("DID:web:stratos.example.com/writers", False),
        (" did:web:stratos.example.com/writers", False),
        ("writers", False),
    ],
)
def test_boundary_belongs_to_the_service_whose_did_it_begins_with(value: str, belongs: bool) -> None:
    assert belongs_to(SERVICE, value) is belongs


def test_bare_name_is_qualified() -> None:
    assert ensure_qualified(SERVICE, "writers") == WRITERS


def test_own_boundary_is_kept() -> None:
    assert ensure_qualified(SERVICE, WRITERS) == WRITERS


def test_boundary_of_another_service_is_refused_naming_both() -> None:
    foreign = qualify(OTHER_SERVICE, "writers")
    assert ensure_qualified(SERVICE, foreign) == Refusal(
        Reason.SERVICE_MISMATCH,
        'Boundary "did:web:elsewhere.example.net/writers" belongs to service did:web:elsewhere.example.net, '
        "not did:web:stratos.example.com",
    )


@pytest.mark.parametrize("value", ["", "did:web:stratos.example.com", "did:web:stratos.example.com/", "did:nonsense"])
def test_value_that_could_be_taken_for_a_did_is_never_qualified(value: str) -> None:
    refusal = ensure_qualified(SERVICE, value)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.SERVICE_MISMATCH


def test_mismatch_of_an_unqualified_value_says_so() -> None:
    assert mismatch_message(SERVICE, "writers") == (
        'Boundary "writers" belongs to service (unqualified), not did:web:stratos.example.com'
    )


def test_boundaries_of_a_record_are_sorted_and_distinct() -> None:
    assert record_boundaries({"boundary": domains(WRITERS, EDITORS, WRITERS)}) == (EDITORS, WRITERS)


def test_values_are_taken_exactly_as_written() -> None:
    assert record_boundaries({"boundary": domains(" Writers ", "writers")}) == (" Writers ", "writers")


@pytest.mark.parametrize("record", [{}, {"text": "x"}, {"boundary": {"values": []}}, {"boundary": domains()}])
def test_record_without_boundaries_has_none(record: dict[str, object]) -> None:
    assert record_boundaries(record) == ()


_MALFORMED: list[object] = [
    None,
    True,
    0,
    "",
    WRITERS,
    [],
    [WRITERS],
    {},
    {"values": None},
    {"values": WRITERS},
    {"values": {"value": WRITERS}},
    {"values": [WRITERS]},
    {"values": [None]},
    {"values": [{}]},
    {"values": [{"value": ""}]},
    {"values": [{"value": 7}]},
    {"values": [{"value": [WRITERS]}]},
    {"values": [{"value": b"writers"}]},
    {"values": [{"$type": "com.example.other", "value": WRITERS}]},
    {"$type": "com.example.other#everybodyBut", "values": [{"value": WRITERS}]},
    {"$type": 7, "values": [{"value": WRITERS}]},
    {"value": [{"value": WRITERS}]},
]


@pytest.mark.parametrize("boundary", _MALFORMED)
def test_malformed_boundary_is_read_as_owner_only(boundary: object) -> None:
    assert record_boundaries({"boundary": boundary}) == (OWNER_ONLY,)


@pytest.mark.parametrize("boundary", _MALFORMED)
def test_malformed_boundary_is_not_well_formed_for_writing(boundary: object) -> None:
    assert written_boundaries(boundary) is None


def test_malformed_value_beside_a_good_one_widens_nothing_when_read_and_is_not_writable() -> None:
    boundary = {"values": [{"value": WRITERS}, {"value": 7}, "x", {"value": ""}]}
    assert record_boundaries({"boundary": boundary}) == (WRITERS,)
    assert written_boundaries(boundary) is None


def test_written_values_keep_their_order() -> None:
    assert written_boundaries(domains(WRITERS, EDITORS, WRITERS)) == (WRITERS, EDITORS, WRITERS)


def test_item_and_list_may_leave_out_their_type() -> None:
    boundary = {"values": [{"value": WRITERS}]}
    assert written_boundaries(boundary) == (WRITERS,)
    assert record_boundaries({"boundary": boundary}) == (WRITERS,)


def test_number_of_written_values_is_limited() -> None:
    assert written_boundaries(domains(*[WRITERS] * MAX_VALUES)) is not None
    assert written_boundaries(domains(*[WRITERS] * (MAX_VALUES + 1))) is None


def test_length_of_a_written_value_is_limited_in_bytes() -> None:
    assert written_boundaries(domains("é" * 126 + "x")) is not None
    assert len(("é" * 126 + "x").encode()) == MAX_VALUE_BYTES
    assert written_boundaries(domains("é" * 127)) is None


def test_lone_surrogate_does_not_break_reading_or_checking() -> None:
    assert record_boundaries({"boundary": domains("\ud800")}) == ("\ud800",)
    assert written_boundaries(domains("\ud800")) == ("\ud800",)


def test_owner_only_names_nobody_not_even_its_holder() -> None:
    assert not named_by(frozenset({OWNER_ONLY}), (OWNER_ONLY,))
    assert not named_by(frozenset({OWNER_ONLY, WRITERS}), (OWNER_ONLY, WRITERS))
    assert named_by(frozenset({OWNER_ONLY, WRITERS}), (WRITERS,))


def test_nobody_can_be_enrolled_in_owner_only() -> None:
    assert ensure_qualified(SERVICE, OWNER_ONLY) != OWNER_ONLY
