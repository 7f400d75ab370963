"""Requests that prove possession of a key: DPoP, with the nonces that servers demand.

Sources: RFC 9449; https://atproto.com/specs/oauth (ES256, a fresh key per session, nonces mandatory).
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from stratos.engine.identity import Answer
from stratos.engine.oauth.ports import Http

ALGORITHM: Final = "ES256"
MAX_NONCES: Final = 1024
"""Servers whose last nonce is remembered; forgetting one costs a round trip."""
MAX_NONCE_CHARACTERS: Final = 512
JTI_BYTES: Final = 16
_NONCE_DEMANDED: Final = "use_dpop_nonce"
_DEMANDING_STATUS: Final = frozenset({400, 401})


def base64url(data: bytes) -> str:
    """Base64 for URLs, without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


class DpopKey:
    """The key that a session's tokens are bound to. It never leaves us but sealed."""

    def __init__(self, key: ECKey) -> None:
        self._key = key
        self._public = key.as_dict(private=False)

    @classmethod
    def generate(cls) -> DpopKey:
        """A new P-256 key."""
        return cls(ECKey.generate_key("P-256", private=True))

    @classmethod
    def from_jwk(cls, jwk: object) -> DpopKey:
        """Read what `as_jwk` gave. Raises ValueError."""
        if not isinstance(jwk, dict):
            raise ValueError("a DPoP key is a JSON object")
        try:
            key = ECKey.import_key(jwk)
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise ValueError("this is no DPoP key") from error
        if not key.is_private or key.curve_name != "P-256":
            raise ValueError("a DPoP key is a private P-256 key")
        return cls(key)

    def as_jwk(self) -> dict[str, str]:
        """The private key, to be sealed and stored."""
        return {name: str(value) for name, value in self._key.as_dict(private=True).items()}

    @property
    def thumbprint(self) -> str:
        """RFC 7638; what a server binds tokens to."""
        return self._key.thumbprint()

    def proof(self, method: str, url: str, *, jti: str, issued_at: datetime, nonce: str | None, token: str | None) -> str:
        """A proof for one request; with `token` also for the use of this access token."""
        claims: dict[str, str | int] = {
            "jti": jti,
            "htm": method,
            "htu": _without_query(url),
            "iat": int(issued_at.timestamp()),
        }
        if nonce is not None:
            claims["nonce"] = nonce
        if token is not None:
            claims["ath"] = base64url(hashlib.sha256(token.encode()).digest())
        header = {"typ": "dpop+jwt", "alg": ALGORITHM, "jwk": self._public}
        return jwt.encode(header, dict(claims), self._key, algorithms=[ALGORITHM])


class DpopHttp:
    """Sends requests with a proof each, remembers servers' last nonces, and asks again once when a server demands a newer one."""

    def __init__(self, http: Http, *, clock: Callable[[], datetime], random_bytes: Callable[[int], bytes]) -> None:
        """`random_bytes` gives that many unpredictable bytes."""
        self._http = http
        self._clock = clock
        self._random_bytes = random_bytes
        self._nonces: OrderedDict[str, str] = OrderedDict()
        self._retries = 0

    async def request(
        self,
        key: DpopKey,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        token: str | None = None,
        max_bytes: int | None = None,
    ) -> Answer:
        """Ask with a proof, and with the access token if given. Redirects are not followed. Raises OutgoingError."""
        answer = await self._attempt(key, method, url, headers or {}, body, token, max_bytes)
        if _demands_nonce(answer):
            self._retries += 1
            answer = await self._attempt(key, method, url, headers or {}, body, token, max_bytes)
        return answer

    def statistics(self) -> Mapping[str, int]:
        """Servers whose nonce is remembered, their limit, and requests repeated for a nonce."""
        return {"nonces": len(self._nonces), "nonces_limit": MAX_NONCES, "nonce_retries_total": self._retries}

    async def _attempt(
        self,
        key: DpopKey,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        token: str | None,
        max_bytes: int | None,
    ) -> Answer:
        origin = _origin(url)
        proof = key.proof(
            method,
            url,
            jti=base64url(self._random_bytes(JTI_BYTES)),
            issued_at=self._clock(),
            nonce=self._nonces.get(origin),
            token=token,
        )
        sent = {**headers, "DPoP": proof, **({} if token is None else {"Authorization": f"DPoP {token}"})}
        answer = await self._http.request(method, url, headers=sent, body=body, max_bytes=max_bytes, max_redirects=0)
        self._remember(origin, answer.headers.get("dpop-nonce"))
        return answer

    def _remember(self, origin: str, nonce: str | None) -> None:
        if not nonce or len(nonce) > MAX_NONCE_CHARACTERS:
            return
        self._nonces[origin] = nonce
        self._nonces.move_to_end(origin)
        if len(self._nonces) > MAX_NONCES:
            self._nonces.popitem(last=False)


def error_name(answer: Answer) -> str | None:
    """The `error` of a JSON answer, as OAuth and XRPC both name it."""
    try:
        value = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return None
    name = value.get("error") if isinstance(value, dict) else None
    return name if isinstance(name, str) else None


def _demands_nonce(answer: Answer) -> bool:
    if answer.status not in _DEMANDING_STATUS or "dpop-nonce" not in answer.headers:
        return False
    return error_name(answer) == _NONCE_DEMANDED or _NONCE_DEMANDED in answer.headers.get("www-authenticate", "")


def _without_query(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()
