"""The access predicate's truth table (spec service.md §3.6, §6.1; invariant I4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.atproto.dag_cbor import DataModel
from stratos.core.access import ANONYMOUS, Viewer, may_read
from stratos.core.boundaries import OWNER_ONLY, Boundary, record_boundaries
from tests.core.builders import ALICE, BOB, EDITORS, READERS, WRITERS, data_values, domains

_NONE: frozenset[Boundary] = frozenset()


@pytest.mark.parametrize(
    ("viewer", "boundaries", "allowed"),
    [
        pytest.param(ANONYMOUS, (), False, id="anonymous-no-boundaries"),
        pytest.param(ANONYMOUS, (WRITERS,), False, id="anonymous-boundary"),
        pytest.param(Viewer(None, frozenset({WRITERS}), True), (WRITERS,), False, id="nobody-with-boundaries"),
        pytest.param(Viewer(ALICE, _NONE, True), (), True, id="owner-no-boundaries"),
        pytest.param(Viewer(ALICE, _NONE, True), (WRITERS,), True, id="owner-who-lost-the-boundary"),
        pytest.param(Viewer(ALICE, _NONE, False), (WRITERS,), True, id="owner-not-enrolled"),
        pytest.param(Viewer(ALICE, _NONE, False), (OWNER_ONLY,), True, id="owner-malformed-boundary"),
        pytest.param(Viewer(BOB, frozenset({WRITERS}), True), (), True, id="enrolled-no-boundaries"),
        pytest.param(Viewer(BOB, _NONE, True), (), True, id="enrolled-in-nothing-no-boundaries"),
        pytest.param(Viewer(BOB, frozenset({WRITERS}), True), (WRITERS,), True, id="enrolled-same-boundary"),
        pytest.param(Viewer(BOB, frozenset({WRITERS, READERS}), True), (EDITORS, WRITERS), True, id="enrolled-one-shared"),
        pytest.param(Viewer(BOB, frozenset({READERS}), True), (EDITORS, WRITERS), False, id="enrolled-none-shared"),
        pytest.param(Viewer(BOB, _NONE, True), (WRITERS,), False, id="enrolled-in-nothing"),
        pytest.param(Viewer(BOB, frozenset({WRITERS}), False), (WRITERS,), False, id="inactive-same-boundary"),
        pytest.param(Viewer(BOB, frozenset({WRITERS}), False), (), False, id="inactive-no-boundaries"),
        pytest.param(Viewer(BOB, frozenset({OWNER_ONLY}), True), (OWNER_ONLY,), False, id="owner-only-cannot-be-held"),
    ],
)
def test_who_may_read_a_record_of_alice(viewer: Viewer, boundaries: tuple[Boundary, ...], allowed: bool) -> None:
    assert may_read(viewer, ALICE, boundaries) is allowed


@pytest.mark.parametrize("near_miss", [WRITERS.upper(), f"{WRITERS} ", WRITERS[:-1], f"{WRITERS}/sub", "writers"])
def test_boundaries_are_compared_exactly(near_miss: str) -> None:
    viewer = Viewer(BOB, frozenset({WRITERS}), enrolled=True)
    assert not may_read(viewer, ALICE, record_boundaries({"boundary": domains(near_miss)}))


@given(boundary=data_values.filter(lambda value: not (isinstance(value, dict) and value.get("values") == [])), held=st.booleans())
def test_record_with_whatever_boundary_is_read_only_by_who_holds_a_value_of_it(boundary: DataModel, held: bool) -> None:
    viewer = Viewer(BOB, frozenset({WRITERS} if held else {EDITORS}), enrolled=True)
    values = boundary.get("values") if isinstance(boundary, dict) else None
    names_writers = isinstance(values, list) and any(isinstance(item, dict) and item.get("value") == WRITERS for item in values)
    if may_read(viewer, ALICE, record_boundaries({"boundary": boundary})):
        assert held
        assert names_writers
