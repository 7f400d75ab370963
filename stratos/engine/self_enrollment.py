"""An account enrolls itself: it authorizes us at its own server, and gets its place here. Source: service spec §4.4."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog
import trio
from structlog.typing import FilteringBoundLogger

from stratos.atproto.syntax import Did
from stratos.core.enrollment import Enrollment
from stratos.core.outcomes import Refusal
from stratos.engine.eligibility import Eligibility, Ineligible
from stratos.engine.enrollment import EnrollmentDesk
from stratos.engine.oauth import Begun, Completed
from stratos.storage.ports import StorageFault

_log: FilteringBoundLogger = structlog.get_logger(__name__)


class SignIns(Protocol):
    """Signing in at the account's own server; `OAuthClient` is one."""

    async def begin(self, login: str, *, return_to: str | None = None) -> Begun:
        """Prepare an authorization. Raises AuthorizationFailed, PdsUnavailable."""
        ...

    async def complete(self, query: Mapping[str, str], *, browser: str | None = None) -> Completed:
        """Go on when the browser comes back. Raises AuthorizationFailed, PdsUnavailable."""
        ...

    async def revoke(self, did: Did) -> bool:
        """End the account's session."""
        ...


@dataclass(frozen=True, slots=True)
class SelfEnrolled:
    """The account is enrolled; `newly` unless it was before. `completed` says how its browser came back."""

    enrollment: Enrollment
    completed: Completed
    newly: bool


class SelfEnrollment:
    """From a name typed into a browser to an enrolled account."""

    def __init__(
        self,
        sign_ins: SignIns,
        desk: EnrollmentDesk,
        eligibility: Eligibility,
        *,
        enrollment: Callable[[Did], Awaitable[Enrollment | None]],
        completed: Callable[[Did], Awaitable[None]],
        dismissed: Callable[[Did], Awaitable[bool]],
    ) -> None:
        """`enrollment` reads an account's; `completed` is told of each account that has signed in and is enrolled.

        `dismissed` is told of each that is not; it says whether it sees to the end of the session, having something to do before.
        """
        self._sign_ins = sign_ins
        self._desk = desk
        self._eligibility = eligibility
        self._enrollment = enrollment
        self._completed = completed
        self._dismissed = dismissed

    async def begin(self, login: str, *, return_to: str | None = None) -> Begun:
        """Where to send the browser of a handle or DID. Raises AuthorizationFailed, PdsUnavailable."""
        return await self._sign_ins.begin(login, return_to=return_to)

    async def finish(self, query: Mapping[str, str], *, browser: str | None) -> SelfEnrolled | Ineligible | Refusal:
        """Enroll the account whose browser has come back, or activate it again.

        Raises AuthorizationFailed, PdsUnavailable, StorageFault. Whatever the outcome, an account that is not enrolled leaves no
        session with us. Once the account has signed in, cancellation waits until that is settled.
        """
        completed = await self._sign_ins.complete(query, browser=browser)
        with trio.CancelScope(shield=True):
            try:
                outcome = await self._enroll(completed)
            except Exception:
                await self._give_back(completed.did)
                raise
            if not isinstance(outcome, SelfEnrolled):
                await self._give_back(completed.did)
        return outcome

    async def _enroll(self, completed: Completed) -> SelfEnrolled | Ineligible | Refusal:
        did = completed.did
        verdict = await self._eligibility.judge(did, signed_in_at=completed.pds)
        if isinstance(verdict, Ineligible):
            _log.info("enrollment denied", did=did, reason=verdict)
            return verdict
        before = await self._enrollment(did)
        outcome = await self._desk.enroll(did, pds_endpoint=completed.pds)
        if isinstance(outcome, Refusal):
            return outcome
        await self._completed(did)
        newly = before is None or not before.active
        _log.info("signed in", did=did, newly_enrolled=newly)
        return SelfEnrolled(outcome, completed, newly)

    async def _give_back(self, did: Did) -> None:
        """End the session unless what the account has published may still have to be taken back with it."""
        try:
            enrollment = await self._enrollment(did)
            if (enrollment is None or not enrollment.active) and not await self._dismissed(did):
                await self._sign_ins.revoke(did)
        except StorageFault as fault:
            _log.error("a session that nobody needs could not be ended", did=did, error=str(fault))
