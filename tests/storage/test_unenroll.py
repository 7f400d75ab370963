"""Hard unenroll: nothing of the actor can be read any more (I7), and nothing of it is ever used again (I2)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from stratos.core.log_entry import EntryKind
from stratos.storage.ports import Backend, HeadMoved, StorageFault
from tests.storage.builders import POSTS, START, RepoBuilder, did_of, post
from tests.storage.conftest import Storage
from tests.storage.steps import append, body, fill, picture, whole_log


@pytest.fixture
def alice(backend: Backend) -> RepoBuilder:
    """An enrolled account with a post."""
    alice = RepoBuilder(did_of("alice"))
    append(backend, alice.enrolled())
    fill(backend, alice, alice.create(POSTS, "a", post("one")))
    return alice


def test_enrollment_key_repository_and_head_are_gone(backend: Backend, alice: RepoBuilder) -> None:
    append(backend, alice.proposal(alice.unenroll()))
    assert backend.enrollments.get(alice.did) is None
    assert backend.enrollments.sealed_key(alice.did) is None
    assert backend.enrollments.page(after=None, limit=9) == []
    assert backend.log.repo_head(alice.did) is None
    assert backend.log.repo_heads(after=None, limit=9) == []
    assert picture(backend, alice.did) is None


def test_only_the_unenroll_entry_stays_in_the_log(backend: Backend, alice: RepoBuilder) -> None:
    bob = RepoBuilder(did_of("bob"))
    bobs = append(backend, bob.enrolled())
    (ended,) = append(backend, alice.proposal(alice.unenroll()))
    assert whole_log(backend) == [*bobs, ended]
    assert whole_log(backend, alice.did) == [ended]
    assert backend.log.after(0, limit=9, max_bytes=10_000, kind=EntryKind.COMMIT) == bobs[1:]
    assert body(ended)["action"] == "unenroll"
    assert "boundaries" not in body(ended)


def test_purged_entries_do_not_outdate_a_cursor(backend: Backend, alice: RepoBuilder) -> None:
    append(backend, alice.proposal(alice.unenroll()))
    assert not backend.log.outdated(0)
    assert not backend.log.outdated(0, alice.did)


def test_a_store_held_open_is_closed(backend: Backend, alice: RepoBuilder) -> None:
    with backend.actors.open(alice.did) as store:
        assert store is not None
        append(backend, alice.proposal(alice.unenroll()))
        with pytest.raises(StorageFault):
            store.record(POSTS, "a")
        with pytest.raises(StorageFault):
            store.root()
    with backend.actors.open(alice.did) as store:
        assert store is None


def test_a_write_that_was_planned_before_is_left_out(backend: Backend, alice: RepoBuilder) -> None:
    late = alice.create(POSTS, "b", post("late"))
    outcomes = backend.commit([alice.proposal(alice.unenroll()), alice.proposal(late)], now=START)
    assert outcomes[1] == HeadMoved(alice.did)
    first = alice.restarted()
    assert backend.commit([first.proposal(first.entry())], now=START) == [HeadMoved(alice.did)]
    assert picture(backend, alice.did) is None


def test_a_write_and_the_unenroll_after_it_in_one_batch_leave_nothing(backend: Backend, alice: RepoBuilder) -> None:
    batch = [alice.proposal(alice.create(POSTS, "b", post("two"))), alice.proposal(alice.unenroll())]
    logged = append(backend, *batch)
    assert whole_log(backend) == logged[1:]
    assert picture(backend, alice.did) is None


def test_who_enrolls_again_begins_with_an_empty_repository_and_later_revs(backend: Backend, alice: RepoBuilder) -> None:
    old = whole_log(backend)
    append(backend, alice.proposal(alice.unenroll()))
    again = alice.restarted()
    logged = append(backend, again.enrolled(), now=START - timedelta(days=1))
    assert logged[0].seq > old[-1].seq
    held = picture(backend, again.did)
    assert held is not None
    assert held.records == {}
    assert held.blocks == again.blocks


def test_a_repository_that_was_read_and_written_often_begins_anew_as_well(backend: Backend, alice: RepoBuilder) -> None:
    # More often than it takes PostgreSQL's driver to prepare the statements.
    for number in range(8):
        fill(backend, alice, alice.create(POSTS, f"r{number}", post("one")))
        assert picture(backend, alice.did) is not None
    append(backend, alice.proposal(alice.unenroll()))
    assert picture(backend, alice.did) is None
    again = alice.restarted()
    append(backend, again.enrolled())
    fill(backend, again, again.create(POSTS, "a", post("two")))
    held = picture(backend, again.did)
    assert held is not None
    assert held.records == again.records
    assert held.blocks == again.blocks


def test_a_rev_of_the_former_repository_is_never_used_again(backend: Backend, alice: RepoBuilder) -> None:
    append(backend, alice.proposal(alice.unenroll()))
    again = alice.restarted()
    again.last_us -= 1
    assert backend.commit([again.enrolled()], now=START) == [HeadMoved(alice.did)]
    assert backend.enrollments.get(alice.did) is None


def test_unenroll_and_enroll_in_one_batch(backend: Backend, alice: RepoBuilder) -> None:
    last = alice.create(POSTS, "b", post("two"))
    again = alice.restarted()
    logged = append(
        backend,
        alice.proposal(last),
        alice.proposal(alice.unenroll()),
        again.enrolled(),
        again.proposal(again.create(POSTS, "c", post("three"))),
    )
    assert whole_log(backend) == logged[1:]
    held = picture(backend, again.did)
    assert held is not None
    assert held.records == again.records
    assert held.blocks == again.blocks


def test_nothing_comes_back_after_reopening(storage: Storage, backend: Backend, alice: RepoBuilder) -> None:
    append(backend, alice.proposal(alice.unenroll()))
    log = whole_log(backend)
    storage.close()
    backend = storage.open()
    assert whole_log(backend) == log
    assert picture(backend, alice.did) is None
    assert backend.enrollments.get(alice.did) is None


def test_unenrolling_nobody_is_an_entry_without_effect(backend: Backend) -> None:
    nobody = RepoBuilder(did_of("nobody"))
    (logged,) = append(backend, nobody.proposal(nobody.unenroll()))
    assert whole_log(backend) == [logged]
    append(backend, nobody.enrolled())


def test_others_are_untouched(backend: Backend, alice: RepoBuilder) -> None:
    bob = RepoBuilder(did_of("bob"))
    append(backend, bob.enrolled())
    fill(backend, bob, bob.create(POSTS, "a", post("bob's")))
    append(backend, alice.proposal(alice.unenroll()))
    held = picture(backend, bob.did)
    assert held is not None
    assert held.blocks == bob.blocks
    assert backend.enrollments.get(bob.did) == bob.enrollment()
    assert backend.enrollments.sealed_key(bob.did) == b"sealed"
