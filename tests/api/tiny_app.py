"""A small ASGI application and a server for it: what the server must bear does not depend on Stratos."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import trio
import trio.testing
from hypercorn.typing import Scope

from stratos.api.connection import ConnectionLimits
from stratos.api.http1 import Receive, Send
from stratos.api.server import HttpServer, ServerConfig

MEGABYTE = bytes(1024 * 1024)
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def get(path: str, *headers: str) -> bytes:
    """A request without a body."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: a", *headers, "", ""]).encode()


class TinyApp:
    """Answers by path; counts what it began and what it finished."""

    def __init__(self) -> None:
        self.stopping = trio.Event()
        self.release = trio.Event()
        self.entered = trio.Event()
        self.finished: list[str] = []

    def observe_server(self, server: HttpServer) -> None:
        """Not of interest here."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] != "lifespan"
        if scope["type"] == "websocket":
            await self._websocket(scope["path"], receive, send)
        elif scope["path"] == "/boom":
            raise RuntimeError("boom")
        else:
            await self._answer(scope["path"], receive, send)
        self.finished.append(scope["path"])

    async def _answer(self, path: str, receive: Receive, send: Send) -> None:
        body = b"hello"
        if path == "/echo":
            body = b""
            while (message := await receive())["type"] == "http.request":
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    break
        if path == "/slow":
            self.entered.set()
            await self.release.wait()
        chunks = [MEGABYTE] * 64 if path == "/big" else [body]
        length = sum(map(len, chunks))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % length)]})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _websocket(self, path: str, receive: Receive, send: Send) -> None:
        if path == "/slow":
            self.entered.set()
            await self.release.wait()
        await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._until_gone, receive, nursery.cancel_scope)
            nursery.start_soon(self._until_stopping, send, nursery.cancel_scope)
            while path == "/flood":
                await send({"type": "websocket.send", "bytes": MEGABYTE, "text": None})
            await trio.sleep_forever()

    async def _until_gone(self, receive: Receive, scope: trio.CancelScope) -> None:
        while (await receive())["type"] != "websocket.disconnect":
            pass
        scope.cancel()

    async def _until_stopping(self, send: Send, scope: trio.CancelScope) -> None:
        await self.stopping.wait()
        await send({"type": "websocket.close", "code": 1001, "reason": ""})
        scope.cancel()


@dataclass
class Served:
    """The served application."""

    app: TinyApp
    server: HttpServer
    urls: tuple[str, ...]
    stopped: trio.Event
    scope: trio.CancelScope
    streams: list[trio.SocketStream] = field(default_factory=list)

    async def connect(self, url: str | None = None) -> trio.SocketStream:
        """A bare connection; it is closed at the end of the test at the latest."""
        parts = urlsplit(url or self.urls[0])
        self.streams.append(await trio.open_tcp_stream(parts.hostname or "", parts.port or 0))
        return self.streams[-1]

    async def ask(self, request: bytes) -> bytes:
        """Send a request on a connection of its own and read whatever comes until the server closes it."""
        async with await self.connect() as stream:
            await stream.send_all(request)
            return await read_all(stream)

    async def is_well(self) -> bool:
        """Whether a new connection is served."""
        return (await self.ask(get("/", "Connection: close"))).endswith(b"hello")

    async def count(self, name: str) -> int:
        """One of the server's figures, once everything has settled."""
        await trio.testing.wait_all_tasks_blocked()
        return self.server.statistics()[name]


async def read_all(stream: trio.SocketStream) -> bytes:
    """Everything until the peer ends or breaks the connection."""
    received = b""
    try:
        while data := await stream.receive_some(65536):
            received += data
    except trio.BrokenResourceError:
        pass
    return received


@asynccontextmanager
async def served(
    *,
    binds: tuple[str, ...] = ("127.0.0.1:0",),
    max_connections: int = 100,
    graceful: float = 8.0,
    limits: ConnectionLimits | None = None,
) -> AsyncIterator[Served]:
    """Serve the tiny application for the block."""
    app = TinyApp()
    config = ServerConfig(binds=binds, max_connections=max_connections, graceful=graceful, limits=limits or ConnectionLimits())
    server = HttpServer(app, config)
    scope, stopped = trio.CancelScope(), trio.Event()

    async def run(task_status: trio.TaskStatus[tuple[str, ...]]) -> None:
        with scope:
            await server.run(task_status=task_status)
        stopped.set()

    async with trio.open_nursery() as nursery:
        served = Served(app, server, await nursery.start(run), stopped, scope)
        try:
            yield served
        finally:
            for stream in served.streams:
                await stream.aclose()
            app.stopping.set()
            app.release.set()
