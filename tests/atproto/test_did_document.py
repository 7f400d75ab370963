"""DID documents: ours, and looking things up in others'."""

from __future__ import annotations

import json

import pytest

from stratos.atproto.did_document import attesting_key, pds_endpoint, service_document, service_endpoint, verification_key
from stratos.atproto.keys import Curve, SigningKey
from stratos.atproto.syntax import Did
from tests.vectors import reference

DID = Did("did:web:stratos.example.com")
URL = "https://stratos.example.com"
KEY = SigningKey.from_raw(Curve.SECP256K1, b"\x01" * 32).verifying_key
OTHER_KEY = SigningKey.from_raw(Curve.P256, b"\x02" * 32).verifying_key


def method(name: object = f"{DID}#atproto", text: object = KEY.multibase, kind: object = "Multikey") -> dict[str, object]:
    return {"id": name, "type": kind, "controller": DID, "publicKeyMultibase": text}


def pds(name: object = "#atproto_pds", endpoint: object = "https://pds.example.com") -> dict[str, object]:
    return {"id": name, "type": "AtprotoPersonalDataServer", "serviceEndpoint": endpoint}


def test_our_document_is_exactly_this() -> None:
    assert service_document(DID, "atproto_pns", URL, KEY) == {
        "@context": ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"],
        "id": DID,
        "verificationMethod": [
            {"id": f"{DID}#atproto", "type": "Multikey", "controller": DID, "publicKeyMultibase": KEY.multibase},
            {"id": f"{DID}#atproto_pns", "type": "Multikey", "controller": DID, "publicKeyMultibase": KEY.multibase},
        ],
        "service": [
            {"id": "#stratos", "type": "StratosService", "serviceEndpoint": URL},
            {"id": "#atproto_pns", "type": "StratosService", "serviceEndpoint": URL},
        ],
    }


@pytest.mark.parametrize("fragment", ["atproto_pns", "atproto", "stratos"])
def test_key_and_endpoint_are_found_in_our_document_under_both_fragments_and_no_id_stands_twice(fragment: str) -> None:
    document = json.loads(json.dumps(service_document(DID, fragment, URL, KEY)))
    for name in ("atproto", fragment):
        assert verification_key(document, name) == KEY
    for name in ("stratos", fragment):
        assert service_endpoint(document, name) == URL
    for section in ("verificationMethod", "service"):
        names = [entry["id"] for entry in document[section]]
        assert len(names) == len(set(names))


def test_the_reference_document_is_read() -> None:
    document = json.loads(reference("did.json").read_text())
    keys = json.loads(reference("keys.json").read_text())
    found = verification_key(document, "atproto_pns")
    assert found is not None
    assert found.did_key == keys["service"]["did"]
    assert service_endpoint(document, "stratos") == "https://stratos.test"
    assert verification_key(document, "atproto") is None
    assert pds_endpoint(document) is None


@pytest.mark.parametrize("name", ["#atproto", f"{DID}#atproto"])
def test_a_key_is_found_with_and_without_the_did_before_its_fragment(name: str) -> None:
    assert (
        verification_key({"id": DID, "verificationMethod": [method("#other", OTHER_KEY.multibase), method(name)]}, "atproto")
        == KEY
    )


def test_the_first_of_several_methods_with_a_fragment_counts() -> None:
    assert verification_key({"verificationMethod": [method(), method(text=OTHER_KEY.multibase)]}, "atproto") == KEY
    assert verification_key({"verificationMethod": [method(text="broken"), method()]}, "atproto") is None


@pytest.mark.parametrize("name", ["#atproto_pds", f"{DID}#atproto_pds"])
def test_a_pds_is_found_with_and_without_the_did_before_its_fragment(name: str) -> None:
    assert pds_endpoint({"service": [pds("#other", "https://other.example.com"), pds(name)]}) == "https://pds.example.com"


def test_a_pds_entry_without_a_text_endpoint_is_passed_over() -> None:
    assert pds_endpoint({"service": [pds(endpoint={"uri": "https://a"}), pds(endpoint="https://b")]}) == "https://b"


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"verificationMethod": None, "service": None},
        {"verificationMethod": {}, "service": {"id": "#atproto_pds", "serviceEndpoint": "https://a"}},
        {"verificationMethod": [None, 1, "x", []], "service": [None, 1, "x", []]},
        {"verificationMethod": [method(None)], "service": [pds(None)]},
        {"verificationMethod": [method(["#atproto"])], "service": [pds(["#atproto_pds"])]},
        {"verificationMethod": [method("atproto")], "service": [pds("atproto_pds")]},
        {"verificationMethod": [method("#not_atproto")], "service": [pds("#my_atproto_pds")]},
        {"verificationMethod": [method("#atproto#1")], "service": [pds("#atproto_pds2")]},
        {"verificationMethod": [method(text=None)], "service": [pds(endpoint=None)]},
        {"verificationMethod": [method(text=[KEY.multibase])], "service": [pds(endpoint=[URL])]},
        {"verificationMethod": [method(kind=None)]},
        {"verificationMethod": [method(kind=["Multikey"])]},
        {"verificationMethod": [method(kind="Ed25519VerificationKey2020")]},
        {"verificationMethod": [method(text=KEY.did_key)]},
        {"verificationMethod": [method(kind="EcdsaSecp256k1VerificationKey2019", text="z")]},
        {"verificationMethod": [method(kind="EcdsaSecp256k1VerificationKey2019", text=KEY.multibase)]},
    ],
)
def test_what_is_absent_or_malformed_is_not_found(document: dict[str, object]) -> None:
    assert verification_key(document, "atproto") is None
    assert pds_endpoint(document) is None


def test_a_former_key_stands_in_the_document_and_still_attests() -> None:
    former = SigningKey.from_raw(Curve.SECP256K1, b"\x03" * 32).verifying_key
    document = json.loads(json.dumps(service_document(DID, "atproto_pns", URL, KEY, former)))
    assert verification_key(document, "atproto") == verification_key(document, "atproto_pns") == KEY
    assert attesting_key(document, KEY.did_key) == KEY
    assert attesting_key(document, former.did_key) == former
    assert attesting_key(document, OTHER_KEY.did_key) is None
    assert attesting_key(service_document(DID, "atproto_pns", URL, KEY), former.did_key) is None
    stranger = {**document, "verificationMethod": [*document["verificationMethod"], method("#other", OTHER_KEY.multibase)]}
    assert attesting_key(stranger, OTHER_KEY.did_key) is None, "a key for something else"
