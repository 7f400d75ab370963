"""The way of an authorization: from a name typed into a browser to a session.

Sources: service spec §4.3, §4.4; https://atproto.com/specs/oauth; RFC 9126 (pushed requests), RFC 7636 (PKCE), RFC 9207 (`iss`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hmac import compare_digest
from typing import Final
from urllib.parse import urlencode

from stratos.atproto.syntax import Did, InvalidSyntax, parse_at_identifier
from stratos.engine.identity import Identity, IdentityError
from stratos.engine.oauth.dpop import DpopKey, base64url
from stratos.engine.oauth.errors import AuthorizationFailed, Failure, PdsUnavailable
from stratos.engine.oauth.registration import NEEDED_SCOPES, Registration
from stratos.engine.oauth.sealed import Pending, Session
from stratos.engine.oauth.server_metadata import AuthorizationServer, Discovery, DiscoveryFailed, origin_of
from stratos.engine.oauth.sessions import Sessions
from stratos.engine.oauth.token_endpoint import BadAnswer, Grant, Refused, TokenEndpoint
from stratos.engine.oauth.vault import Vault

STATE_LIFETIME: Final = timedelta(hours=1)
MAX_PENDING: Final = 10_000
"""Authorizations under way. When more begin, the oldest are forgotten: anybody may begin, so refusing the next one would let
whoever begins three a second keep everybody else out."""
SECRET_BYTES: Final = 32
MAX_REASON_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True)
class Begun:
    """Where to send the browser, and a secret for its cookie by which it is known again when it comes back."""

    url: str
    browser: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Completed:
    """An account has given us a session.

    `same_browser` tells whether the browser that came back is the one that began. Only then may it be signed in to our pages;
    else somebody could have been sent here to act as somebody else. `return_to` is what `begin` was given.
    """

    did: Did
    pds: str
    scope: str
    return_to: str | None
    same_browser: bool


class Authorizations:
    """Begins and completes authorizations."""

    def __init__(
        self,
        registration: Registration,
        identity: Identity,
        discovery: Discovery,
        tokens: TokenEndpoint,
        vault: Vault,
        sessions: Sessions,
        *,
        clock: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._registration = registration
        self._identity = identity
        self._discovery = discovery
        self._tokens = tokens
        self._vault = vault
        self._sessions = sessions
        self._clock = clock
        self._random_bytes = random_bytes
        self._begun = self._completed = self._failed = self._pending = self._dropped = 0

    async def begin(self, login: str, *, return_to: str | None = None) -> Begun:
        """Prepare an authorization for a handle or DID. Raises AuthorizationFailed, PdsUnavailable.

        Cancellation leaves nothing that would not expire by itself.
        """
        did, pds = await self._account(login.strip().removeprefix("@"))
        server = await self._server(pds)
        key, state, verifier, browser = DpopKey.generate(), self._secret(), self._secret(), self._secret()
        fields = {
            "response_type": "code",
            "redirect_uri": self._registration.redirect_uri,
            "scope": self._registration.scope,
            "state": state,
            "code_challenge": base64url(hashlib.sha256(verifier.encode()).digest()),
            "code_challenge_method": "S256",
            "login_hint": login.strip().removeprefix("@"),
        }
        try:
            request_uri = await self._tokens.push(server, key, fields)
        except (Refused, BadAnswer) as error:
            raise AuthorizationFailed(Failure.REQUEST_REFUSED, f"{server.issuer} refuses: {error}") from error
        pending = Pending(
            did=did,
            pds=pds,
            issuer=server.issuer,
            verifier=verifier,
            key=key,
            expires_at=self._clock() + STATE_LIFETIME,
            browser=_digest(browser),
            return_to=return_to,
        )
        await self._keep(state, pending)
        self._begun += 1
        query = urlencode({"client_id": self._registration.client_id, "request_uri": request_uri})
        joint = "&" if "?" in server.authorization_endpoint else "?"
        return Begun(f"{server.authorization_endpoint}{joint}{query}", browser)

    async def complete(self, query: Mapping[str, str], *, browser: str | None = None) -> Completed:
        """Go on when the browser comes back with this query. Raises AuthorizationFailed, PdsUnavailable.

        A state is good once. Only where the server could not be reached it is kept, so that the browser may load the page again.
        `browser` is the secret from its cookie, if it has one.
        """
        state = query.get("state", "")
        pending = await self._vault.take_pending(state) if state else None
        if pending is None or pending.expires_at <= self._clock():
            self._failed += 1
            raise AuthorizationFailed(Failure.STATE_UNKNOWN, "this sign-in was not begun here, has ended or has expired")
        try:
            session = await self._session(pending, query)
        except PdsUnavailable:
            await self._keep(state, pending)
            raise
        except AuthorizationFailed:
            self._failed += 1
            raise
        await self._sessions.adopt(session)
        self._completed += 1
        same = browser is not None and compare_digest(_digest(browser), pending.browser)
        return Completed(session.did, session.pds, session.tokens.scope, pending.return_to, same)

    def statistics(self) -> Mapping[str, int]:
        """Authorizations under way when the last one began, and their limit; counters of begun, completed, failed, forgotten."""
        return {
            "pending": self._pending,
            "pending_limit": MAX_PENDING,
            "begun_total": self._begun,
            "completed_total": self._completed,
            "failed_total": self._failed,
            "dropped_total": self._dropped,
        }

    async def _keep(self, state: str, pending: Pending) -> None:
        self._dropped += await self._vault.keep_pending(state, pending, most=MAX_PENDING)
        self._pending = await self._vault.pending(self._clock())

    async def _account(self, login: str) -> tuple[Did, str]:
        """The DID and the PDS behind a handle or DID; the two must name each other."""
        try:
            parse_at_identifier(login)
        except InvalidSyntax as error:
            raise AuthorizationFailed(Failure.NOT_AN_IDENTIFIER, f"{login[:253]!r} is neither a handle nor a DID") from error
        by_handle = not login.startswith("did:")
        try:
            did = await self._identity.resolve_handle(login) if by_handle else Did(login)
            if did is None:
                raise AuthorizationFailed(Failure.IDENTITY_UNRESOLVED, f"could not resolve the handle {login}")
            document = await self._identity.resolve_did(did, refresh=True)
        except IdentityError as error:
            raise AuthorizationFailed(Failure.IDENTITY_UNRESOLVED, f"could not resolve {login}: {error}") from error
        if by_handle and (document.claimed_handle or "").lower() != login.lower():
            raise AuthorizationFailed(Failure.IDENTITY_UNRESOLVED, f"{did} does not claim the handle {login}")
        pds = origin_of(document.pds)
        if pds is None:
            raise AuthorizationFailed(Failure.IDENTITY_UNRESOLVED, f"the DID document of {login} names no PDS")
        return did, pds

    async def _server(self, pds: str) -> AuthorizationServer:
        try:
            server = await self._discovery.of_pds(pds)
        except DiscoveryFailed as error:
            raise AuthorizationFailed(
                Failure.DISCOVERY_FAILED, f"discovery of the authorization server failed: {error}"
            ) from error
        if not server.accepts(self._registration.authentication_method):
            method = self._registration.authentication_method
            raise AuthorizationFailed(Failure.DISCOVERY_FAILED, f"{server.issuer} does not support {method} clients")
        return server

    async def _session(self, pending: Pending, query: Mapping[str, str]) -> Session:
        """Check what the browser brought, exchange the code, and check what came."""
        if query.get("iss") != pending.issuer:
            raise AuthorizationFailed(Failure.ISSUER_MISMATCH, f"the answer is not from {pending.issuer}")
        if "error" in query:
            said = query.get("error_description") or query["error"]
            failure = Failure.DENIED if query["error"] == "access_denied" else Failure.REQUEST_REFUSED
            raise AuthorizationFailed(failure, f"{pending.issuer} did not authorize: {said[:MAX_REASON_CHARACTERS]}")
        code = query.get("code")
        if not code:
            raise AuthorizationFailed(Failure.CODE_REFUSED, "the answer holds no code")
        try:
            server = await self._discovery.of_issuer(pending.issuer)
            grant = await self._tokens.exchange(
                server, pending.key, code=code, verifier=pending.verifier, redirect_uri=self._registration.redirect_uri
            )
        except DiscoveryFailed as error:
            raise PdsUnavailable(str(error)) from error
        except Refused as error:
            raise AuthorizationFailed(Failure.CODE_REFUSED, f"{pending.issuer} refuses the code: {error}") from error
        except BadAnswer as error:
            raise AuthorizationFailed(Failure.BAD_ANSWER, f"{pending.issuer} gives {error}") from error
        session = Session(pending.did, pending.pds, pending.issuer, pending.key, self._clock(), grant.tokens)
        try:
            _check(pending, grant)
        except AuthorizationFailed:
            await self._sessions.discard(session)
            raise
        return session

    def _secret(self) -> str:
        return base64url(self._random_bytes(SECRET_BYTES))


def _check(pending: Pending, grant: Grant) -> None:
    """The tokens have to be of the account that the authorization began with: it is that account whose server was asked."""
    if grant.subject != pending.did:
        raise AuthorizationFailed(Failure.SUBJECT_MISMATCH, f"began with {pending.did}, signed in as another account")
    missing = NEEDED_SCOPES - set(grant.tokens.scope.split())
    if missing:
        raise AuthorizationFailed(Failure.SCOPE_TOO_SMALL, f"{pending.issuer} did not grant {', '.join(sorted(missing))}")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
