"""Calling XRPC methods of one host: directly, or through a PDS's proxy. Source: https://atproto.com/specs/xrpc."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final, Protocol, TypeAlias
from urllib.parse import urlencode

import orjson

from stratos.client.errors import NoAnswer, NotProxied, XrpcFailure
from stratos.client.http import Fetch, HttpAnswer, HttpRequest, open_fetch

MAX_JSON_BYTES: Final = 16 * 1024 * 1024
"""Of an answer; well above a page of a hundred records of the size that a service takes."""
MAX_MESSAGE_CHARACTERS: Final = 500
"""What is kept of a server's explanation."""
_OWN_METHODS: Final = "zone.stratos."
_JSON: Final = "application/json"
_is_seconds = re.compile(r"[0-9]{1,9}").fullmatch

Params: TypeAlias = Mapping[str, str | int | bool | None]
"""Query parameters; those that are None are left out."""


class Credentials(Protocol):
    """Where the `Authorization` header of a call comes from."""

    async def authorization(self, nsid: str, *, once: bool) -> str:
        """The header's value for a call of this method; with `once` the call uses its token up, as writes and streams do."""


class BearerToken:
    """One token for everything, such as a service's sync token."""

    __slots__ = ("_token",)

    def __init__(self, token: str) -> None:
        """Take the token without its scheme."""
        self._token = token

    async def authorization(self, nsid: str, *, once: bool) -> str:  # noqa: ARG002 - the protocol's signature
        """Always the same."""
        return f"Bearer {self._token}"

    def __repr__(self) -> str:
        return "<BearerToken>"


class XrpcHost:
    """The methods of the host at `url`.

    With `proxy` (`<service did>#<fragment>`) the host is the caller's PDS, which passes calls on in the caller's name; then only
    the `zone.stratos.*` methods can be called, because a PDS answers `com.atproto.*` itself: a private record would be published.
    """

    def __init__(self, url: str, fetch: Fetch, *, credentials: Credentials | None = None, proxy: str | None = None) -> None:
        """`credentials` are for what `fetch` does not bring along itself."""
        self._url = url.rstrip("/")
        self._fetch = fetch
        self._credentials = credentials
        self._proxy = proxy

    @property
    def url(self) -> str:
        """The host's address, without a slash at its end."""
        return self._url

    async def query(self, nsid: str, params: Params) -> Mapping[str, object]:
        """Call a query; gives its JSON object. Raises XrpcFailure, NoAnswer, NotProxied."""
        answer = await self._call("GET", nsid, params, None, _JSON, MAX_JSON_BYTES)
        return _object(nsid, answer.body)

    async def procedure(self, nsid: str, body: Mapping[str, object]) -> Mapping[str, object]:
        """Call a procedure; gives its JSON object. After NoAnswer nobody knows whether it was carried out.

        Raises XrpcFailure, NoAnswer, NotProxied.
        """
        answer = await self._call("POST", nsid, {}, orjson.dumps(body), _JSON, MAX_JSON_BYTES)
        return _object(nsid, answer.body)

    async def download(self, nsid: str, params: Params, *, accept: str, max_bytes: int) -> bytes:
        """Call a query that answers bytes. Raises XrpcFailure, NoAnswer, NotProxied."""
        return (await self._call("GET", nsid, params, None, accept, max_bytes)).body

    async def _call(self, method: str, nsid: str, params: Params, body: bytes | None, accept: str, max_bytes: int) -> HttpAnswer:
        headers = {"Accept": accept}
        if self._proxy is not None:
            if not nsid.startswith(_OWN_METHODS):
                raise NotProxied(f"{nsid} is answered by the PDS itself; only {_OWN_METHODS}* travel through a proxy")
            headers["atproto-proxy"] = self._proxy
        if body is not None:
            headers["Content-Type"] = _JSON
        if self._credentials is not None:
            headers["Authorization"] = await self._credentials.authorization(nsid, once=method != "GET")
        query = urlencode({name: _text(value) for name, value in params.items() if value is not None})
        url = f"{self._url}/xrpc/{nsid}{'?' if query else ''}{query}"
        answer = await self._fetch(HttpRequest(method, url, max_bytes, headers, body))
        if not 200 <= answer.status < 300:
            raise failure(nsid, answer)
        return answer


@asynccontextmanager
async def host_at(host: XrpcHost | str) -> AsyncIterator[XrpcHost]:
    """The host itself, or the one at this address, asked without credentials over connections that end with the block."""
    if isinstance(host, XrpcHost):
        yield host
    else:
        async with open_fetch() as fetch:
            yield XrpcHost(host, fetch)


def failure(doing: str, answer: HttpAnswer) -> XrpcFailure:
    """The error that an answer is."""
    try:
        body = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        body = None
    name, message = (body.get("error"), body.get("message")) if isinstance(body, dict) else (None, None)
    wait = answer.headers.get("retry-after", "")
    return XrpcFailure(
        answer.status,
        name[:MAX_MESSAGE_CHARACTERS] if isinstance(name, str) else "",
        message[:MAX_MESSAGE_CHARACTERS] if isinstance(message, str) else "",
        retry_after=float(wait) if _is_seconds(wait) else None,
        doing=doing,
    )


def _object(nsid: str, body: bytes) -> Mapping[str, object]:
    try:
        value = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError as error:
        raise NoAnswer(f"{nsid} answers no JSON") from error
    if not isinstance(value, dict):
        raise NoAnswer(f"{nsid} answers no JSON object")
    return value


def _text(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
