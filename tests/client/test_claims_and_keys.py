"""Attestations, stubs, and the keys from where they are published."""

from __future__ import annotations

import json
from dataclasses import replace

import httpx
import pytest

from stratos.atproto.cid import Cid
from stratos.atproto.did_document import service_document
from stratos.client import (
    Attestation,
    AtUri,
    Boundary,
    Did,
    KeyUnavailable,
    StratosEnrollment,
    VerificationFailed,
    VerifyingKey,
    resolve_service,
    resolve_service_signing_key,
    resolve_user_signing_key,
    verify_attestation,
    verify_stub,
)
from stratos.core.attestation import parse_attestation
from stratos.core.stubs import stub_record
from tests.client.builders import (
    ALICE,
    BOB,
    EDITORS,
    OTHER_KEY,
    POST,
    SERVICE,
    SERVICE_KEY,
    SERVICE_URL,
    TIME,
    USER_KEY,
    WRITERS,
    Script,
    answering,
    enrollment,
    post,
)
from tests.client.test_discovery import as_json
from tests.vectors import reference

KEY = SERVICE_KEY.verifying_key
URI = AtUri.parse(f"at://{ALICE}/{POST}/3mgaaaaaaaa2c")
CID, OTHER_CID = Cid.of_dag_cbor(b"\x01"), Cid.of_dag_cbor(b"\x02")


def test_an_enrollment_that_the_service_signed_verifies_in_any_order_of_boundaries() -> None:
    assert verify_attestation(ALICE, enrollment(), KEY) == enrollment().attestation
    verify_attestation(ALICE, replace(enrollment(), boundaries=(EDITORS, WRITERS)), KEY)
    verify_attestation(ALICE, enrollment(boundaries=()), KEY)


@pytest.mark.parametrize(
    ("did", "changed"),
    [
        (BOB, enrollment()),
        (ALICE, replace(enrollment(), boundaries=(WRITERS,))),
        (ALICE, replace(enrollment(), boundaries=(WRITERS, EDITORS, Boundary(f"{SERVICE}/admins")))),
        (ALICE, replace(enrollment(), signing_key=OTHER_KEY.did_key)),
        (ALICE, replace(enrollment(), attestation=Attestation(bytes(64), SERVICE_KEY.did_key))),
        (ALICE, replace(enrollment(), attestation=Attestation(b"", SERVICE_KEY.did_key))),
    ],
)
def test_an_enrollment_that_says_anything_else_does_not(did: Did, changed: StratosEnrollment) -> None:
    with pytest.raises(VerificationFailed, match="has not signed"):
        verify_attestation(did, changed, KEY)


def test_a_key_that_the_record_brings_along_proves_nothing() -> None:
    forged = enrollment(key=OTHER_KEY)
    assert forged.attestation.signing_key == OTHER_KEY.did_key
    with pytest.raises(VerificationFailed, match="but the service signs with"):
        verify_attestation(ALICE, forged, KEY)


def test_the_reference_s_attestation_verifies() -> None:
    recorded = json.loads(reference("attestation.json").read_text())
    status = recorded["enrollmentStatusResponse"]
    attestation = parse_attestation(status["attestation"])
    assert attestation is not None
    boundaries = tuple(Boundary(item["value"]) for item in status["boundaries"])
    found = replace(enrollment(), boundaries=boundaries, signing_key=status["signingKey"], attestation=attestation)
    verify_attestation(Did(recorded["did"]), found, VerifyingKey.from_did_key(recorded["serviceSigningKeyDid"]))


def stub(**changes: object) -> dict[str, object]:
    return {**stub_record(URI, CID, post(), service=SERVICE, fragment="atproto_pns", now=TIME), **changes}


def test_a_stub_stands_for_the_record_with_its_cid() -> None:
    source = verify_stub(stub(), uri=URI, cid=CID, service=SERVICE)
    assert (source.service, source.fragment, source.cid) == (SERVICE, "atproto_pns", str(CID))


@pytest.mark.parametrize(
    ("stands", "uri", "cid", "service", "why"),
    [
        (stub(), URI, OTHER_CID, SERVICE, "the record is"),
        (stub(), AtUri.parse(f"at://{BOB}/{POST}/3mgaaaaaaaa2c"), CID, SERVICE, "stands for"),
        (stub(), URI, CID, Did("did:web:else.example"), "points to"),
        (
            stub(source={"vary": "public", "subject": {"uri": str(URI), "cid": str(CID)}, "service": SERVICE}),
            URI,
            CID,
            SERVICE,
            "no stub",
        ),
        (post(), URI, CID, SERVICE, "no stub"),
        ("text", URI, CID, SERVICE, "no stub"),
        (None, URI, CID, SERVICE, "no stub"),
    ],
)
def test_a_stub_that_stands_for_something_else_is_refused(stands: object, uri: AtUri, cid: Cid, service: Did, why: str) -> None:
    with pytest.raises(VerificationFailed, match=why):
        verify_stub(stands, uri=uri, cid=cid, service=service)


def document(**changes: object) -> dict[str, object]:
    return {**service_document(SERVICE, "atproto_pns", SERVICE_URL, KEY), **changes}


async def test_the_key_of_a_service_is_in_the_document_at_its_own_host() -> None:
    script = answering(document())
    assert await resolve_service_signing_key(SERVICE, fetch=script.fetch()) == KEY
    assert [str(asked.url) for asked in script.asked] == ["https://stratos.example.com/.well-known/did.json"]


async def test_where_a_service_answers_stands_in_the_same_document() -> None:
    published = await resolve_service(SERVICE, fetch=answering(document()).fetch())
    assert (published.did, published.url, published.signing_key) == (SERVICE, SERVICE_URL, KEY)
    for incomplete in (document(service=[]), document(verificationMethod=[])):
        with pytest.raises(KeyUnavailable, match="DID document has no"):
            await resolve_service(SERVICE, fetch=answering(incomplete).fetch())


async def test_localhost_is_asked_only_where_that_is_allowed() -> None:
    did = Did("did:web:localhost%3A3100")
    script = answering(service_document(did, "atproto_pns", "http://localhost:3100", KEY))
    assert await resolve_service_signing_key(did, fetch=script.fetch(), allow_localhost=True) == KEY
    assert str(script.asked[0].url) == "http://localhost:3100/.well-known/did.json"
    with pytest.raises(KeyUnavailable):
        await resolve_service_signing_key(did, fetch=script.fetch())
    assert len(script.asked) == 1


@pytest.mark.parametrize("did", ["did:plc:aliceaaaaaaaaaaaaaaaaaaa", "did:key:z", "did:webs:x.example"])
async def test_only_a_did_web_has_its_document_at_its_host(did: str) -> None:
    script = answering({})
    with pytest.raises(KeyUnavailable, match=f"expected did:web, got: {did}"):
        await resolve_service_signing_key(Did(did), fetch=script.fetch())
    assert script.asked == []


@pytest.mark.parametrize("host", ["10.0.0.1", "a.example:user", "a.example%2F..", "a.example%3A8080"])
async def test_a_did_web_that_names_no_public_host_is_not_asked(host: str) -> None:
    script = answering({})
    with pytest.raises(KeyUnavailable):
        await resolve_service_signing_key(Did(f"did:web:{host}"), fetch=script.fetch())
    assert script.asked == []


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (answering({}, 404), "answers 404"),
        (answering({}, 302, location="https://evil.example/did.json"), "answers 302"),
        (answering(document(id="did:web:evil.example")), "its id is not"),
        (answering("text"), "not a JSON object"),
        (answering(document(verificationMethod=[])), "DID document has no #atproto verificationMethod"),
        (Script(lambda _request: httpx.Response(200, content=b"<html>")), "not JSON"),
    ],
)
async def test_a_document_without_the_key_is_an_error(script: Script, why: str) -> None:
    with pytest.raises(KeyUnavailable, match=why):
        await resolve_service_signing_key(SERVICE, fetch=script.fetch())
    assert len(script.asked) == 1


async def test_other_fragments_are_ignored() -> None:
    recorded = json.loads(reference("did.json").read_text())
    with pytest.raises(KeyUnavailable, match="has no #atproto"):
        await resolve_service_signing_key(Did(recorded["id"]), fetch=answering(recorded).fetch())


async def test_the_key_of_a_user_is_named_by_the_enrollment_at_the_service() -> None:
    host = answering({"value": as_json()}).host()
    assert await resolve_user_signing_key(host, ALICE, SERVICE) == USER_KEY.verifying_key
    assert await resolve_user_signing_key(answering({}, 400).host(), ALICE, SERVICE) is None


@pytest.mark.parametrize(("key", "why"), [("zDn", "invalid signing key format: zDn"), ("did:key:zzz", "invalid signing key: ")])
async def test_a_key_in_another_form_is_an_error(key: str, why: str) -> None:
    with pytest.raises(KeyUnavailable, match=why):
        await resolve_user_signing_key(answering({"value": as_json(signingKey=key)}).host(), ALICE, SERVICE)
