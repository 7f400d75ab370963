"""The `zone.stratos.actor.enrollment` record, by which an account's PDS tells that it uses a service.

Source: spec service.md §4.11, §3.10 and §10.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from stratos.atproto.dag_cbor import DataModel
from stratos.atproto.syntax import Did, Rkey
from stratos.core.attestation import Attestation, parse_attestation
from stratos.core.boundaries import Boundary, domain_value
from stratos.core.record_rules import ENROLLMENT

_encoded_colon = re.compile("%3a", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class EnrollmentRecord:
    """What an enrollment record says: `service` is a URL, `signing_key` the account's did:key. Not verified yet."""

    service: str
    boundaries: tuple[Boundary, ...]
    signing_key: str
    attestation: Attestation
    created_at: str


def service_did_to_rkey(service: Did) -> Rkey:
    """The record key of a service's enrollment record: its DID with every `%3A` as `:`."""
    return Rkey(_encoded_colon.sub(":", service))


def enrollment_record(
    *, service_url: str, boundaries: Iterable[Boundary], signing_key: str, attestation: Attestation, created_at: str
) -> dict[str, DataModel]:
    """The record in the data model; `to_json` makes of it what a PDS takes. `created_at` should stay what it was at first."""
    return {
        "$type": ENROLLMENT,
        "service": service_url,
        "boundaries": [{"value": boundary} for boundary in boundaries],
        "signingKey": signing_key,
        "attestation": attestation.as_data(),
        "createdAt": created_at,
    }


def parse_enrollment_record(record: object) -> EnrollmentRecord | None:
    """Read a record in the data model or in JSON; None where it is not an enrollment. Never raises.

    Boundaries that are not understood are left out: fewer boundaries never open anything. The attestation is not verified here.
    """
    match record:
        case {
            "service": str(service),
            "signingKey": str(signing_key),
            "createdAt": str(created_at),
            "attestation": dict(attested),
        }:
            attestation = parse_attestation(attested)
            if attestation is None:
                return None
            listed = record.get("boundaries") if isinstance(record, dict) else None
            values = map(domain_value, listed if isinstance(listed, list) else ())
            boundaries = tuple(value for value in values if value is not None)
            return EnrollmentRecord(service, boundaries, signing_key, attestation, created_at)
    return None
