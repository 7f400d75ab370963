"""Service JWTs: one method of one service, called in the name of the DID that signed.

A PDS mints them for its users, for `getServiceAuth` and for whatever it proxies; other services mint their own. Source: service
spec §2.7 with every DO, https://atproto.com/specs/xrpc#inter-service-authentication-jwt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Final

from stratos.api.auth import Credential, User
from stratos.api.credentials.grants import AppviewGrants
from stratos.api.credentials.jws import ES256, ES256K, MalformedToken, Token, looks_like_a_token, parse_token
from stratos.api.credentials.replay import Use, UsedTokens
from stratos.api.credentials.standing import IsKnown
from stratos.api.errors import XrpcError, busy, not_authenticated
from stratos.api.request import RequestHead
from stratos.atproto.did_document import SIGNING_KEY_FRAGMENT
from stratos.atproto.keys import Curve
from stratos.atproto.syntax import Did, InvalidSyntax, parse_did
from stratos.engine.identity import DidDocument, Identity, IdentityError, IdentityUnavailable

MAX_LIFETIME_SECONDS: Final = 3_600
"""From `iat`, or from now where there is none, to `exp`; a PDS gives out an hour at most."""
CLOCK_SKEW_SECONDS: Final = 60
"""How far ahead of ours an issuer's clock may be. It never prolongs a token that has expired."""
MEMORY_FULL_RETRY_SECONDS: Final = 5
OUTAGE_RETRY_SECONDS: Final = 10
STREAM_METHODS: Final = frozenset({"zone.stratos.sync.subscribeRecords"})
GRANTED_METHODS: Final = STREAM_METHODS | {
    "zone.stratos.sync.getRepo",
    "zone.stratos.sync.listRepos",
    "zone.stratos.enrollment.status",
    "zone.stratos.identity.resolveEnrollments",
}
"""Where a grant counts. Everywhere else even a granted DID is no more than the account that it is."""

_ALGORITHM_OF: Final[Mapping[Curve, str]] = {Curve.P256: ES256, Curve.SECP256K1: ES256K}
_OTHER_KINDS: Final = frozenset({"at+jwt", "application/at+jwt", "refresh+jwt", "dpop+jwt"})
_is_fragment = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signed: a DID, with the key of its document that stands under `fragment`."""

    did: Did
    fragment: str

    @property
    def is_account(self) -> bool:
        """Whether it is the account itself; every other key speaks for one of the services that share its DID."""
        return self.fragment == SIGNING_KEY_FRAGMENT


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """A token that holds; `token_id` tells it from the issuer's others, `until` is seconds since 1970."""

    issuer: Issuer
    token_id: str = field(repr=False)
    until: float


class ServiceTokens:
    """Checks service JWTs that are meant for this deployable. An issuer's document comes from `identity` and is cached there."""

    def __init__(
        self,
        audience: Did,
        fragments: Collection[str],
        *,
        identity: Identity,
        clock: Callable[[], datetime],
    ) -> None:
        """`audience` is our DID, `fragments` the entries of our DID document by which a token may name us more closely."""
        self._audiences = frozenset((str(audience), *(f"{audience}#{fragment}" for fragment in fragments)))
        self._identity = identity
        self._clock = clock

    async def verify(self, text: str, nsid: str) -> VerifiedToken:
        """The token, and who signed it for a call of `nsid`.

        Raises XrpcError: 401 for a token that does not hold, 503 where nobody can be asked for its issuer's key.
        """
        try:
            token = parse_token(text)
            issuer = self._claimed_issuer(token, nsid)
            await self._check_signature(token, issuer)
            return VerifiedToken(issuer, _identifier(token), token.seconds("exp") or 0)
        except MalformedToken as error:
            raise not_authenticated(str(error)) from None

    def _claimed_issuer(self, token: Token, nsid: str) -> Issuer:
        """What the token claims, as far as it can be checked without a key."""
        if (token.text_header("typ") or "JWT").lower() in _OTHER_KINDS:
            raise not_authenticated("Invalid JWT type")
        claimed = token.text("iss")
        if claimed is None:
            raise not_authenticated("Missing iss claim")
        audience = token.text("aud")
        if audience is None:
            raise not_authenticated("Invalid aud claim" if "aud" in token.claims else "Missing aud claim")
        if audience not in self._audiences:
            raise not_authenticated("Invalid aud claim")
        self._check_times(token)
        method = token.text("lxm")
        if method is None:
            raise not_authenticated("Missing lxm claim")
        if method != nsid:
            raise not_authenticated("Invalid lxm claim")
        if "jti" in token.claims and token.text("jti") is None:
            raise not_authenticated("Invalid jti claim")
        if token.algorithm not in _ALGORITHM_OF.values():
            raise not_authenticated("Unsupported JWT algorithm")
        return _issuer(claimed)

    def _check_times(self, token: Token) -> None:
        now = self._clock().timestamp()
        expires, issued, begins = token.seconds("exp"), token.seconds("iat"), token.seconds("nbf")
        if expires is None or expires <= now:
            raise not_authenticated("Token expired")
        if max(issued or 0, begins or 0) > now + CLOCK_SKEW_SECONDS:
            raise not_authenticated("Token not yet valid")
        if expires - (issued or now) > MAX_LIFETIME_SECONDS:
            raise not_authenticated("Token lifetime too long")

    async def _check_signature(self, token: Token, issuer: Issuer) -> None:
        """Against the key that the issuer's document names, asked anew where the known one does not match: keys are rotated."""
        if _signed(token, await self._document(issuer), issuer):
            return
        if not _signed(token, await self._document(issuer, refresh=True), issuer):
            raise not_authenticated("Invalid signature")

    async def _document(self, issuer: Issuer, *, refresh: bool = False) -> DidDocument:
        try:
            return await self._identity.resolve_did(issuer.did, refresh=refresh)
        except IdentityUnavailable:
            raise busy("The issuer DID cannot be resolved at the moment", OUTAGE_RETRY_SECONDS) from None
        except IdentityError:
            raise not_authenticated("Could not resolve issuer DID") from None


class ServiceTokenVerifier:
    """Turns a service JWT, as `Bearer` or as query value `syncToken`, into the caller that it makes.

    An account is a User, whether it is enrolled or not: the gates decide what that is worth. A service is let in by a grant
    alone. A write and a subscription use their token up; reads may repeat with one until it expires, so that a client can keep
    a token per method. Accounts that are not known to us have nothing to write with their tokens, which are not remembered.
    """

    def __init__(
        self,
        tokens: ServiceTokens,
        grants: AppviewGrants,
        *,
        used: UsedTokens,
        used_by_services: UsedTokens,
        is_known: IsKnown,
    ) -> None:
        """Services have a memory of their own: a grant may be anybody's, and must not cost accounts their room."""
        self._tokens = tokens
        self._grants = grants
        self._used = used
        self._used_by_services = used_by_services
        self._is_known = is_known
        self._verified = self._refused = 0

    async def verify(self, head: RequestHead, nsid: str) -> Credential | None:
        """The verified caller; None where no service JWT is presented.

        Raises XrpcError where one does not hold, or was used; StorageFault where it cannot be told whether the account is known.
        """
        in_query = head.query_value("syncToken")
        presented = _bearer(head) if in_query is None else in_query
        if presented is None or (in_query is None and not looks_like_a_token(presented)):
            return None
        reads = head.verb in ("GET", "HEAD") and nsid not in STREAM_METHODS
        try:
            token = await self._tokens.verify(presented, nsid)
            credential = self._caller(token.issuer, nsid)
            if not reads:
                await self._check_first_use(token, credential)
        except XrpcError:
            self._refused += 1
            raise
        self._verified += 1
        return credential

    def statistics(self) -> Mapping[str, int]:
        """Counters: tokens verified and refused."""
        return {"verified_total": self._verified, "refused_total": self._refused}

    async def _check_first_use(self, token: VerifiedToken, credential: Credential) -> None:
        is_account = isinstance(credential, User)
        if is_account and not await self._is_known(token.issuer.did):
            return
        used = self._used if is_account else self._used_by_services
        match used.use(token.issuer.did, token.token_id, until=token.until):
            case Use.AGAIN:
                raise not_authenticated("Token already used")
            case Use.UNKNOWN:
                raise busy("Too many of your tokens are in use", MEMORY_FULL_RETRY_SECONDS)
            case Use.FIRST:
                return

    def _caller(self, issuer: Issuer, nsid: str) -> Credential:
        appview = self._grants.appview(issuer.did)
        if appview is not None and (nsid in GRANTED_METHODS or not issuer.is_account):
            return appview
        if issuer.is_account:
            return User(issuer.did)
        raise not_authenticated("Issuer is not among the allowed services")


def _identifier(token: Token) -> str:
    """By the name that it gives itself, else by all it says."""
    named = token.text("jti")
    return f"jti {named}" if named is not None else f"all {sha256(token.signing_input).hexdigest()}"


def _issuer(claimed: str) -> Issuer:
    did, named, fragment = claimed.partition("#")
    if named and not _is_fragment(fragment):
        raise not_authenticated("Invalid iss claim")
    try:
        return Issuer(parse_did(did), fragment or SIGNING_KEY_FRAGMENT)
    except InvalidSyntax:
        raise not_authenticated("Invalid iss claim") from None


def _signed(token: Token, document: DidDocument, issuer: Issuer) -> bool:
    """Whether the issuer's key made the signature, with the algorithm of its curve and with low s."""
    key = document.verification_key(issuer.fragment)
    if key is None or token.algorithm != _ALGORITHM_OF[key.curve]:
        return False
    return key.verify(token.signing_input, token.signature)


def _bearer(head: RequestHead) -> str | None:
    scheme, _, token = (head.authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
