"""DID documents of others."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
import pytest

from stratos.atproto.keys import SigningKey
from stratos.atproto.resolved_document import MAX_DOCUMENT_BYTES
from stratos.engine.identity import DidDocument, InvalidDocument
from tests.engine.identity.internet import REI, SAKURA, did_document


def parse(document: Mapping[str, object]) -> DidDocument:
    return DidDocument.parse(REI, orjson.dumps(document))


def test_a_document_tells_its_names_its_pds_and_all_of_itself() -> None:
    document = parse(did_document(REI, alsoKnownAs=["https://rei.net", "at://rei.garden.net", "at://other.net"]))
    assert document.did == REI
    assert document.also_known_as == ("https://rei.net", "at://rei.garden.net", "at://other.net")
    assert document.claimed_handle == "rei.garden.net"
    assert document.pds == document.service_endpoint("atproto_pds") == "https://pds.garden.net"
    assert document.raw["@context"] == ["https://www.w3.org/ns/did/v1"]


def test_a_key_is_found_again_and_stays_the_same() -> None:
    key = SigningKey.generate_secp256k1().verifying_key
    method = {"id": f"{REI}#atproto", "type": "Multikey", "controller": REI, "publicKeyMultibase": key.multibase}
    document = parse(did_document(REI, verificationMethod=[method]))
    first = document.verification_key("atproto")
    assert first is not None
    assert first.did_key == key.did_key
    assert document.verification_key("atproto") is first
    assert document.verification_key("other") is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"did"',
        b"{}",
        b"not json",
        b'{"id": "did:plc:ewvi7nxzyoun6zhxrhs64oiz"',
        b'{"id": "did:plc:ewvi7nxzyoun6zhxrhs64oiz", "x": NaN}',
        b'{"id": "did:plc:ewvi7nxzyoun6zhxrhs64oiz", "x": "\xff"}',
        b'{"id": ["did:plc:ewvi7nxzyoun6zhxrhs64oiz"]}',
        b'{"id": "did:plc:EWVI7NXZYOUN6ZHXRHS64OIZ"}',
        b'{"id": "did:plc:ewvi7nxzyoun6zhxrhs64oiz", "x": ' + b"[" * 2000 + b"]" * 2000 + b"}",
        b'{"id": "did:plc:ewvi7nxzyoun6zhxrhs64oiz", "x": "' + b"a" * MAX_DOCUMENT_BYTES + b'"}',
        orjson.dumps(did_document(SAKURA)),
    ],
    ids=range(14),
)
def test_an_answer_that_is_not_the_document_asked_for_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidDocument):
        DidDocument.parse(REI, body)


@pytest.mark.parametrize("value", [None, 1, "text", {}, [], [None, 1, {}, []]])
@pytest.mark.parametrize("member", ["alsoKnownAs", "verificationMethod", "service"])
def test_members_of_the_wrong_shape_count_as_absent(member: str, value: object) -> None:
    document = parse({"id": REI, member: value})
    assert document.also_known_as == ()
    assert document.claimed_handle is None
    assert document.pds is None
    assert document.verification_key("atproto") is None
