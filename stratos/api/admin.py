"""The operator's methods. Source: service spec §1.3.15, §2.6; design §9."""

from __future__ import annotations

from typing import Final

from stratos.api.errors import NOT_FOUND, XrpcError, invalid_request, refused
from stratos.api.fields import Fields
from stratos.api.xrpc import Access, Method, Reply, Verb, XrpcCall
from stratos.atproto.data_model import Json
from stratos.atproto.syntax import Did, InvalidSyntax, parse_did
from stratos.core.enrollment import Enrollment
from stratos.core.outcomes import Reason, Refusal
from stratos.engine.enrollment import EnrollmentDesk
from stratos.engine.key_rotation import KeyRotation
from stratos.engine.store_reads import StoreReads
from stratos.storage.ports import Enrollments

_PREFIX: Final = "zone.stratos.admin"
_FAULT: Final = "InternalError"


class AdminMethods:
    """Reads its bodies itself: the contract words their errors."""

    def __init__(self, enrollments: Enrollments, reads: StoreReads, desk: EnrollmentDesk, keys: KeyRotation) -> None:
        self._enrollments = enrollments
        self._reads = reads
        self._desk = desk
        self._keys = keys

    def methods(self) -> dict[str, Method]:
        """The methods by NSID."""
        posts = {
            "addBoundary": (self.add_boundary, "Failed to add boundary"),
            "removeBoundary": (self.remove_boundary, "Failed to remove boundary"),
            "setBoundaries": (self.set_boundaries, "Failed to set boundaries"),
            "enroll": (self.enroll, "Failed to enroll"),
            "unenroll": (self.unenroll, "Failed to unenroll"),
            "rotateSigningKey": (self.rotate_signing_key, "Failed to rotate the signing key"),
        }
        methods = {
            f"{_PREFIX}.{name}": Method(Verb.POST, Access.ADMIN, handler, checks_input=False, fault=(_FAULT, message))
            for name, (handler, message) in posts.items()
        }
        return {**methods, f"{_PREFIX}.listEnrollments": Method(Verb.GET, Access.ADMIN, self.list_enrollments)}

    async def add_boundary(self, call: XrpcCall) -> Reply:
        """Grant an account one boundary; granting it again changes nothing."""
        did, boundary = _did_and_boundary(call.input)
        outcome = await self._desk.add_boundary(did, boundary)
        if isinstance(outcome, Refusal) and outcome.reason is Reason.INVALID_REQUEST:
            raise invalid_request(f'boundary "{boundary}" is not in allowed domains')
        return _boundaries(outcome)

    async def remove_boundary(self, call: XrpcCall) -> Reply:
        """Take one boundary from an account."""
        did, boundary = _did_and_boundary(call.input)
        return _boundaries(await self._desk.remove_boundary(did, boundary))

    async def set_boundaries(self, call: XrpcCall) -> Reply:
        """Replace an account's boundaries; none at all is allowed."""
        required = "did and boundaries array are required"
        did = _did(call.input, required)
        boundaries = call.input.texts("boundaries")
        if boundaries is None:
            raise invalid_request(required)
        return _boundaries(await self._desk.set_boundaries(did, boundaries))

    async def enroll(self, call: XrpcCall) -> Reply:
        """Enroll an account without OAuth; without `boundaries` it gets those of automatic enrollment."""
        did = _did(call.input, "did is required")
        boundaries = call.input.texts("boundaries")
        if boundaries is None and call.input.has("boundaries"):
            raise invalid_request("boundaries must be an array of strings")
        return _boundaries(await self._desk.enroll(did, boundaries))

    async def unenroll(self, call: XrpcCall) -> Reply:
        """Delete an account's enrollment and everything of it here."""
        did = _did(call.input, "did is required")
        refusal = await self._desk.unenroll(did)
        if refusal is not None:
            raise _answer_to(refusal)
        return {"did": did, "success": True}

    async def rotate_signing_key(self, call: XrpcCall) -> Reply:
        """Give an account a new signing key."""
        outcome = await self._keys.rotate(_did(call.input, "did is required"))
        if isinstance(outcome, Refusal):
            raise _answer_to(outcome)
        return {"did": outcome.did, "signingKey": outcome.signing_key}

    async def list_enrollments(self, call: XrpcCall) -> Reply:
        """A page of the enrolled accounts, active or not, in DID order."""
        limit = call.params.integer("limit", 0)
        cursor = call.params.optional_text("cursor")
        after = None if cursor is None else Did(cursor)
        page = await self._reads(lambda: self._enrollments.page(after=after, limit=limit))
        listed: list[Json] = [
            {
                "did": enrollment.did,
                "boundaries": [*enrollment.boundaries],
                "active": enrollment.active,
                "enrolledAt": enrollment.enrolled_at,
            }
            for enrollment in page
        ]
        return {"enrollments": listed, "cursor": page[-1].did} if len(page) == limit else {"enrollments": listed}


def _did_and_boundary(fields: Fields) -> tuple[Did, str]:
    required = "did and boundary are required"
    did = _did(fields, required)
    boundary = fields.optional_text("boundary")
    if not boundary:
        raise invalid_request(required)
    return did, boundary


def _did(fields: Fields, required: str) -> Did:
    """The DID of a body; `required` is what to say when it is missing."""
    text = fields.optional_text("did")
    if not text:
        raise invalid_request(required)
    try:
        return parse_did(text)
    except InvalidSyntax as error:
        raise invalid_request(f"did: {error}") from None


def _boundaries(outcome: Enrollment | Refusal) -> Reply:
    if isinstance(outcome, Refusal):
        raise _answer_to(outcome)
    return {"did": outcome.did, "boundaries": [*outcome.boundaries]}


def _answer_to(refusal: Refusal) -> XrpcError:
    """As everywhere, except that here what is not found is a real 404."""
    if refusal.reason is Reason.NOT_FOUND:
        return XrpcError(NOT_FOUND, refusal.reason, refusal.message)
    return refused(refusal)
