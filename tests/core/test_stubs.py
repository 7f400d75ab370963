"""Stubs (spec service.md §5.7)."""

from __future__ import annotations

import pytest

from stratos.atproto.dag_cbor import DataModel
from stratos.atproto.syntax import AtUri
from stratos.core.stubs import Source, parse_source, stub_record
from tests.core.builders import ALICE, POST, SERVICE, TIME, WRITERS, cid_of, domains, post

URI = AtUri.parse(f"at://{ALICE}/{POST}/3lgoldenzzzz2")
NOW = "2030-12-31T00:00:00.000Z"


def _stub(record: dict[str, DataModel]) -> dict[str, DataModel]:
    return stub_record(URI, cid_of("record"), record, service=SERVICE, fragment="atproto_pns", now=NOW)


def test_stub_has_exactly_the_public_members() -> None:
    assert _stub(post(WRITERS, facets=[], embed={}, reply={}, langs=["en"])) == {
        "$type": POST,
        "source": {
            "vary": "authenticated",
            "subject": {"uri": f"at://{ALICE}/{POST}/3lgoldenzzzz2", "cid": str(cid_of("record"))},
            "service": "did:web:stratos.example.com#atproto_pns",
        },
        "createdAt": TIME,
    }


@pytest.mark.parametrize("record", [{}, {"$type": 7, "createdAt": None}, {"boundary": domains(WRITERS)}])
def test_record_without_type_and_creation_time_gets_collection_and_now(record: dict[str, DataModel]) -> None:
    stub = _stub(record)
    assert (stub["$type"], stub["createdAt"]) == (POST, NOW)


@pytest.mark.parametrize("text", ["my secret text", "", "2026-05-28T12:00:00.000Z and my secret text", "2026-05-28", "\n" + TIME])
def test_a_text_in_place_of_a_time_stays_private(text: str) -> None:
    assert _stub({**post(WRITERS), "$type": text, "createdAt": text}) == _stub({"createdAt": NOW})


def test_own_stub_is_recognised() -> None:
    assert parse_source(_stub(post(WRITERS))) == Source(
        vary="authenticated", uri=str(URI), cid=str(cid_of("record")), service=SERVICE, fragment="atproto_pns"
    )


@pytest.mark.parametrize(
    ("service", "did", "fragment"),
    [("did:web:s", "did:web:s", None), ("did:web:s#", "did:web:s", ""), ("did:web:s#a#b", "did:web:s", "a#b"), ("", "", None)],
)
def test_service_is_split_at_the_first_hash(service: str, did: str, fragment: str | None) -> None:
    source = parse_source({"source": {"vary": "unauthenticated", "subject": {}, "service": service}})
    assert source == Source(vary="unauthenticated", uri=None, cid=None, service=did, fragment=fragment)


@pytest.mark.parametrize(
    "record",
    [
        None,
        [],
        "source",
        {},
        {"source": None},
        {"source": "did:web:s#x"},
        {"source": {}},
        {"source": {"vary": "authenticated", "subject": {}}},
        {"source": {"vary": "authenticated", "service": "did:web:s"}},
        {"source": {"subject": {}, "service": "did:web:s"}},
        {"source": {"vary": 1, "subject": {}, "service": "did:web:s"}},
        {"source": {"vary": "authenticated", "subject": "at://x", "service": "did:web:s"}},
        {"source": {"vary": "authenticated", "subject": [], "service": "did:web:s"}},
        {"source": {"vary": "authenticated", "subject": {}, "service": 7}},
    ],
)
def test_other_records_are_no_stubs(record: object) -> None:
    assert parse_source(record) is None


def test_full_record_is_no_stub() -> None:
    assert parse_source(post(WRITERS)) is None
