"""Sessions: requests to an account's PDS in its name, refresh, revocation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias
from urllib.parse import urlencode

import orjson
import structlog
import trio

from stratos.atproto.syntax import Did, Nsid
from stratos.engine.identity import Answer, OutgoingError
from stratos.engine.oauth.dpop import DpopHttp, error_name
from stratos.engine.oauth.errors import PdsUnavailable, SessionGone
from stratos.engine.oauth.ports import ExclusiveUse
from stratos.engine.oauth.sealed import Session
from stratos.engine.oauth.server_metadata import AuthorizationServer, Discovery, DiscoveryFailed
from stratos.engine.oauth.token_endpoint import BadAnswer, Grant, Refused, TokenEndpoint, retry_after
from stratos.engine.oauth.vault import Vault

log = structlog.get_logger(__name__)

Verb: TypeAlias = Literal["GET", "POST"]

REFRESH_AHEAD: Final = timedelta(seconds=60)
"""An access token that expires sooner than this is renewed before it is used."""
REFRESH_SECONDS: Final = 20.0
"""How long a refresh that is under way holds off cancellation, at most."""
REPLACED_REVOCATION_SECONDS: Final = 3.0
IDLE_AGE: Final = timedelta(days=7)
IDLE_PAGE: Final = 100
MAX_ANSWER_BYTES: Final = 1024 * 1024
_OK: Final = 200
_MULTIPLE_CHOICES: Final = 300
_UNAUTHORIZED: Final = 401
_TOO_MANY: Final = 429
_SERVER_FAULT: Final = 500
_SPENT_TOKEN_ERRORS: Final = frozenset({"invalid_token", "InvalidToken", "ExpiredToken"})


@dataclass(frozen=True, slots=True)
class PdsAnswer:
    """What a PDS answered: yes, or no for a reason that asking again does not change."""

    status: int
    body: bytes = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether the PDS did what it was asked."""
        return _OK <= self.status < _MULTIPLE_CHOICES

    @property
    def json(self) -> Mapping[str, object]:
        """The JSON object in the body; an empty one where it holds none."""
        try:
            value = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return {}
        return value if isinstance(value, dict) else {}

    @property
    def error(self) -> str | None:
        """The XRPC error name of a refusal."""
        name = self.json.get("error")
        return name if isinstance(name, str) and not self.ok else None


class Sessions:
    """The accounts' standing permissions, kept usable."""

    def __init__(
        self,
        vault: Vault,
        dpop: DpopHttp,
        discovery: Discovery,
        tokens: TokenEndpoint,
        *,
        exclusive: ExclusiveUse,
        clock: Callable[[], datetime],
    ) -> None:
        self._vault = vault
        self._dpop = dpop
        self._discovery = discovery
        self._tokens = tokens
        self._exclusive = exclusive
        self._clock = clock
        self._refreshes = self._failed_refreshes = self._lost = 0

    async def exists(self, did: Did) -> bool:
        """Whether we hold a session of the account; its server may have ended it."""
        return await self._vault.session(did) is not None

    async def pds_of(self, did: Did) -> str | None:
        """The PDS that the account's session is for; None without a session."""
        session = await self._vault.session(did)
        return None if session is None else session.pds

    async def adopt(self, session: Session) -> None:
        """Keep a new session; the account's former one, if any, is revoked as well as can be in a few seconds."""
        async with self._exclusive(session.did):
            former = await self._vault.session(session.did)
            await self._vault.keep_session(session, self._clock())
        if former is not None:
            with trio.move_on_after(REPLACED_REVOCATION_SECONDS):
                await self.discard(former)

    async def revoke(self, did: Did, *, before: datetime | None = None) -> bool:
        """Forget the account's session and have its server forget it; whether the server says that it has.

        With `before` a session that was given at that moment or later is left alone. Any other we have forgotten in any case,
        also when this is cancelled after it began to ask the server.
        """
        async with self._exclusive(did):
            session = await self._vault.session(did)
            if session is not None and before is not None and session.since >= before:
                return False
            await self._vault.forget_session(did)
        return session is not None and await self.discard(session)

    async def discard(self, session: Session) -> bool:
        """Have the server forget a session that we do not keep; whether it says that it has."""
        try:
            server = await self._discovery.of_issuer(session.issuer)
            return await self._tokens.revoke(server, session.key, session.tokens.refresh)
        except (DiscoveryFailed, PdsUnavailable) as error:
            log.info("an OAuth session could not be revoked at its server", did=session.did, reason=str(error))
            return False

    async def request(
        self,
        did: Did,
        verb: Verb,
        nsid: Nsid,
        *,
        params: Mapping[str, str] | None = None,
        json: Mapping[str, object] | None = None,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> PdsAnswer:
        """Call a method of the account's PDS in the account's name. Refreshes the session where it has to be.

        Raises SessionGone, and PdsUnavailable when nobody answers, or the PDS answers 429 or a server error.
        """
        session = await self._vault.session(did)
        if session is None:
            raise SessionGone(f"no session of {did}")
        fresh = session.tokens.expires_at - self._clock() < REFRESH_AHEAD
        if fresh:
            session = await self._refreshed(session)
        answer = await self._call(session, verb, nsid, params, json, max_bytes)
        if not fresh and _says_token_is_spent(answer):
            session = await self._refreshed(session)
            answer = await self._call(session, verb, nsid, params, json, max_bytes)
        if answer.status >= _SERVER_FAULT or answer.status == _TOO_MANY:
            raise PdsUnavailable(f"{session.pds} answers {answer.status} to {nsid}", retry_after=retry_after(answer))
        return PdsAnswer(answer.status, answer.body)

    async def renew_idle(self) -> None:
        """Renew, one after the other, the sessions that nobody has used for a week: servers end them after months of silence.

        One that cannot be renewed now is left for the next time.
        """
        after: Did | None = None
        while page := await self._vault.idle_sessions(self._clock() - IDLE_AGE, after=after, limit=IDLE_PAGE):
            for did in page:
                session = await self._vault.session(did)
                if session is not None:
                    with contextlib.suppress(SessionGone, PdsUnavailable):  # both are counted
                        await self._refreshed(session)
            after = page[-1]

    def statistics(self) -> Mapping[str, int]:
        """Counters of refreshes, failed refreshes, and sessions found ended by their server."""
        return {
            "refreshes_total": self._refreshes,
            "failed_refreshes_total": self._failed_refreshes,
            "lost_sessions_total": self._lost,
        }

    async def _call(
        self,
        session: Session,
        verb: Verb,
        nsid: Nsid,
        params: Mapping[str, str] | None,
        json: Mapping[str, object] | None,
        max_bytes: int,
    ) -> Answer:
        url = f"{session.pds}/xrpc/{nsid}" + (f"?{urlencode(params)}" if params else "")
        body = None if json is None else orjson.dumps(json)
        headers = {"Accept": "application/json", **({} if body is None else {"Content-Type": "application/json"})}
        try:
            return await self._dpop.request(
                session.key, verb, url, headers=headers, body=body, token=session.tokens.access, max_bytes=max_bytes
            )
        except OutgoingError as error:
            raise PdsUnavailable(str(error)) from error

    async def _refreshed(self, stale: Session) -> Session:
        """A session with other tokens than this one's. Raises SessionGone, PdsUnavailable.

        A refresh token is good once, and whoever shows it twice loses the session. So one task at a time; what another brought
        meanwhile is used as it is.
        """
        async with self._exclusive(stale.did):
            session = await self._vault.session(stale.did)
            if session is None:
                raise SessionGone(f"the session of {stale.did} is gone")
            if session.tokens.access != stale.tokens.access:
                return session
            try:
                server = await self._discovery.of_issuer(session.issuer)
                return await self._exchange(session, server)
            except Refused as error:
                return await self._after_refusal(session, error)
            except (DiscoveryFailed, BadAnswer) as error:
                self._failed_refreshes += 1
                raise PdsUnavailable(f"the session of {session.did} cannot be refreshed now: {error}") from error
            except PdsUnavailable:
                self._failed_refreshes += 1
                raise

    async def _exchange(self, session: Session, server: AuthorizationServer) -> Session:
        """Exchange the refresh token and keep what comes. Cancellation waits meanwhile: the new tokens must not be lost."""
        grant: Grant | None = None
        with trio.CancelScope(shield=True):
            with trio.move_on_after(REFRESH_SECONDS):
                grant = await self._tokens.refresh(server, session.key, session.tokens.refresh)
            if grant is None:
                raise PdsUnavailable(f"{server.issuer} does not answer a refresh within {REFRESH_SECONDS:g} s")
            if grant.subject != session.did:
                raise BadAnswer("tokens of another account")
            renewed = replace(session, tokens=grant.tokens)
            await self._vault.keep_session(renewed, self._clock())
        self._refreshes += 1
        return renewed

    async def _after_refusal(self, session: Session, refusal: Refused) -> Session:
        """Another process may have been quicker; else the session has ended, or the server has something against us."""
        self._failed_refreshes += 1
        now_kept = await self._vault.session(session.did)
        if now_kept is not None and now_kept.tokens.access != session.tokens.access:
            return now_kept
        if refusal.error != "invalid_grant":
            raise PdsUnavailable(f"the session of {session.did} cannot be refreshed now: {refusal}") from refusal
        await self._vault.forget_session(session.did)
        self._lost += 1
        raise SessionGone(f"the session of {session.did} has ended: {refusal}") from refusal


def _says_token_is_spent(answer: Answer) -> bool:
    if answer.status != _UNAUTHORIZED:
        return False
    return error_name(answer) in _SPENT_TOKEN_ERRORS or "invalid_token" in answer.headers.get("www-authenticate", "")
