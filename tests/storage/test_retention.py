"""Retention: what may be trimmed, and which cursors are outdated by it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from stratos.core.log_entry import LoggedEntry
from stratos.storage.ports import Backend
from tests.storage.builders import POSTS, START, Clock, RepoBuilder, did_of, post
from tests.storage.conftest import Storage
from tests.storage.steps import append, fill, seqs, whole_log

FAR = START + timedelta(days=365)

STORES_MAY_LAG = pytest.mark.parametrize("storage", ["sqlite"], indirect=True)
"""For backends whose stores are files of their own; on PostgreSQL they are as durable as the log."""


@pytest.fixture
def clock() -> Clock:
    """A clock moved by hand."""
    return Clock()


@pytest.fixture
def alice() -> RepoBuilder:
    return RepoBuilder(did_of("alice"))


@pytest.fixture
def bob() -> RepoBuilder:
    return RepoBuilder(did_of("bob"))


@pytest.fixture
def logged(backend: Backend, clock: Clock, alice: RepoBuilder, bob: RepoBuilder) -> list[LoggedEntry]:
    """Enroll and first commit of two actors, then, an hour apart each, five posts by one and the other in turn."""
    entries = append(backend, alice.enrolled(), bob.enrolled(), now=clock())
    for number in range(5):
        for repo in (alice, bob):
            clock.advance(hours=1)
            entries += fill(backend, repo, repo.create(POSTS, str(number), post(f"post {number}")), now=clock())
    return entries


def checkpoint_all(backend: Backend) -> None:
    for did in backend.log.trimmable(before=FAR, limit=100):
        backend.actors.checkpoint(did)


@STORES_MAY_LAG
def test_commits_stay_until_their_store_is_checkpointed(backend: Backend, logged: list[LoggedEntry]) -> None:
    assert backend.log.trim(before=FAR, limit=100) == 2
    assert whole_log(backend) == [entry for entry in logged if entry.views or entry.seq in (logged[1].seq, logged[3].seq)]
    checkpoint_all(backend)
    assert backend.log.trim(before=FAR, limit=100) == 12
    assert whole_log(backend) == []


def test_only_entries_older_than_the_given_time_go(backend: Backend, logged: list[LoggedEntry]) -> None:
    checkpoint_all(backend)
    assert backend.log.trim(before=START + timedelta(hours=3), limit=100) == 6
    assert whole_log(backend) == logged[6:]


def test_at_most_limit_entries_go_oldest_first(backend: Backend, logged: list[LoggedEntry]) -> None:
    checkpoint_all(backend)
    assert backend.log.trim(before=FAR, limit=5) == 5
    assert whole_log(backend) == logged[5:]


def test_entries_stay_until_every_consumer_is_past_them(backend: Backend, logged: list[LoggedEntry]) -> None:
    checkpoint_all(backend)
    backend.cursors.save("publisher", logged[7].seq)
    backend.cursors.save("other", logged[9].seq)
    assert backend.log.trim(before=FAR, limit=100) == 8
    assert whole_log(backend) == logged[8:]


@STORES_MAY_LAG
def test_one_actor_that_lags_keeps_only_its_own_entries(
    backend: Backend, logged: list[LoggedEntry], alice: RepoBuilder, bob: RepoBuilder
) -> None:
    backend.actors.checkpoint(alice.did)
    backend.log.trim(before=FAR, limit=100)
    assert whole_log(backend) == [entry for entry in logged[3:] if entry.did == bob.did]


@STORES_MAY_LAG
def test_actors_to_checkpoint_are_those_with_old_commits(
    backend: Backend, logged: list[LoggedEntry], alice: RepoBuilder, bob: RepoBuilder
) -> None:
    assert backend.log.trimmable(before=START, limit=10) == []
    assert backend.log.trimmable(before=FAR, limit=10) == [alice.did, bob.did]
    assert backend.log.trimmable(before=FAR, limit=1) == [alice.did]
    assert backend.log.trimmable(before=FAR, limit=1, after=alice.did) == [bob.did]
    assert backend.log.trimmable(before=FAR, limit=1, after=bob.did) == []
    backend.actors.checkpoint(alice.did)
    assert backend.log.trimmable(before=FAR, limit=10) == [bob.did]
    fill(backend, alice, alice.create(POSTS, "new", post("new")), now=FAR)
    assert backend.log.trimmable(before=FAR, limit=10) == [bob.did]
    assert backend.log.trimmable(before=FAR + timedelta(seconds=1), limit=10) == [alice.did, bob.did]


def test_a_cursor_is_outdated_exactly_when_an_entry_after_it_was_trimmed(
    backend: Backend, logged: list[LoggedEntry], alice: RepoBuilder, bob: RepoBuilder
) -> None:
    checkpoint_all(backend)
    backend.log.trim(before=START + timedelta(hours=3), limit=100)
    last = logged[5]
    assert backend.log.outdated(0)
    assert backend.log.outdated(last.seq - 1)
    assert not backend.log.outdated(last.seq)
    assert last.did == bob.did
    assert backend.log.outdated(last.seq - 1, bob.did)
    assert not backend.log.outdated(last.seq, bob.did)
    assert backend.log.outdated(logged[4].seq - 1, alice.did)
    assert not backend.log.outdated(logged[4].seq, alice.did)
    assert not backend.log.outdated(0, did_of("nobody"))


@STORES_MAY_LAG
def test_outdated_follows_what_is_gone_when_a_lagging_actor_remains(
    backend: Backend, logged: list[LoggedEntry], alice: RepoBuilder, bob: RepoBuilder
) -> None:
    backend.actors.checkpoint(alice.did)
    backend.log.trim(before=FAR, limit=100)
    gone = [entry for entry in logged if entry.did == alice.did][-1]
    assert backend.log.outdated(gone.seq - 1)
    assert not backend.log.outdated(gone.seq)
    bobs_enrollment = logged[2]
    assert backend.log.outdated(bobs_enrollment.seq - 1, bob.did)
    assert not backend.log.outdated(bobs_enrollment.seq, bob.did)


def test_trimming_everything_keeps_head_and_repositories(
    storage: Storage, backend: Backend, logged: list[LoggedEntry], alice: RepoBuilder
) -> None:
    checkpoint_all(backend)
    backend.log.trim(before=FAR, limit=100)
    storage.close()
    backend = storage.open()
    assert backend.log.head() == logged[-1].seq
    assert backend.log.outdated(logged[-1].seq - 1)
    with backend.actors.open(alice.did) as store:
        assert store is not None
        assert store.root().commit == alice.commit
    later = fill(backend, alice, alice.create(POSTS, "new", post("new")), now=START)
    assert seqs(later) == [logged[-1].seq + 1]


def test_enrollments_of_accounts_without_repository_are_trimmed(backend: Backend, alice: RepoBuilder) -> None:
    append(backend, alice.proposal(alice.enroll()))
    assert backend.log.trim(before=FAR, limit=100) == 1
    assert backend.log.outdated(0, alice.did)


def test_trimming_in_slices_ends(backend: Backend, clock: Clock, alice: RepoBuilder) -> None:
    append(backend, alice.enrolled(), now=clock())
    fill(backend, alice, *(alice.create(POSTS, f"{n:03d}", post(f"post {n}")) for n in range(300)), now=clock())
    checkpoint_all(backend)
    slices = [backend.log.trim(before=FAR, limit=70) for _ in range(6)]
    assert slices == [70, 70, 70, 70, 22, 0]
    assert whole_log(backend) == []
    later = fill(backend, alice, alice.create(POSTS, "new", post("new")), now=FAR)
    assert whole_log(backend) == later
