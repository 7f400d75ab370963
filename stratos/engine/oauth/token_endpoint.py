"""What a client asks of an authorization server directly: pushed requests, tokens, revocation.

Sources: RFC 9126, RFC 6749 §4.1.3 and §6, RFC 7009; https://atproto.com/specs/oauth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlencode

import orjson
from authlib.oauth2.rfc6749.parameters import prepare_token_request

from stratos.engine.identity import Answer, OutgoingError
from stratos.engine.oauth.dpop import JTI_BYTES, DpopHttp, DpopKey, base64url, error_name
from stratos.engine.oauth.errors import PdsUnavailable
from stratos.engine.oauth.registration import Registration
from stratos.engine.oauth.sealed import TokenSet
from stratos.engine.oauth.server_metadata import AuthorizationServer

MAX_ANSWER_BYTES: Final = 64 * 1024
MAX_TOKEN_CHARACTERS: Final = 8 * 1024
MAX_REQUEST_URI_CHARACTERS: Final = 1_024
MAX_REASON_CHARACTERS: Final = 200
DEFAULT_LIFETIME: Final = timedelta(minutes=5)
"""Of an access token whose answer does not tell."""
LONGEST_LIFETIME: Final = timedelta(days=1)
LONGEST_WAIT: Final = 86_400.0
"""Seconds; a server that asks us to wait longer is not believed."""
_OK: Final = 200
_CREATED: Final = 201
_TOO_MANY: Final = 429
_SERVER_FAULT: Final = 500
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}


class Refused(Exception):
    """The server answers no; `error` is its OAuth error name, or empty."""

    def __init__(self, message: str, error: str) -> None:
        super().__init__(message)
        self.error = error


class BadAnswer(Exception):
    """The server answers yes, but not with what it has to answer."""


class Grant:
    """A token answer as it came, read before it is believed. Raises BadAnswer where it is not one."""

    def __init__(self, body: bytes, *, now: datetime) -> None:
        match _json_object(body):
            case {"access_token": str(access), "refresh_token": str(refresh), "token_type": str(kind), "sub": str(sub), **rest}:
                pass
            case _:
                raise BadAnswer("a token answer without access_token, refresh_token, token_type or sub")
        if kind.lower() != "dpop":
            raise BadAnswer("tokens that are not bound to our key")
        if not 0 < len(access) <= MAX_TOKEN_CHARACTERS or not 0 < len(refresh) <= MAX_TOKEN_CHARACTERS:
            raise BadAnswer(f"a token that is empty or longer than {MAX_TOKEN_CHARACTERS} characters")
        if not (access + refresh).isascii() or not (access + refresh).isprintable():
            raise BadAnswer("a token with characters that no header can hold")
        scope = rest.get("scope")
        self.subject = sub
        self.tokens = TokenSet(access, refresh, scope if isinstance(scope, str) else "", now + _lifetime(rest.get("expires_in")))


class TokenEndpoint:
    """Speaks with authorization servers as the registered client."""

    def __init__(
        self,
        dpop: DpopHttp,
        registration: Registration,
        *,
        clock: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._dpop = dpop
        self._registration = registration
        self._clock = clock
        self._random_bytes = random_bytes

    async def push(self, server: AuthorizationServer, key: DpopKey, fields: Mapping[str, str]) -> str:
        """Push an authorization request; its `request_uri`. Raises Refused, BadAnswer, PdsUnavailable."""
        answer = await self._post(server, server.pushed_request_endpoint, key, urlencode(fields))
        if answer.status not in {_OK, _CREATED}:
            raise _refusal(answer)
        match _json_object(answer.body):
            case {"request_uri": str(request_uri)} if len(request_uri) <= MAX_REQUEST_URI_CHARACTERS:
                return request_uri
        raise BadAnswer("an answer without a request_uri that a browser can take along")

    async def exchange(self, server: AuthorizationServer, key: DpopKey, *, code: str, verifier: str, redirect_uri: str) -> Grant:
        """Tokens for a code. Raises Refused, BadAnswer, PdsUnavailable."""
        fields = prepare_token_request("authorization_code", redirect_uri=redirect_uri, code=code, code_verifier=verifier)
        return self._grant(await self._post(server, server.token_endpoint, key, fields))

    async def refresh(self, server: AuthorizationServer, key: DpopKey, token: str) -> Grant:
        """New tokens for a refresh token, which is used up by it. Raises Refused, BadAnswer, PdsUnavailable."""
        fields = prepare_token_request("refresh_token", refresh_token=token)
        return self._grant(await self._post(server, server.token_endpoint, key, fields))

    async def revoke(self, server: AuthorizationServer, key: DpopKey, token: str) -> bool:
        """Have the server forget a token and all that goes with it; whether it says that it has. Raises PdsUnavailable."""
        if server.revocation_endpoint is None:
            return False
        answer = await self._post(server, server.revocation_endpoint, key, urlencode({"token": token}))
        return answer.status == _OK

    def _grant(self, answer: Answer) -> Grant:
        if answer.status != _OK:
            raise _refusal(answer)
        return Grant(answer.body, now=self._clock())

    async def _post(self, server: AuthorizationServer, url: str, key: DpopKey, fields: str) -> Answer:
        jti = base64url(self._random_bytes(JTI_BYTES))
        credentials = self._registration.credentials(server.issuer, jti=jti, now=self._clock())
        body = f"{urlencode(credentials)}&{fields}".encode()
        try:
            answer = await self._dpop.request(key, "POST", url, headers=_FORM, body=body, max_bytes=MAX_ANSWER_BYTES)
        except OutgoingError as error:
            raise PdsUnavailable(str(error)) from error
        if answer.status >= _SERVER_FAULT or answer.status == _TOO_MANY:
            raise PdsUnavailable(f"{url} answers {answer.status}", retry_after=retry_after(answer))
        return answer


def retry_after(answer: Answer) -> float | None:
    """How many seconds the server asks us to wait."""
    text = answer.headers.get("retry-after", "")
    return min(float(text), LONGEST_WAIT) if text.isascii() and text.isdecimal() else None


def _refusal(answer: Answer) -> Refused:
    error = error_name(answer) or ""
    said = _json_object(answer.body).get("error_description")
    reason = said if isinstance(said, str) else f"status {answer.status}"
    return Refused(f"{error}: {reason}"[:MAX_REASON_CHARACTERS], error)


def _json_object(body: bytes) -> Mapping[str, object]:
    """The JSON object in a body; an empty one where it holds none."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _lifetime(expires_in: object) -> timedelta:
    if isinstance(expires_in, bool) or not isinstance(expires_in, int | float) or expires_in < 0:
        return DEFAULT_LIFETIME
    return min(timedelta(seconds=min(expires_in, LONGEST_LIFETIME.total_seconds())), LONGEST_LIFETIME)
