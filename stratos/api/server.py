"""The HTTP server: hypercorn's protocol machines on trio under our own listener, limits and shutdown."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

import structlog
import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from structlog.typing import FilteringBoundLogger

from stratos.api.connection import Connection, ConnectionCounters, ConnectionLimits
from stratos.api.http1 import AsgiApp

_QUEUED_BODY_CHUNKS: Final = 4
"""Chunks of a request's body (at most 64 KiB each) that wait for the application before reading stops."""
_NO_LIMIT: Final = 2**62

_log: FilteringBoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Where to listen (`host:port`, port 0 for any free one) and the bounds of what is accepted. Durations in seconds.

    `sockets` listen already, opened by whoever started this process.
    """

    binds: tuple[str, ...]
    sockets: tuple[socket.socket, ...] = ()
    backlog: int = 1_024
    max_connections: int = 4_000
    max_head_bytes: int = 16 * 1024
    max_websocket_message_bytes: int = 4 * 1024
    graceful: float = 8.0
    limits: ConnectionLimits = field(default_factory=ConnectionLimits)


class ServedApp(AsgiApp, Protocol):
    """An application that can be told to come to an end."""

    @property
    def stopping(self) -> trio.Event:
        """Set when the server stops; from then on long answers (subscriptions) end by themselves."""

    def observe_server(self, server: HttpServer) -> None:
        """Learn which server it is served by, for its metrics."""


class HttpServer:
    """Accepts connections for one application; `run` is its life."""

    def __init__(self, app: ServedApp, config: ServerConfig) -> None:
        self._app = app
        self._config = config
        self._hypercorn = _hypercorn_config(config)
        self._context = WorkerContext(None)
        self._counters = ConnectionCounters()
        self._connections: set[Connection] = set()
        self._room = trio.Semaphore(config.max_connections)
        self._room_left = trio.lowlevel.ParkingLot()
        self._draining = trio.Event()
        self._accepted = self._cut = 0
        app.observe_server(self)

    async def run(self, *, task_status: trio.TaskStatus[tuple[str, ...]] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until the application's `stopping` is set or this task is cancelled; reports the base URLs that it listens on.

        Either way it ends gracefully: it stops accepting, sets `stopping`, closes idle connections and gives requests under way
        and websockets up to `graceful` seconds; then it drops what is left. Raises OSError for an address that cannot be bound.
        """
        listeners = await self._listen()
        async with trio.open_nursery() as nursery:
            connections = await nursery.start(self._hold_connections)
            try:
                async with trio.open_nursery() as accepting:
                    accepting.start_soon(self._stop_accepting, accepting.cancel_scope)
                    gated = [_GatedListener(listener, self) for listener in listeners]
                    accepting.start_soon(partial(trio.serve_listeners, self._serve, gated, handler_nursery=connections))
                    task_status.started(tuple(_url(listener) for listener in listeners))
            finally:
                self._app.stopping.set()
                self._draining.set()

    def statistics(self) -> Mapping[str, int]:
        """Gauges and counters: connections, their limit, websockets, accepted, timed out, contained faults, cut at shutdown."""
        return {
            "connections": len(self._connections),
            "connections_limit": self._config.max_connections,
            "websockets": sum(connection.is_websocket for connection in self._connections),
            "accepted_total": self._accepted,
            "timed_out_total": self._counters.timed_out,
            "contained_total": self._counters.contained,
            "cut_total": self._cut,
        }

    async def wait_for_room(self) -> None:
        """Take one of the places for connections; when none is free, whoever has idled longest gives way."""
        if self._room.value == 0:
            idle = [connection for connection in self._connections if connection.idle_since is not None]
            if idle:
                min(idle, key=lambda connection: connection.idle_since or 0.0).finish_if_idle()
        await self._room.acquire()

    def leave_room(self) -> None:
        """Give a place back."""
        self._room.release()
        self._room_left.unpark_all()

    async def _listen(self) -> list[trio.SocketListener]:
        inherited = (trio.socket.from_stdlib_socket(each) for each in self._config.sockets)
        listeners = [trio.SocketListener(each) for each in inherited]
        try:
            for bind in self._config.binds:
                host, _, port = bind.rpartition(":")
                try:
                    listeners += await trio.open_tcp_listeners(
                        int(port), host=host.strip("[]") or None, backlog=self._config.backlog
                    )
                except OSError as error:
                    raise OSError(error.errno, f"cannot listen on {bind}: {error.strerror}") from error
        except BaseException:
            for listener in listeners:
                listener.socket.close()
            raise
        return listeners

    async def _stop_accepting(self, scope: trio.CancelScope) -> None:
        await self._app.stopping.wait()
        scope.cancel()

    async def _serve(self, stream: trio.SocketStream) -> None:
        try:
            if self._context.terminated.is_set():
                return
            connection = Connection(
                self._app,
                stream,
                config=self._hypercorn,
                context=self._context,
                limits=self._config.limits,
                counters=self._counters,
            )
            self._accepted += 1
            self._connections.add(connection)
            try:
                await connection.run()
            finally:
                self._connections.discard(connection)
        finally:
            self.leave_room()

    async def _hold_connections(self, *, task_status: trio.TaskStatus[trio.Nursery]) -> None:
        """Own the connections' nursery, shielded: only the drain below ends it."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as connections:
                task_status.started(connections)
                await self._draining.wait()
                await self._context.terminated.set()
                for connection in list(self._connections):
                    connection.finish_if_idle()
                with trio.move_on_after(self._config.graceful):
                    while self._room.value < self._config.max_connections:
                        await self._room_left.park()
                self._cut = len(self._connections)
                if self._cut:
                    _log.warning("connections cut at shutdown", connections=self._cut)
                for connection in list(self._connections):
                    connection.abort()
                connections.cancel_scope.cancel()


async def serve_app(
    app: ServedApp, config: ServerConfig, *, task_status: trio.TaskStatus[tuple[str, ...]] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve an application over HTTP; see `HttpServer.run`."""
    await HttpServer(app, config).run(task_status=task_status)


class _GatedListener(trio.abc.Listener[trio.SocketStream]):
    """Hands out one connection at a time, once the server has room; what waits meanwhile waits in the kernel's backlog."""

    def __init__(self, listener: trio.SocketListener, server: HttpServer) -> None:
        self._listener = listener
        self._server = server

    async def accept(self) -> trio.SocketStream:
        stream = await self._listener.accept()
        try:
            await self._server.wait_for_room()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return stream

    async def aclose(self) -> None:
        await self._listener.aclose()


def _url(listener: trio.SocketListener) -> str:
    host, port = listener.socket.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _hypercorn_config(config: ServerConfig) -> Config:
    """What hypercorn's protocol machines read; its own logging is off, ours sees every request and every fault."""
    hypercorn = Config()
    hypercorn.accesslog = None
    hypercorn.errorlog = None
    hypercorn.include_server_header = False
    hypercorn.h11_max_incomplete_size = config.max_head_bytes
    hypercorn.keep_alive_max_requests = _NO_LIMIT
    hypercorn.max_app_queue_size = _QUEUED_BODY_CHUNKS
    hypercorn.websocket_max_message_size = config.max_websocket_message_bytes
    return hypercorn
