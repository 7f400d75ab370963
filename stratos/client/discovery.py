"""Finding out from an account's PDS which Stratos services it uses. Source: spec service.md §10.1–10.2.

What is found is what the PDS says: `stratos.client.verify_attestation` tells whether the service says so too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from stratos.atproto.syntax import Did, Rkey
from stratos.client.errors import StratosError, XrpcFailure
from stratos.client.xrpc import Params, XrpcHost, host_at
from stratos.core.attestation import Attestation
from stratos.core.boundaries import Boundary
from stratos.core.enrollment_record import parse_enrollment_record, service_did_to_rkey
from stratos.core.record_rules import ENROLLMENT

PAGE_SIZE: Final = 100
MAX_PAGES: Final = 10
"""Pages that are read of one account; nobody uses a thousand services."""


@dataclass(frozen=True, slots=True)
class StratosEnrollment:
    """An enrollment record on a PDS, not verified.

    `service` is the service's URL, `signing_key` the did:key that signs the account's commits there, `created_at` a datetime
    text, `rkey` the record's key: by convention the service's DID.
    """

    service: str
    boundaries: tuple[Boundary, ...]
    signing_key: str
    attestation: Attestation
    created_at: str
    rkey: Rkey


async def discover_enrollments(did: Did, pds: XrpcHost | str) -> tuple[StratosEnrollment, ...]:
    """The account's enrollments, in the order in which its PDS lists them.

    `pds` is the PDS or its URL. Records that are no enrollments are skipped; a PDS that answers with an error counts as the end
    of the list. Raises NoAnswer where it does not answer.
    """
    found: list[StratosEnrollment] = []
    cursor: str | None = None
    async with host_at(pds) as host:
        for _ in range(MAX_PAGES):
            params: Params = {"repo": did, "collection": ENROLLMENT, "limit": PAGE_SIZE, "cursor": cursor}
            try:
                page = await host.query("com.atproto.repo.listRecords", params)
            except XrpcFailure:
                break
            records = page.get("records")
            listed = records if isinstance(records, list) else []
            found += [enrollment for enrollment in map(_listed, listed) if enrollment is not None]
            following = page.get("cursor")
            if not listed or not isinstance(following, str) or following == cursor:
                break
            cursor = following
    return tuple(found)


async def discover_enrollment(did: Did, pds: XrpcHost | str) -> StratosEnrollment | None:
    """The first of the account's enrollments; None without any. Raises NoAnswer."""
    return next(iter(await discover_enrollments(did, pds)), None)


async def get_enrollment_by_service_did(did: Did, pds: XrpcHost | str, service: Did) -> StratosEnrollment | None:
    """The account's enrollment at one service; None where there is none, and where anything goes wrong."""
    rkey = service_did_to_rkey(service)
    try:
        async with host_at(pds) as host:
            answer = await host.query("com.atproto.repo.getRecord", {"repo": did, "collection": ENROLLMENT, "rkey": rkey})
    except StratosError:
        return None
    return _enrollment(answer.get("value"), rkey)


def _listed(item: object) -> StratosEnrollment | None:
    match item:
        case {"uri": str(uri), "value": value}:
            return _enrollment(value, Rkey(uri.rpartition("/")[2]))
    return None


def _enrollment(value: object, rkey: Rkey) -> StratosEnrollment | None:
    record = parse_enrollment_record(value)
    if record is None:
        return None
    return StratosEnrollment(record.service, record.boundaries, record.signing_key, record.attestation, record.created_at, rkey)
