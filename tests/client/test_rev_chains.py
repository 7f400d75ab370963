"""Gaps in an actor's commits, and revs that do not rise."""

from __future__ import annotations

from stratos.atproto.syntax import Did, Tid
from stratos.client import CommitEvent, EnrollmentAction, EnrollmentEvent, Gap, MalformedEvent
from stratos.client.rev_chains import RevChains
from stratos.client.stream_events import StreamEvent
from tests.client.builders import ALICE, BOB, TIME


def rev(number: int) -> Tid:
    return Tid(f"3mgaaaaaaaa{chr(ord('a') + number)}a")


def commit(number: int, since: int | None = None, *, did: Did = ALICE, chained: bool = True) -> CommitEvent:
    return CommitEvent(number, did, rev(number), chained, None if since is None else rev(since), None, TIME, ())


def enrollment(number: int, action: EnrollmentAction, at: int | None) -> EnrollmentEvent:
    return EnrollmentEvent(99, ALICE, action, TIME, None, (), None if at is None else rev(at))


def checked(*events: StreamEvent, chains: RevChains | None = None) -> list[StreamEvent]:
    chains = chains or RevChains(10)
    found = [each for event in events for each in chains.check(event)]
    chains.keep()
    return found


def test_a_chain_without_a_hole_passes() -> None:
    events = [commit(1), commit(2, 1), commit(5, 2), commit(3, None, did=BOB)]
    assert checked(*events) == events


def test_a_commit_that_does_not_follow_is_behind_a_gap_and_the_chain_goes_on_from_it() -> None:
    assert checked(commit(1), commit(5, 3), commit(6, 5)) == [
        commit(1),
        Gap(5, ALICE, rev(1), rev(3)),
        commit(5, 3),
        commit(6, 5),
    ]


def test_a_repository_that_begins_anew_unannounced_is_a_gap() -> None:
    assert checked(commit(1), commit(5))[1:] == [Gap(5, ALICE, rev(1), None), commit(5)]


def test_a_rev_that_does_not_rise_is_malformed_and_changes_nothing() -> None:
    for wrong in (commit(2, 1), commit(1)):
        found = checked(commit(2), wrong, commit(3, 2))
        assert isinstance(found[1], MalformedEvent)
        assert found[2] == commit(3, 2)
    assert isinstance(checked(commit(2, 2))[0], MalformedEvent)


def test_a_view_without_a_chain_shows_no_gaps_but_steps_back() -> None:
    events = [commit(1, chained=False), commit(5, chained=False), commit(5, chained=False)]
    assert checked(*events) == events
    assert isinstance(checked(*events, commit(4, chained=False))[-1], MalformedEvent)


def test_an_enrollment_tells_the_head_and_with_it_what_is_missing() -> None:
    soft = enrollment(9, EnrollmentAction.UNENROLL, 3)
    again = enrollment(9, EnrollmentAction.ENROLL, 3)
    assert checked(commit(1), soft, again, commit(4, 3)) == [
        commit(1),
        Gap(99, ALICE, rev(1), rev(3)),
        soft,
        again,
        commit(4, 3),
    ]


def test_after_leaving_for_good_a_repository_begins_anew() -> None:
    gone = enrollment(9, EnrollmentAction.UNENROLL, None)
    assert checked(commit(1), gone, commit(5)) == [commit(1), gone, commit(5)]


def test_what_was_not_kept_never_happened() -> None:
    chains = RevChains(10)
    checked(commit(1), chains=chains)
    assert len(chains.check(commit(5, 3))) == 2
    chains.forget_unkept()
    assert checked(commit(2, 1), chains=chains) == [commit(2, 1)]
    assert chains.statistics() == {"actors": 1, "actors_limit": 10, "gaps_total": 0}


def test_memory_is_bounded_and_forgets_who_was_not_seen_for_longest() -> None:
    chains = RevChains(2)
    others = [Did(f"did:plc:{name}") for name in "xy"]
    checked(commit(1), commit(1, did=others[0]), chains=chains)
    checked(commit(2, 1), commit(1, did=others[1]), chains=chains)
    assert chains.statistics()["actors"] == 2
    assert checked(commit(9, 8, did=others[0]), chains=chains) == [commit(9, 8, did=others[0])]
