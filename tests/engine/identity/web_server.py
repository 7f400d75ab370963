"""An HTTP server on loopback whose every answer a test writes, byte by byte if it wants to. With or without TLS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import h11
import orjson
import trio

from tests.engine.identity.certificates import Authority

HOST: Final = "127.0.0.1"
READ_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Request:
    """What arrived; header names in lower case."""

    method: str
    host: str
    target: str
    headers: Mapping[str, str]
    body: bytes


Handler = Callable[[Request, trio.abc.Stream], Awaitable[None]]


def answer(body: bytes | str | object, status: int = 200, headers: Mapping[str, str] | None = None) -> Handler:
    """A whole answer: bytes and text as they are, anything else as JSON."""
    match body:
        case bytes():
            content = body
        case str():
            content = body.encode()
        case _:
            content = orjson.dumps(body)
    lines = {"Content-Length": str(len(content)), **(headers or {})}
    head = f"HTTP/1.1 {status} Whatever\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"

    async def handle(request: Request, stream: trio.abc.Stream) -> None:
        await stream.send_all(head.encode("latin-1") + content)

    return handle


def redirect(location: str, status: int = 302) -> Handler:
    """A redirect."""
    return answer("", status, {"Location": location})


async def hang_up(request: Request, stream: trio.abc.Stream) -> None:
    """Close the connection without a word."""
    await stream.aclose()


async def silence(request: Request, stream: trio.abc.Stream) -> None:
    """Say nothing at all, for ever."""
    await trio.sleep_forever()


class WebServer:
    """Handlers by host (without port) and target; what has none is 404. With an authority, it speaks TLS for any host asked."""

    def __init__(self, authority: Authority | None = None) -> None:
        self.handlers: dict[tuple[str, str], Handler] = {}
        self.requests: list[Request] = []
        self.asked: Counter[tuple[str, str]] = Counter()
        self.port = 0
        self.down = False
        """Whether it closes every connection at once."""
        self._authority = authority
        self._arrival = trio.lowlevel.ParkingLot()

    def on(self, host: str, target: str, handler: Handler) -> None:
        """Answer requests for this host and target."""
        self.handlers[host, target] = handler

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        [listener] = await trio.open_tcp_listeners(0, host=HOST)
        self.port = listener.socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(trio.serve_listeners, self._serve, [listener], handler_nursery=nursery))
            task_status.started()

    async def arrivals(self, count: int) -> None:
        """Wait until so many requests have arrived in all."""
        while len(self.requests) < count:
            await self._arrival.park()

    async def _serve(self, tcp: trio.SocketStream) -> None:
        stream: trio.abc.Stream = tcp
        if self._authority is not None:
            stream = trio.SSLStream(tcp, self._authority.server_context(), server_side=True, https_compatible=True)
        async with stream:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # the client had enough
                await self._converse(stream)

    async def _converse(self, stream: trio.abc.Stream) -> None:
        while True:
            request = await _read(stream)
            if request is None:
                return
            self.requests.append(request)
            self.asked[request.host, request.target] += 1
            self._arrival.unpark_all()
            if self.down:
                return
            await self.handlers.get((request.host, request.target), answer("nothing here", 404))(request, stream)


async def _read(stream: trio.abc.Stream) -> Request | None:
    """The next request; None when the client has gone."""
    parser = h11.Connection(h11.SERVER)
    head: h11.Request | None = None
    body = b""
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            parser.receive_data(bytes(await stream.receive_some(READ_BYTES)))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
            host = headers["host"].rpartition(":")[0] or headers["host"]
            return Request(head.method.decode(), host, head.target.decode(), headers, body)
        else:
            return None
