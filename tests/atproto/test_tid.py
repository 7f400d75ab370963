"""TIDs: text that sorts as time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.atproto.frames import MessageFrame, decode_frame
from stratos.atproto.syntax import Tid, parse_tid
from stratos.atproto.tid import CLOCK_IDS, MAX_TIME_US, TidClock, TidsExhausted, tid_from, tid_time_us
from tests.vectors import reference

times = st.integers(0, MAX_TIME_US)
clock_ids = st.integers(0, CLOCK_IDS - 1)
NOW = 1_790_000_000_000_000


def clock_of(readings: list[int], clock_id: int = 7) -> TidClock:
    """A clock whose wall shows the given times, then the last one for ever."""
    shown = iter(readings)
    return TidClock(lambda: next(shown, readings[-1]), clock_id)


def standing(us: int) -> Callable[[], int]:
    return lambda: us


@given(times, clock_ids)
def test_a_tid_is_valid_and_tells_its_time(us: int, clock_id: int) -> None:
    tid = tid_from(us, clock_id)
    assert parse_tid(tid) == tid
    assert tid_time_us(tid) == us


@pytest.mark.parametrize(
    ("us", "clock_id", "text"),
    [(0, 0, "2222222222222"), (0, 1, "2222222222223"), (1, 0, "2222222222322"), (MAX_TIME_US, CLOCK_IDS - 1, "bzzzzzzzzzzzz")],
)
def test_a_tid_has_its_known_text(us: int, clock_id: int, text: str) -> None:
    assert tid_from(us, clock_id) == text


@given(times, clock_ids)
def test_a_tid_is_its_number_written_in_sortable_base_32(us: int, clock_id: int) -> None:
    number = 0
    for digit in tid_from(us, clock_id):
        number = number * 32 + "234567abcdefghijklmnopqrstuvwxyz".index(digit)
    assert number == us * 1024 + clock_id


@given(st.tuples(times, clock_ids), st.tuples(times, clock_ids))
def test_tids_sort_as_their_times(first: tuple[int, int], second: tuple[int, int]) -> None:
    assert (tid_from(*first) < tid_from(*second)) == (first < second)


def test_revs_of_the_reference_tell_the_time_of_their_commit() -> None:
    frame = decode_frame(reference("frame-01-commit-create.bin").read_bytes())
    assert isinstance(frame, MessageFrame)
    rev, time = frame.body["rev"], frame.body["time"]
    assert isinstance(rev, str)
    assert isinstance(time, str)
    written = datetime.fromtimestamp(tid_time_us(Tid(rev)) / 1e6, tz=datetime.fromisoformat(time).tzinfo)
    assert abs(datetime.fromisoformat(time) - written) < timedelta(seconds=1)


@pytest.mark.parametrize(("us", "clock_id"), [(-1, 0), (MAX_TIME_US + 1, 0), (0, -1), (0, CLOCK_IDS)])
def test_numbers_out_of_range_make_no_tid(us: int, clock_id: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        tid_from(us, clock_id)


def test_a_clock_needs_an_identifier_in_range() -> None:
    with pytest.raises(ValueError, match="clock identifier"):
        TidClock(standing(0), CLOCK_IDS)


def test_a_clock_gives_the_time_of_the_wall_and_its_own_identifier() -> None:
    assert clock_of([NOW], clock_id=9).next() == tid_from(NOW, 9)


readings = st.lists(st.integers(NOW, NOW + 5), min_size=1, max_size=30)
afters = st.none() | st.builds(tid_from, st.integers(NOW - 3, NOW + 9), clock_ids)


@given(readings, st.lists(afters, min_size=1, max_size=30), clock_ids)
def test_each_tid_is_greater_than_all_before_it_and_than_the_given_one(
    wall: list[int], given_revs: list[Tid | None], clock_id: int
) -> None:
    clock = clock_of(wall, clock_id)
    last = Tid("")
    for after in given_revs:
        tid = clock.next(after)
        assert tid > last
        assert after is None or tid > after
        last = tid


def test_a_clock_that_stands_still_counts_microseconds() -> None:
    clock = TidClock(standing(NOW), 3)
    assert [tid_time_us(clock.next()) for _ in range(3)] == [NOW, NOW + 1, NOW + 2]


def test_a_rev_of_the_same_microsecond_from_another_process_is_passed() -> None:
    assert tid_time_us(TidClock(standing(NOW), 0).next(after=tid_from(NOW, CLOCK_IDS - 1))) == NOW + 1


def test_an_older_rev_does_not_matter() -> None:
    assert tid_time_us(TidClock(standing(NOW), 0).next(after=tid_from(NOW - 1, CLOCK_IDS - 1))) == NOW


def test_nothing_follows_the_last_tid() -> None:
    clock = TidClock(standing(NOW), 0)
    with pytest.raises(TidsExhausted):
        clock.next(after=tid_from(MAX_TIME_US, 0))
    assert tid_time_us(clock.next()) == NOW
