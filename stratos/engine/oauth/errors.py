"""What can go wrong between us, a person's browser and their PDS."""

from __future__ import annotations

from enum import StrEnum


class Failure(StrEnum):
    """Why an authorization did not come about."""

    NOT_AN_IDENTIFIER = "not an identifier"
    IDENTITY_UNRESOLVED = "identity unresolved"
    DISCOVERY_FAILED = "discovery failed"
    REQUEST_REFUSED = "request refused"
    STATE_UNKNOWN = "state unknown"
    ISSUER_MISMATCH = "issuer mismatch"
    DENIED = "denied"
    CODE_REFUSED = "code refused"
    BAD_ANSWER = "bad answer"
    SUBJECT_MISMATCH = "subject mismatch"
    SCOPE_TOO_SMALL = "scope too small"


class OAuthError(Exception):
    """The common base; the message is fit for a log and for a caller's eyes, and holds no secret."""


class AuthorizationFailed(OAuthError):
    """An authorization that cannot be gone on with: the person has to begin again, or cannot."""

    def __init__(self, failure: Failure, message: str) -> None:
        super().__init__(message)
        self.failure = failure


class SessionGone(OAuthError):
    """We hold no session of this account that its server still honours; only the account's holder can give a new one."""


class PdsUnavailable(OAuthError):
    """The account's server gives no usable answer now; the session stands, and the same call may succeed later.

    `retry_after` is how many seconds the server asks us to wait, if it says so.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class InvalidRegistration(ValueError):
    """The settings do not describe an OAuth client; the message names the setting and what to do."""
