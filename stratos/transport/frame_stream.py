"""Following an event stream over websockets: each connection is read, watched and bounded; how it ended is a value.

What the frames mean, and whether to connect again, is the caller's affair.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import trio
import trio_websocket

from stratos.core.fault_text import describe
from stratos.transport.frame_inbox import FrameInbox
from stratos.transport.websocket import Connect, SocketLimits, WebSocket

MESSAGE_TOO_BIG: Final = "MessageTooBig"
DEFAULT_SOCKET: Final = SocketLimits()
_CLOSE_MESSAGE_TOO_BIG: Final = 1009
_SOCKET_FAULTS: Final = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio_websocket.ConnectionClosed)


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """The bounds of a connection and of what is held in memory. Durations are seconds; `batch_frames` are handed over at most."""

    socket: SocketLimits = DEFAULT_SOCKET
    ping_interval: float = 20.0
    ping_timeout: float = 20.0
    inbox_frames: int = 2_000
    inbox_bytes: int = 32 * 1024 * 1024
    batch_frames: int = 1_000


@dataclass(frozen=True, slots=True)
class Refused:
    """The stream ended by a rule: an error frame (FutureCursor, AuthRequired, ConsumerTooSlow, …) or our own size limit."""

    error: str
    message: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection could not be made, was closed, or fell silent."""

    reason: str


StreamEnd: TypeAlias = Refused | Lost
Take: TypeAlias = Callable[[Sequence[bytes]], Awaitable[Refused | None]]
"""Takes frames, at least one, in the stream's order; gives the error of an error frame, after which no more are handed over."""


class FrameStream:
    """One connection after another to a stream; while frames are not taken, reading waits."""

    def __init__(self, limits: StreamLimits, connect: Connect) -> None:
        self._limits = limits
        self._connect = connect
        self._inbox = self._empty_inbox()
        self._connected = False
        self._take_failed = False
        self._last_error = ""
        self._connections = 0

    @property
    def connected(self) -> bool:
        """Whether the socket is open."""
        return self._connected

    @property
    def last_error(self) -> str:
        """Why the last connection ended; '' while none has."""
        return self._last_error

    async def follow(self, url: str, headers: Sequence[tuple[str, str]], take: Take) -> StreamEnd:
        """One connection: hand over what it brings until it ends, and say how it ended.

        What was received before an end is still handed over. What `take` raises is raised, in an exception group. Cancellation
        closes the connection.
        """
        self._inbox = self._empty_inbox()
        self._take_failed = False
        end: StreamEnd | None = None
        try:
            async with self._connect(url, headers) as socket:
                self._connected = True
                self._connections += 1
                end = await self._exchange(socket, take)
        except Exception as error:
            if self._take_failed:
                raise
            # Whatever a broken peer makes of the websocket ends this connection and nothing else; nor does a close that fails
            # change why the stream ended.
            end = end or Lost(describe(error))
        finally:
            self._connected = False
        self._last_error = f"{end.error}: {end.message}" if isinstance(end, Refused) else end.reason
        return end

    def statistics(self) -> Mapping[str, int]:
        """Gauges and counters of the connection and its buffer."""
        return {"connected": self._connected, "connections_total": self._connections, **self._inbox.statistics()}

    def _empty_inbox(self) -> FrameInbox:
        return FrameInbox(max_frames=self._limits.inbox_frames, max_bytes=self._limits.inbox_bytes)

    async def _exchange(self, socket: WebSocket, take: Take) -> StreamEnd:
        """Read, watch and hand over at once."""
        ends: list[StreamEnd] = []
        async with trio.open_nursery() as nursery:

            async def until_end(task: Callable[[WebSocket], Awaitable[StreamEnd]]) -> None:
                ends.append(await task(socket))
                self._inbox.close()

            nursery.start_soon(until_end, self._read)
            nursery.start_soon(until_end, self._watch)
            refused = await self._hand_over(take)
            nursery.cancel_scope.cancel()
        return refused or ends[0]

    async def _read(self, socket: WebSocket) -> StreamEnd:
        try:
            while True:
                message = await socket.get_message()
                if isinstance(message, bytes):
                    await self._inbox.put(message)
        except trio_websocket.ConnectionClosed as closed:
            if closed.reason is not None and closed.reason.code == _CLOSE_MESSAGE_TOO_BIG:
                return Refused(MESSAGE_TOO_BIG, f"a message is larger than {self._limits.socket.max_message_bytes} bytes")
            return Lost(describe(closed))
        except _SOCKET_FAULTS as error:
            return Lost(describe(error))

    async def _watch(self, socket: WebSocket) -> StreamEnd:
        """Ping: a dead peer is noticed within interval and timeout."""
        try:
            while True:
                await trio.sleep(self._limits.ping_interval)
                with trio.fail_after(self._limits.ping_timeout):
                    await socket.ping()
        except trio.TooSlowError:
            return Lost(f"no answer to a ping within {self._limits.ping_timeout} s")
        except _SOCKET_FAULTS as error:
            return Lost(describe(error))

    async def _hand_over(self, take: Take) -> Refused | None:
        """Pass on what arrives; returns at an error frame, or with None at the end of the inbox."""
        while frames := await self._inbox.take(self._limits.batch_frames):
            try:
                refused = await take(frames)
            except Exception:
                self._take_failed = True
                raise
            if refused is not None:
                return refused
        return None
