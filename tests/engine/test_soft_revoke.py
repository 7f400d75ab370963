"""Leaving with a return in mind: what a soft revoke takes, what it keeps, and what the stream says. Spec §4.4, §4.7, §4.9.1."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stratos.atproto.commit import SignedCommit
from stratos.core.boundaries import Boundary
from stratos.core.enrollment import Enrollment
from stratos.core.log_codec import purges
from stratos.core.log_entry import EnrollmentAction, EnrollmentEntry, LoggedEntry, Proposal
from stratos.core.outcomes import Reason, Refusal
from stratos.engine.writes import Create
from tests.engine.builders import EDITORS, POST, REI, SAKURA, SERVICE, WRITERS, Engine, message, post


def entries_after(engine: Engine, seq: int) -> list[LoggedEntry]:
    """What the log holds beyond an entry."""
    return engine.service.backend.log.after(seq, limit=10, max_bytes=100_000)


async def test_a_revoked_account_holds_nothing_and_its_repository_and_key_stay(engine: Engine) -> None:
    enrolled = await engine.enroll(REI, WRITERS)
    await engine.post(REI, "kept", WRITERS)
    backend = engine.service.backend
    head, sealed = backend.log.repo_head(REI), backend.enrollments.sealed_key(REI)
    assert await engine.service.enrollment.revoke(REI) is None
    assert backend.enrollments.get(REI) == replace(enrolled, active=False, boundaries=())
    assert backend.enrollments.sealed_key(REI) == sealed
    after = backend.log.repo_head(REI)
    assert head is not None
    assert after == replace(head, active=False)
    with backend.actors.open(REI) as store:
        assert store is not None
        assert store.record_count() == 1


async def test_the_stream_tells_a_revocation_as_an_unenroll_with_the_rev_that_waits(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    committed = await engine.post(REI, "kept", WRITERS)
    seq = engine.service.log.head
    await engine.service.enrollment.revoke(REI)
    (entry,) = entries_after(engine, seq)
    told = message(entry.frame).body
    assert (told["action"], told["rev"], told["did"]) == ("unenroll", committed.rev, REI)
    assert "boundaries" not in told
    assert not purges(entry)
    await engine.service.enrollment.unenroll(REI)
    (entry,) = entries_after(engine, entry.seq)
    assert "rev" not in message(entry.frame).body
    assert purges(entry)


async def test_a_revoked_account_may_not_write_until_it_enrolls_again(engine: Engine) -> None:
    first = await engine.enroll(REI, WRITERS)
    before = await engine.post(REI, "kept", WRITERS)
    await engine.service.enrollment.revoke(REI)
    outcome = await engine.service.repository.write(REI, [Create(POST, None, post("too late", WRITERS))])
    assert isinstance(outcome, Refusal)
    assert outcome.reason is Reason.NOT_ENROLLED
    again = await engine.service.enrollment.enroll(REI)
    assert isinstance(again, Enrollment)
    assert (again.active, again.signing_key, again.enrolled_at) == (True, first.signing_key, first.enrolled_at)
    assert again.boundaries == (WRITERS,)
    later = await engine.post(REI, "back", WRITERS)
    assert later.rev > before.rev
    with engine.service.backend.actors.open(REI) as store:
        assert store is not None
        assert store.record_count() == 2
        block = store.block(later.commit)
    assert block is not None
    key = engine.service.keyring.open(REI, engine.service.backend.enrollments.sealed_key(REI) or b"").verifying_key
    assert SignedCommit.decode(block).verify(key)


async def test_who_is_not_enrolled_or_has_left_cannot_be_revoked_or_given_boundaries(engine: Engine) -> None:
    desk = engine.service.enrollment
    await engine.enroll(SAKURA, WRITERS)
    assert await desk.revoke(SAKURA) is None
    seq = engine.service.log.head
    for outcome in (
        await desk.revoke(REI),
        await desk.revoke(SAKURA),
        await desk.set_boundaries(SAKURA, [WRITERS]),
        await desk.add_boundary(SAKURA, WRITERS),
    ):
        assert isinstance(outcome, Refusal)
        assert outcome.reason is Reason.NOT_FOUND
    assert entries_after(engine, seq) == []


async def test_a_sign_in_notes_where_the_pds_is_and_changes_nothing_else(engine: Engine) -> None:
    desk = engine.service.enrollment
    await engine.enroll(REI, WRITERS, EDITORS)
    told = await desk.enroll(REI, pds_endpoint="https://pds.test")
    assert isinstance(told, Enrollment)
    assert (set(told.boundaries), told.pds_endpoint) == ({WRITERS, EDITORS}, "https://pds.test")
    seq = engine.service.log.head
    assert await desk.enroll(REI, pds_endpoint="https://pds.test") == engine.service.backend.enrollments.get(REI)
    assert await desk.enroll(REI) == engine.service.backend.enrollments.get(REI)
    assert entries_after(engine, seq) == []


async def test_bare_boundaries_of_older_programs_are_qualified_at_the_start_once(engine: Engine) -> None:
    enrolled = await engine.enroll(REI, WRITERS)
    await engine.enroll(SAKURA, WRITERS)
    foreign = "did:web:other.test/writers"
    stored = tuple(Boundary(value) for value in ("editors", "writers", WRITERS))
    old = replace(enrolled, boundaries=stored)
    await engine.service.log.append(Proposal(REI, (EnrollmentEntry(REI, EnrollmentAction.ENROLL, SERVICE, old),)))
    seq = engine.service.log.head
    assert await engine.service.enrollment.repair_boundaries() == 1
    repaired = engine.service.backend.enrollments.get(REI)
    assert repaired is not None
    assert set(repaired.boundaries) == {WRITERS, EDITORS}
    (entry,) = entries_after(engine, seq)
    assert message(entry.frame).body["boundaries"] == [WRITERS, EDITORS]
    assert await engine.service.enrollment.repair_boundaries() == 0

    odd = replace(enrolled, boundaries=(Boundary("editors"), Boundary(foreign)))
    await engine.service.log.append(Proposal(REI, (EnrollmentEntry(REI, EnrollmentAction.ENROLL, SERVICE, odd),)))
    assert await engine.service.enrollment.repair_boundaries() == 1
    repaired = engine.service.backend.enrollments.get(REI)
    assert repaired is not None
    assert set(repaired.boundaries) == {EDITORS, foreign}
    assert await engine.service.enrollment.repair_boundaries() == 0


async def test_the_repair_looks_at_every_page(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stratos.engine.enrollment.REPAIR_PAGE", 1)
    for did in (REI, SAKURA):
        enrolled = await engine.enroll(did, WRITERS)
        bare = replace(enrolled, boundaries=(Boundary("editors"),))
        await engine.service.log.append(Proposal(did, (EnrollmentEntry(did, EnrollmentAction.ENROLL, SERVICE, bare),)))
    assert await engine.service.enrollment.repair_boundaries() == 2
