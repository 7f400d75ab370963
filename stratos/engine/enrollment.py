"""The enrollment desk: who uses the service, with which boundaries. Every change is an entry of the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from stratos.atproto.keys import SigningKey
from stratos.atproto.syntax import Did, format_datetime
from stratos.atproto.tid import TidClock
from stratos.core.attestation import Attestation, attest
from stratos.core.boundaries import Boundary, ensure_qualified
from stratos.core.enrollment import Enrollment
from stratos.core.log_entry import EnrollmentAction, EnrollmentEntry, Entry, Proposal
from stratos.core.outcomes import Reason, Refusal
from stratos.engine.actor_locks import ActorLocks
from stratos.engine.commit_log import CommitLog
from stratos.engine.keyring import Keyring
from stratos.engine.planner import first_commit
from stratos.storage.ports import Appended, Backend

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
        locks: ActorLocks,
        keyring: Keyring,
        tids: TidClock,
        clock: Callable[[], datetime],
    ) -> None:
        self._policy = policy
        self._backend = backend
        self._log = log
        self._locks = locks
        self._keyring = keyring
        self._tids = tids
        self._clock = clock

    async def enroll(self, did: Did, boundaries: Sequence[str] | None = None) -> Enrollment | Refusal:
        """Enroll an account, or activate it again: key, repository and row appear together with the `enroll` entry.

        Without `boundaries` a new enrollment gets the automatic ones and an active one keeps its own. An existing repository
        and key are kept. Raises StorageFault when nothing was written.
        """
        chosen = None if boundaries is None else self._allowed(boundaries)
        if isinstance(chosen, Refusal):
            return chosen
        async with self._locks.hold(did):
            standing = self._backend.enrollments.get(did)
            if standing is not None and standing.active:
                return await self._replace(standing, standing.boundaries if chosen is None else chosen)
            initial = self._policy.auto_enroll if chosen is None else chosen
            if standing is not None:
                return await self._append(replace(standing, active=True, boundaries=initial))
            key = SigningKey.generate_p256()
            enrollment = Enrollment(
                did=did,
                boundaries=initial,
                enrolled_at=format_datetime(self._clock()),
                active=True,
                signing_key=key.did_key,
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

    async def unenroll(self, did: Did) -> Refusal | None:
        """Remove an account for good: row, boundaries, keys, repository and log bodies (I7)."""
        async with self._locks.hold(did):
            if self._backend.enrollments.get(did) is None:
                return _not_enrolled(did)
            entry = EnrollmentEntry(did, EnrollmentAction.UNENROLL, self._policy.service_url)
            outcome = await self._log.append(Proposal(did, (entry,)))
            self._keyring.forget(did)
            return None if isinstance(outcome, Appended) else _CONCURRENT

    def attestation(self, enrollment: Enrollment) -> Attestation:
        """A fresh statement, signed by the service, of an account's boundaries and key."""
        return attest(self._keyring.service_key, enrollment.did, enrollment.boundaries, enrollment.signing_key)

    async def _change(self, did: Did, change: Callable[[tuple[Boundary, ...]], tuple[Boundary, ...]]) -> Enrollment | Refusal:
        async with self._locks.hold(did):
            standing = self._backend.enrollments.get(did)
            if standing is None:
                return _not_enrolled(did)
            return await self._replace(standing, change(standing.boundaries))

    async def _replace(self, standing: Enrollment, boundaries: tuple[Boundary, ...]) -> Enrollment | Refusal:
        if set(boundaries) == set(standing.boundaries):
            return standing
        return await self._append(replace(standing, boundaries=boundaries))

    async def _append(self, enrollment: Enrollment, new_key: SigningKey | None = None) -> Enrollment | Refusal:
        """Append the enrollment; with `new_key` also the repository's first commit, in the same transaction."""
        did = enrollment.did
        sealed = None if new_key is None else self._keyring.seal(did, new_key)
        enroll = EnrollmentEntry(did, EnrollmentAction.ENROLL, self._policy.service_url, enrollment, sealed)
        entries: tuple[Entry, ...] = (enroll,)
        if new_key is not None:
            entries = (enroll, first_commit(did, self._tids.next(), new_key))
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
