"""Attestations (spec service.md §4.10, §11)."""

from __future__ import annotations

import json
from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.atproto import dag_cbor
from stratos.atproto.keys import Curve, SigningKey, VerifyingKey
from stratos.atproto.syntax import Did
from stratos.core.attestation import Attestation, attest, attestation_payload, verify_attestation
from stratos.core.boundaries import Boundary
from tests.core.builders import ALICE, BOB, EDITORS, WRITERS
from tests.vectors import reference

SERVICE_KEY = SigningKey.from_raw(Curve.SECP256K1, bytes(31) + b"\x07")
USER_KEY = SigningKey.from_raw(Curve.P256, bytes(31) + b"\x09").did_key


def _verify(
    attestation: Attestation,
    *,
    service_key: VerifyingKey = SERVICE_KEY.verifying_key,
    did: Did = ALICE,
    boundaries: tuple[Boundary, ...] = (EDITORS, WRITERS),
    signing_key: str = USER_KEY,
) -> bool:
    return verify_attestation(attestation, service_key=service_key, did=did, boundaries=boundaries, signing_key=signing_key)


def test_payload_is_byte_exact() -> None:
    expected = (
        "a3 63 646964 69 6469643a706c633a78"
        "6a 626f756e646172696573 81 73 6469643a7765623a732e6578616d706c652f61"
        "6a 7369676e696e674b6579 69 6469643a6b65793a7a"
    )
    payload = attestation_payload(Did("did:plc:x"), [Boundary("did:web:s.example/a")], "did:key:z")
    assert payload == bytes.fromhex(expected)


def test_recorded_attestation_has_our_payload_and_verifies() -> None:
    recorded = json.loads(reference("attestation.json").read_text())
    did, user_key = Did(recorded["did"]), recorded["userSigningKeyDid"]
    boundaries = tuple(Boundary(value) for value in recorded["boundariesInRequestOrder"])
    assert attestation_payload(did, boundaries, user_key).hex() == recorded["payloadDagCborHex"]
    key = VerifyingKey.from_did_key(recorded["serviceSigningKeyDid"])
    attestation = Attestation(bytes.fromhex(recorded["sigHex"]), recorded["serviceSigningKeyDid"])
    assert verify_attestation(attestation, service_key=key, did=did, boundaries=boundaries, signing_key=user_key)
    assert attestation.as_json() == recorded["enrollmentStatusResponse"]["attestation"]


def test_recorded_key_signs_the_same_bytes_again() -> None:
    recorded = json.loads(reference("attestation.json").read_text())
    key = SigningKey.from_raw(Curve.SECP256K1, bytes.fromhex(recorded["serviceSigningKeyPrivHex_secp256k1"]))
    boundaries = [Boundary(value) for value in recorded["sortedBoundaries"]]
    again = attest(key, Did(recorded["did"]), boundaries, recorded["userSigningKeyDid"])
    assert again == Attestation(bytes.fromhex(recorded["sigHex"]), recorded["serviceSigningKeyDid"])


def test_own_attestation_verifies() -> None:
    attestation = attest(SERVICE_KEY, ALICE, [WRITERS, EDITORS], USER_KEY)
    assert len(attestation.sig) == 64
    assert attestation.signing_key == SERVICE_KEY.did_key
    assert _verify(attestation)


@given(
    boundaries=st.lists(st.sampled_from([WRITERS, EDITORS, Boundary("did:web:s/ａ"), Boundary("did:web:s/😀")])), data=st.data()
)
def test_order_of_boundaries_does_not_matter(boundaries: list[Boundary], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(boundaries))
    assert attestation_payload(ALICE, boundaries, USER_KEY) == attestation_payload(ALICE, shuffled, USER_KEY)


def test_boundaries_are_sorted_by_utf16_code_unit() -> None:
    astral, full_width = Boundary("did:web:s/😀"), Boundary("did:web:s/ａ")
    assert full_width < astral
    payload = dag_cbor.decode(attestation_payload(ALICE, [full_width, astral], USER_KEY))
    assert isinstance(payload, dict)
    assert payload["boundaries"] == [astral, full_width]


def test_callers_list_is_left_alone() -> None:
    boundaries = [WRITERS, EDITORS]
    attestation_payload(ALICE, boundaries, USER_KEY)
    assert boundaries == [WRITERS, EDITORS]


def test_empty_boundaries_verify() -> None:
    attestation = attest(SERVICE_KEY, ALICE, [], USER_KEY)
    assert _verify(attestation, boundaries=())
    assert not _verify(attestation, boundaries=(WRITERS,))


def test_tampering_is_noticed() -> None:
    attestation = attest(SERVICE_KEY, ALICE, [WRITERS, EDITORS], USER_KEY)
    flipped = bytes((attestation.sig[0] ^ 1, *attestation.sig[1:]))
    assert not _verify(attestation, did=BOB)
    assert not _verify(attestation, boundaries=(WRITERS,))
    assert not _verify(attestation, boundaries=(WRITERS, EDITORS, EDITORS))
    assert not _verify(attestation, signing_key=SERVICE_KEY.did_key)
    assert not _verify(Attestation(flipped, attestation.signing_key))
    assert not _verify(Attestation(b"", attestation.signing_key))


def test_key_named_in_the_attestation_must_be_the_services() -> None:
    forger = SigningKey.from_raw(Curve.SECP256K1, bytes(31) + b"\x08")
    forged = attest(forger, ALICE, [WRITERS, EDITORS], USER_KEY)
    assert not _verify(forged)
    assert not _verify(Attestation(forged.sig, SERVICE_KEY.did_key))
    assert not _verify(Attestation(attest(SERVICE_KEY, ALICE, [WRITERS, EDITORS], USER_KEY).sig, forger.did_key))
    assert not _verify(attest(SERVICE_KEY, ALICE, [WRITERS, EDITORS], USER_KEY), service_key=forger.verifying_key)


@pytest.mark.parametrize("text", ["\ud800", "did:key:\udfff"])
def test_text_that_is_not_unicode_does_not_verify(text: str) -> None:
    assert not _verify(attest(SERVICE_KEY, ALICE, [], USER_KEY), signing_key=text)
    assert not _verify(attest(SERVICE_KEY, ALICE, [], USER_KEY), boundaries=(Boundary(text),))


def test_json_form_has_unpadded_bytes() -> None:
    attestation = attest(SERVICE_KEY, ALICE, [], USER_KEY)
    form = attestation.as_json()
    assert isinstance(form, dict)
    assert form["signingKey"] == SERVICE_KEY.did_key
    sig = form["sig"]
    assert isinstance(sig, dict)
    text = sig["$bytes"]
    assert isinstance(text, str)
    assert len(text) == 86
    assert b64decode(text + "==") == attestation.sig
