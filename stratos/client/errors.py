"""What this library raises. Everything that goes wrong by itself is a `StratosError`; misuse is a ValueError or TypeError."""

from __future__ import annotations


class StratosError(Exception):
    """The base of all errors of this library."""


class NoAnswer(StratosError):
    """Nothing usable came back: no connection, no time left, too many bytes, or not what the method answers. May pass."""


class XrpcFailure(StratosError):
    """A server answered with an error.

    `status` is the HTTP status, `name` the error's name (`RecordNotFound`, `RateLimitExceeded`, …; empty where the answer names
    none), `message` the server's own words, `retry_after` the seconds after which the server wants to be asked again, if it says.
    """

    def __init__(self, status: int, name: str, message: str, *, retry_after: float | None = None, doing: str = "") -> None:
        """`doing` says what failed, for the text of the exception."""
        super().__init__(f"{doing}{': ' if doing else ''}{status} {name}: {message}".rstrip(": "))
        self.status = status
        self.name = name
        self.message = message
        self.retry_after = retry_after

    @property
    def may_pass(self) -> bool:
        """Whether the same call may succeed later: the server is overloaded or at fault."""
        return self.status == TOO_MANY_REQUESTS or self.status >= INTERNAL_SERVER_ERROR


class NotProxied(StratosError, ValueError):
    """The method must not go through a PDS's proxy: the PDS would answer it itself, and publish what was meant to be private."""


class VerificationFailed(StratosError):
    """Something is not what its proof, signature or attestation must make it; the message says what and where."""


class KeyUnavailable(StratosError):
    """The key that a check needs cannot be found where it should be published."""


class SubscriptionRefused(StratosError):
    """The service refused the subscription; connecting again would not help. `name` is the error's name, such as AuthRequired."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}" if message else name)
        self.name = name
        self.message = message


class FutureCursor(SubscriptionRefused):
    """The cursor is above the log's head: it belongs to another service, or the service lost entries. Compare everything anew."""


TOO_MANY_REQUESTS = 429
INTERNAL_SERVER_ERROR = 500
