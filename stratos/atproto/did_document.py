"""DID documents: the one that our service publishes, and what is looked up in others'.

Source: https://atproto.com/specs/did. Documents come from anywhere; a lookup answers None for whatever is absent or malformed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from stratos.atproto.keys import Curve, InvalidKey, VerifyingKey, decode_multibase
from stratos.atproto.syntax import Did

SIGNING_KEY_FRAGMENT: Final = "atproto"
PDS_FRAGMENT: Final = "atproto_pds"
FORMER_KEY_FRAGMENT: Final = "atproto_former"
STRATOS_FRAGMENT: Final = "stratos"
STRATOS_SERVICE_TYPE: Final = "StratosService"

_CONTEXT: Final = ("https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1")
_MULTIKEY: Final = "Multikey"
_CURVES_OF_OLDER_TYPES: Final = {
    "EcdsaSecp256r1VerificationKey2019": Curve.P256,
    "EcdsaSecp256k1VerificationKey2019": Curve.SECP256K1,
}


def service_document(
    did: Did, fragment: str, public_url: str, key: VerifyingKey, former: VerifyingKey | None = None
) -> dict[str, object]:
    """The document of our service, as JSON.

    The key stands under `#atproto`, where clients look for it, and under `#<fragment>`; the endpoint under `#stratos` and under
    `#<fragment>`, to which stubs point. `former` is the key before it, while attestations by that one stand.
    """
    keys = [(name, key) for name in dict.fromkeys((SIGNING_KEY_FRAGMENT, fragment))]
    if former is not None:
        keys.append((FORMER_KEY_FRAGMENT, former))
    return {
        "@context": list(_CONTEXT),
        "id": did,
        "verificationMethod": [
            {"id": f"{did}#{name}", "type": _MULTIKEY, "controller": did, "publicKeyMultibase": each.multibase}
            for name, each in keys
        ],
        "service": [
            {"id": f"#{name}", "type": STRATOS_SERVICE_TYPE, "serviceEndpoint": public_url}
            for name in dict.fromkeys((STRATOS_FRAGMENT, fragment))
        ],
    }


def verification_key(document: Mapping[str, object], fragment: str) -> VerifyingKey | None:
    """The key of the first verification method with this fragment; None when there is none or it cannot be read."""
    method = next(_entries(document, "verificationMethod", fragment), None)
    if method is None:
        return None
    text, kind = method.get("publicKeyMultibase"), method.get("type")
    if not isinstance(text, str) or not isinstance(kind, str):
        return None
    try:
        if kind == _MULTIKEY:
            return VerifyingKey.from_multibase(text)
        curve = _CURVES_OF_OLDER_TYPES.get(kind)
        # The older types carry the bare point, mostly uncompressed, without a prefix that tells the curve.
        return None if curve is None else VerifyingKey(curve, decode_multibase(text))
    except InvalidKey:
        return None


def attesting_key(document: Mapping[str, object], did_key: str) -> VerifyingKey | None:
    """The key with which a service made an attestation that names `did_key`: its present or its former one; None for others."""
    return next((key for key in attesting_keys(document) if key.did_key == did_key), None)


def attesting_keys(document: Mapping[str, object]) -> tuple[VerifyingKey, ...]:
    """The keys by which a service's attestations stand: its present one and, for a while after a rotation, its former one."""
    keys = (verification_key(document, fragment) for fragment in (SIGNING_KEY_FRAGMENT, FORMER_KEY_FRAGMENT))
    return tuple(key for key in keys if key is not None)


def service_endpoint(document: Mapping[str, object], fragment: str) -> str | None:
    """The endpoint of the first service with this fragment whose endpoint is text; None when there is none."""
    for service in _entries(document, "service", fragment):
        endpoint = service.get("serviceEndpoint")
        if isinstance(endpoint, str):
            return endpoint
    return None


def pds_endpoint(document: Mapping[str, object]) -> str | None:
    """The address of the subject's PDS."""
    return service_endpoint(document, PDS_FRAGMENT)


def _entries(document: Mapping[str, object], section: str, fragment: str) -> Iterator[Mapping[str, object]]:
    """The objects of a section whose id ends in `#` and the fragment; in the wild the DID stands before it or not."""
    entries = document.get(section)
    if not isinstance(entries, list):
        return
    for entry in entries:
        if not isinstance(entry, dict):
            continue
        name = entry.get("id")
        if isinstance(name, str) and name.endswith(f"#{fragment}"):
            yield entry
