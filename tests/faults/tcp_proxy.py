"""A TCP proxy on loopback that a test places before a server, and lets stall, cut or delay what passes."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import partial
from socket import SO_LINGER, SOL_SOCKET
from typing import Final

import trio

CHUNK_BYTES: Final = 64 * 1024
RESET: Final = struct.pack("ii", 1, 0)
"""Linger for no time: closing resets the connection."""


@dataclass(eq=False)
class _Link:
    """One connection, both of its sides, and whether bytes pass."""

    client: trio.SocketStream
    server: trio.SocketStream
    flowing: trio.Event
    answering: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    room: int | None = None
    """How many bytes more may pass to the server; None for all."""

    async def opens(self, source: trio.SocketStream) -> None:
        """Wait until what this side sent may pass."""
        await self.flowing.wait()
        if source is self.server:
            await self.answering.wait()


class TcpProxy:
    """Forwards connections to a port on loopback. A stall keeps the sockets open and forwards nothing, either way."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.delay = 0.0
        """Seconds that each chunk is held back."""
        self._target = target
        self._links: set[_Link] = set()
        self._stalls_new = False

    @property
    def ports(self) -> frozenset[int]:
        """The ports by which the server knows the connections."""
        return frozenset(link.server.socket.getsockname()[1] for link in self._links)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled."""
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(partial(trio.serve_tcp, self._serve, 0, host="127.0.0.1"))
            self.port = listener.socket.getsockname()[1]
            task_status.started()

    def stall(self, *, new: bool = True) -> None:
        """Forward nothing any more; with `new=False` connections that are made from now on are not concerned."""
        self._stalls_new = new
        for link in self._links:
            link.flowing = trio.Event()

    def mute(self) -> None:
        """Let nothing that the server says pass any more on the connections that there are."""
        for link in self._links:
            link.answering = trio.Event()

    def stall_within(self, room: int) -> None:
        """Stall the connections that there are once so many bytes more have passed to the server."""
        for link in self._links:
            link.room = room

    def stall_some(self) -> None:
        """Stall every other connection, and none that is made from now on."""
        for link in [*self._links][::2]:
            link.flowing = trio.Event()

    def stall_one(self, port: int) -> None:
        """Stall the connection that the server knows by this port."""
        for link in self._links:
            if link.server.socket.getsockname()[1] == port:
                link.flowing = trio.Event()

    def resume(self) -> None:
        """Let everything pass again, what was held back first."""
        self._stalls_new = False
        for link in self._links:
            link.room = None
            link.flowing.set()
            link.answering.set()

    def cut(self) -> None:
        """Reset every connection, on both sides; new ones may be made."""
        for link in self._links:
            for side in (link.client, link.server):
                side.socket.setsockopt(SOL_SOCKET, SO_LINGER, RESET)
            link.scope.cancel()

    async def _serve(self, client: trio.SocketStream) -> None:
        try:
            server = await trio.open_tcp_stream("127.0.0.1", self._target)
        except OSError:
            return
        flowing = trio.Event()
        if not self._stalls_new:
            flowing.set()
        link = _Link(client, server, flowing)
        link.answering.set()
        async with server:
            self._links.add(link)
            try:
                with link.scope:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._pump, link, client, server)
                        nursery.start_soon(self._pump, link, server, client)
            finally:
                # Before the socket is closed: nobody may meet a link whose socket has no port any more.
                self._links.discard(link)

    async def _pump(self, link: _Link, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        """Forward one way; the end of one way is the end of the connection, as for a client that closes."""
        try:
            while data := await source.receive_some(CHUNK_BYTES):
                await trio.sleep(self.delay)
                await link.opens(source)
                if link.room is not None and source is link.client:
                    passing, data = data[: link.room], data[link.room :]
                    link.room -= len(passing)
                    await sink.send_all(passing)
                    if data:
                        link.flowing = trio.Event()
                        await link.opens(source)
                await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        await link.opens(source)
        link.scope.cancel()
