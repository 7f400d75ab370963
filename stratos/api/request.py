"""What a request says, free of any framework: its head, and its body as it arrives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import parse_qs

import trio
from hypercorn.typing import ASGIReceiveEvent, HTTPScope, WebsocketScope

from stratos.api.errors import PAYLOAD_TOO_LARGE, REQUEST_TIMEOUT, XrpcError, invalid_request

MAX_QUERY_FIELDS: Final = 200

Receive = Callable[[], Awaitable[ASGIReceiveEvent]]


class RequestHead:
    """Method, path, headers and query of a request or of a websocket upgrade."""

    def __init__(self, scope: HTTPScope | WebsocketScope) -> None:
        self.verb: str = scope["method"] if scope["type"] == "http" else "GET"
        self.path = scope["path"]
        self._query_string = scope["query_string"]
        self._query: dict[str, list[str]] | None = None
        self._header_pairs = scope["headers"]
        self._headers: dict[bytes, bytes] = {}
        self.authorization_count = 0
        for name, value in self._header_pairs:
            self._headers.setdefault(name, value)
            self.authorization_count += name == b"authorization"

    def header(self, name: bytes) -> str | None:
        """The first header of that name (lower case)."""
        value = self._headers.get(name)
        return None if value is None else value.decode("latin-1")

    def header_values(self, name: bytes) -> list[str]:
        """Every header of that name (lower case), in order."""
        return [value.decode("latin-1") for known, value in self._header_pairs if known == name]

    @property
    def authorization(self) -> str | None:
        """The `Authorization` header; `authorization_count` says how many there are."""
        return self.header(b"authorization")

    @property
    def query(self) -> Mapping[str, list[str]]:
        """Every query parameter's values in order. Raises XrpcError where it is not UTF-8 or has too many of them."""
        if self._query is None:
            try:
                text = self._query_string.decode("ascii")
                self._query = parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_QUERY_FIELDS)
            except ValueError:
                raise invalid_request("Malformed query string") from None
        return self._query

    def query_value(self, name: str) -> str | None:
        """The last value of a query parameter."""
        values = self.query.get(name)
        return values[-1] if values else None


class RequestBody:
    """A request's body: read at most once, within a size and a time.

    A handler may answer without reading it; the connection then reads and discards what is still coming.
    """

    def __init__(self, head: RequestHead, receive: Receive) -> None:
        length = head.header(b"content-length")
        self.declared: int | None = int(length) if length else None
        self.present = length is not None or head.header(b"transfer-encoding") is not None
        self._receive = receive
        self._complete = False

    @property
    def has_content(self) -> bool:
        """Whether the head announces at least one byte, as far as it says."""
        return self.present and self.declared != 0

    async def read(self, *, max_bytes: int, seconds: float) -> bytes:
        """The whole body.

        Raises XrpcError 413 as soon as it is known to be larger than `max_bytes`, 408 when it takes longer than `seconds`, and
        400 when the peer goes away before its end.
        """
        if self.declared is not None and self.declared > max_bytes:
            raise XrpcError(PAYLOAD_TOO_LARGE, "PayloadTooLarge", "request entity too large")
        chunks: list[bytes] = []
        size = 0
        with trio.move_on_after(seconds) as within:
            while not self._complete:
                chunk = await self._next_chunk()
                size += len(chunk)
                if size > max_bytes:
                    raise XrpcError(PAYLOAD_TOO_LARGE, "PayloadTooLarge", "request entity too large")
                chunks.append(chunk)
        if within.cancelled_caught:
            raise XrpcError(REQUEST_TIMEOUT, "RequestTimeout", "The request body did not arrive in time")
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def discard(self, *, max_bytes: int, seconds: float) -> None:
        """Read and forget the rest, if it is short and comes soon, so that the connection can be used again."""
        if self.declared is None or self.declared > max_bytes:
            return
        with trio.move_on_after(seconds), suppress(XrpcError):
            while not self._complete:
                await self._next_chunk()

    async def _next_chunk(self) -> bytes:
        message = await self._receive()
        if message["type"] != "http.request":
            self._complete = True
            raise invalid_request("The request body ended early")
        self._complete = not message.get("more_body", False)
        return message.get("body", b"")
