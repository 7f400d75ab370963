"""Who is calling: credentials, what verifies them, and the viewer that they make.

A caller that presents a credential is either verified or refused, never treated as anonymous. Source: service spec §2; design §5.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hmac import compare_digest
from typing import Final, Protocol

from stratos.api.config import ApiConfig
from stratos.api.errors import UNAUTHORIZED, XrpcError, not_authenticated, refused
from stratos.api.request import RequestHead
from stratos.atproto.syntax import Did, InvalidSyntax, parse_did
from stratos.core.access import ANONYMOUS, Viewer, viewer_towards
from stratos.core.enrollment import Enrollment
from stratos.core.outcomes import Reason, Refusal
from stratos.engine.store_reads import StoreReads
from stratos.storage.ports import Enrollments

_NOT_ENROLLED: Final = Refusal(Reason.NOT_ENROLLED, "User is not enrolled in this Stratos service")


@dataclass(frozen=True, slots=True)
class Anonymous:
    """No credential was presented."""


@dataclass(frozen=True, slots=True)
class User:
    """An account, proven to be the caller."""

    did: Did


@dataclass(frozen=True, slots=True)
class ServiceCaller:
    """Another service. `did` is None for the shared sync token, whose holder has no DID."""

    did: Did | None


@dataclass(frozen=True, slots=True)
class Admin:
    """The operator."""


Credential = Anonymous | User | ServiceCaller | Admin


class Verifier(Protocol):
    """Knows one kind of credential."""

    async def verify(self, head: RequestHead, nsid: str) -> Credential | None:
        """The verified caller; None where the request carries no credential of this kind.

        `nsid` is the method that is called. Raises XrpcError where the credential is of this kind and does not hold.
        """


class SyncTokenVerifier:
    """The shared token of trusted services: query value `syncToken`, or `Bearer`."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    async def verify(self, head: RequestHead, nsid: str) -> Credential | None:  # noqa: ARG002 - good for every method
        """A `syncToken` in the query must hold, or be a service JWT; a bearer that is not the token may be of another kind."""
        presented = head.query_value("syncToken")
        if presented is not None:
            if _same(presented, self._token):
                return ServiceCaller(None)
            if presented.count(".") == 2:
                return None
            raise not_authenticated("Invalid sync token")
        return ServiceCaller(None) if _same(_bearer(head), self._token) else None


class DevVerifier:
    """`Bearer did:…` without any proof, in dev mode only."""

    async def verify(self, head: RequestHead, nsid: str) -> Credential | None:  # noqa: ARG002 - good for every method
        """Believe the DID; refuse any other bearer."""
        token = _bearer(head)
        if token is None:
            return None
        try:
            return User(parse_did(token))
        except InvalidSyntax:
            raise not_authenticated("Authorization failed") from None


class Authenticator:
    """Asks verifiers in turn; the first that knows the credential decides."""

    def __init__(self, verifiers: Sequence[Verifier], *, unknown: Callable[[], XrpcError] | None = None) -> None:
        """`unknown` is the refusal of a credential that no verifier knows."""
        self._verifiers = tuple(verifiers)
        self._unknown = unknown or (lambda: not_authenticated("DPoP authorization required"))

    async def authenticate(self, head: RequestHead, nsid: str) -> Credential:
        """The verified caller, or Anonymous where no credential was presented. Raises XrpcError (401)."""
        presents_one = head.authorization_count > 0 or head.query_value("syncToken") is not None
        if not presents_one and head.header(b"cookie") is None:
            return Anonymous()
        if head.authorization_count > 1:
            raise not_authenticated("Authorization failed")
        for verifier in self._verifiers:
            credential = await verifier.verify(head, nsid)
            if credential is not None:
                return credential
        if not presents_one:
            return Anonymous()
        raise self._unknown()


class AdminGate:
    """The operator's password: `Basic` for user `admin`, or `Bearer`."""

    def __init__(self, password: str | None) -> None:
        self._password = password

    def admit(self, head: RequestHead) -> Admin:
        """The operator. Raises XrpcError 401 AuthRequired for everybody else, and for all while no password is set."""
        if head.authorization_count != 1 or not _same(_basic_password(head) or _bearer(head), self._password):
            raise XrpcError(UNAUTHORIZED, "AuthRequired", "Admin auth required")
        return Admin()


class UserGate(Protocol):
    """Decides who passes as a user of this deployable."""

    async def require_user(self, credential: Credential) -> User:
        """The calling user. Raises XrpcError for whoever is none."""


class EnrollmentGate:
    """What enrollment makes of a caller: who passes as a user, and who sees what. Asked anew for each call (I9)."""

    def __init__(self, enrollments: Enrollments, reads: StoreReads) -> None:
        self._enrollments = enrollments
        self._reads = reads

    async def require_user(self, credential: Credential) -> User:
        """The calling user, who is known to this service; whether the enrollment is active, a write asks once more.

        Raises XrpcError: 401 for anybody else, 400 NotEnrolled.
        """
        if not isinstance(credential, User):
            raise not_authenticated("Authorization required")
        if await self.enrollment(credential.did) is None:
            raise refused(_NOT_ENROLLED)
        return credential

    async def viewer(self, credential: Credential) -> Viewer:
        """The caller as the access predicate sees it. The sync token has no DID and so reads nobody's private records."""
        did = credential.did if isinstance(credential, User | ServiceCaller) else None
        if did is None:
            return ANONYMOUS
        enrollment = await self.enrollment(did)
        if enrollment is None or not enrollment.active:
            return Viewer(did, frozenset(), enrolled=False)
        return Viewer(did, frozenset(enrollment.boundaries), enrolled=True)

    async def towards(self, viewer: Viewer, owner: Did) -> Viewer:
        """What a viewer is to the records of `owner`: nobody, while the owner has left for a while (soft unenroll)."""
        if viewer.did is None or viewer.did == owner:
            return viewer
        standing = await self.enrollment(owner)
        return viewer_towards(viewer, owner, owner_active=standing is not None and standing.active)

    async def is_known(self, did: Did) -> bool:
        """Whether the account is enrolled, actively or not."""
        return await self.enrollment(did) is not None

    async def enrollment(self, did: Did) -> Enrollment | None:
        """The enrollment of an account as it is now."""
        if self._enrollments.at_hand(did):
            return self._enrollments.get(did)
        return await self._reads(partial(self._enrollments.get, did))


def authenticator(
    config: ApiConfig, verifiers: Sequence[Verifier] = (), *, unknown: Callable[[], XrpcError] | None = None
) -> Authenticator:
    """The verifiers of this configuration, with those of users' and AppViews' credentials between them."""
    dev: Sequence[Verifier] = (DevVerifier(),) if config.dev_mode else ()
    return Authenticator([SyncTokenVerifier(config.sync_token), *verifiers, *dev], unknown=unknown)


def _same(presented: str | None, secret: str | None) -> bool:
    """Constant-time comparison; nothing equals a secret that is not set."""
    if not secret or presented is None:
        return False
    return compare_digest(presented.encode(), secret.encode())


def _bearer(head: RequestHead) -> str | None:
    scheme, _, token = (head.authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _basic_password(head: RequestHead) -> str | None:
    scheme, _, encoded = (head.authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, _, password = b64decode(encoded.strip(), validate=True).decode().partition(":")
    except ValueError:
        return None
    return password if user == "admin" else None
