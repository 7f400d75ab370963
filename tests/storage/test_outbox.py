"""The outbox: work by account and path, kept until it is done."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol

import pytest

from stratos.atproto.syntax import Did
from stratos.storage.outbox_port import PUBLISHER, DueAccount, Mark, Outbox, WorkItem
from stratos.storage.ports import Backend
from tests.storage.builders import START, did_of

REI, SAKURA, KAORUKO = did_of("rei"), did_of("sakura"), did_of("kaoruko")
ENROLLMENT = "zone.stratos.actor.enrollment/did:web:stratos.test"
POST = "zone.stratos.feed.post/"
LATER = START + timedelta(hours=1)


class Reopening(Protocol):
    """Storage that can be opened again."""

    def open(self) -> Backend: ...
    def close(self) -> None: ...


@pytest.fixture
def outbox(backend: Backend) -> Outbox:
    """An empty outbox."""
    return backend.outbox


def mark(did: Did, path: str, at: datetime = START, *, wake: bool = False, only: bool = False) -> Mark:
    return Mark(did, path, at, wake=wake, only=only)


def put(outbox: Outbox, did: Did, *paths: str, now: datetime = START) -> None:
    """Mark paths of an account."""
    outbox.mark([mark(did, path, now) for path in paths], now=now)


def due(outbox: Outbox, now: datetime = LATER) -> list[Did]:
    """Whose turn has come."""
    return [account.did for account in outbox.due(now, limit=100, per_pds=100)]


def account(outbox: Outbox, did: Did, now: datetime = LATER) -> DueAccount:
    """A due account; fails the test where it is not due."""
    return next(account for account in outbox.due(now, limit=100, per_pds=100) if account.did == did)


def items(outbox: Outbox, did: Did, *, first: str | None = None, last: tuple[str, str] | None = None) -> list[WorkItem]:
    return outbox.items(did, first=first, last=last, limit=100)


def paths(outbox: Outbox, did: Did, *, first: str | None = None, last: tuple[str, str] | None = None) -> list[str]:
    return [item.path for item in items(outbox, did, first=first, last=last)]


def test_the_cursor_and_the_marks_move_in_one_transaction_and_survive(storage: Reopening) -> None:
    backend = storage.open()
    backend.outbox.advance(7, [mark(REI, POST + "a")], now=START)
    storage.close()
    backend = storage.open()
    assert backend.cursors.get(PUBLISHER) == 7
    assert paths(backend.outbox, REI) == [POST + "a"]


def test_the_cursor_moves_without_marks_and_never_back(backend: Backend) -> None:
    backend.outbox.advance(7, [], now=START)
    backend.outbox.advance(5, [], now=START)
    assert backend.cursors.get(PUBLISHER) == 7


def test_marks_of_one_path_are_one_item_that_remembers_the_first_and_the_last(outbox: Outbox) -> None:
    put(outbox, REI, POST + "a")
    put(outbox, REI, POST + "a", now=LATER)
    [item] = items(outbox, REI)
    assert (item.since, item.marked) == (START, LATER)


def test_work_is_in_the_order_of_its_marks_between_what_is_first_and_what_is_last(outbox: Outbox) -> None:
    for path in ("-", POST + "c", ENROLLMENT, POST + "a"):
        put(outbox, REI, path)
    assert paths(outbox, REI) == ["-", POST + "c", ENROLLMENT, POST + "a"]
    assert paths(outbox, REI, first=ENROLLMENT) == [ENROLLMENT, "-", POST + "c", POST + "a"]
    assert paths(outbox, REI, last=(ENROLLMENT, "-")) == [POST + "c", POST + "a", ENROLLMENT, "-"]


def test_what_is_done_is_gone_and_its_account_is_due_no_longer_after_its_turn(outbox: Outbox) -> None:
    put(outbox, REI, POST + "a")
    outbox.done(items(outbox, REI)[0])
    outbox.rest(REI, START)
    assert paths(outbox, REI) == []
    assert due(outbox) == []
    assert outbox.next_due(START - timedelta(days=1)) is None


def test_what_was_marked_again_meanwhile_is_not_done(outbox: Outbox) -> None:
    put(outbox, REI, POST + "a")
    [item] = items(outbox, REI)
    put(outbox, REI, POST + "a")
    outbox.done(item)
    outbox.block(item, "refused")
    outbox.forget(item)
    assert paths(outbox, REI) == [POST + "a"]


def test_an_item_that_went_and_came_back_is_not_mistaken_for_the_former(outbox: Outbox) -> None:
    put(outbox, REI, ENROLLMENT)
    [former] = items(outbox, REI)
    outbox.mark([mark(REI, "*", only=True), mark(REI, ENROLLMENT)], now=LATER)
    outbox.done(former)
    assert paths(outbox, REI, last=(ENROLLMENT, "-")) == ["*", ENROLLMENT]


def test_only_drops_the_account_s_other_work_and_nobody_else_s(outbox: Outbox) -> None:
    put(outbox, REI, POST + "a", POST + "b")
    put(outbox, SAKURA, POST + "a")
    outbox.mark([mark(REI, "*", only=True)], now=START)
    assert paths(outbox, REI) == ["*"]
    assert paths(outbox, SAKURA) == [POST + "a"]


def test_an_account_that_failed_is_due_again_at_its_time_and_what_failed_comes_last(outbox: Outbox) -> None:
    put(outbox, REI, POST + "a", POST + "b")
    outbox.postpone(items(outbox, REI)[0], LATER, failures=3, reason="away")
    assert due(outbox, LATER - timedelta(seconds=1)) == []
    assert outbox.next_due(START) == LATER
    assert account(outbox, REI).failures == 3
    assert paths(outbox, REI) == [POST + "b", POST + "a"]


def test_an_ordinary_mark_does_not_hurry_who_failed_but_one_that_wakes_does(outbox: Outbox) -> None:
    put(outbox, REI, POST + "a")
    outbox.postpone(items(outbox, REI)[0], LATER, failures=3, reason="away")
    put(outbox, REI, POST + "b")
    assert due(outbox, START) == []
    outbox.mark([mark(REI, ENROLLMENT, wake=True)], now=START)
    assert due(outbox, START) == [REI]
    assert account(outbox, REI).failures == 0


def test_success_ends_the_count_of_failures(outbox: Outbox) -> None:
    put(outbox, REI, POST + "a", POST + "b")
    outbox.postpone(items(outbox, REI)[0], START, failures=3, reason="away")
    outbox.done(items(outbox, REI)[0])
    assert account(outbox, REI).failures == 0
    assert outbox.page(after=None, limit=1, blocked=0)[0].last_error is None


def test_who_is_parked_is_due_only_after_a_mark_that_wakes(outbox: Outbox) -> None:
    put(outbox, REI, POST + "a")
    outbox.park(account(outbox, REI), "no session")
    put(outbox, REI, POST + "b")
    assert due(outbox) == []
    outbox.mark([mark(REI, ENROLLMENT, wake=True)], now=START)
    assert due(outbox) == [REI]
    assert paths(outbox, REI) == [POST + "a", POST + "b", ENROLLMENT]


def test_who_was_marked_since_it_was_found_due_is_not_parked(outbox: Outbox) -> None:
    put(outbox, REI, POST + "a")
    found = account(outbox, REI)
    outbox.mark([mark(REI, ENROLLMENT, wake=True)], now=START)
    outbox.park(found, "no session")
    assert due(outbox) == [REI]


def test_all_who_are_parked_can_be_woken_and_who_failed_sleeps_on(outbox: Outbox) -> None:
    put(outbox, REI, POST + "a")
    put(outbox, SAKURA, POST + "a")
    outbox.park(account(outbox, REI), "no session")
    outbox.postpone(items(outbox, SAKURA)[0], LATER + timedelta(hours=1), failures=1, reason="away")
    outbox.unpark_all(START)
    assert due(outbox) == [REI]


def test_what_is_blocked_holds_up_nothing_and_is_tried_again_when_it_is_marked_again(outbox: Outbox) -> None:
    put(outbox, REI, POST + "a", POST + "b")
    outbox.block(items(outbox, REI)[0], "400 InvalidRecord")
    assert paths(outbox, REI) == [POST + "b"]
    outbox.done(items(outbox, REI)[0])
    outbox.rest(REI, START)
    assert due(outbox) == []
    put(outbox, REI, POST + "a")
    assert due(outbox) == [REI]
    assert paths(outbox, REI) == [POST + "a"]


def test_turns_go_round_so_that_who_has_much_to_do_waits_for_who_has_little(outbox: Outbox) -> None:
    put(outbox, REI, POST + "a", POST + "b")
    put(outbox, SAKURA, POST + "a", now=START + timedelta(seconds=1))
    assert due(outbox) == [REI, SAKURA]
    outbox.rest(REI, START + timedelta(seconds=2))
    assert due(outbox) == [SAKURA, REI]


def test_one_pds_gets_no_more_than_its_share_of_the_turns(outbox: Outbox) -> None:
    for number in range(5):
        did = did_of(f"p{'abcde'[number]}")
        put(outbox, did, POST + "a", now=START)
        outbox.settle(did, "https://full.test")
    put(outbox, REI, POST + "a", now=START + timedelta(minutes=1))
    outbox.settle(REI, "https://other.test")
    found = outbox.due(LATER, limit=10, per_pds=2)
    assert [account.pds for account in found] == ["https://full.test", "https://full.test", "https://other.test"]


def test_the_operator_hurries_one_account_or_all_whatever_stands_in_the_way(outbox: Outbox) -> None:
    for did in (REI, SAKURA, KAORUKO):
        put(outbox, did, POST + "a")
    outbox.park(account(outbox, REI), "no session")
    outbox.postpone(items(outbox, SAKURA)[0], LATER + timedelta(hours=1), failures=4, reason="away")
    outbox.block(items(outbox, KAORUKO)[0], "400")
    outbox.rest(KAORUKO, START)
    assert due(outbox) == []
    assert outbox.hurry(KAORUKO, START) == 1
    assert due(outbox) == [KAORUKO]
    assert outbox.hurry(None, START) == 3
    assert sorted(due(outbox)) == sorted([REI, SAKURA, KAORUKO])
    assert paths(outbox, KAORUKO) == [POST + "a"]


def test_a_forgotten_account_leaves_nothing_unless_it_has_more_to_do(outbox: Outbox) -> None:
    put(outbox, REI, POST + "a", ENROLLMENT)
    outbox.settle(REI, "https://pds.test")
    first, second = items(outbox, REI)
    outbox.forget(first)
    assert account(outbox, REI).pds == "https://pds.test"
    outbox.forget(second)
    assert outbox.page(after=None, limit=10, blocked=0) == []
    put(outbox, REI, POST + "a")
    assert account(outbox, REI).pds == ""


def test_the_page_says_where_every_account_with_work_stands(outbox: Outbox) -> None:
    put(outbox, REI, POST + "a", POST + "b", POST + "c")
    outbox.settle(REI, "https://pds.test")
    outbox.block(items(outbox, REI)[0], "refused")
    outbox.postpone(items(outbox, REI)[0], LATER, failures=2, reason="away")
    put(outbox, SAKURA, POST + "a")
    outbox.park(account(outbox, SAKURA), "no session")
    put(outbox, KAORUKO, POST + "a")
    outbox.done(items(outbox, KAORUKO)[0])
    rei, sakura = sorted(outbox.page(after=None, limit=10, blocked=1), key=lambda work: work.did)
    assert (rei.did, rei.pds, rei.due, rei.failures, rei.last_error) == (REI, "https://pds.test", LATER, 2, "away")
    assert (rei.items, rei.since, [(item.path, item.reason) for item in rei.blocked]) == (3, START, [(POST + "a", "refused")])
    assert (sakura.parked, sakura.due, sakura.items) == ("no session", None, 1)
    assert [work.did for work in outbox.page(after=REI, limit=10, blocked=1)] == [SAKURA]
    assert [work.did for work in outbox.page(after=None, limit=1, blocked=1)] == [REI]


def test_the_gauges_count_items_by_how_they_stand(outbox: Outbox) -> None:
    assert outbox.counts(1).oldest is None
    put(outbox, REI, POST + "a", POST + "b", POST + "c", now=LATER)
    outbox.block(items(outbox, REI)[0], "refused")
    outbox.postpone(items(outbox, REI)[0], LATER, failures=2, reason="away")
    put(outbox, SAKURA, POST + "a", now=START)
    outbox.park(account(outbox, SAKURA), "no session")
    counts = outbox.counts(2)
    assert (counts.pending, counts.parked, counts.blocked, counts.failing, counts.oldest) == (2, 1, 1, 1, LATER)
    assert outbox.counts(3).failing == 0
