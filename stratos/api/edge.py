"""What holds for every answer, whoever gives it: trace id, CORS, the access log line, and the sending itself.

Source: service spec §0.4.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Final

import structlog
from hypercorn.typing import ASGISendEvent
from structlog.typing import FilteringBoundLogger

from stratos.api.request import RequestHead

NO_CONTENT: Final = 204
_MAX_TRACE_ID: Final = 128

Header = tuple[bytes, bytes]
Send = Callable[[ASGISendEvent], Awaitable[None]]

_CORS: Final[tuple[Header, ...]] = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"DPoP-Nonce,WWW-Authenticate,x-trace-id"),
)
_PREFLIGHT: Final[tuple[Header, ...]] = (
    (b"access-control-allow-methods", b"GET,HEAD,PUT,PATCH,POST,DELETE"),
    (b"vary", b"Access-Control-Request-Headers"),
    (b"content-length", b"0"),
)

_access_log: FilteringBoundLogger = structlog.get_logger("stratos.api.access")


class Exchange:
    """One request and the answer to it; sends the answer with the headers that every answer carries."""

    def __init__(self, head: RequestHead, send: Send, trace_id: str, more: Mapping[str, str] | None = None) -> None:
        """`more` are headers for every answer to this request, unless the answer brings its own."""
        self.head = head
        self.trace_id = trace_id
        self.status = 0
        """The status that was sent; 0 before."""
        self._send = send
        self._more = [(name.lower().encode(), value.encode("latin-1")) for name, value in (more or {}).items()]

    async def send(self, message: ASGISendEvent) -> None:
        """As the server's own send, with the common headers added; for a framework that answers by itself."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message["headers"], *self._common_headers(message["headers"])]}
        await self._send(message)

    async def start(self, status: int, content_type: str, headers: Collection[Header] = ()) -> None:
        """Begin an answer; its length, where known, is among the headers."""
        self.status = status
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(b"content-type", content_type.encode()), *headers, *self._common_headers(headers)],
            }
        )

    async def write(self, chunk: bytes, *, last: bool = False) -> None:
        """Send a part of the answer."""
        await self._send({"type": "http.response.body", "body": chunk, "more_body": not last})

    async def answer(self, status: int, content_type: str, body: bytes, headers: Iterable[Header] = ()) -> None:
        """Send a whole answer."""
        await self.start(status, content_type, [(b"content-length", b"%d" % len(body)), *headers])
        await self.write(body, last=True)

    async def preflight(self) -> None:
        """Answer a CORS preflight: whatever headers the browser asks for are allowed."""
        self.status = NO_CONTENT
        asked = self.head.header(b"access-control-request-headers")
        allowed = [] if asked is None else [(b"access-control-allow-headers", asked.encode("latin-1"))]
        headers = [*_PREFLIGHT, *allowed, *self._common_headers(())]
        await self._send({"type": "http.response.start", "status": NO_CONTENT, "headers": headers})
        await self.write(b"", last=True)

    def log(self, seconds: float) -> None:
        """The access log line. The query is left out: it may hold a token."""
        _access_log.info(
            "http request completed",
            method=self.head.verb,
            path=self.head.path,
            status=self.status,
            durationMs=round(seconds * 1000, 2),
            traceId=self.trace_id,
        )

    def _common_headers(self, brought: Iterable[Header]) -> tuple[Header, ...]:
        names = {name.lower() for name, _ in brought}
        more = (header for header in self._more if header[0] not in names)
        return (*_CORS, (b"x-trace-id", self.trace_id.encode("latin-1")), *more)


def trace_id_of(head: RequestHead, generate: Callable[[], str]) -> str:
    """The caller's `x-trace-id` where it is short, printable ASCII; else a fresh one."""
    given = head.header(b"x-trace-id")
    if given and len(given) <= _MAX_TRACE_ID and given.isascii() and given.isprintable():
        return given
    return generate()
