"""The catalogue of mutants fits the code as it is; `make mutants` runs it."""

from __future__ import annotations

import pytest

from tests.mutants.catalogue import CHECKOUT, INVARIANTS, Mutant, mutants


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: mutant.name)
def test_a_mutant_changes_one_place_and_names_tests_that_exist(mutant: Mutant) -> None:
    assert (CHECKOUT / mutant.file).read_text().count(mutant.old) == 1
    assert mutant.old != mutant.new
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert f"def {name}(" in (CHECKOUT / file).read_text()


def test_names_are_distinct_and_every_invariant_has_mutants() -> None:
    catalogue = mutants()
    assert len({mutant.name for mutant in catalogue}) == len(catalogue)
    assert {mutant.breaks for mutant in catalogue} == set(INVARIANTS)
