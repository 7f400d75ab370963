"""hypercorn's HTTP/1.1 machine, adjusted: HTTP/1.1 only, no websocket compression, one write per short response, bounded input.

What hypercorn 0.18 leaves open and is closed here: an unread request body blocks the end of its own response; a flood of
websocket messages is collected in memory; compression is agreed on and then paid for with every frame to every subscriber; HTTP/2
is spoken on request.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import h11
import structlog
import trio
from hypercorn.config import Config
from hypercorn.events import Closed
from hypercorn.protocol.h11 import H11Protocol, H11WSConnection
from hypercorn.protocol.ws_stream import FrameTooLargeError, WebsocketBuffer, WSStream
from hypercorn.typing import (
    ASGIReceiveEvent,
    ASGISendEvent,
    H11SendableEvent,
    HTTPDisconnectEvent,
    Scope,
    WebsocketDisconnectEvent,
)
from structlog.typing import FilteringBoundLogger
from wsproto.events import Message

from stratos.api.errors import BAD_REQUEST, NOT_IMPLEMENTED

_HTTP_GONE: Final[HTTPDisconnectEvent] = {"type": "http.disconnect"}
_WEBSOCKET_GONE: Final[WebsocketDisconnectEvent] = {"type": "websocket.disconnect", "code": 1006}
_DISCONNECTS: Final = frozenset({"http.disconnect", "websocket.disconnect"})

_log: FilteringBoundLogger = structlog.get_logger(__name__)

Receive = Callable[[], Awaitable[ASGIReceiveEvent]]
Send = Callable[[ASGISendEvent], Awaitable[None]]


class AsgiApp(Protocol):
    """An ASGI application for HTTP and websockets; there is no lifespan, the composition root starts and stops things."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class PeerMisbehaved(Exception):
    """The peer went on after it was told to stop; its connection is dropped."""


class Http1Protocol(H11Protocol):
    """One connection's HTTP/1.1 state; a response's head travels with the first bytes of its body."""

    _head = b""

    @property
    def upgraded(self) -> bool:
        """Whether the peer asked for a websocket; then nothing but this is spoken until the end."""
        return isinstance(self.connection, H11WSConnection)

    @property
    def upgrade_failed(self) -> bool:
        """Whether an upgrade was answered with an error; hypercorn then waits for the peer to leave, and tells nobody of it."""
        return isinstance(self.stream, WSStream) and self.stream.closed

    async def _check_protocol(self, event: h11.Request) -> None:
        """Stay with HTTP/1.1: requests to switch to HTTP/2 are answered as if they had not asked."""

    async def _create_stream(self, request: h11.Request) -> None:
        if _is_framed_twice(request):
            await self._send_error_response(BAD_REQUEST)
            await self.send(Closed())
            return
        if any(name == b"upgrade" for name, _ in request.headers):
            request = h11.Request(
                method=request.method,
                target=request.target,
                headers=[header for header in request.headers if header[0] != b"sec-websocket-extensions"],
                http_version=request.http_version,
            )
        await super()._create_stream(request)
        if isinstance(self.stream, WSStream):
            self.stream.buffer = DiscardingBuffer(self.config.websocket_max_message_size)

    async def _send_error_response(self, status_code: int) -> None:
        """Refuse what is no proper request; an unknown transfer coding too is a fault of its sender, not of ours."""
        await super()._send_error_response(BAD_REQUEST if status_code == NOT_IMPLEMENTED else status_code)

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        if not isinstance(event, h11.Response):
            await super()._send_h11_event(event)
            return
        try:
            self._head += self.connection.send(event)
        except h11.LocalProtocolError:
            if self.connection.their_state is not h11.ERROR:
                raise

    def take_head(self) -> bytes:
        """The head that waits for the first bytes of the body."""
        head, self._head = self._head, b""
        return head


def _is_framed_twice(request: h11.Request) -> bool:
    """Whether a body's length is told in two ways: what stands before us may have read the other one (RFC 9112 §6.1)."""
    names = {name for name, _ in request.headers}
    return b"transfer-encoding" in names and b"content-length" in names


class DiscardingBuffer(WebsocketBuffer):
    """Counts an incoming message instead of keeping it: subscribers have nothing to say."""

    _overflowed = False

    def extend(self, event: Message[bytes | bytearray] | Message[str]) -> None:
        """Raises FrameTooLargeError once a message is too large, and PeerMisbehaved when the peer then goes on sending."""
        if self._overflowed:
            raise PeerMisbehaved("sent more after its message was refused as too large")
        self.length += len(event.data)
        if self.length > self.max_length:
            self._overflowed = True
            raise FrameTooLargeError

    def to_message(self) -> dict[str, object]:
        """The finished message, without its content."""
        return {"type": "websocket.receive", "bytes": b"", "text": None}


class AppQueue:
    """Messages to one run of the application: bounded while it reads, free once it has finished, never full for a disconnect."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._messages: deque[ASGIReceiveEvent] = deque()
        self._room = trio.lowlevel.ParkingLot()
        self._arrived = trio.lowlevel.ParkingLot()
        self._finished = False
        self.peer_left = False

    async def put(self, message: ASGIReceiveEvent) -> None:
        """Hand a message over; waits while the queue is full. Messages to a finished application go nowhere."""
        while len(self._messages) >= self._limit and not self._finished and message["type"] not in _DISCONNECTS:
            await self._room.park()
        if not self._finished:
            self.peer_left = self.peer_left or message["type"] in _DISCONNECTS
            self._messages.append(message)
            self._arrived.unpark()

    async def receive(self) -> ASGIReceiveEvent:
        """The next message; after a disconnect, that again."""
        while not self._messages:
            await self._arrived.park()
        if self._messages[0]["type"] in _DISCONNECTS:
            return self._messages[0]
        self._room.unpark()
        return self._messages.popleft()

    def finish(self) -> None:
        """The application has returned."""
        self._finished = True
        self._messages.clear()
        self._room.unpark_all()


class AppTasks:
    """Runs the application for a connection's requests, in the connection's nursery; what hypercorn calls a task group."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._running: dict[AppQueue, ASGIReceiveEvent] = {}
        self._ended = trio.lowlevel.ParkingLot()

    async def spawn_app(
        self, app: AsgiApp, config: Config, scope: Scope, send: Callable[[ASGISendEvent | None], Awaitable[None]]
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Start the application on one request; returns how to give it messages."""
        queue = AppQueue(config.max_app_queue_size)
        self._running[queue] = _WEBSOCKET_GONE if scope["type"] == "websocket" else _HTTP_GONE
        self._nursery.start_soon(self._run_app, app, scope, queue, send)
        return queue.put

    def spawn(self, task: Callable[..., Awaitable[object]], *arguments: object) -> None:
        """Start another task of the connection; hypercorn does so for its own pings, which are off."""
        self._nursery.start_soon(task, *arguments)

    async def finish(self) -> None:
        """Tell the application that the peer has left, and wait until it has returned."""
        for queue, gone in self._running.items():
            await queue.put(gone)
        while self._running:
            await self._ended.park()

    async def _run_app(
        self, app: AsgiApp, scope: Scope, queue: AppQueue, send: Callable[[ASGISendEvent | None], Awaitable[None]]
    ) -> None:
        async def send_or_yield(message: ASGISendEvent) -> None:
            # To a peer that has left, hypercorn's send does nothing, at once: who sends in a loop would never let go.
            if queue.peer_left:
                await trio.lowlevel.checkpoint()
            await send(message)

        try:
            try:
                await app(scope, queue.receive, send_or_yield)
            finally:
                queue.finish()
                await send(None)
        finally:
            del self._running[queue]
            self._ended.unpark_all()
