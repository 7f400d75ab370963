"""Checking what others claim: that an account holds boundaries, and that a stub stands for a record.

Source: spec service.md §4.10, §5.7, §10.5.
"""

from __future__ import annotations

from stratos.atproto.cid import Cid
from stratos.atproto.keys import VerifyingKey
from stratos.atproto.syntax import AtUri, Did
from stratos.client.discovery import StratosEnrollment
from stratos.client.errors import VerificationFailed
from stratos.core import attestation as attestations
from stratos.core.attestation import Attestation
from stratos.core.stubs import VARY_AUTHENTICATED, Source, parse_source


def verify_attestation(did: Did, enrollment: StratosEnrollment, *service_keys: VerifyingKey) -> Attestation:
    """Check that the service has signed this enrollment: this account, these boundaries, this signing key.

    `service_keys` are those of the service's DID document (`PublishedService.attesting_keys`): while a rotation is under way that
    is the former one as well. A key that the record brings along proves nothing. An attestation has no date: that it still holds,
    only `enrollment_status` can tell. Raises VerificationFailed.
    """
    attestation = enrollment.attestation
    service_key = next((key for key in service_keys if key.did_key == attestation.signing_key), None)
    if service_key is None:
        known = " or ".join(key.did_key for key in service_keys)
        raise VerificationFailed(f"attested with {attestation.signing_key}, but the service signs with {known}")
    if not attestations.verify_attestation(
        attestation, service_key=service_key, did=did, boundaries=enrollment.boundaries, signing_key=enrollment.signing_key
    ):
        raise VerificationFailed(f"the service has not signed this enrollment of {did}")
    return attestation


def verify_stub(stub: object, *, uri: AtUri, cid: Cid, service: Did) -> Source:
    """Check that a public stub stands for the record at `uri` with this CID, at this service; gives what the stub says.

    `stub` is the value of the record on the PDS, as JSON or in the data model. Raises VerificationFailed.
    """
    source = parse_source(stub)
    if source is None or source.vary != VARY_AUTHENTICATED:
        raise VerificationFailed(f"what the PDS has at {uri} is no stub")
    if source.uri != str(uri):
        raise VerificationFailed(f"the stub at {uri} stands for {source.uri}")
    if source.service != service:
        raise VerificationFailed(f"the stub at {uri} points to {source.service}, not to {service}")
    if source.cid != str(cid):
        raise VerificationFailed(f"the stub at {uri} stands for {source.cid}, the record is {cid}")
    return source
