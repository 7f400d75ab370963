"""Enrollments and their keys."""

from __future__ import annotations

from dataclasses import replace

from stratos.atproto.keys import SigningKey
from stratos.core.boundaries import Boundary
from stratos.core.enrollment import Enrollment
from stratos.core.log_entry import EnrollmentAction, EnrollmentEntry, Proposal
from stratos.storage.ports import Backend, HeadMoved
from tests.storage.builders import READERS, SERVICE_URL, START, WRITERS, RepoBuilder, did_of
from tests.storage.conftest import Storage
from tests.storage.steps import append

ALICE = Enrollment(
    did=did_of("alice"),
    boundaries=(READERS, WRITERS),
    enrolled_at="2026-01-02T03:04:05.678Z",
    active=True,
    signing_key="did:key:zAlice",
    enrollment_rkey="did:web:stratos.example.com",
    pds_endpoint="https://pds.example.com",
)


def enroll(backend: Backend, enrollment: Enrollment, sealed_key: bytes | None = None) -> None:
    entry = EnrollmentEntry(enrollment.did, EnrollmentAction.ENROLL, SERVICE_URL, enrollment, sealed_key)
    append(backend, Proposal(enrollment.did, (entry,)))


def test_an_enrollment_reads_back_as_written(storage: Storage) -> None:
    enroll(storage.open(), ALICE)
    storage.close()
    assert storage.open().enrollments.get(ALICE.did) == ALICE


def test_absent_members_read_back_as_absent(backend: Backend) -> None:
    bare = replace(ALICE, enrollment_rkey=None, pds_endpoint=None)
    enroll(backend, bare)
    assert backend.enrollments.get(ALICE.did) == bare


def test_an_unknown_did_has_no_enrollment(backend: Backend) -> None:
    assert backend.enrollments.get(ALICE.did) is None
    assert backend.enrollments.sealed_key(ALICE.did) is None


def test_boundaries_read_back_sorted_and_distinct(backend: Backend) -> None:
    quoted = Boundary('did:web:stratos.example.com/a"\\,é\n')
    enroll(backend, replace(ALICE, boundaries=(WRITERS, READERS, WRITERS, quoted)))
    read = backend.enrollments.get(ALICE.did)
    assert read is not None
    assert read.boundaries == tuple(sorted((READERS, WRITERS, quoted)))


def test_an_enrollment_is_replaced_whole(backend: Backend) -> None:
    enroll(backend, ALICE)
    changed = replace(ALICE, boundaries=(), active=False, enrollment_rkey=None, pds_endpoint=None)
    enroll(backend, changed)
    assert backend.enrollments.get(ALICE.did) == changed


def test_pages_go_in_did_order_and_may_leave_out_the_inactive(backend: Backend) -> None:
    names = ("dave", "alice", "carol", "bob")
    people = {name: replace(ALICE, did=did_of(name), active=name != "bob") for name in names}
    for enrollment in people.values():
        enroll(backend, enrollment)
    first = backend.enrollments.page(after=None, limit=2)
    assert first == [people["alice"], people["bob"]]
    assert backend.enrollments.page(after=first[-1].did, limit=2) == [people["carol"], people["dave"]]
    assert backend.enrollments.page(after=None, limit=2, active_only=True) == [people["alice"], people["carol"]]
    assert backend.enrollments.page(after=did_of("dave"), limit=2) == []


def test_only_active_enrollments_count(backend: Backend) -> None:
    enroll(backend, ALICE)
    enroll(backend, replace(ALICE, did=did_of("bob"), active=False))
    assert backend.enrollments.count() == 1


def test_the_newest_key_is_the_current_one(backend: Backend) -> None:
    enroll(backend, ALICE, b"first")
    assert backend.enrollments.sealed_key(ALICE.did) == b"first"
    enroll(backend, replace(ALICE, signing_key="did:key:zSecond"), b"second")
    assert backend.enrollments.sealed_key(ALICE.did) == b"second"


def test_a_change_without_key_keeps_the_current_one(backend: Backend) -> None:
    enroll(backend, ALICE, b"first")
    enroll(backend, replace(ALICE, boundaries=()))
    assert backend.enrollments.sealed_key(ALICE.did) == b"first"


def test_a_key_may_be_sealed_anew_and_an_old_one_come_back(backend: Backend) -> None:
    second = replace(ALICE, signing_key="did:key:zSecond")
    enroll(backend, ALICE, b"first")
    enroll(backend, ALICE, b"first, sealed anew")
    assert backend.enrollments.sealed_key(ALICE.did) == b"first, sealed anew"
    enroll(backend, second, b"second")
    enroll(backend, ALICE, b"first again")
    assert backend.enrollments.sealed_key(ALICE.did) == b"first again"


def test_a_left_out_proposal_changes_no_enrollment(backend: Backend) -> None:
    repo = RepoBuilder(ALICE.did)
    stale = repo.copy()
    append(backend, repo.enrolled())
    stale.boundaries = (READERS,)
    assert backend.commit([stale.enrolled()], now=START) == [HeadMoved(repo.did)]
    assert backend.enrollments.get(repo.did) == repo.enrollment()


def test_the_history_names_every_key_by_the_rev_of_its_first_commit(storage: Storage) -> None:
    backend = storage.open()
    repo = RepoBuilder(did_of("alice"))
    first = repo.entry()
    append(backend, repo.proposal(replace(repo.enroll(), first_rev=first.rev), first))
    old, repo.key = repo.key, SigningKey.generate_p256()
    second = replace(repo.entry(), signing_key=repo.key.did_key)
    append(backend, repo.proposal(replace(repo.enroll(sealed_key=b"second"), first_rev=second.rev), second))
    storage.close()
    retired, current = storage.open().enrollments.signing_keys(repo.did)
    assert (retired.key, retired.first_rev, retired.retired) == (old.did_key, first.rev, current.created)
    assert (current.key, current.first_rev, current.retired) == (repo.key.did_key, second.rev, None)


def test_a_key_without_a_known_first_commit_signed_from_the_beginning(backend: Backend) -> None:
    enroll(backend, ALICE, b"first")
    assert [period.first_rev for period in backend.enrollments.signing_keys(ALICE.did)] == [None]
    assert backend.enrollments.signing_keys(did_of("bob")) == []


def test_a_commit_signed_with_a_retired_key_is_left_out(backend: Backend) -> None:
    repo = RepoBuilder(did_of("alice"))
    append(backend, repo.enrolled())
    late, former = repo.copy(), repo.key.did_key
    repo.key = SigningKey.generate_p256()
    append(backend, repo.proposal(repo.enroll(sealed_key=b"second")))
    stale = replace(late.entry(), signing_key=former)
    assert backend.commit([late.proposal(stale)], now=START) == [HeadMoved(repo.did)]
    append(backend, repo.proposal(replace(repo.entry(), signing_key=repo.key.did_key)))


def test_a_commit_may_be_signed_with_the_key_that_its_own_proposal_brings(backend: Backend) -> None:
    repo = RepoBuilder(did_of("alice"))
    append(backend, repo.enrolled())
    repo.key = SigningKey.generate_p256()
    entry = replace(repo.entry(), signing_key=repo.key.did_key)
    assert len(append(backend, repo.proposal(repo.enroll(sealed_key=b"second"), entry))) == 2
