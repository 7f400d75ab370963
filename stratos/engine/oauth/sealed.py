"""What is stored between requests: authorizations that have begun, and sessions. Both are sealed; this module is their form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import orjson

from stratos.atproto.syntax import Did
from stratos.engine.oauth.dpop import DpopKey


class UnreadableValue(ValueError):
    """An opened value that is not of our form."""


@dataclass(frozen=True, slots=True)
class Pending:
    """An authorization that has begun and waits for the browser to come back.

    `browser` is the digest of what the browser that began it was given; `return_to` where it wants to go in the end.
    """

    did: Did
    pds: str
    issuer: str
    verifier: str = field(repr=False)
    key: DpopKey = field(repr=False)
    expires_at: datetime
    browser: str
    return_to: str | None

    def encode(self) -> bytes:
        """As it is sealed."""
        return orjson.dumps(
            {
                "did": self.did,
                "pds": self.pds,
                "issuer": self.issuer,
                "verifier": self.verifier,
                "key": self.key.as_jwk(),
                "expiresAt": self.expires_at.timestamp(),
                "browser": self.browser,
                "returnTo": self.return_to,
            }
        )

    @classmethod
    def decode(cls, plain: bytes) -> Pending:
        """Raises UnreadableValue."""
        match _object(plain):
            case {
                "did": str(did),
                "pds": str(pds),
                "issuer": str(issuer),
                "verifier": str(verifier),
                "key": key,
                "expiresAt": float(expires_at),
                "browser": str(browser),
                "returnTo": str() | None as return_to,
            }:
                return cls(Did(did), pds, issuer, verifier, _key(key), _instant(expires_at), browser, return_to)
        raise UnreadableValue("not an authorization that has begun")


@dataclass(frozen=True, slots=True)
class TokenSet:
    """What a token endpoint gave. `expires_at` is the access token's; it may be refused earlier."""

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    scope: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Session:
    """An account's standing permission, given at `since`: its tokens, the key that they are bound to, and where they are good."""

    did: Did
    pds: str
    issuer: str
    key: DpopKey = field(repr=False)
    since: datetime
    tokens: TokenSet

    def encode(self) -> bytes:
        """As it is sealed."""
        return orjson.dumps(
            {
                "did": self.did,
                "pds": self.pds,
                "issuer": self.issuer,
                "key": self.key.as_jwk(),
                "since": self.since.timestamp(),
                "access": self.tokens.access,
                "refresh": self.tokens.refresh,
                "scope": self.tokens.scope,
                "expiresAt": self.tokens.expires_at.timestamp(),
            }
        )

    @classmethod
    def decode(cls, plain: bytes) -> Session:
        """Raises UnreadableValue."""
        match _object(plain):
            case {
                "did": str(did),
                "pds": str(pds),
                "issuer": str(issuer),
                "key": key,
                "since": float(since),
                "access": str(access),
                "refresh": str(refresh),
                "scope": str(scope),
                "expiresAt": float(expires_at),
            }:
                tokens = TokenSet(access, refresh, scope, _instant(expires_at))
                return cls(Did(did), pds, issuer, _key(key), _instant(since), tokens)
        raise UnreadableValue("not a session")


def _object(plain: bytes) -> Mapping[str, object]:
    try:
        value = orjson.loads(plain)
    except orjson.JSONDecodeError as error:
        raise UnreadableValue("not JSON") from error
    if not isinstance(value, dict):
        raise UnreadableValue("not a JSON object")
    return value


def _key(value: object) -> DpopKey:
    try:
        return DpopKey.from_jwk(value)
    except ValueError as error:
        raise UnreadableValue(str(error)) from error


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
