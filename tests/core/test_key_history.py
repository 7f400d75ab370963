"""Which key signed a commit."""

from __future__ import annotations

import pytest

from stratos.atproto.syntax import Tid
from stratos.core.key_history import InvalidKeyHistory, SigningKeyPeriod, key_of_commit

EARLY, BEGAN, LATER, LATEST = (Tid(f"3mgaaaaaaaaa{letter}") for letter in "bcde")
TIME = "2026-05-28T12:00:00.000Z"
FIRST = SigningKeyPeriod("did:key:first", None, TIME, TIME)
SECOND = SigningKeyPeriod("did:key:second", BEGAN, TIME, TIME)
THIRD = SigningKeyPeriod("did:key:third", LATEST, TIME)


@pytest.mark.parametrize(
    ("rev", "key"),
    [(EARLY, FIRST.key), (BEGAN, SECOND.key), (LATER, SECOND.key), (LATEST, THIRD.key)],
)
def test_a_commit_is_signed_with_the_last_key_that_had_begun(rev: Tid, key: str) -> None:
    assert key_of_commit([FIRST, SECOND, THIRD], rev) == key
    assert key_of_commit([THIRD, FIRST, SECOND], rev) == key


def test_before_the_history_there_is_no_key() -> None:
    assert key_of_commit([SECOND, THIRD], EARLY) is None
    assert key_of_commit([], EARLY) is None


@pytest.mark.parametrize("period", [FIRST, SECOND, THIRD])
def test_a_period_reads_back_from_what_is_told_of_it(period: SigningKeyPeriod) -> None:
    assert SigningKeyPeriod.from_json(period.as_json()) == period


@pytest.mark.parametrize(
    "value", [None, [], {}, {"key": "k"}, {"key": 1, "createdAt": TIME}, {"key": "k", "createdAt": TIME, "firstRev": "?"}]
)
def test_what_is_no_period_is_refused(value: object) -> None:
    with pytest.raises(InvalidKeyHistory):
        SigningKeyPeriod.from_json(value)
