"""XRPC websockets: accept, run the handler, close with a reason. Handlers know neither ASGI nor the framework."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog
import trio
from hypercorn.typing import ASGISendEvent
from structlog.typing import FilteringBoundLogger

from stratos.api.request import Receive, RequestHead

GOING_AWAY: Final = 1001
POLICY_VIOLATION: Final = 1008
INTERNAL_ERROR: Final = 1011
CLOSE_SECONDS: Final = 2.0
"""How long the peer may take to answer our close."""

_log: FilteringBoundLogger = structlog.get_logger(__name__)

Send = Callable[[ASGISendEvent], Awaitable[None]]
SendFrame = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Farewell:
    """How a socket is closed: a last frame, if any, then the close code and its reason."""

    code: int
    reason: str = ""
    frame: bytes | None = None


SocketHandler = Callable[[RequestHead, SendFrame], Awaitable[Farewell]]
"""Serves one accepted socket by sending frames, until it says farewell. Cancelled when the peer leaves or the server stops."""


async def serve_socket(
    handler: SocketHandler, head: RequestHead, receive: Receive, send: Send, *, trace_id: str, stopping: trio.Event
) -> None:
    """Serve an upgrade from accept to close.

    What the peer sends is ignored; an error of the handler is logged and closes with 1011.
    """
    await send({"type": "websocket.accept", "subprotocol": None, "headers": [(b"x-trace-id", trace_id.encode("latin-1"))]})
    gone = trio.Event()
    farewell = Farewell(GOING_AWAY, "the service is shutting down")

    async def send_frame(frame: bytes) -> None:
        await send({"type": "websocket.send", "bytes": frame, "text": None})

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_ignore_incoming, receive, gone)
        async with trio.open_nursery() as serving:
            serving.start_soon(_cancel_once_set, stopping, serving.cancel_scope)
            serving.start_soon(_cancel_once_set, gone, serving.cancel_scope)
            try:
                farewell = await handler(head, send_frame)
            except Exception as error:  # noqa: BLE001 - the peer is told, whatever the handler does
                _log.error("subscription failed", path=head.path, traceId=trace_id, exc_info=error)
                farewell = Farewell(INTERNAL_ERROR)
            serving.cancel_scope.cancel()
        if not gone.is_set():
            if farewell.frame is not None:
                await send_frame(farewell.frame)
            await send({"type": "websocket.close", "code": farewell.code, "reason": farewell.reason})
            with trio.move_on_after(CLOSE_SECONDS):
                await gone.wait()
        nursery.cancel_scope.cancel()


async def refuse_socket(send: Send, status: int) -> None:
    """Refuse an upgrade with a plain HTTP status."""
    await send({"type": "websocket.http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
    await send({"type": "websocket.http.response.body", "body": b"", "more_body": False})


async def _ignore_incoming(receive: Receive, gone: trio.Event) -> None:
    while (await receive())["type"] != "websocket.disconnect":
        pass
    gone.set()


async def _cancel_once_set(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
