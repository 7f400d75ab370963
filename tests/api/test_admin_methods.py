"""The operator's methods. Service spec §1.3.15; design §9."""

from __future__ import annotations

import pytest

from stratos.atproto.commit import SignedCommit
from stratos.atproto.keys import VerifyingKey
from stratos.atproto.syntax import Did
from stratos.core.key_history import SigningKeyPeriod
from tests.api.builders import ADMIN_PASSWORD, SYNC_TOKEN, Answer, Api
from tests.engine.builders import EDITORS, KAORUKO, REI, SAKURA, WRITERS

NEWCOMER = "did:plc:newcomer"
POSTS = ["addBoundary", "removeBoundary", "setBoundaries", "enroll", "unenroll", "rotateSigningKey"]


async def admin(api: Api, method: str, body: object, as_: str | None = ADMIN_PASSWORD) -> Answer:
    """Call an admin procedure."""
    return await api.post(f"zone.stratos.admin.{method}", as_, body)


def held(api: Api, did: str) -> set[str] | None:
    """The boundaries of an account as stored."""
    enrollment = api.engine.service.backend.enrollments.get(Did(did))
    return None if enrollment is None else set(enrollment.boundaries)


def named(answer: Answer, did: str) -> set[str]:
    """The boundaries that a successful answer about an account names, each once."""
    assert answer.status == 200, answer
    assert set(answer.body) == {"did", "boundaries"}
    assert answer.body["did"] == did
    boundaries = answer.body["boundaries"]
    assert isinstance(boundaries, list)
    assert len(set(boundaries)) == len(boundaries)
    return set(boundaries)


@pytest.mark.parametrize("method", POSTS)
@pytest.mark.parametrize("caller", [None, REI, SYNC_TOKEN, "wrong"])
async def test_only_the_operator_is_admitted(api: Api, method: str, caller: str | None) -> None:
    answer = await admin(api, method, {"did": REI, "boundary": WRITERS, "boundaries": []}, caller)
    assert answer.status == 401
    assert answer.body == {"error": "AuthRequired", "message": "Admin auth required"}
    assert held(api, REI) == {WRITERS, EDITORS}


async def test_added_boundary_is_held_and_adding_it_again_changes_nothing(api: Api) -> None:
    for _ in range(2):
        answer = await admin(api, "addBoundary", {"did": SAKURA, "boundary": EDITORS})
        assert named(answer, SAKURA) == {WRITERS, EDITORS}
    assert held(api, SAKURA) == {WRITERS, EDITORS}


async def test_removed_boundary_is_gone_and_removing_it_again_changes_nothing(api: Api) -> None:
    for _ in range(2):
        answer = await admin(api, "removeBoundary", {"did": REI, "boundary": EDITORS})
        assert named(answer, REI) == {WRITERS}
    assert held(api, REI) == {WRITERS}


@pytest.mark.parametrize("boundaries", [[], [EDITORS], [WRITERS, EDITORS]])
async def test_set_boundaries_replaces_all(api: Api, boundaries: list[str]) -> None:
    answer = await admin(api, "setBoundaries", {"did": SAKURA, "boundaries": boundaries})
    assert (answer.status, answer.body) == (200, {"did": SAKURA, "boundaries": boundaries})
    assert held(api, SAKURA) == set(boundaries)


async def test_change_of_boundaries_changes_what_is_seen_at_once(api: Api) -> None:
    uri = await api.create(REI, "hello", EDITORS)
    seen = [(await api.get("zone.stratos.repo.hydrateRecord", SAKURA, uri=uri)).status]
    await admin(api, "addBoundary", {"did": SAKURA, "boundary": EDITORS})
    seen.append((await api.get("zone.stratos.repo.hydrateRecord", SAKURA, uri=uri)).status)
    await admin(api, "removeBoundary", {"did": SAKURA, "boundary": EDITORS})
    seen.append((await api.get("zone.stratos.repo.hydrateRecord", SAKURA, uri=uri)).status)
    assert seen == [400, 200, 400]


@pytest.mark.parametrize("method", ["addBoundary", "removeBoundary"])
@pytest.mark.parametrize("body", [{}, {"did": REI}, {"boundary": WRITERS}, {"did": "", "boundary": ""}])
async def test_did_and_boundary_are_required(api: Api, method: str, body: dict[str, str]) -> None:
    answer = await admin(api, method, body)
    assert answer.status == 400
    assert answer.body == {"error": "InvalidRequest", "message": "did and boundary are required"}


@pytest.mark.parametrize(
    "body", [{}, {"did": REI}, {"boundaries": []}, {"did": REI, "boundaries": "a"}, {"did": REI, "boundaries": [7]}]
)
async def test_did_and_boundaries_are_required(api: Api, body: dict[str, object]) -> None:
    answer = await admin(api, "setBoundaries", body)
    assert answer.status == 400
    assert answer.body == {"error": "InvalidRequest", "message": "did and boundaries array are required"}


@pytest.mark.parametrize("boundary", ["did:web:stratos.test/nowhere", "nowhere", "did:web:elsewhere.test/writers"])
async def test_boundary_that_does_not_exist_here_is_not_given(api: Api, boundary: str) -> None:
    added = await admin(api, "addBoundary", {"did": SAKURA, "boundary": boundary})
    assert added.status == 400
    assert added.body == {"error": "InvalidRequest", "message": f'boundary "{boundary}" is not in allowed domains'}
    put = await admin(api, "setBoundaries", {"did": SAKURA, "boundaries": [WRITERS, boundary]})
    assert put.status == 400
    assert put.body == {"error": "InvalidRequest", "message": f"boundaries not in allowed domains: {boundary}"}
    enrolled = await admin(api, "enroll", {"did": NEWCOMER, "boundaries": [boundary]})
    assert (enrolled.status, enrolled.body["error"]) == (400, "InvalidRequest")
    assert held(api, SAKURA) == {WRITERS}
    assert held(api, NEWCOMER) is None


@pytest.mark.parametrize("method", ["addBoundary", "removeBoundary", "setBoundaries", "unenroll"])
async def test_account_that_is_not_enrolled_is_a_real_404(api: Api, method: str) -> None:
    answer = await admin(api, method, {"did": NEWCOMER, "boundary": WRITERS, "boundaries": [WRITERS]})
    assert answer.status == 404
    assert answer.body == {"error": "NotFound", "message": f"user {NEWCOMER} is not enrolled"}


@pytest.mark.parametrize("method", POSTS)
async def test_did_must_be_one(api: Api, method: str) -> None:
    answer = await admin(api, method, {"did": "rei.example.com", "boundary": WRITERS, "boundaries": []})
    assert (answer.status, answer.body["error"]) == (400, "InvalidRequest")
    assert "did" in str(answer.body["message"])


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("addBoundary", "Failed to add boundary"),
        ("removeBoundary", "Failed to remove boundary"),
        ("setBoundaries", "Failed to set boundaries"),
    ],
)
@pytest.mark.expects_error_log
async def test_unexpected_failure_has_its_own_words(api: Api, monkeypatch: pytest.MonkeyPatch, method: str, message: str) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("detail")

    monkeypatch.setattr(api.engine.service.backend.enrollments, "get", broken)
    answer = await admin(api, method, {"did": REI, "boundary": WRITERS, "boundaries": [WRITERS]})
    assert answer.status == 500
    assert answer.body == {"error": "InternalError", "message": message}


async def test_operator_enrolls_an_account_that_can_then_write(api: Api) -> None:
    answer = await admin(api, "enroll", {"did": NEWCOMER, "boundaries": [EDITORS]})
    assert (answer.status, answer.body) == (200, {"did": NEWCOMER, "boundaries": [EDITORS]})
    uri = await api.create(Did(NEWCOMER), "hello", EDITORS)
    assert uri.startswith(f"at://{NEWCOMER}/")


async def test_operator_enrolls_with_the_automatic_boundaries_by_default(api: Api) -> None:
    answer = await admin(api, "enroll", {"did": NEWCOMER})
    assert answer.body == {"did": NEWCOMER, "boundaries": [WRITERS]}


async def test_enrollment_needs_a_did_and_a_list(api: Api) -> None:
    assert (await admin(api, "enroll", {})).body["message"] == "did is required"
    answer = await admin(api, "enroll", {"did": NEWCOMER, "boundaries": "writers"})
    assert answer.body == {"error": "InvalidRequest", "message": "boundaries must be an array of strings"}


async def test_operator_unenrolls_an_account(api: Api) -> None:
    answer = await admin(api, "unenroll", {"did": SAKURA})
    assert (answer.status, answer.body) == (200, {"did": SAKURA, "success": True})
    assert held(api, SAKURA) is None


async def test_enrollments_are_paged_in_did_order(api: Api) -> None:
    seen: list[object] = []
    cursor: dict[str, str] = {}
    for _ in range(3):
        page = await api.get("zone.stratos.admin.listEnrollments", ADMIN_PASSWORD, limit=2, **cursor)
        enrollments = page.body["enrollments"]
        assert isinstance(enrollments, list)
        seen += enrollments
        if "cursor" not in page.body:
            break
        cursor = {"cursor": str(page.body["cursor"])}
    stored = {did: api.engine.service.backend.enrollments.get(did) for did in (KAORUKO, REI, SAKURA)}
    assert seen == [
        {
            "did": did,
            "boundaries": [*enrollment.boundaries],
            "active": True,
            "enrolledAt": enrollment.enrolled_at,
        }
        for did, enrollment in sorted(stored.items())
        if enrollment is not None
    ]


@pytest.mark.parametrize("limit", ["0", "1001", "x"])
async def test_limit_of_the_listing_is_bounded(api: Api, limit: str) -> None:
    answer = await api.get("zone.stratos.admin.listEnrollments", ADMIN_PASSWORD, limit=limit)
    assert (answer.status, answer.body["error"]) == (400, "InvalidRequest")


async def test_rotated_key_is_told_by_status_and_signs_what_is_written_from_then_on(api: Api) -> None:
    former = (await api.get("zone.stratos.enrollment.status", None, did=REI)).body["signingKey"]
    answer = await admin(api, "rotateSigningKey", {"did": REI})
    assert (answer.status, answer.body["did"]) == (200, REI)
    status = (await api.get("zone.stratos.enrollment.status", None, did=REI)).body
    assert status["signingKey"] == answer.body["signingKey"] != former
    keys = status["signingKeys"]
    assert isinstance(keys, list)
    retired, current = (SigningKeyPeriod.from_json(key) for key in keys)
    assert (retired.key, current.key, current.retired) == (former, answer.body["signingKey"], None)
    assert retired.retired is not None
    await api.create(REI, "after", WRITERS)
    with api.engine.service.backend.actors.open(REI) as store:
        assert store is not None
        block = store.block(store.root().commit)
    assert block is not None
    assert SignedCommit.decode(block).verify(VerifyingKey.from_did_key(current.key))


async def test_key_of_who_is_not_enrolled_is_not_found(api: Api) -> None:
    answer = await admin(api, "rotateSigningKey", {"did": NEWCOMER})
    assert (answer.status, answer.body["error"]) == (404, "NotFound")
    assert (await admin(api, "rotateSigningKey", {})).status == 400
