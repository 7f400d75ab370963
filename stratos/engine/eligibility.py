"""Who may enroll, and who may go on using the service. Source: service spec §4.1."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import structlog
from structlog.typing import FilteringBoundLogger

from stratos.atproto.syntax import Did
from stratos.engine.identity import DidNotFound, Identity, IdentityUnavailable
from stratos.engine.oauth.server_metadata import origin_of

_log: FilteringBoundLogger = structlog.get_logger(__name__)


class ExternalList(Protocol):
    """A list of accounts that somebody else keeps; `AllowList` is one."""

    async def contains(self, did: Did) -> bool:
        """Whether the list names the account."""
        ...


@dataclass(frozen=True, slots=True)
class Eligible:
    """The account may enroll; `pds_endpoint` is where its PDS is, if that had to be found out."""

    pds_endpoint: str | None = None


class Ineligible(StrEnum):
    """Why an account may not enroll."""

    NOT_IN_ALLOWLIST = "NotInAllowlist"
    DID_NOT_RESOLVED = "DidNotResolved"
    PDS_ENDPOINT_NOT_FOUND = "PdsEndpointNotFound"


@dataclass(frozen=True, slots=True)
class EligibilityPolicy:
    """Everybody (`open`), or these accounts, and the accounts of these PDSes."""

    open: bool = False
    dids: frozenset[Did] = frozenset()
    pds_endpoints: tuple[str, ...] = ()


class Eligibility:
    """The one rule of who is welcome, made of every list together. What cannot be told counts as no."""

    def __init__(self, policy: EligibilityPolicy, *, identity: Identity, external: ExternalList | None = None) -> None:
        self._policy = policy
        self._pds_endpoints = frozenset(map(_comparable, policy.pds_endpoints))
        self._identity = identity
        self._external = external

    @property
    def is_watched(self) -> bool:
        """Whether it is to be asked for every request too: a list that others keep may change at any time."""
        return self._external is not None

    async def judge(self, did: Did, *, signed_in_at: str | None = None) -> Eligible | Ineligible:
        """Whether the account may enroll. Its DID is resolved only where no other list decides.

        `signed_in_at` is the origin of the PDS that has vouched for it. Any account may write a listed PDS into its document,
        also between the beginning of a sign-in and its end: so that one counts only where it is the one that has vouched.
        """
        if self._policy.open or did in self._policy.dids:
            return Eligible()
        if self._external is not None and await self._external.contains(did):
            return Eligible()
        if not self._pds_endpoints:
            return Ineligible.NOT_IN_ALLOWLIST
        try:
            document = await self._identity.resolve_did(did)
        except (DidNotFound, IdentityUnavailable) as error:
            _log.info("eligibility not known", did=did, error=str(error))
            return Ineligible.DID_NOT_RESOLVED
        if document.pds is None:
            return Ineligible.PDS_ENDPOINT_NOT_FOUND
        if _comparable(document.pds) not in self._pds_endpoints:
            return Ineligible.NOT_IN_ALLOWLIST
        if signed_in_at is not None and origin_of(document.pds) != signed_in_at:
            _log.warning("an account names a listed PDS and has signed in at another", did=did, signed_in_at=signed_in_at)
            return Ineligible.NOT_IN_ALLOWLIST
        return Eligible(document.pds)

    async def admits(self, did: Did) -> bool:
        """Whether the account is welcome at this moment."""
        return isinstance(await self.judge(did), Eligible)


def _comparable(endpoint: str) -> str:
    return endpoint.removesuffix("/")
