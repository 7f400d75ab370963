"""Cookie sessions of our own pages: whose they are stands in the cookie, signed; nothing is stored.

A session ends when it expires, or when its cookie is cleared. It proves an account and no more: a revoked enrollment stops it at
once, as every other credential. Source: design §5; RFC 6265.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Final

import orjson

from stratos.api.auth import Credential, User
from stratos.api.credentials.derived_keys import derive_key
from stratos.api.credentials.jws import MalformedToken, decode_base64url, encode_base64url
from stratos.api.credentials.origins import own_origins, web_origin
from stratos.api.errors import FORBIDDEN, UNAUTHORIZED, XrpcError
from stratos.api.request import RequestHead
from stratos.atproto.syntax import Did, InvalidSyntax, parse_did

LIFETIME_SECONDS: Final = 12 * 3_600
MAX_COOKIE_CHARACTERS: Final = 4_096
CSRF_HEADER: Final = b"x-csrf-token"
CSRF_FIELD: Final = "csrf_token"
"""The form field in which pages send what scripts send as header."""

_ID_BYTES: Final = 16
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that signed in as `did`; `expires` is seconds since 1970."""

    did: Did
    id: str
    expires: int


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session, and the value of the `Set-Cookie` header that makes the browser keep it."""

    session: Session
    set_cookie: str = field(repr=False)


class CookieSessions:
    """Issues, reads and clears sessions, with keys derived from the master key."""

    def __init__(
        self,
        master_key: bytes,
        public_url: str,
        *,
        clock: Callable[[], datetime],
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
        lifetime_seconds: int = LIFETIME_SECONDS,
    ) -> None:
        self._cookie_key = derive_key(master_key, "cookie session")
        self._csrf_key = derive_key(master_key, "csrf token")
        self._origins = own_origins(public_url)
        self._secure = public_url.startswith("https://")
        self._clock = clock
        self._random_bytes = random_bytes
        self._lifetime = lifetime_seconds
        # Browsers take a __Host- cookie from this very host only, so that a neighbouring host cannot plant one.
        self.cookie_name = "__Host-stratos_session" if self._secure else "stratos_session"

    def issue(self, did: Did) -> NewSession:
        """Begin a session for an account that has just proven itself."""
        expires = int(self._clock().timestamp()) + self._lifetime
        session = Session(did, encode_base64url(self._random_bytes(_ID_BYTES)), expires)
        content = encode_base64url(orjson.dumps([session.did, session.id, session.expires]))
        return NewSession(session, self._set_cookie(f"{content}.{self._mac(self._cookie_key, content)}", self._lifetime))

    def clear(self) -> str:
        """The value of the `Set-Cookie` header that makes the browser forget its session."""
        return self._set_cookie("", 0)

    def read(self, head: RequestHead) -> Session | None:
        """The session of a request; None where it has no session cookie.

        Raises XrpcError 401, which clears the cookie, for one that is expired, not ours, or there twice.
        """
        found = [value for name, value in _cookies(head) if name == self.cookie_name]
        if not found:
            return None
        session = self._opened(found[0]) if len(found) == 1 else None
        if session is None or session.expires <= self._clock().timestamp():
            headers = {"Set-Cookie": self.clear()}
            raise XrpcError(UNAUTHORIZED, "AuthenticationRequired", "Session expired", headers)
        return session

    def csrf_token(self, session: Session) -> str:
        """What our pages must send along with whatever changes something; it holds for this session only."""
        return self._mac(self._csrf_key, session.id)

    def check_csrf(self, session: Session, presented: str | None) -> None:
        """Raises XrpcError 403 unless the request comes from one of our pages."""
        if presented is None or not hmac.compare_digest(presented.encode(), self.csrf_token(session).encode()):
            raise XrpcError(FORBIDDEN, "InvalidCsrfToken", "The CSRF token is missing or not of this session")

    def check_origin(self, head: RequestHead) -> None:
        """Raises XrpcError 403 where the browser says that another site is asking."""
        origin = head.header(b"origin")
        if origin is not None and web_origin(origin) not in self._origins:
            raise XrpcError(FORBIDDEN, "InvalidOrigin", "Sessions are for the pages of this service")

    def _opened(self, cookie: str) -> Session | None:
        content, _, mac = cookie.partition(".")
        if len(cookie) > MAX_COOKIE_CHARACTERS or not cookie.isascii():
            return None
        if not hmac.compare_digest(mac, self._mac(self._cookie_key, content)):
            return None
        try:
            match orjson.loads(decode_base64url(content)):
                case [str(did), str(session_id), int(expires)]:
                    return Session(parse_did(did), session_id, expires)
        except (MalformedToken, orjson.JSONDecodeError, InvalidSyntax):
            return None
        return None

    def _mac(self, key: bytes, content: str) -> str:
        return encode_base64url(hmac.digest(key, content.encode(), sha256))

    def _set_cookie(self, value: str, max_age: int) -> str:
        secure = "; Secure" if self._secure else ""
        return f"{self.cookie_name}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax{secure}"


class SessionVerifier:
    """Verifies the session cookie of a request that carries no other credential.

    Whatever changes something needs the CSRF token of the session as `X-CSRF-Token` header too.
    """

    def __init__(self, sessions: CookieSessions) -> None:
        self._sessions = sessions

    async def verify(self, head: RequestHead, nsid: str) -> Credential | None:  # noqa: ARG002 - good for every method
        """The user; None without a session cookie. Raises XrpcError where it does not hold, or another site is asking."""
        if head.authorization_count or head.query_value("syncToken") is not None:
            return None
        session = self._sessions.read(head)
        if session is None:
            return None
        self._sessions.check_origin(head)
        if head.verb not in _SAFE:
            self._sessions.check_csrf(session, head.header(CSRF_HEADER))
        return User(session.did)


def _cookies(head: RequestHead) -> list[tuple[str, str]]:
    # HTTP/2 lets a browser send every cookie as a header of its own (RFC 9113 §8.2.3).
    pairs = (part.partition("=") for header in head.header_values(b"cookie") for part in header.split(";"))
    return [(name.strip(), value.strip()) for name, _, value in pairs]
