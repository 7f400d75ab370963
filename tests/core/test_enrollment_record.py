"""Enrollment records (spec service.md §4.11, §3.10, §10.2)."""

from __future__ import annotations

import pytest

from stratos.atproto.data_model import to_json
from stratos.atproto.syntax import Did
from stratos.core.attestation import Attestation
from stratos.core.enrollment_record import (
    EnrollmentRecord,
    enrollment_record,
    parse_enrollment_record,
    service_did_to_rkey,
)
from tests.core.builders import EDITORS, TIME, WRITERS

RECORD = EnrollmentRecord(
    service="https://stratos.example.com",
    boundaries=(WRITERS, EDITORS),
    signing_key="did:key:zUser",
    attestation=Attestation(b"\x01" * 64, "did:key:zService"),
    created_at=TIME,
)


def _written() -> dict[str, object]:
    return dict(
        enrollment_record(
            service_url=RECORD.service,
            boundaries=RECORD.boundaries,
            signing_key=RECORD.signing_key,
            attestation=RECORD.attestation,
            created_at=RECORD.created_at,
        )
    )


def test_record_has_the_members_of_the_lexicon() -> None:
    assert _written() == {
        "$type": "zone.stratos.actor.enrollment",
        "service": "https://stratos.example.com",
        "boundaries": [{"value": WRITERS}, {"value": EDITORS}],
        "signingKey": "did:key:zUser",
        "attestation": {"sig": b"\x01" * 64, "signingKey": "did:key:zService"},
        "createdAt": TIME,
    }


def test_record_is_read_back_in_the_data_model_and_in_json() -> None:
    record = enrollment_record(
        service_url=RECORD.service,
        boundaries=RECORD.boundaries,
        signing_key=RECORD.signing_key,
        attestation=RECORD.attestation,
        created_at=RECORD.created_at,
    )
    assert parse_enrollment_record(record) == RECORD
    assert parse_enrollment_record(to_json(record)) == RECORD


def test_missing_boundaries_are_none() -> None:
    record = _written()
    del record["boundaries"]
    parsed = parse_enrollment_record(record)
    assert parsed is not None
    assert parsed.boundaries == ()


@pytest.mark.parametrize(
    "boundaries", [None, "x", {"values": [{"value": WRITERS}]}, [WRITERS], [{"value": 7}], [{"value": ""}, 3]]
)
def test_boundaries_that_are_not_understood_are_left_out(boundaries: object) -> None:
    parsed = parse_enrollment_record({**_written(), "boundaries": boundaries})
    assert parsed is not None
    assert parsed.boundaries == ()


@pytest.mark.parametrize("name", ["service", "signingKey", "createdAt", "attestation"])
@pytest.mark.parametrize("value", [None, 7, [], {}, {"sig": b"x"}, {"signingKey": "did:key:z"}])
def test_record_with_a_wrong_member_is_none(name: str, value: object) -> None:
    assert parse_enrollment_record({**_written(), name: value}) is None


@pytest.mark.parametrize("name", ["service", "signingKey", "createdAt", "attestation"])
def test_record_without_a_member_is_none(name: str) -> None:
    record = _written()
    del record[name]
    assert parse_enrollment_record(record) is None


@pytest.mark.parametrize("sig", [None, "AQ", 7, [], {}, {"$bytes": 7}, {"$bytes": "!"}, {"$link": "x"}, {"$bytes": "AQ", "x": 1}])
def test_signature_must_be_bytes(sig: object) -> None:
    assert parse_enrollment_record({**_written(), "attestation": {"sig": sig, "signingKey": "did:key:z"}}) is None


@pytest.mark.parametrize("record", [None, [], "x", 7, {}])
def test_other_values_are_no_enrollment(record: object) -> None:
    assert parse_enrollment_record(record) is None


@pytest.mark.parametrize(
    ("did", "rkey"),
    [
        ("did:web:localhost%3A3100", "did:web:localhost:3100"),
        ("did:web:localhost%3a3100%3Aa", "did:web:localhost:3100:a"),
        ("did:web:host%2Fx", "did:web:host%2Fx"),
        ("did:plc:xyz", "did:plc:xyz"),
    ],
)
def test_rkey_is_the_service_did_with_plain_colons(did: str, rkey: str) -> None:
    assert service_did_to_rkey(Did(did)) == rkey
