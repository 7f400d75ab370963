"""The one table from what went wrong to what the caller is told: status, error name, message, headers.

Source: service spec §0.5, §0.6.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stratos.core.outcomes import Reason, Refusal

BAD_REQUEST: Final = 400
UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403
NOT_FOUND: Final = 404
METHOD_NOT_ALLOWED: Final = 405
REQUEST_TIMEOUT: Final = 408
PAYLOAD_TOO_LARGE: Final = 413
UNSUPPORTED_MEDIA_TYPE: Final = 415
TOO_MANY_REQUESTS: Final = 429
INTERNAL_SERVER_ERROR: Final = 500
NOT_IMPLEMENTED: Final = 501
SERVICE_UNAVAILABLE: Final = 503

FAULT_RETRY_SECONDS: Final = 5
"""When to come back after a fault of the store."""
RETRY_LATER: Final[Mapping[str, str]] = {"Retry-After": str(FAULT_RETRY_SECONDS)}
"""The header that says so."""

_STATUS_OF: Final[Mapping[Reason, int]] = {
    Reason.RATE_LIMITED: TOO_MANY_REQUESTS,
    Reason.UNAVAILABLE: SERVICE_UNAVAILABLE,
}
"""Every other refusal is a 400 with the reason as its name; even what is not found (spec §0.5)."""


class XrpcError(Exception):
    """An answer that is not success: status, error name, message for the caller, further headers."""

    def __init__(self, status: int, name: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {name}: {message}")
        self.status = status
        self.name = str(name)
        self.message = message
        self.headers: Mapping[str, str] = headers or {}

    def envelope(self) -> dict[str, str]:
        """The body of the answer."""
        return {"error": self.name, "message": self.message}


def invalid_request(message: str, name: str = Reason.INVALID_REQUEST) -> XrpcError:
    """A 400; `name` where the lexicon has a more precise error than InvalidRequest."""
    return XrpcError(BAD_REQUEST, name, message)


def not_authenticated(message: str) -> XrpcError:
    """A 401: the credential is missing, wrong, or another's."""
    return XrpcError(UNAUTHORIZED, "AuthenticationRequired", message)


def record_not_found() -> XrpcError:
    """Absent, taken down or not for this viewer: one answer, so that they cannot be told apart."""
    return invalid_request("Record not found", Reason.RECORD_NOT_FOUND)


def repo_not_found() -> XrpcError:
    """The DID has no repository here."""
    return invalid_request("Could not find repo", Reason.REPO_NOT_FOUND)


def refused(refusal: Refusal) -> XrpcError:
    """The answer to an expected refusal of the engine."""
    headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
    return XrpcError(_STATUS_OF.get(refusal.reason, BAD_REQUEST), refusal.reason, refusal.message, headers)


def unavailable() -> XrpcError:
    """The store is at fault; nothing that was acknowledged is lost."""
    return busy("The service cannot do this at the moment", FAULT_RETRY_SECONDS)


def unknown_outcome() -> XrpcError:
    """A write was handed to the store, which did not answer any more."""
    message = "It is not known whether this was written: read before you try again"
    return busy(message, FAULT_RETRY_SECONDS)


def busy(message: str, retry_after: int) -> XrpcError:
    """Too much is under way; `retry_after` in seconds."""
    return XrpcError(SERVICE_UNAVAILABLE, Reason.UNAVAILABLE, message, {"Retry-After": str(retry_after)})


def internal_error(name: str = "InternalServerError", message: str = "Internal Server Error") -> XrpcError:
    """An unexpected fault; its details stay in the log."""
    return XrpcError(INTERNAL_SERVER_ERROR, name, message)
