"""A new signing key for an account: the enrollment that names it and the first commit that it signs are one step of the log."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import structlog
from structlog.typing import FilteringBoundLogger

from stratos.atproto.keys import SigningKey
from stratos.atproto.syntax import Did
from stratos.atproto.tid import TidClock
from stratos.core.enrollment import Enrollment
from stratos.core.log_entry import CommitEntry, EnrollmentAction, EnrollmentEntry, Proposal
from stratos.core.outcomes import Reason, Refusal
from stratos.engine.account_locks import AccountLocks
from stratos.engine.commit_log import CommitLog
from stratos.engine.keyring import Keyring
from stratos.engine.planner import MissingFromStore, signed_anew
from stratos.engine.store_reads import StoreReads
from stratos.storage.ports import Appended, Backend

ROTATION_ATTEMPTS: Final = 10
"""Another process that writes to the account may be faster; this process's own writes wait."""

_log: FilteringBoundLogger = structlog.get_logger(__name__)


class KeyRotation:
    """Replaces accounts' signing keys. Decisions: docs/adr/0013-key-rotation.md."""

    def __init__(
        self,
        service_url: str,
        *,
        backend: Backend,
        log: CommitLog,
        accounts: AccountLocks,
        reads: StoreReads,
        keyring: Keyring,
        tids: TidClock,
    ) -> None:
        self._service_url = service_url
        self._backend = backend
        self._log = log
        self._accounts = accounts
        self._reads = reads
        self._keyring = keyring
        self._tids = tids

    async def rotate(self, did: Did) -> Enrollment | Refusal:
        """Give an account a new key; the former one is erased, its name stays in the history.

        Whoever follows the log learns of it by an `enroll` and a commit without operations; the publisher renews the record on
        the account's PDS. Only for active enrollments. Raises StorageFault when nothing was written.
        """
        async with self._accounts.hold(did):
            standing = await self._reads(lambda: self._backend.enrollments.current(did))
            if standing is None or not standing.active:
                return Refusal(Reason.NOT_FOUND, f"user {did} is not enrolled")
            key = SigningKey.generate_p256()
            rotated = replace(standing, signing_key=key.did_key)
            for attempt in range(1, ROTATION_ATTEMPTS + 1):
                try:
                    commit = await self._commit(did, key)
                except MissingFromStore:
                    if attempt == ROTATION_ATTEMPTS:
                        raise
                    continue
                if commit is None:
                    return Refusal(Reason.REPO_NOT_FOUND, "Could not find repo")
                enroll = EnrollmentEntry(
                    did,
                    EnrollmentAction.ENROLL,
                    self._service_url,
                    rotated,
                    sealed_key=self._keyring.seal(did, key),
                    first_rev=commit.rev,
                )
                if isinstance(await self._log.append(Proposal(did, (enroll, commit))), Appended):
                    self._keyring.forget(did)
                    _log.info("signing key rotated", did=did, former=standing.signing_key, current=key.did_key)
                    return rotated
        return Refusal(Reason.CONCURRENT_MODIFICATION, "Concurrent modification detected, please retry", retry_after=1)

    async def _commit(self, did: Did, key: SigningKey) -> CommitEntry | None:
        return await self._reads.of_actor(did, lambda store: signed_anew(store, did, key, self._tids.next))
