"""Appending: order, compare-and-swap, and what an entry of the log holds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from stratos.atproto.syntax import Did
from stratos.core.log_codec import entry_frame
from stratos.core.log_entry import EnrollmentAction, EnrollmentEntry, EntryKind, Proposal
from stratos.storage.ports import Appended, Backend, HeadMoved, RepoHead
from tests.storage.builders import POSTS, READERS, SERVICE_URL, START, WRITERS, Put, RepoBuilder, did_of, post
from tests.storage.conftest import Storage
from tests.storage.steps import append, body, fill, seqs, whole_log

START_US = 1_767_323_045_000_000


def test_seq_is_the_microsecond_of_the_append(backend: Backend) -> None:
    repo = RepoBuilder(did_of("alice"))
    logged = append(backend, repo.proposal(repo.enroll()))
    assert seqs(logged) == [START_US]
    assert backend.log.head() == START_US


def test_seqs_rise_by_one_within_a_batch_of_one_instant(backend: Backend) -> None:
    alice, bob = RepoBuilder(did_of("alice")), RepoBuilder(did_of("bob"))
    logged = append(backend, alice.enrolled(), bob.enrolled())
    assert seqs(logged) == [START_US, START_US + 1, START_US + 2, START_US + 3]


def test_seqs_rise_when_the_clock_goes_back(backend: Backend) -> None:
    repo = RepoBuilder(did_of("alice"))
    append(backend, repo.enrolled())
    later = fill(backend, repo, repo.create(POSTS, "a", post("one")), now=START - timedelta(days=1))
    assert seqs(later) == [START_US + 2]


def test_head_survives_reopening(storage: Storage) -> None:
    repo = RepoBuilder(did_of("alice"))
    append(storage.open(), repo.enrolled())
    storage.close()
    backend = storage.open()
    assert backend.log.head() == START_US + 1
    assert seqs(fill(backend, repo, repo.create(POSTS, "a", post("one")), now=datetime(2020, 1, 1, tzinfo=UTC))) == [START_US + 2]


def test_an_empty_log_has_head_zero(backend: Backend) -> None:
    assert backend.log.head() == 0
    assert whole_log(backend) == []


def test_the_log_gives_back_what_the_append_answered(backend: Backend) -> None:
    repo = RepoBuilder(did_of("alice"))
    logged = append(backend, repo.enrolled())
    logged += fill(
        backend,
        repo,
        repo.create(POSTS, "a", post("one", WRITERS)),
        repo.update(POSTS, "a", post("two", READERS, WRITERS)),
        repo.delete(POSTS, "a"),
    )
    assert whole_log(backend) == logged
    assert [entry.views for entry in logged[1:]] == [
        (),
        ((None, (WRITERS,)),),
        (((WRITERS,), (READERS, WRITERS)),),
        (((READERS, WRITERS), None),),
    ]


def test_a_commit_frame_is_the_one_of_its_seq_and_time(backend: Backend) -> None:
    repo = RepoBuilder(did_of("alice"))
    append(backend, repo.enrolled())
    entry = repo.create(POSTS, "a", post("one"))
    (logged,) = append(backend, repo.proposal(entry), now=START + timedelta(milliseconds=1234))
    assert logged.frame == entry_frame(entry, START_US + 1_234_000, "2026-01-02T03:04:06.234Z")


def test_an_enrollment_frame_names_the_head_rev_of_that_moment(backend: Backend) -> None:
    repo = RepoBuilder(did_of("alice"))
    enrolled, _ = append(backend, repo.enrolled())
    first_rev = repo.rev
    (changed,) = append(backend, repo.proposal(repo.enroll()))
    (ended,) = append(backend, repo.proposal(repo.unenroll()))
    assert "rev" not in body(enrolled)
    assert body(changed)["rev"] == first_rev
    assert "rev" not in body(ended)  # nothing is left of the repository
    assert [entry.kind for entry in (enrolled, changed, ended)] == [EntryKind.ENROLLMENT] * 3


def test_a_commit_planned_upon_another_head_is_left_out(backend: Backend) -> None:
    repo = RepoBuilder(did_of("alice"))
    append(backend, repo.enrolled())
    rival = repo.copy()
    fill(backend, repo, repo.create(POSTS, "a", post("one")))
    rival.last_us = repo.last_us  # its rev is the later one: the head alone tells
    late = rival.create(POSTS, "b", post("two"))
    assert backend.commit([rival.proposal(late)], now=START) == [HeadMoved(rival.did)]
    assert len(whole_log(backend)) == 3
    head = backend.log.repo_head(repo.did)
    assert head is not None
    assert head.commit == repo.commit


def test_a_second_first_commit_is_left_out(backend: Backend) -> None:
    repo = RepoBuilder(did_of("alice"))
    append(backend, repo.enrolled())
    again = RepoBuilder(repo.did, last_us=repo.last_us)
    assert backend.commit([again.proposal(again.entry())], now=START) == [HeadMoved(repo.did)]


def test_a_rev_that_does_not_rise_is_left_out(backend: Backend) -> None:
    repo = RepoBuilder(did_of("alice"))
    append(backend, repo.enrolled())
    repo.last_us -= 1
    assert backend.commit([repo.proposal(repo.create(POSTS, "a", post("same rev")))], now=START) == [HeadMoved(repo.did)]


def test_a_commit_of_nobody_enrolled_is_left_out(backend: Backend) -> None:
    repo = RepoBuilder(did_of("alice"))
    assert backend.commit([repo.proposal(repo.entry())], now=START) == [HeadMoved(repo.did)]
    assert backend.log.repo_head(repo.did) is None


def test_a_commit_of_an_account_that_was_deactivated_is_left_out(backend: Backend) -> None:
    repo = RepoBuilder(did_of("alice"))
    append(backend, repo.enrolled())
    late = repo.copy().create(POSTS, "a", post("late"))
    left = repo.proposal(repo.enroll(active=False, sealed_key=None))
    outcomes = backend.commit([left, repo.proposal(late)], now=START)
    assert [type(outcome) for outcome in outcomes] == [Appended, HeadMoved]
    assert backend.commit([repo.proposal(late)], now=START) == [HeadMoved(repo.did)]
    append(backend, repo.proposal(repo.enroll(sealed_key=None)), repo.proposal(late))


def test_commits_of_one_actor_follow_each_other_within_a_batch(backend: Backend) -> None:
    repo = RepoBuilder(did_of("alice"))
    proposals = [repo.enrolled(), *(repo.proposal(repo.create(POSTS, str(n), post(f"post {n}"))) for n in range(5))]
    append(backend, *proposals)
    with backend.actors.open(repo.did) as store:
        assert store is not None
        assert store.root().commit == repo.commit
        assert store.record_count() == 5


def test_of_two_rivals_in_one_batch_the_first_wins(backend: Backend) -> None:
    repo = RepoBuilder(did_of("alice"))
    append(backend, repo.enrolled())
    rival = repo.copy()
    batch = [repo.proposal(repo.create(POSTS, "a", post("one"))), rival.proposal(rival.create(POSTS, "a", post("two")))]
    first, second = backend.commit(batch, now=START)
    assert isinstance(first, Appended)
    assert second == HeadMoved(repo.did)


def test_a_proposal_is_appended_whole_or_not_at_all(backend: Backend) -> None:
    repo = RepoBuilder(did_of("alice"))
    append(backend, repo.enrolled())
    rival = repo.copy()
    good = repo.create(POSTS, "a", post("one"))
    stale = rival.create(POSTS, "b", post("two"))
    assert backend.commit([Proposal(repo.did, (good, stale))], now=START) == [HeadMoved(repo.did)]
    assert len(whole_log(backend)) == 2
    append(backend, repo.proposal(good))


def test_a_refused_proposal_uses_up_no_seq(backend: Backend) -> None:
    repo = RepoBuilder(did_of("alice"))
    backend.commit([repo.proposal(repo.entry())], now=START)
    assert backend.log.head() == 0


def test_a_batch_answers_every_proposal_in_order(backend: Backend) -> None:
    alice, bob, carol = (RepoBuilder(did_of(name)) for name in ("alice", "bob", "carol"))
    outcomes = backend.commit([alice.enrolled(), bob.proposal(bob.entry()), carol.enrolled()], now=START)
    assert [type(outcome) for outcome in outcomes] == [Appended, HeadMoved, Appended]
    assert seqs(whole_log(backend)) == [START_US, START_US + 1, START_US + 2, START_US + 3]


def test_many_writes_are_one_entry(backend: Backend) -> None:
    repo = RepoBuilder(did_of("alice"))
    append(backend, repo.enrolled())
    (logged,) = append(backend, repo.proposal(repo.entry(*(Put(f"{POSTS}/{n}", post(f"post {n}")) for n in range(200)))))
    assert len(logged.views) == 200


def test_repo_head_is_the_last_commit_and_follows_the_enrollment(backend: Backend) -> None:
    repo = RepoBuilder(did_of("alice"))
    append(backend, repo.enrolled())
    (logged,) = fill(backend, repo, repo.create(POSTS, "a", post("one")))
    assert repo.commit is not None
    assert repo.rev is not None
    assert backend.log.repo_head(repo.did) == RepoHead(repo.did, repo.commit, repo.rev, logged.seq, active=True)
    append(backend, repo.proposal(repo.enroll(active=False, sealed_key=None)))
    assert backend.log.repo_head(repo.did) == RepoHead(repo.did, repo.commit, repo.rev, logged.seq, active=False)


def test_an_enrollment_alone_is_no_repository(backend: Backend) -> None:
    repo = RepoBuilder(did_of("alice"))
    append(backend, repo.proposal(repo.enroll()))
    assert backend.log.repo_head(repo.did) is None
    assert backend.log.repo_heads(after=None, limit=10) == []
    with backend.actors.open(repo.did) as store:
        assert store is None


def test_repo_heads_are_paged_in_did_order(backend: Backend) -> None:
    repos = [RepoBuilder(did_of(name)) for name in ("dave", "alice", "carol", "bob")]
    append(backend, *(repo.enrolled() for repo in repos))
    first = backend.log.repo_heads(after=None, limit=3)
    second = backend.log.repo_heads(after=first[-1].did, limit=3)
    assert [head.did for head in (*first, *second)] == [did_of(name) for name in ("alice", "bob", "carol", "dave")]
    assert backend.log.repo_heads(after=second[-1].did, limit=3) == []


@pytest.mark.parametrize("did", ["did:web:../../etc", "did:plc:a/b", "did:plc:a\\b", "did:web:..", "plc:alice", ""])
def test_a_name_that_is_no_did_is_never_enrolled(backend: Backend, did: str) -> None:
    repo = RepoBuilder(Did(did))
    with pytest.raises(ValueError, match=r"DID|did"):
        backend.commit([repo.proposal(repo.enroll())], now=START)
    assert backend.enrollments.count() == 0
    assert backend.log.head() == 0


def test_an_entry_of_another_did_is_a_fault_of_the_caller(backend: Backend) -> None:
    alice, bob = RepoBuilder(did_of("alice")), RepoBuilder(did_of("bob"))
    with pytest.raises(ValueError, match="with an entry of"):
        backend.commit([Proposal(alice.did, (bob.enroll(),))], now=START)


def test_an_enroll_entry_without_enrollment_is_a_fault_of_the_caller(backend: Backend) -> None:
    did = did_of("alice")
    with pytest.raises(ValueError, match="without its enrollment"):
        backend.commit([Proposal(did, (EnrollmentEntry(did, EnrollmentAction.ENROLL, SERVICE_URL),))], now=START)


def test_an_empty_batch_changes_nothing(backend: Backend) -> None:
    assert backend.commit([], now=START) == []
    assert backend.log.head() == 0


def test_a_healthy_backend_answers_its_check(backend: Backend) -> None:
    backend.check()
