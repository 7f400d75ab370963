"""The OAuth client as the rest of the house knows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

import structlog
import trio

from stratos.atproto.syntax import Did, Nsid
from stratos.engine.actor_locks import ActorLocks
from stratos.engine.identity import Identity
from stratos.engine.oauth.authorization import Authorizations, Begun, Completed
from stratos.engine.oauth.dpop import DpopHttp
from stratos.engine.oauth.ports import ExclusiveUse, Http, OAuthStore, Sealer, StoreThread
from stratos.engine.oauth.registration import Registration
from stratos.engine.oauth.server_metadata import Discovery
from stratos.engine.oauth.sessions import MAX_ANSWER_BYTES, PdsAnswer, Sessions, Verb
from stratos.engine.oauth.token_endpoint import TokenEndpoint
from stratos.engine.oauth.vault import OneThread, Vault
from stratos.storage.ports import StorageFault

log = structlog.get_logger(__name__)

EXPIRY_INTERVAL: Final = 600.0
"""Seconds between two looks for authorizations that have expired."""
RENEWAL_INTERVAL: Final = 6 * 3_600.0
"""Seconds between two rounds through the sessions that nobody uses."""


class OAuthClient:
    """Lets accounts authorize us at their own server, and calls their PDS in their name."""

    def __init__(
        self,
        registration: Registration,
        *,
        identity: Identity,
        http: Http,
        session_http: Http | None = None,
        store: OAuthStore,
        sealer: Sealer,
        clock: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
        exclusive: ExclusiveUse | None = None,
        thread: StoreThread | None = None,
    ) -> None:
        """`random_bytes` gives that many unpredictable bytes (`os.urandom`). `session_http`, by default `http`, is for what is
        asked with sessions, so that it has not to wait for the servers of those who begin.

        `exclusive` defaults to locks of this process: several processes upon one store need one that holds across them. `thread`
        says how the store is called, by default in one worker thread.
        """
        self.registration = registration
        self._clock = clock
        self._vault = Vault(store, sealer, thread or OneThread())

        def asking(by: Http) -> tuple[DpopHttp, Discovery, TokenEndpoint]:
            dpop = DpopHttp(by, clock=clock, random_bytes=random_bytes)
            tokens = TokenEndpoint(dpop, registration, clock=clock, random_bytes=random_bytes)
            return dpop, Discovery(by, clock=clock), tokens

        self._dpop, discovery, tokens = asking(session_http or http)
        self._sessions = Sessions(
            self._vault, self._dpop, discovery, tokens, exclusive=exclusive or ActorLocks().hold, clock=clock
        )
        self._begin_dpop, discovery, tokens = asking(http)
        self._authorizations = Authorizations(
            registration, identity, discovery, tokens, self._vault, self._sessions, clock=clock, random_bytes=random_bytes
        )

    async def begin(self, login: str, *, return_to: str | None = None) -> Begun:
        """Prepare an authorization for a handle or DID. Raises AuthorizationFailed, PdsUnavailable."""
        return await self._authorizations.begin(login, return_to=return_to)

    async def complete(self, query: Mapping[str, str], *, browser: str | None = None) -> Completed:
        """Go on when the browser comes back with this query. Raises AuthorizationFailed, PdsUnavailable.

        Where PdsUnavailable is raised, loading the same page again may succeed. The new session replaces the account's former.
        """
        return await self._authorizations.complete(query, browser=browser)

    async def request(
        self,
        did: Did,
        method: Verb,
        nsid: Nsid,
        *,
        params: Mapping[str, str] | None = None,
        json: Mapping[str, object] | None = None,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> PdsAnswer:
        """Call a method of the account's PDS in the account's name.

        A refusal by the PDS is an answer; look at `ok` or `error`. Raises SessionGone when only the account's holder can help,
        PdsUnavailable when asking later may. Cancellation is held off only while a refresh is under way, for seconds.
        """
        return await self._sessions.request(did, method, nsid, params=params, json=json, max_bytes=max_bytes)

    async def has_session(self, did: Did) -> bool:
        """Whether we hold a session of the account; its server may have ended it meanwhile."""
        return await self._sessions.exists(did)

    async def pds_of(self, did: Did) -> str | None:
        """The PDS that the account's session is for; None where we hold no session of the account."""
        return await self._sessions.pds_of(did)

    async def revoke(self, did: Did, *, before: datetime | None = None) -> bool:
        """End the account's session, here in any case; whether its server says that it has ended it too.

        With `before` only a session of an earlier sign-in: one that was given at that moment or later stays.
        """
        return await self._sessions.revoke(did, before=before)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Forget authorizations that expired, and renew sessions that nobody uses, until cancelled."""
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._expire_pending)
            nursery.start_soon(self._renew_idle)

    def statistics(self) -> Mapping[str, int]:
        """Gauges and counters."""
        beginning = {f"begin_{name}": value for name, value in self._begin_dpop.statistics().items()}
        return {**self._authorizations.statistics(), **self._sessions.statistics(), **self._dpop.statistics(), **beginning}

    async def _expire_pending(self) -> None:
        while True:
            try:
                await self._vault.pending(self._clock())
            except StorageFault as fault:
                log.warning("authorizations that expired are not forgotten yet", error=str(fault))
            await trio.sleep(EXPIRY_INTERVAL)

    async def _renew_idle(self) -> None:
        while True:
            try:
                await self._sessions.renew_idle()
            except StorageFault as fault:
                log.warning("idle sessions are not renewed yet", error=str(fault))
                await trio.sleep(EXPIRY_INTERVAL)
                continue
            await trio.sleep(RENEWAL_INTERVAL)
