"""The memory of used tokens: exact while they are valid, bounded, and never forgetful under pressure. Invariant I8."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.api.credentials.replay import Use, UsedTokens
from tests.api.credentials.builders import Clock


def test_token_is_used_once_until_it_expires(clock: Clock) -> None:
    used = UsedTokens(clock=clock)
    assert used.use("rei", "a", until=clock.seconds + 60) is Use.FIRST
    clock.advance(60)
    assert used.use("rei", "a", until=clock.seconds) is Use.AGAIN
    clock.advance(1)
    assert used.use("rei", "a", until=clock.seconds + 60) is Use.FIRST
    assert used.statistics()["replayed_total"] == 1


def test_holder_and_token_are_told_apart(clock: Clock) -> None:
    used = UsedTokens(clock=clock)
    assert used.use("ab", "c", until=clock.seconds + 60) is Use.FIRST
    assert used.use("a", "bc", until=clock.seconds + 60) is Use.FIRST


def test_full_memory_refuses_and_forgets_nothing(clock: Clock) -> None:
    used = UsedTokens(clock=clock, max_tokens=2, shares=1)
    for holder, token in (("rei", "a"), ("sakura", "b")):
        assert used.use(holder, token, until=clock.seconds + 60) is Use.FIRST
    assert used.use("kaoruko", "c", until=clock.seconds + 60) is Use.UNKNOWN
    assert used.use("rei", "a", until=clock.seconds + 60) is Use.AGAIN
    assert used.statistics() == {"tokens": 2, "tokens_limit": 2, "holders": 2, "replayed_total": 1, "overflowed_total": 1}


def test_holder_who_has_used_up_its_share_is_refused_and_nobody_else(clock: Clock) -> None:
    used = UsedTokens(clock=clock, max_tokens=10, shares=4)
    uses = [used.use("rei", str(number), until=clock.seconds + 60) for number in range(3)]
    assert uses == [Use.FIRST, Use.FIRST, Use.UNKNOWN]
    assert used.use("sakura", "0", until=clock.seconds + 60) is Use.FIRST


@pytest.mark.parametrize("greedy", [1, 10, 100])
def test_however_many_are_greedy_there_is_room_for_whoever_comes_with_few(clock: Clock, greedy: int) -> None:
    used = UsedTokens(clock=clock, max_tokens=2_000, shares=10)
    for token in range(300):
        for holder in range(greedy):
            used.use(f"greedy {holder}", str(token), until=clock.seconds + 3_600)
    assert used.use("rei", "0", until=clock.seconds + 60) is Use.FIRST
    assert used.use("greedy 0", "another", until=clock.seconds + 60) is Use.UNKNOWN
    assert used.statistics()["tokens"] < 2_000


def test_room_comes_back_as_tokens_expire_whatever_their_order(clock: Clock) -> None:
    used = UsedTokens(clock=clock, max_tokens=4, shares=2)
    used.use("rei", "long", until=clock.seconds + 100)
    used.use("sakura", "short", until=clock.seconds + 10)
    clock.advance(11)
    assert used.use("sakura", "next", until=clock.seconds + 10) is Use.FIRST
    assert used.use("rei", "next", until=clock.seconds + 10) is Use.UNKNOWN
    clock.advance(100)
    assert used.use("rei", "next", until=clock.seconds + 10) is Use.FIRST
    assert used.statistics()["tokens"] == 1


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 30), st.integers(0, 20)), max_size=60))
def test_verdicts_are_those_of_a_memory_without_bounds(steps: list[tuple[int, int, int]]) -> None:
    clock = Clock()
    used = UsedTokens(clock=clock)
    until: dict[int, int] = {}
    for token, lifetime, wait in steps:
        expected = Use.AGAIN if until.get(token, -1) >= clock.seconds else Use.FIRST
        assert used.use("rei", str(token), until=clock.seconds + lifetime) is expected
        if expected is Use.FIRST:
            until[token] = clock.seconds + lifetime
        clock.advance(wait)
