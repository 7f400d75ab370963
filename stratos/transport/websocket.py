"""Opening a websocket over the network by trio-websocket, contained: whatever happens, the connection is closed in the end."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import SplitResult, urlsplit, urlunsplit

import trio
import trio_websocket

_SOCKET_QUEUE_MESSAGES: Final = 64
_RECEIVE_BYTES: Final = 64 * 1024
_DEFAULT_PORTS: Final = {"ws": 80, "wss": 443}


class WebSocket(Protocol):
    """What a stream client needs of an open websocket."""

    async def get_message(self) -> str | bytes: ...
    async def ping(self, payload: bytes | None = None) -> None: ...


class Connect(Protocol):
    """Opens a websocket; the context closes it. `headers` are additional request headers."""

    def __call__(self, url: str, headers: Sequence[tuple[str, str]]) -> AbstractAsyncContextManager[WebSocket]: ...


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """Bounds of one websocket; durations are seconds."""

    connect_timeout: float = 15.0
    close_timeout: float = 2.0
    max_message_bytes: int = 16 * 1024 * 1024


def websocket_url(service_url: str, path: str, query: str) -> str:
    """The websocket address of a method of the service at this HTTP address."""
    parts = urlsplit(service_url)
    scheme = "wss" if parts.scheme in ("https", "wss") else "ws"
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + path, query, ""))


def websocket_connector(limits: SocketLimits, ssl_context: ssl.SSLContext | None = None) -> Connect:
    """Connections over the network, with TLS where the scheme is wss.

    Whatever goes wrong comes out of the context as an exception group: no connection, no answer in time, a refused upgrade, and
    the library's own errors, because it does not survive every byte that a broken peer can send.
    """

    @asynccontextmanager
    async def connect(url: str, headers: Sequence[tuple[str, str]]) -> AsyncIterator[WebSocket]:
        parts = urlsplit(url)
        async with trio.open_nursery() as nursery:
            with trio.fail_after(limits.connect_timeout):
                stream = await _open_stream(parts, ssl_context)
            try:
                with trio.fail_after(limits.connect_timeout):
                    socket = await trio_websocket.wrap_client_stream(
                        nursery,
                        stream,
                        parts.netloc.rpartition("@")[2],
                        f"{parts.path}?{parts.query}",
                        extra_headers=[(name.encode(), value.encode()) for name, value in headers],
                        max_message_size=limits.max_message_bytes,
                        message_queue_size=_SOCKET_QUEUE_MESSAGES,
                        receive_buffer_size=_RECEIVE_BYTES,
                    )
                try:
                    yield socket
                finally:
                    with trio.move_on_after(limits.close_timeout):
                        await socket.aclose()
            finally:
                nursery.cancel_scope.cancel()
                await trio.aclose_forcefully(stream)

    return connect


async def _open_stream(
    parts: SplitResult, ssl_context: ssl.SSLContext | None
) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]:
    host, port = parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]
    if parts.scheme == "wss":
        return await trio.open_ssl_over_tcp_stream(host, port, ssl_context=ssl_context, https_compatible=True)
    return await trio.open_tcp_stream(host, port)
