"""What a batch of events comes to for an actor."""

from __future__ import annotations

from stratos.atproto.syntax import Did, Tid
from stratos.atproto.tid import tid_from
from stratos.core.log_entry import Action, EnrollmentAction
from stratos.indexer.events import CommitEvent, EnrollmentEvent, Event, MalformedEvent, OutdatedCursor, PostChange, Record
from stratos.indexer.fold import ActorChanges, ActorState, BatchPlan, fold
from tests.indexer.stratos_model import post

DID = Did("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
OTHER = Did("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")
SERVICE = "http://stratos.test"


def tid(number: int) -> Tid:
    return tid_from(1_772_000_000_000_000 + number, 0)


def time(number: int) -> str:
    return f"2026-03-01T00:00:{number:02d}.000Z"


def commit(seq: int, *changes: PostChange, since: int | None = None, did: Did = DID, chained: bool = True) -> CommitEvent:
    """The commit at `seq`; its rev is the TID of `seq`, and it follows the commit at `since`."""
    return CommitEvent(seq, did, tid(seq), chained, None if since is None else tid(since), time(seq), changes)


def change(action: Action, rkey: str, text: str = "", created: int = 0) -> PostChange:
    record: Record | None = None if action is Action.DELETE else post(text, "a", created_at=time(created))
    return PostChange(action, rkey, f"cid of {text}", record)


def enroll(seq: int, rev: int | None = None) -> EnrollmentEvent:
    return EnrollmentEvent(seq, DID, EnrollmentAction.ENROLL, time(seq), None, ("b",), None if rev is None else tid(rev))


def unenroll(seq: int, rev: int | None = None) -> EnrollmentEvent:
    return EnrollmentEvent(seq, DID, EnrollmentAction.UNENROLL, time(seq), None, (), None if rev is None else tid(rev))


def folded(*events: Event, state: ActorState | None = None, after: int = 0) -> BatchPlan:
    return fold(events, {} if state is None else {DID: state}, after=after, service_url=SERVICE)


def only(plan: BatchPlan) -> ActorChanges:
    (actor,) = plan.actors
    return actor


def test_operations_collapse_to_the_final_state_of_each_post() -> None:
    plan = folded(
        commit(1, change(Action.CREATE, "x", "one", created=1), change(Action.CREATE, "y", "two")),
        commit(2, change(Action.UPDATE, "x", "three", created=9), change(Action.DELETE, "y"), since=1),
    )
    actor = only(plan)
    x = actor.posts["x"]
    assert x is not None
    assert (x.text, x.created_at, x.indexed_at) == ("three", time(1), time(2))
    assert actor.posts["y"] is None
    assert (x.fresh, actor.seq, actor.rev, plan.seq, plan.commits) == (True, 2, tid(2), 2, 2)


def test_a_post_created_again_after_its_delete_brings_its_own_creation_time() -> None:
    plan = folded(
        commit(2, change(Action.DELETE, "x"), change(Action.CREATE, "x", "new", created=7), since=1), state=ActorState(1, tid(1))
    )
    x = only(plan).posts["x"]
    assert x is not None
    assert (x.created_at, x.fresh) == (time(7), True)


def test_an_update_of_a_stored_post_leaves_its_creation_time_to_the_row() -> None:
    plan = folded(commit(2, change(Action.UPDATE, "x", "new"), since=1), state=ActorState(1, tid(1)))
    x = only(plan).posts["x"]
    assert x is not None
    assert not x.fresh


def test_events_at_or_before_the_saved_position_are_skipped() -> None:
    plan = folded(commit(1, change(Action.CREATE, "x")), commit(2, since=1), after=1, state=ActorState(1, tid(1)))
    assert (plan.duplicates, plan.commits, only(plan).posts) == (1, 1, {})


def test_an_unenroll_that_was_applied_purges_nothing_when_it_comes_again() -> None:
    plan = folded(unenroll(3), after=3, state=ActorState(3, tid(3)))
    assert (plan.duplicates, plan.actors) == (1, ())


def test_a_repeated_event_within_a_batch_is_skipped() -> None:
    event = commit(1, change(Action.CREATE, "x"))
    assert folded(event, event).duplicates == 1


def test_commits_contained_in_a_resync_are_skipped_and_the_next_applies() -> None:
    plan = folded(
        commit(3, change(Action.CREATE, "x"), since=2),
        commit(4, change(Action.CREATE, "y"), since=3),
        commit(5, change(Action.CREATE, "z"), since=4),
        state=ActorState(0, tid(4)),
    )
    actor = only(plan)
    assert (list(actor.posts), actor.block, actor.seq, actor.rev) == (["z"], None, 5, tid(5))


def test_a_gap_blocks_the_actor_and_keeps_what_came_before_it() -> None:
    plan = folded(
        commit(2, change(Action.CREATE, "x"), since=1),
        commit(5, change(Action.CREATE, "y"), since=4),
        commit(6, change(Action.CREATE, "z"), since=5),
        commit(7, did=OTHER),
        state=ActorState(1, tid(1)),
    )
    actor = next(actor for actor in plan.actors if actor.did == DID)
    assert (list(actor.posts), actor.seq, actor.rev) == (["x"], 2, tid(2))
    assert actor.block is not None
    assert (actor.block.seq, actor.block.rev) == (6, tid(6))
    assert "gap" in (actor.block.error or "")
    assert plan.seq == 7


def test_a_commit_in_the_middle_of_an_unknown_repository_is_a_gap() -> None:
    assert only(folded(commit(5, since=4))).block is not None


def test_a_first_commit_upon_known_rows_is_a_gap() -> None:
    assert only(folded(commit(5, since=None), state=ActorState(1, tid(1)))).block is not None


def test_a_blocked_actors_commits_are_noted_but_not_applied() -> None:
    plan = folded(commit(5, change(Action.CREATE, "x"), since=1), state=ActorState(1, tid(1), blocked=True))
    actor = only(plan)
    assert (actor.posts, actor.moved) == ({}, False)
    assert actor.block is not None
    assert (actor.block.seq, actor.block.rev, actor.block.error) == (5, tid(5), None)


def test_a_blocked_actors_enrollment_still_applies() -> None:
    actor = only(folded(enroll(5, rev=9), state=ActorState(1, tid(1), blocked=True)))
    assert actor.enrollment is not None
    assert (actor.enrollment.boundaries, actor.enrollment.last_checked) == (("b",), time(5))
    assert actor.block is not None
    assert (actor.block.seq, actor.block.error) == (5, None)


def test_an_enrollment_ahead_of_the_rows_is_a_gap() -> None:
    assert only(folded(enroll(5, rev=4), state=ActorState(1, tid(1)))).block is not None
    assert only(folded(enroll(5, rev=4))).block is not None


def test_an_enrollment_at_or_behind_the_rows_is_none() -> None:
    assert only(folded(enroll(5, rev=4), state=ActorState(4, tid(4)))).block is None
    assert only(folded(enroll(5, rev=3), state=ActorState(4, tid(4)))).block is None
    assert only(folded(enroll(5))).block is None


def test_unenroll_purges_and_forgets_what_the_batch_had_before() -> None:
    actor = only(folded(enroll(1), commit(2, change(Action.CREATE, "x")), commit(9, since=8), unenroll(10)))
    assert (actor.purge, actor.posts, actor.enrollment, actor.block, actor.moved) == (True, {}, None, None, False)


def test_who_leaves_for_a_while_is_taken_out_and_fetched_whole_on_return() -> None:
    left = only(folded(unenroll(5, rev=4), state=ActorState(4, tid(4))))
    assert (left.purge, left.enrollment, left.block) == (True, None, None)
    for back in (folded(enroll(6, rev=4)), folded(unenroll(5, rev=4), enroll(6, rev=4), state=ActorState(4, tid(4)))):
        actor = only(back)
        assert actor.enrollment is not None
        assert actor.block is not None
        assert (actor.block.rev, actor.posts) == (tid(4), {})


def test_enrolling_again_after_unenroll_starts_from_nothing() -> None:
    plan = folded(unenroll(5), enroll(6), commit(7, change(Action.CREATE, "x")), state=ActorState(4, tid(4), blocked=True))
    actor = only(plan)
    assert (actor.purge, list(actor.posts), actor.block, actor.seq, actor.rev) == (True, ["x"], None, 7, tid(7))


def test_old_frames_of_one_commit_share_a_rev_and_all_apply() -> None:
    first = CommitEvent(1, DID, tid(1), False, None, time(1), (change(Action.CREATE, "x"),))
    second = CommitEvent(2, DID, tid(1), False, None, time(1), (change(Action.CREATE, "y"),))
    actor = only(folded(first, second))
    assert (set(actor.posts), actor.seq, actor.rev) == ({"x", "y"}, 2, tid(1))


def test_old_frames_before_the_rows_rev_are_skipped() -> None:
    plan = folded(commit(3, change(Action.CREATE, "x"), chained=False), state=ActorState(0, tid(4)))
    assert (only(plan).posts, plan.duplicates) == ({}, 1)


def test_a_malformed_event_blocks_its_actor_and_distrusts_the_enrollment() -> None:
    actor = only(folded(enroll(4), MalformedEvent(5, DID, "broken"), state=ActorState(1, tid(1))))
    assert actor.block is not None
    assert (actor.block.seq, actor.block.error, actor.distrust) == (5, "broken", True)


def test_what_names_no_actor_asks_for_a_comparison_of_all() -> None:
    assert folded(MalformedEvent(None, None, "noise")).reconcile
    assert folded(OutdatedCursor("too old")).reconcile
    assert not folded(commit(1)).reconcile


def test_blocked_by_keeps_what_decides_access() -> None:
    actor = only(folded(unenroll(5), enroll(6), commit(7, change(Action.CREATE, "x"))))
    kept = actor.blocked_by("refused")
    assert (kept.purge, kept.posts, kept.moved, kept.enrollment) == (True, {}, False, actor.enrollment)
    assert kept.block is not None
    assert (kept.block.seq, kept.block.rev, kept.block.error) == (7, tid(7), "refused")
    closed = actor.closed_by("refused")
    assert (closed.enrollment, closed.distrust, closed.purge) == (None, True, True)
