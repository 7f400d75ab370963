"""Attestations: the service's signed statement of an account's boundaries and signing key. Source: spec service.md §4.10."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from stratos.atproto.dag_cbor import DataModel, InvalidDagCbor, encode
from stratos.atproto.data_model import InvalidData, Json, from_json, to_json
from stratos.atproto.keys import SigningKey, VerifyingKey
from stratos.atproto.syntax import Did
from stratos.core.boundaries import Boundary


@dataclass(frozen=True, slots=True)
class Attestation:
    """A 64-byte signature and the did:key of the service key that made it."""

    sig: bytes
    signing_key: str

    def as_data(self) -> dict[str, DataModel]:
        """The object as it stands in a record."""
        return {"sig": self.sig, "signingKey": self.signing_key}

    def as_json(self) -> Json:
        """The object as it stands in a JSON answer: `sig` as `$bytes`."""
        return to_json(self.as_data())


def parse_attestation(value: object) -> Attestation | None:
    """Read an attestation object in the data model or in JSON; None for anything else. Never raises, and verifies nothing."""
    match value:
        case {"sig": sig, "signingKey": str(signing_key)}:
            signature = _signature(sig)
            return None if signature is None else Attestation(signature, signing_key)
    return None


def attestation_payload(did: Did, boundaries: Iterable[Boundary], signing_key: str) -> bytes:
    """The bytes that are signed: canonical DAG-CBOR of did, boundaries and the account's did:key.

    The boundaries are sorted by UTF-16 code units, as JavaScript sorts text, so their order of arrival does not matter; an empty
    list is legal. The caller's collection is left alone.
    """
    ordered: list[str] = sorted(boundaries, key=_utf16_units)
    return encode({"did": did, "boundaries": ordered, "signingKey": signing_key})


def attest(service_key: SigningKey, did: Did, boundaries: Iterable[Boundary], signing_key: str) -> Attestation:
    """State, by the service's key, that `did` holds these boundaries and signs with `signing_key` (a did:key)."""
    signature = service_key.sign(attestation_payload(did, boundaries, signing_key))
    return Attestation(signature, service_key.did_key)


def verify_attestation(
    attestation: Attestation, *, service_key: VerifyingKey, did: Did, boundaries: Iterable[Boundary], signing_key: str
) -> bool:
    """Whether the attestation says exactly this, by exactly this service key, which comes from the service's DID document.

    Never raises. It proves what once was, not what still is: the payload has no time in it.
    """
    if attestation.signing_key != service_key.did_key:
        return False
    try:
        payload = attestation_payload(did, boundaries, signing_key)
    except InvalidDagCbor:
        return False
    return service_key.verify(payload, attestation.sig)


def _utf16_units(text: str) -> bytes:
    return text.encode("utf-16-be", "surrogatepass")


def _signature(value: object) -> bytes | None:
    """The bytes of a `sig`, given as bytes or as `{"$bytes": …}`."""
    if isinstance(value, dict):
        try:
            value = from_json(value)
        except InvalidData:
            return None
    return value if isinstance(value, bytes) else None
