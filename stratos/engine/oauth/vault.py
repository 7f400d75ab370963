"""The store behind a seal: authorizations that have begun, and sessions, in and out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Final, TypeVar

import structlog
import trio

from stratos.atproto.syntax import Did
from stratos.engine.key_files import KeyFault
from stratos.engine.oauth.ports import OAuthStore, Sealer, StoreThread
from stratos.engine.oauth.sealed import Pending, Session, UnreadableValue

log = structlog.get_logger(__name__)

T = TypeVar("T")
_STATE: Final = "oauth-state:"
_SESSION: Final = "oauth-session:"


def state_context(state: str) -> str:
    """What an authorization that has begun is sealed to."""
    return _STATE + state


def session_context(did: Did) -> str:
    """What an account's session is sealed to."""
    return _SESSION + did


class OneThread:
    """Makes store calls in a worker thread, one at a time."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(1)

    async def __call__(self, call: Callable[[], T]) -> T:
        """Not abandoned by cancellation: what was begun is done when this returns or raises."""
        return await trio.to_thread.run_sync(call, limiter=self._limiter)


class Vault:
    """Keeps values sealed to their kind and owner. One that does not open counts as absent, and is logged."""

    def __init__(self, store: OAuthStore, sealer: Sealer, thread: StoreThread) -> None:
        self._store = store
        self._sealer = sealer
        self._thread = thread

    async def keep_pending(self, state: str, pending: Pending, *, most: int) -> int:
        """Keep an authorization that has begun, and `most` in all; how many that began first had to go."""
        sealed = self._sealer.seal(pending.encode(), state_context(state))
        return await self._thread(partial(self._store.put_state, state, sealed, pending.expires_at, most=most))

    async def take_pending(self, state: str) -> Pending | None:
        """Take an authorization out: nobody gets it twice."""
        sealed = await self._thread(partial(self._store.take_state, state))
        if sealed is None:
            return None
        try:
            return Pending.decode(self._sealer.open(sealed, state_context(state)))
        except (KeyFault, UnreadableValue) as error:
            log.warning("an authorization that had begun cannot be read", reason=str(error))
            return None

    async def pending(self, now: datetime) -> int:
        """How many authorizations have begun and not expired; those that have are forgotten."""
        await self._thread(partial(self._store.expire_states, now))
        return await self._thread(self._store.count_states)

    async def keep_session(self, session: Session, now: datetime) -> None:
        """Keep a session in place of the account's former."""
        sealed = self._sealer.seal(session.encode(), session_context(session.did))
        await self._thread(partial(self._store.put_session, session.did, sealed, now))

    async def session(self, did: Did) -> Session | None:
        """An account's session."""
        sealed = await self._thread(partial(self._store.get_session, did))
        if sealed is None:
            return None
        try:
            return Session.decode(self._sealer.open(sealed, session_context(did)))
        except (KeyFault, UnreadableValue) as error:
            log.warning("an OAuth session cannot be read", did=did, reason=str(error))
            return None

    async def idle_sessions(self, since: datetime, *, after: Did | None, limit: int) -> Sequence[Did]:
        """Whose sessions were kept last before an instant: a page of them, in the order of their DIDs."""
        return await self._thread(partial(self._store.sessions_put_before, since, after=after, limit=limit))

    async def forget_session(self, did: Did) -> bool:
        """Forget an account's session; whether there was one."""
        return await self._thread(partial(self._store.delete_session, did))
