"""The enrollment desk: what it writes, what it refuses, and what remains of an account that left."""

from __future__ import annotations

from stratos.atproto.syntax import Did
from stratos.core.access import Viewer
from stratos.core.attestation import verify_attestation
from stratos.core.boundaries import Boundary
from stratos.core.enrollment import Enrollment
from stratos.core.outcomes import Reason, Refusal
from tests.engine.builders import EDITORS, POST, REI, SAKURA, WRITERS, Engine, message


async def test_an_enrollment_brings_key_repository_and_entry(engine: Engine) -> None:
    enrollment = await engine.enroll(REI, WRITERS)
    backend = engine.service.backend
    assert backend.enrollments.get(REI) == enrollment
    sealed = backend.enrollments.sealed_key(REI)
    assert sealed is not None
    assert engine.service.keyring.open(REI, sealed).did_key == enrollment.signing_key
    with backend.actors.open(REI) as store:
        assert store is not None
        assert store.record_count() == 0
    kinds = [message(entry.frame).kind for entry in backend.log.after(0, limit=10, max_bytes=10_000)]
    assert kinds == ["#enrollment", "#commit"]


async def test_without_a_list_a_new_account_gets_the_automatic_boundaries(engine: Engine) -> None:
    enrollment = await engine.service.enrollment.enroll(REI)
    assert isinstance(enrollment, Enrollment)
    assert enrollment.boundaries == (WRITERS,)


async def test_enrolling_again_keeps_key_and_repository(engine: Engine) -> None:
    first = await engine.enroll(REI, WRITERS)
    await engine.post(REI, "kept", WRITERS)
    second = await engine.service.enrollment.enroll(REI)
    assert second == first
    wider = await engine.enroll(REI, WRITERS, EDITORS)
    assert (wider.signing_key, set(wider.boundaries)) == (first.signing_key, {WRITERS, EDITORS})
    with engine.service.backend.actors.open(REI) as store:
        assert store is not None
        assert store.record_count() == 1


async def test_unknown_boundaries_are_refused_by_name(engine: Engine) -> None:
    refusal = await engine.service.enrollment.enroll(REI, ["nobodies", "did:web:other.test/writers"])
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.INVALID_REQUEST
    assert "nobodies, did:web:other.test/writers" in refusal.message
    assert engine.service.backend.enrollments.get(REI) is None


async def test_bare_names_are_qualified(engine: Engine) -> None:
    enrollment = await engine.service.enrollment.enroll(REI, ["writers"])
    assert isinstance(enrollment, Enrollment)
    assert enrollment.boundaries == (WRITERS,)


async def test_boundary_changes_are_entries_and_idempotent(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    head = engine.service.log.head
    desk = engine.service.enrollment
    await desk.add_boundary(REI, EDITORS)
    await desk.add_boundary(REI, EDITORS)
    await desk.remove_boundary(REI, WRITERS)
    await desk.remove_boundary(REI, WRITERS)
    await desk.set_boundaries(REI, [])
    entries = engine.service.backend.log.after(head, limit=10, max_bytes=10_000)
    told = [message(entry.frame).body["boundaries"] for entry in entries]
    assert told == [[WRITERS, EDITORS], [EDITORS], []]
    enrollment = engine.service.backend.enrollments.get(REI)
    assert enrollment is not None
    assert enrollment.boundaries == ()


async def test_changes_of_an_unknown_account_are_not_found(engine: Engine) -> None:
    desk = engine.service.enrollment
    for outcome in (
        await desk.add_boundary(REI, WRITERS),
        await desk.remove_boundary(REI, WRITERS),
        await desk.set_boundaries(REI, []),
        await desk.unenroll(REI),
    ):
        assert isinstance(outcome, Refusal)
        assert outcome.reason is Reason.NOT_FOUND
        assert outcome.message == f"user {REI} is not enrolled"


async def test_an_account_that_left_begins_anew_above_its_old_revs(engine: Engine) -> None:
    first = await engine.enroll(REI, WRITERS)
    old = await engine.post(REI, "a secret", WRITERS)
    backend = engine.service.backend
    with backend.actors.open(REI) as store:
        for record in () if store is None else store.records(POST, limit=1):
            engine.service.views.view(Viewer(REI, frozenset(), enrolled=True), REI, record)
    assert (engine.service.views.statistics()["entries"], engine.service.keyring.statistics()["opened"]) == (1, 1)
    assert await engine.service.enrollment.unenroll(REI) is None
    assert (engine.service.views.statistics()["entries"], engine.service.keyring.statistics()["opened"]) == (0, 0)
    assert backend.enrollments.get(REI) is None
    assert backend.enrollments.sealed_key(REI) is None
    with backend.actors.open(REI) as store:
        assert store is None
    again = await engine.enroll(REI, WRITERS)
    assert again.signing_key != first.signing_key
    head = backend.log.repo_head(Did(REI))
    assert head is not None
    assert head.rev > old.rev
    with backend.actors.open(REI) as store:
        assert store is not None
        assert store.record_count() == 0


async def test_the_attestation_verifies_with_the_service_key(engine: Engine) -> None:
    enrollment = await engine.enroll(SAKURA, WRITERS, EDITORS)
    attestation = engine.service.enrollment.attestation(enrollment)
    assert attestation.signing_key == engine.service.service_key.did_key
    key = engine.service.service_key

    def verifies(*boundaries: Boundary) -> bool:
        return verify_attestation(
            attestation, service_key=key, did=SAKURA, boundaries=boundaries, signing_key=enrollment.signing_key
        )

    assert verifies(WRITERS, EDITORS)
    assert not verifies(WRITERS)
