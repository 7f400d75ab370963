"""How this library asks over HTTP: one protocol that any HTTP client can fill, and the one that comes with httpx on trio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

import httpx
import trio

from stratos.client.errors import NoAnswer
from stratos.core.fault_text import describe
from stratos.transport.http_body import read_chunks

DEFAULT_TIMEOUT_SECONDS: Final = 15.0
"""For a whole answer, from connecting to the last byte."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request to an absolute URL. An answer of more than `max_answer_bytes` is none."""

    method: str
    url: str
    max_answer_bytes: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A whole answer, whatever its status; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class Fetch(Protocol):
    """Sends one request and reads the whole answer.

    Write one of your own to bring a session along: an OAuth client with DPoP signs here, for exactly the URL of the request. It
    must keep to `max_answer_bytes`, bound its time, never follow a redirect, and raise NoAnswer where no answer comes.
    """

    async def __call__(self, request: HttpRequest) -> HttpAnswer: ...


class HttpxFetch:
    """Asks with an `httpx.AsyncClient`, which is the caller's to configure (sign-in headers, `httpx.Auth`, TLS) and to close.

    Redirects are never followed: whoever could redirect us could collect credentials, or choose whose key we believe.
    """

    def __init__(self, client: httpx.AsyncClient, *, timeout: float = DEFAULT_TIMEOUT_SECONDS) -> None:
        """`timeout` in seconds bounds a whole answer."""
        self._client = client
        self._timeout = timeout

    async def __call__(self, request: HttpRequest) -> HttpAnswer:
        """Send the request. Raises NoAnswer. Cancellation closes the connection."""
        body = bytearray()

        def take(chunk: bytes) -> None:
            body.extend(chunk)
            if len(body) > request.max_answer_bytes:
                raise NoAnswer(f"{request.url} answers more than {request.max_answer_bytes} bytes")

        try:
            with trio.fail_after(self._timeout):
                async with self._client.stream(
                    request.method,
                    request.url,
                    headers={"Accept-Encoding": "identity", **request.headers},
                    content=request.body,
                    follow_redirects=False,
                    timeout=self._timeout,
                ) as response:
                    if response.headers.get("content-encoding", "identity").lower() != "identity":
                        raise NoAnswer(f"{request.url} answers in an encoding that was not asked for")
                    await read_chunks(response.aiter_bytes(), take)
        except (httpx.HTTPError, httpx.InvalidURL, trio.TooSlowError) as error:
            raise NoAnswer(f"{request.method} {request.url}: {describe(error)}") from error
        return HttpAnswer(response.status_code, dict(response.headers.items()), bytes(body))


@asynccontextmanager
async def open_fetch(*, timeout: float = DEFAULT_TIMEOUT_SECONDS) -> AsyncIterator[HttpxFetch]:  # noqa: ASYNC109 - of each request
    """A fetch without any credentials, whose connections are closed with the block."""
    async with httpx.AsyncClient(trust_env=False) as client:
        yield HttpxFetch(client, timeout=timeout)
