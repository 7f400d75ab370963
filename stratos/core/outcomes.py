"""Expected refusals, as values: a caller must look at them; an exception is a fault.

`stratos.api.errors` holds the one table from `Reason` to status, XRPC error name and headers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a request was refused."""

    INVALID_REQUEST = "InvalidRequest"
    INVALID_COLLECTION = "InvalidCollection"
    INVALID_RECORD = "InvalidRecord"
    INVALID_SWAP = "InvalidSwap"
    SERVICE_MISMATCH = "ServiceMismatch"
    FORBIDDEN_BOUNDARY = "ForbiddenBoundary"
    NOT_ENROLLED = "NotEnrolled"
    NOT_FOUND = "NotFound"
    RECORD_NOT_FOUND = "RecordNotFound"
    REPO_NOT_FOUND = "RepoNotFound"
    RATE_LIMITED = "RateLimitExceeded"
    CONCURRENT_MODIFICATION = "ConcurrentModification"
    UNAVAILABLE = "ServiceUnavailable"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal with a message for the caller; `retry_after` in whole seconds where trying again helps."""

    reason: Reason
    message: str
    retry_after: int | None = None
