"""Enrollment as its subject and others see it: status, resolution, leaving. Source: service spec §1.3.13–14, §1.3.17, §4.8."""

from __future__ import annotations

from stratos.api.auth import Credential, EnrollmentGate, ServiceCaller
from stratos.api.credentials import AppView
from stratos.api.errors import not_authenticated, refused
from stratos.api.xrpc import Access, Method, Reply, Verb, XrpcCall
from stratos.atproto.data_model import Json
from stratos.engine.enrollment import EnrollmentDesk
from stratos.engine.store_reads import StoreReads
from stratos.storage.ports import Enrollments


class EnrollmentMethods:
    """With `public_resolve` anybody may resolve anybody's boundaries; else only enrolled callers and trusted services."""

    def __init__(
        self, desk: EnrollmentDesk, gate: EnrollmentGate, reads: StoreReads, enrollments: Enrollments, *, public_resolve: bool
    ) -> None:
        self._desk = desk
        self._gate = gate
        self._reads = reads
        self._enrollments = enrollments
        self._public_resolve = public_resolve

    def methods(self) -> dict[str, Method]:
        """The methods by NSID."""
        return {
            "zone.stratos.enrollment.status": Method(Verb.GET, Access.OPTIONAL, self.status),
            "zone.stratos.enrollment.unenroll": Method(Verb.POST, Access.USER, self.unenroll),
            "zone.stratos.identity.resolveEnrollments": Method(
                Verb.GET,
                Access.PUBLIC if self._public_resolve else Access.IDENTIFIED,
                self.resolve,
                fault=("InternalError", "Failed to resolve enrollments"),
            ),
        }

    async def status(self, call: XrpcCall) -> Reply:
        """Whether a DID is enrolled, and which keys its commits are signed with; boundaries and a fresh attestation only for
        callers that belong here."""
        did = call.params.did("did")
        enrollment = await self._gate.enrollment(did)
        if enrollment is None:
            return {"did": did, "enrolled": False}
        history = await self._reads(lambda: self._enrollments.signing_keys(did))
        reply: dict[str, Json] = {
            "did": did,
            "enrolled": True,
            "enrolledAt": enrollment.enrolled_at,
            "active": enrollment.active,
            "signingKey": enrollment.signing_key,
            "signingKeys": [period.as_json() for period in history],
        }
        if enrollment.enrollment_rkey is not None:
            reply["enrollmentRkey"] = enrollment.enrollment_rkey
        if await self._belongs_here(call.credential):
            reply["boundaries"] = [{"value": boundary} for boundary in enrollment.boundaries]
            if enrollment.boundaries:
                reply["attestation"] = self._desk.attestation(enrollment).as_json()
        return reply

    async def resolve(self, call: XrpcCall) -> Reply:
        """The boundaries of a DID as they are now, as plain strings; nothing is cached. An inactive enrollment counts as none."""
        if not self._public_resolve and not await self._belongs_here(call.credential):
            raise not_authenticated("Authorization required")
        did = call.params.did("did")
        enrollment = await self._gate.enrollment(did)
        if enrollment is None or not enrollment.active:
            return {"did": did, "enrolled": False, "boundaries": []}
        return {"did": did, "enrolled": True, "boundaries": [*enrollment.boundaries]}

    async def unenroll(self, call: XrpcCall) -> Reply:
        """Leave for good: everything of the caller is deleted."""
        refusal = await self._desk.unenroll(call.user)
        if refusal is not None:
            raise refused(refusal)
        return {"success": True}

    async def _belongs_here(self, credential: Credential) -> bool:
        if isinstance(credential, AppView) and credential.domains is not None:
            return False
        return isinstance(credential, ServiceCaller) or (await self._gate.viewer(credential)).enrolled
