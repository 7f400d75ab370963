"""enrollment.status, enrollment.unenroll, identity.resolveEnrollments, server.listDomains. Service spec §1.3.13–17."""

from __future__ import annotations

from pathlib import Path

import pytest

from stratos.api.config import ApiConfig
from stratos.atproto.data_model import from_json
from stratos.atproto.keys import VerifyingKey
from stratos.core.attestation import attestation_payload
from stratos.core.enrollment import Enrollment
from tests.api.builders import ADMIN_PASSWORD, CONFIG, SYNC_TOKEN, Api, serving
from tests.engine.builders import EDITORS, KAORUKO, POST, REI, SAKURA, WRITERS

STATUS = "zone.stratos.enrollment.status"
RESOLVE = "zone.stratos.identity.resolveEnrollments"
NEWCOMER = "did:plc:newcomer"


def enrolled(api: Api) -> Enrollment:
    """Rei's enrollment as stored."""
    enrollment = api.engine.service.backend.enrollments.get(REI)
    assert enrollment is not None
    return enrollment


@pytest.mark.parametrize("viewer", [None, NEWCOMER])
async def test_status_shows_strangers_neither_boundaries_nor_attestation(api: Api, viewer: str | None) -> None:
    enrollment = enrolled(api)
    (period,) = api.engine.service.backend.enrollments.signing_keys(REI)
    assert (await api.get(STATUS, viewer, did=REI)).body == {
        "did": REI,
        "enrolled": True,
        "enrolledAt": enrollment.enrolled_at,
        "active": True,
        "signingKey": enrollment.signing_key,
        "signingKeys": [{"key": enrollment.signing_key, "firstRev": period.first_rev, "createdAt": period.created}],
    }


@pytest.mark.parametrize("viewer", [REI, KAORUKO, SYNC_TOKEN])
async def test_status_shows_whoever_belongs_here_boundaries_with_a_fresh_attestation(api: Api, viewer: str) -> None:
    answer = await api.get(STATUS, viewer, did=REI)
    assert answer.body["boundaries"] == [{"value": boundary} for boundary in enrolled(api).boundaries]
    attestation = from_json(answer.body["attestation"])
    assert isinstance(attestation, dict)
    signature, signed_by = attestation["sig"], attestation["signingKey"]
    assert isinstance(signature, bytes)
    assert isinstance(signed_by, str)
    assert signed_by == api.engine.service.service_key.did_key
    payload = attestation_payload(REI, [EDITORS, WRITERS], enrolled(api).signing_key)
    assert VerifyingKey.from_did_key(signed_by).verify(payload, signature)


async def test_status_without_boundaries_has_no_attestation(api: Api) -> None:
    await api.engine.service.enrollment.set_boundaries(KAORUKO, [])
    answer = await api.get(STATUS, KAORUKO, did=KAORUKO)
    assert answer.body["boundaries"] == []
    assert "attestation" not in answer.body


@pytest.mark.parametrize("viewer", [None, REI])
async def test_status_of_somebody_unknown_says_only_that(api: Api, viewer: str | None) -> None:
    assert (await api.get(STATUS, viewer, did=NEWCOMER)).body == {"did": NEWCOMER, "enrolled": False}


@pytest.mark.parametrize("method", [STATUS, RESOLVE])
@pytest.mark.parametrize("params", [{}, {"did": "rei.example.com"}, {"did": ""}])
async def test_did_must_be_given(api: Api, method: str, params: dict[str, str]) -> None:
    answer = await api.get(method, **params)
    assert (answer.status, answer.body["error"]) == (400, "InvalidRequest")


async def test_anybody_may_resolve_anybodys_boundaries_as_plain_strings(api: Api) -> None:
    known = (await api.get(RESOLVE, did=REI)).body
    assert known == {"did": REI, "enrolled": True, "boundaries": [*enrolled(api).boundaries]}
    assert (await api.get(RESOLVE, did=NEWCOMER)).body == {"did": NEWCOMER, "enrolled": False, "boundaries": []}


async def test_resolution_follows_changes_at_once(api: Api) -> None:
    await api.get(RESOLVE, did=REI)
    await api.engine.service.enrollment.remove_boundary(REI, EDITORS)
    assert (await api.get(RESOLVE, did=REI)).body["boundaries"] == [WRITERS]
    await api.engine.service.enrollment.unenroll(REI)
    assert (await api.get(RESOLVE, did=REI)).body == {"did": REI, "enrolled": False, "boundaries": []}


@pytest.mark.parametrize(
    ("viewer", "status"), [(None, 401), (NEWCOMER, 401), (KAORUKO, 200), (SYNC_TOKEN, 200), ("nonsense", 401)]
)
async def test_resolution_can_be_closed_to_strangers(data_dir: Path, viewer: str | None, status: int) -> None:
    config = ApiConfig(dev_mode=CONFIG.dev_mode, sync_token=CONFIG.sync_token, public_resolve=False)
    async with serving(data_dir, config=config) as api:
        await api.engine.enroll(KAORUKO, EDITORS)
        assert (await api.get(RESOLVE, viewer, did=KAORUKO)).status == status


@pytest.mark.expects_error_log
async def test_resolution_that_fails_has_its_own_words(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("detail")

    monkeypatch.setattr(api.engine.service.backend.enrollments, "get", broken)
    answer = await api.get(RESOLVE, did=REI)
    assert answer.status == 500
    assert answer.body == {"error": "InternalError", "message": "Failed to resolve enrollments"}


async def test_domains_are_listed_in_the_order_of_the_configuration(api: Api) -> None:
    assert (await api.get("zone.stratos.server.listDomains")).body == {"domains": [WRITERS, EDITORS]}


async def test_whoever_unenrolls_leaves_nothing_behind(api: Api) -> None:
    uri = await api.create(SAKURA, "hello", WRITERS)
    assert (await api.post("zone.stratos.enrollment.unenroll", SAKURA, {})).body == {"success": True}
    assert (await api.get(STATUS, REI, did=SAKURA)).body == {"did": SAKURA, "enrolled": False}
    assert (await api.get("zone.stratos.repo.hydrateRecord", REI, uri=uri)).body["error"] == "RecordNotFound"
    assert (await api.get("zone.stratos.repo.describeRepo", repo=SAKURA)).body["error"] == "RepoNotFound"
    refused = await api.post("zone.stratos.repo.createRecord", SAKURA, {"repo": SAKURA, "collection": POST, "record": {}})
    assert refused.body["error"] == "NotEnrolled"


async def test_unenrolling_twice_is_refused(api: Api) -> None:
    await api.post("zone.stratos.enrollment.unenroll", SAKURA, {})
    answer = await api.post("zone.stratos.enrollment.unenroll", SAKURA, {})
    assert (answer.status, answer.body["error"]) == (400, "NotEnrolled")


@pytest.mark.parametrize("viewer", [None, SYNC_TOKEN, ADMIN_PASSWORD])
async def test_only_users_unenroll_themselves(api: Api, viewer: str | None) -> None:
    assert (await api.post("zone.stratos.enrollment.unenroll", viewer, {})).status == 401


async def test_unenrolling_needs_a_body(api: Api) -> None:
    response = await api.client.post("/xrpc/zone.stratos.enrollment.unenroll", headers={"authorization": f"Bearer {REI}"})
    assert response.status_code == 400
