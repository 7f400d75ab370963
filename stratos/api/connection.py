"""One accepted connection: a socket, hypercorn's protocol machine, deadlines, and containment.

What hypercorn 0.18's own connection leaves open and is closed here: an error of one connection reaches the nursery of all; a send
to a peer that does not read waits for ever, shielded from cancellation; closing while input is unread makes the kernel throw the
response away; a peer that answers no ping is never noticed; the ping task keeps a closed connection for another interval.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import inf
from typing import Final, cast

import h11
import structlog
import trio
import wsproto.utilities
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState, TaskGroup
from hypercorn.utils import parse_socket_addr
from structlog.typing import FilteringBoundLogger

from stratos.api.http1 import AppTasks, AsgiApp, Http1Protocol, PeerMisbehaved

READ_BYTES: Final = 64 * 1024
SEND_BYTES: Final = 64 * 1024
"""A peer must take this much within the send deadline; nobody reads slower than SEND_BYTES / deadline."""
SENDS_BETWEEN_CHECKPOINTS: Final = 32
"""A send that need not wait does not yield either, but every so many do: others want to run too."""
LINGER_BYTES: Final = 8 * 1024 * 1024
"""How much input is read and thrown away after the last response, so that the peer gets to see it."""

_PING: Final = b"\x89\x00"
"""A websocket ping without payload (RFC 6455 §5.5.2)."""
_PEER_FAULTS: Final = (PeerMisbehaved, h11.ProtocolError, wsproto.utilities.ProtocolError, OSError, trio.BrokenResourceError)

_log: FilteringBoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Deadlines in seconds.

    `head` runs from a request's first byte (or the accept) to the end of its headers. A websocket peer is sent a ping after
    `websocket_ping` without a word from it, and dropped after as long again.
    """

    head: float = 10.0
    keep_alive: float = 60.0
    send: float = 30.0
    linger: float = 1.0
    websocket_ping: float = 30.0


@dataclass(slots=True)
class ConnectionCounters:
    """What happened on all connections of a server."""

    timed_out: int = 0
    contained: int = 0


class Connection:
    """Serves one accepted socket until it closes."""

    def __init__(
        self,
        app: AsgiApp,
        stream: trio.SocketStream,
        *,
        config: Config,
        context: WorkerContext,
        limits: ConnectionLimits,
        counters: ConnectionCounters,
    ) -> None:
        self._app = app
        self._stream = stream
        self._config = config
        self._context = context
        self._limits = limits
        self._counters = counters
        self._protocol: Http1Protocol
        self._send_lock = trio.Lock()
        self._sends = 0
        self._reading = trio.CancelScope()
        self._sending = trio.CancelScope()
        self._deadline = inf
        self._head_started: float | None = None
        self._closing = self._aborted = False
        self.idle_since: float | None = None
        """When the connection began to wait for a request; None while one is being served."""
        self.is_websocket = False

    async def run(self) -> None:
        """Serve the connection and close it.

        Errors that it causes end here, logged and counted: no fault of one connection may reach the others. What is not an
        `Exception` passes, above all cancellation, which drops the connection.
        """
        try:
            await self._serve()
        except Exception as error:  # noqa: BLE001 - containment is this method's purpose
            self._contain(error)
        except BaseExceptionGroup as group:
            faults, rest = group.split(Exception)
            if faults is not None:
                self._contain(faults)
            if rest is not None:
                raise rest from None
        finally:
            await trio.aclose_forcefully(self._stream)

    def finish_if_idle(self) -> None:
        """Close the connection if it waits for a request; one that is being served closes after its response."""
        if self.idle_since is not None:
            self._stop_reading()

    def abort(self) -> None:
        """Drop the connection at once, whatever it is doing."""
        self._aborted = True
        self._sending.cancel()
        self._stop_reading()

    async def _serve(self) -> None:
        socket = self._stream.socket
        async with trio.open_nursery() as nursery:
            tasks = AppTasks(nursery)
            self._protocol = Http1Protocol(
                cast("AppWrapper", self._app),  # only handed on, to `spawn_app`
                self._config,
                self._context,
                cast("TaskGroup", tasks),  # entered and left by hypercorn's own connection alone
                ConnectionState({}),
                False,
                parse_socket_addr(socket.family, socket.getpeername()),
                parse_socket_addr(socket.family, socket.getsockname()),
                self._handle,
            )
            self._become_idle(self._limits.head)
            try:
                await self._read()
            finally:
                await self._protocol.handle(Closed())
            await tasks.finish()

    async def _read(self) -> None:
        """Feed input to the protocol machine until the peer ends, is overdue, or the connection is closed here."""
        discarded = 0
        while (data := await self._receive()) is not None:
            if self._closing:
                discarded += len(data)
                if not data or discarded > LINGER_BYTES:
                    return
                continue
            if self.idle_since is not None and self._head_started is None:
                self._head_started = trio.current_time()
                self._deadline = self._head_started + self._limits.head
            await self._protocol.handle(RawData(data))
            if not data:
                return
            if self._protocol.upgrade_failed:
                await self._close()

    async def _receive(self) -> bytes | None:
        """The next input, empty at its end; None when the peer is overdue or gone. A silent websocket is sent a ping."""
        pinged = False
        while not self._aborted:
            self.is_websocket = self._protocol.upgraded and not self._closing
            if self.is_websocket:
                self._deadline = trio.current_time() + self._limits.websocket_ping
            with trio.CancelScope(deadline=self._deadline) as self._reading:
                try:
                    return bytes(await self._stream.receive_some(READ_BYTES))
                except trio.BrokenResourceError:
                    return None
            if not self.is_websocket or pinged or self._aborted:
                self._counters.timed_out += (self.is_websocket or self._head_started is not None) and not self._aborted
                return None
            pinged = True
            await self._send(_PING)
        return None

    async def _handle(self, event: Event) -> None:
        """Do what the protocol machine asks for."""
        if isinstance(event, RawData):
            await self._send(event.data)
        elif isinstance(event, Closed):
            await self._close()
            await self._protocol.handle(Closed())
        elif isinstance(event, Updated):
            if event.idle:
                self._become_idle(self._limits.keep_alive)
            else:
                self.idle_since = self._head_started = None
                self._deadline = inf

    async def _send(self, data: bytes) -> None:
        """Send all of it; a peer that does not take it in time is dropped."""
        data = self._protocol.take_head() + data
        self._sends += 1
        if self._aborted or self._sends % SENDS_BETWEEN_CHECKPOINTS == 0:
            await trio.lowlevel.checkpoint()
        if not self._send_lock.locked() and not self._closing:
            data = self._send_at_once(data)
        if data:
            await self._send_patiently(data)

    def _send_at_once(self, data: bytes) -> bytes:
        """Give the kernel what it takes without waiting, which nearly always is everything; returns the rest.

        Spares a short answer two rounds of the scheduler.
        """
        try:
            return data[os.write(self._stream.socket.fileno(), data) :] if data and not self._aborted else b""
        except BlockingIOError:
            return data
        except OSError:
            self.abort()
            return b""

    async def _send_patiently(self, data: bytes) -> None:
        """Send in pieces with a deadline each, shielded, since a half-sent frame spoils the connection.

        Waiting for the lock is shielded too: a part may have been sent at once. Who holds it has a deadline.
        """
        with trio.CancelScope(shield=True):
            await self._send_lock.acquire()
        try:
            for start in range(0, len(data), SEND_BYTES):
                if self._aborted or self._closing:
                    return
                deadline = trio.current_time() + self._limits.send
                with trio.CancelScope(deadline=deadline, shield=True) as self._sending:
                    try:
                        await self._stream.send_all(data[start : start + SEND_BYTES])
                    except trio.BrokenResourceError:
                        self.abort()
                if self._sending.cancelled_caught and not self._aborted:
                    self._counters.timed_out += 1
                    self.abort()
        finally:
            self._send_lock.release()

    async def _close(self) -> None:
        """End our side; what an HTTP peer still sends is read and thrown away for a moment, else it would lose our last words."""
        if self._closing:
            return
        self._closing = True
        try:
            await self._stream.send_eof()
        except (trio.BrokenResourceError, trio.BusyResourceError, trio.ClosedResourceError):
            self.abort()
        if self._protocol.upgraded:
            self._stop_reading()
        else:
            self._expect_by(trio.current_time() + self._limits.linger)

    def _become_idle(self, seconds: float) -> None:
        self.idle_since = trio.current_time()
        self._head_started = None
        self._expect_by(self.idle_since + seconds)

    def _expect_by(self, deadline: float) -> None:
        """Let the read that is under way, or else the next one, end at the deadline."""
        self._deadline = self._reading.deadline = deadline

    def _stop_reading(self) -> None:
        self._reading.cancel()
        self._deadline = -inf

    def _contain(self, error: Exception) -> None:
        self._counters.contained += 1
        if isinstance(error, ExceptionGroup):
            ours = error.split(_PEER_FAULTS)[1] is not None
        else:
            ours = not isinstance(error, _PEER_FAULTS)
        if ours:
            _log.error("connection ended by an unexpected error", exc_info=error)
        else:
            _log.info("connection ended by a fault of its peer", error=repr(error))
