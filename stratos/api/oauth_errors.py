"""What goes wrong while somebody signs in, as the browser is told. Source: service spec §4.3–4.4."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Final

from stratos.api.errors import BAD_REQUEST, FORBIDDEN, SERVICE_UNAVAILABLE, XrpcError, invalid_request
from stratos.engine.eligibility import Ineligible
from stratos.engine.oauth import AuthorizationFailed, Failure, OAuthError, PdsUnavailable

BAD_GATEWAY: Final = 502
RETRY_SECONDS: Final = 10

_DENIALS: Final[Mapping[Ineligible, str]] = {
    Ineligible.NOT_IN_ALLOWLIST: "Your account is not eligible for this Stratos service",
    Ineligible.DID_NOT_RESOLVED: "Could not verify your identity",
    Ineligible.PDS_ENDPOINT_NOT_FOUND: "Could not find your PDS endpoint",
}
_START: Final = "Failed to start authorization flow"
_NAMED: Final[Mapping[Failure, str]] = {
    Failure.STATE_UNKNOWN: "state",
    Failure.ISSUER_MISMATCH: "iss",
    Failure.CODE_REFUSED: "code",
}
"""Which parameter of the callback a failure is about."""


def start_failure(error: OAuthError, *, dev_mode: bool) -> XrpcError:
    """The answer to a sign-in that could not begin; the cause is told in dev mode only, as it may name hosts of others."""
    message = f"{_START}: {error}" if dev_mode else _START
    if isinstance(error, AuthorizationFailed):
        if error.failure is Failure.NOT_AN_IDENTIFIER:
            return invalid_request("handle must be a handle or a DID")
        if error.failure is Failure.REQUEST_REFUSED:
            return XrpcError(BAD_GATEWAY, "AuthorizationError", message)
        return XrpcError(BAD_REQUEST, "AuthorizationError", message)
    return _later(error, "AuthorizationError", message)


def callback_failure(error: OAuthError) -> XrpcError:
    """The answer to a sign-in that came to nothing."""
    if not isinstance(error, AuthorizationFailed):
        return _later(error, "CallbackError", "Your server cannot be reached; load this page again to go on")
    if error.failure is Failure.DENIED:
        return XrpcError(FORBIDDEN, "AuthorizationDenied", str(error))
    name = _NAMED.get(error.failure)
    return invalid_request(str(error) if name is None else f"{name}: {error}", "CallbackError")


def denied(reason: Ineligible) -> str:
    """What somebody is told who may not enroll."""
    return _DENIALS[reason]


def _later(error: OAuthError, name: str, message: str) -> XrpcError:
    seconds = error.retry_after if isinstance(error, PdsUnavailable) else None
    return XrpcError(SERVICE_UNAVAILABLE, name, message, {"Retry-After": str(ceil(seconds or RETRY_SECONDS))})
