"""The enrollment desk: who uses the service, with which boundaries. Every change is an entry of the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final

import structlog
from structlog.typing import FilteringBoundLogger

from stratos.atproto.keys import SigningKey
from stratos.atproto.syntax import Did, format_datetime
from stratos.atproto.tid import TidClock
from stratos.core.attestation import Attestation, attest
from stratos.core.boundaries import Boundary, belongs_to, ensure_qualified
from stratos.core.enrollment import Enrollment
from stratos.core.log_entry import EnrollmentAction, EnrollmentEntry, Entry, Proposal
from stratos.core.outcomes import Reason, Refusal
from stratos.engine.account_locks import AccountLocks
from stratos.engine.commit_log import CommitLog
from stratos.engine.keyring import Keyring
from stratos.engine.planner import first_commit
from stratos.engine.store_reads import StoreReads
from stratos.storage.ports import Appended, Backend

REPAIR_PAGE: Final = 1_000
"""Enrollments read at once while looking for what is to be repaired."""

_log: FilteringBoundLogger = structlog.get_logger(__name__)
_CONCURRENT: Final = Refusal(Reason.CONCURRENT_MODIFICATION, "Concurrent modification detected, please retry", retry_after=1)


@dataclass(frozen=True, slots=True)
class EnrollmentPolicy:
    """This service's DID and URL, the boundaries that exist here, and those of a new enrollment."""

    service: Did
    service_url: str
    allowed: tuple[Boundary, ...]
    auto_enroll: tuple[Boundary, ...]


class EnrollmentDesk:
    """Enrolls, changes boundaries and unenrolls; each is one durable log entry under the actor's lock."""

    def __init__(
        self,
        policy: EnrollmentPolicy,
        *,
        backend: Backend,
        log: CommitLog,
        accounts: AccountLocks,
        reads: StoreReads,
        keyring: Keyring,
        tids: TidClock,
        clock: Callable[[], datetime],
    ) -> None:
        self._policy = policy
        self._backend = backend
        self._log = log
        self._accounts = accounts
        self._reads = reads
        self._keyring = keyring
        self._tids = tids
        self._clock = clock

    async def enroll(
        self, did: Did, boundaries: Sequence[str] | None = None, *, pds_endpoint: str | None = None
    ) -> Enrollment | Refusal:
        """Enroll an account, or activate it again: key, repository and row appear together with the `enroll` entry.

        Without `boundaries` a new enrollment gets the automatic ones and an active one keeps its own. An existing repository
        and key are kept. `pds_endpoint` is where the account's PDS is, if known. Raises StorageFault when nothing was written.
        """
        chosen = None if boundaries is None else self._allowed(boundaries)
        if isinstance(chosen, Refusal):
            return chosen
        async with self._accounts.hold(did):
            standing = await self._standing(did)
            initial = self._policy.auto_enroll if chosen is None else chosen
            if standing is not None:
                kept = standing.boundaries if standing.active and chosen is None else initial
                known = standing.pds_endpoint if pds_endpoint is None else pds_endpoint
                return await self._replace(standing, replace(standing, active=True, boundaries=kept, pds_endpoint=known))
            key = SigningKey.generate_p256()
            enrollment = Enrollment(
                did=did,
                boundaries=initial,
                enrolled_at=format_datetime(self._clock()),
                active=True,
                signing_key=key.did_key,
                pds_endpoint=pds_endpoint,
            )
            return await self._append(enrollment, key)

    async def set_boundaries(self, did: Did, boundaries: Sequence[str]) -> Enrollment | Refusal:
        """Replace an account's boundaries; the empty list is allowed."""
        chosen = self._allowed(boundaries)
        if isinstance(chosen, Refusal):
            return chosen
        return await self._change(did, lambda _: chosen)

    async def add_boundary(self, did: Did, boundary: str) -> Enrollment | Refusal:
        """Grant one boundary; granting it again changes nothing."""
        chosen = self._allowed([boundary])
        if isinstance(chosen, Refusal):
            return chosen
        return await self._change(did, lambda held: (*held, *(b for b in chosen if b not in held)))

    async def remove_boundary(self, did: Did, boundary: str) -> Enrollment | Refusal:
        """Take one boundary away; effective for the next read of this process, and on the stream."""
        qualified = ensure_qualified(self._policy.service, boundary)
        if isinstance(qualified, Refusal):
            return qualified
        return await self._change(did, lambda held: tuple(b for b in held if b != qualified))

    async def revoke(self, did: Did) -> Refusal | None:
        """Deactivate an account, at its own wish: it holds no boundaries, and may write nothing; repository and keys stay.

        On the stream this is an `unenroll` with the repository's rev. Enrolling again activates it.
        """
        async with self._accounts.hold(did):
            standing = await self._standing(did)
            if standing is None or not standing.active:
                return _not_enrolled(did)
            outcome = await self._append(replace(standing, active=False, boundaries=()))
            return outcome if isinstance(outcome, Refusal) else None

    async def unenroll(self, did: Did) -> Refusal | None:
        """Remove an account for good: row, boundaries, keys, repository and log bodies (I7)."""
        async with self._accounts.hold(did):
            if await self._standing(did) is None:
                return _not_enrolled(did)
            entry = EnrollmentEntry(did, EnrollmentAction.UNENROLL, self._policy.service_url)
            outcome = await self._log.append(Proposal(did, (entry,)))
            return None if isinstance(outcome, Appended) else _CONCURRENT

    async def repair_boundaries(self) -> int:
        """Qualify the bare names that older programs stored as boundaries; how many accounts were mended. Done at the start.

        A bare name grants nothing, so nobody waits for this but their holders. What cannot be qualified stays, with a warning.
        """
        mended = 0
        after: Did | None = None
        while True:
            page = await self._reads(partial(self._backend.enrollments.page, after=after, limit=REPAIR_PAGE))
            for enrollment in page:
                if any(not belongs_to(self._policy.service, boundary) for boundary in enrollment.boundaries):
                    mended += await self._repair(enrollment.did)
            if len(page) < REPAIR_PAGE:
                return mended
            after = page[-1].did

    def attestation(self, enrollment: Enrollment) -> Attestation:
        """A fresh statement, signed by the service, of an account's boundaries and key."""
        return attest(self._keyring.service_key, enrollment.did, enrollment.boundaries, enrollment.signing_key)

    async def _repair(self, did: Did) -> bool:
        async with self._accounts.hold(did):
            standing = await self._standing(did)
            if standing is None:
                return False
            boundaries: list[Boundary] = []
            for stored in standing.boundaries:
                boundary = ensure_qualified(self._policy.service, stored)
                if isinstance(boundary, Refusal):
                    _log.warning("a stored boundary cannot be qualified", did=did, reason=boundary.message)
                    boundary = stored
                if boundary not in boundaries:
                    boundaries.append(boundary)
            wanted = replace(standing, boundaries=tuple(boundaries))
            outcome = await self._replace(standing, wanted)
            return isinstance(outcome, Enrollment) and outcome is not standing

    async def _standing(self, did: Did) -> Enrollment | None:
        return await self._reads(lambda: self._backend.enrollments.current(did))

    async def _change(self, did: Did, change: Callable[[tuple[Boundary, ...]], tuple[Boundary, ...]]) -> Enrollment | Refusal:
        async with self._accounts.hold(did):
            standing = await self._standing(did)
            if standing is None or not standing.active:
                return _not_enrolled(did)
            return await self._replace(standing, replace(standing, boundaries=change(standing.boundaries)))

    async def _replace(self, standing: Enrollment, wanted: Enrollment) -> Enrollment | Refusal:
        """Append what is wanted, unless it stands already; the order of boundaries means nothing."""
        if set(wanted.boundaries) == set(standing.boundaries) and replace(wanted, boundaries=standing.boundaries) == standing:
            return standing
        return await self._append(wanted)

    async def _append(self, enrollment: Enrollment, new_key: SigningKey | None = None) -> Enrollment | Refusal:
        """Append the enrollment; with `new_key` also the repository's first commit, in the same transaction."""
        did = enrollment.did
        enroll = EnrollmentEntry(did, EnrollmentAction.ENROLL, self._policy.service_url, enrollment)
        entries: tuple[Entry, ...] = (enroll,)
        if new_key is not None:
            commit = first_commit(did, self._tids.next(), new_key)
            entries = (replace(enroll, sealed_key=self._keyring.seal(did, new_key), first_rev=commit.rev), commit)
        outcome = await self._log.append(Proposal(did, entries))
        if isinstance(outcome, Appended):
            return enrollment
        return _CONCURRENT

    def _allowed(self, boundaries: Sequence[str]) -> tuple[Boundary, ...] | Refusal:
        """The boundaries qualified and without repetition, or a refusal that names those that do not exist here."""
        chosen: list[Boundary] = []
        unknown: list[str] = []
        for value in boundaries:
            qualified = ensure_qualified(self._policy.service, value)
            if isinstance(qualified, Refusal) or qualified not in self._policy.allowed:
                unknown.append(value)
            elif qualified not in chosen:
                chosen.append(qualified)
        if unknown:
            return Refusal(Reason.INVALID_REQUEST, f"boundaries not in allowed domains: {', '.join(unknown)}")
        return tuple(chosen)


def _not_enrolled(did: Did) -> Refusal:
    return Refusal(Reason.NOT_FOUND, f"user {did} is not enrolled")
