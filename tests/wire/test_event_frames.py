"""Hostile event frames: the indexer's reader names each as malformed, and never fails itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stratos.atproto.frames import ErrorFrame
from stratos.indexer.events import CommitEvent, EnrollmentEvent, MalformedEvent, OutdatedCursor, decode_event
from tests.wire.cases import check_each
from tests.wire.event_frames import HEADER, HostileFrame, flipped_frames, malformed_frames, whole_frames

FRAMES = tuple(malformed_frames())
KNOWN = (CommitEvent, EnrollmentEvent, MalformedEvent, OutdatedCursor, ErrorFrame, type(None))


def test_the_frames_that_all_of_them_are_made_from_are_read() -> None:
    commit, enrollment = (decode_event(frame) for frame in whole_frames())
    assert isinstance(commit, CommitEvent)
    assert isinstance(enrollment, EnrollmentEvent)


def test_hostile_frames_are_named_as_malformed() -> None:
    def check(case: HostileFrame) -> None:
        event = decode_event(case.frame)
        assert isinstance(event, MalformedEvent), event
        assert event.problem

    check_each(FRAMES, check)


def test_no_flipped_bit_surprises_the_reader() -> None:
    assert all(isinstance(decode_event(frame), KNOWN) for frame in flipped_frames())


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_surprise_the_reader(data: bytes, headed: bool) -> None:
    assert isinstance(decode_event(HEADER + data if headed else data), KNOWN)


def test_there_are_many_distinct_hostile_frames() -> None:
    assert len({case.frame for case in FRAMES}) == len(FRAMES) >= 150
