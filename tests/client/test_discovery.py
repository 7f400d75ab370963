"""Finding an account's enrollments on its PDS (spec service.md §10.2)."""

from __future__ import annotations

import json

import httpx
import pytest

from stratos.atproto.data_model import to_json
from stratos.client import (
    NoAnswer,
    discover_enrollment,
    discover_enrollments,
    get_enrollment_by_service_did,
)
from stratos.client.discovery import MAX_PAGES
from stratos.core.enrollment_record import enrollment_record
from tests.client.builders import ALICE, SERVICE, Script, answering, enrollment

ENROLLMENT = "zone.stratos.actor.enrollment"


def as_json(**changes: object) -> dict[str, object]:
    """The record of the enrollment as a PDS shows it."""
    known = enrollment()
    record = enrollment_record(
        service_url=known.service,
        boundaries=known.boundaries,
        signing_key=known.signing_key,
        attestation=known.attestation,
        created_at=known.created_at,
    )
    value = to_json(record)
    assert isinstance(value, dict)
    return {**value, **changes}


def listed(value: object, rkey: str = SERVICE) -> dict[str, object]:
    return {"uri": f"at://{ALICE}/{ENROLLMENT}/{rkey}", "cid": "bafy", "value": value}


async def test_what_the_pds_lists_is_found_with_its_rkey() -> None:
    script = answering({"records": [listed(as_json())]})
    assert await discover_enrollments(ALICE, script.host()) == (enrollment(),)
    (asked,) = script.asked
    assert asked.url.path == "/xrpc/com.atproto.repo.listRecords"
    assert dict(asked.url.params) == {"repo": ALICE, "collection": ENROLLMENT, "limit": "100"}
    assert "authorization" not in asked.headers


async def test_records_that_are_no_enrollments_are_skipped() -> None:
    attestation = as_json()["attestation"]
    assert isinstance(attestation, dict)
    invalid = [
        *(as_json(**{name: 7}) for name in ("service", "createdAt", "signingKey", "attestation")),
        *({key: value for key, value in as_json().items() if key != name} for name in ("service", "createdAt", "attestation")),
        as_json(attestation={**attestation, "sig": "text"}),
        as_json(attestation={**attestation, "sig": {"$bytes": "%%"}}),
        as_json(attestation={**attestation, "signingKey": None}),
        "text",
        None,
    ]
    records = [*map(listed, invalid), "no record", {"value": as_json()}, {"uri": 7, "value": as_json()}, listed(as_json())]
    assert await discover_enrollments(ALICE, answering({"records": records}).host()) == (enrollment(),)


async def test_a_record_of_old_without_boundaries_or_type_is_one_without_any() -> None:
    value = {key: item for key, item in as_json().items() if key not in ("boundaries", "$type")}
    found = await discover_enrollment(ALICE, answering({"records": [listed(value, "self")]}).host())
    assert found is not None
    assert (found.boundaries, found.rkey) == ((), "self")


async def test_an_error_of_the_pds_is_an_account_without_enrollments() -> None:
    for script in (answering({"error": "RepoNotFound"}, 400), answering([], 500), answering({"records": "none"})):
        assert await discover_enrollments(ALICE, script.host()) == ()
        assert await discover_enrollment(ALICE, script.host()) is None


async def test_a_pds_that_does_not_answer_is_an_error() -> None:
    def down(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("down", request=request)

    with pytest.raises(NoAnswer, match="down"):
        await discover_enrollments(ALICE, Script(down).host())
    assert await get_enrollment_by_service_did(ALICE, Script(down).host(), SERVICE) is None


async def test_all_pages_are_read() -> None:
    def pages(request: httpx.Request) -> httpx.Response:
        cursor = request.url.params.get("cursor", "0")
        following = {} if cursor == "2" else {"cursor": str(int(cursor) + 1)}
        return httpx.Response(200, json={"records": [listed(as_json(), f"page-{cursor}")], **following})

    found = await discover_enrollments(ALICE, Script(pages).host())
    assert [each.rkey for each in found] == ["page-0", "page-1", "page-2"]


@pytest.mark.parametrize(("cursor_of", "asked"), [(lambda n: "same", 2), (lambda n: str(n), MAX_PAGES)])
async def test_a_pds_whose_pages_never_end_is_left(cursor_of: object, asked: int) -> None:
    assert callable(cursor_of)
    script = Script(
        lambda _request: httpx.Response(200, json={"records": [listed(as_json())], "cursor": cursor_of(len(script.asked))})
    )
    assert len(await discover_enrollments(ALICE, script.host())) == asked
    assert len(script.asked) == asked


async def test_the_enrollment_at_one_service_stands_under_its_did() -> None:
    script = answering({"value": as_json(), "uri": "at://x", "cid": "bafy"})
    found = await get_enrollment_by_service_did(ALICE, script.host(), SERVICE)
    assert found == enrollment()
    assert dict(script.asked[0].url.params) == {"repo": ALICE, "collection": ENROLLMENT, "rkey": SERVICE}


@pytest.mark.parametrize(
    "script", [answering({"error": "RecordNotFound"}, 400), answering({"value": {}}), answering("text"), answering({})]
)
async def test_whatever_else_it_answers_is_none(script: Script) -> None:
    assert await get_enrollment_by_service_did(ALICE, script.host(), SERVICE) is None


async def test_bytes_of_a_signature_survive_json() -> None:
    value = json.loads(json.dumps(as_json()))
    found = await discover_enrollment(ALICE, answering({"records": [listed(value)]}).host())
    assert found is not None
    assert found.attestation.sig == enrollment().attestation.sig
