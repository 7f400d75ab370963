"""The client of `zone.stratos.sync.subscribeRecords`: all enrollments and commits of one service on one socket, resumable.

Sources: spec indexer.md §1.3 and §1.4, design §4 (`includeCommits`).
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import structlog
import trio
import trio_websocket

from stratos.atproto.frames import ErrorFrame
from stratos.engine.backoff import BackoffPolicy
from stratos.engine.supervisor import describe
from stratos.indexer.events import Event, OutdatedCursor, decode_event
from stratos.indexer.frame_inbox import FrameInbox
from stratos.indexer.websocket import Connect, SocketLimits, WebSocket

SUBSCRIBE_PATH: Final = "/xrpc/zone.stratos.sync.subscribeRecords"
FUTURE_CURSOR: Final = "FutureCursor"
MESSAGE_TOO_BIG: Final = "MessageTooBig"
STREAM_BACKOFF: Final = BackoffPolicy(initial=0.5, longest=30.0)
_CLOSE_MESSAGE_TOO_BIG: Final = 1009
DEFAULT_SOCKET: Final = SocketLimits()
_NEEDS_AN_OPERATOR: Final = frozenset({"AuthRequired", "AuthenticationRequired", "InvalidRequest", MESSAGE_TOO_BIG})

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """Where the stream is, the credential, and the bounds of what is held in memory. Durations are seconds."""

    service_url: str
    sync_token: str
    socket: SocketLimits = DEFAULT_SOCKET
    ping_interval: float = 20.0
    ping_timeout: float = 20.0
    inbox_frames: int = 2_000
    inbox_bytes: int = 32 * 1024 * 1024
    batch_events: int = 1_000
    backoff: BackoffPolicy = STREAM_BACKOFF

    def url(self, cursor: int) -> str:
        """The websocket address that resumes after `cursor`."""
        parts = urlsplit(self.service_url)
        scheme = "wss" if parts.scheme in ("https", "wss") else "ws"
        path = parts.path.rstrip("/") + SUBSCRIBE_PATH
        return urlunsplit((scheme, parts.netloc, path, f"includeCommits=true&cursor={cursor}", ""))


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


_FRAMES_PER_TURN: Final = 10
"""About two milliseconds of decoding."""
_SOCKET_FAULTS: Final = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio_websocket.ConnectionClosed)


class StreamClient:
    """Follows the stream from a position, over any number of connections, and hands over lists of events."""

    def __init__(self, config: StreamConfig, connect: Connect, *, rng: random.Random) -> None:
        self._config = config
        self._connect = connect
        self._rng = rng
        self._inbox = FrameInbox(max_frames=config.inbox_frames, max_bytes=config.inbox_bytes)
        self._position = 0
        self._connected = False
        self._last_error = ""
        self._connections = self._events = self._refusals = self._batches = 0

    @property
    def connected(self) -> bool:
        """Whether the socket is open."""
        return self._connected

    @property
    def last_error(self) -> str:
        """Why the last connection ended; '' while none has."""
        return self._last_error

    async def run(self, position: int, batches: trio.MemorySendChannel[Sequence[Event]]) -> Refused:
        """Follow the stream from `position`, reconnecting after every end, until the service says FutureCursor.

        Events are handed over in the stream's order, in lists that are never empty; while the channel is full, reading waits.
        Cancellation loses nothing that was handed over.
        """
        self._position = position
        failures = 0
        while True:
            before = self._position
            end = await self.follow(batches)
            if isinstance(end, Refused) and end.error == FUTURE_CURSOR:
                return end
            failures = 1 if self._position != before else failures + 1
            delay = self._config.backoff.delay(failures, self._rng)
            self._report(end, delay)
            await trio.sleep(delay)

    async def follow(self, batches: trio.MemorySendChannel[Sequence[Event]]) -> StreamEnd:
        """One connection: hand over what it brings until it ends, and say how it ended."""
        self._inbox = FrameInbox(max_frames=self._config.inbox_frames, max_bytes=self._config.inbox_bytes)
        headers = [("Authorization", f"Bearer {self._config.sync_token}")]
        end: StreamEnd | None = None
        try:
            async with self._connect(self._config.url(self._position), headers) as socket:
                self._connected = True
                self._connections += 1
                end = await self._exchange(socket, batches)
        except Exception as error:
            if batches.statistics().open_receive_channels == 0:
                raise
            # Whatever a broken peer makes of the websocket ends this connection and nothing else; nor does a close that fails
            # change why the stream ended.
            end = end or Lost(describe(error))
        finally:
            self._connected = False
        self._last_error = f"{end.error}: {end.message}" if isinstance(end, Refused) else end.reason
        return end

    def statistics(self) -> Mapping[str, float]:
        """Gauges and counters of the connection and its buffers."""
        return {
            "connected": self._connected,
            "position": self._position,
            "connections_total": self._connections,
            "refusals_total": self._refusals,
            "events_total": self._events,
            "batches_total": self._batches,
            **self._inbox.statistics(),
        }

    async def _exchange(self, socket: WebSocket, batches: trio.MemorySendChannel[Sequence[Event]]) -> StreamEnd:
        """Read, watch and hand over at once. What was received before an end is still handed over."""
        ends: list[StreamEnd] = []
        async with trio.open_nursery() as nursery:

            async def until_end(task: Callable[[WebSocket], Awaitable[StreamEnd]]) -> None:
                ends.append(await task(socket))
                self._inbox.close()

            nursery.start_soon(until_end, self._read)
            nursery.start_soon(until_end, self._watch)
            refused = await self._hand_over(batches)
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
                return Refused(MESSAGE_TOO_BIG, f"a message is larger than {self._config.socket.max_message_bytes} bytes")
            return Lost(describe(closed))
        except _SOCKET_FAULTS as error:
            return Lost(describe(error))

    async def _watch(self, socket: WebSocket) -> StreamEnd:
        """Ping: a dead peer is noticed within interval and timeout."""
        try:
            while True:
                await trio.sleep(self._config.ping_interval)
                with trio.fail_after(self._config.ping_timeout):
                    await socket.ping()
        except trio.TooSlowError:
            return Lost(f"no answer to a ping within {self._config.ping_timeout} s")
        except _SOCKET_FAULTS as error:
            return Lost(describe(error))

    async def _hand_over(self, batches: trio.MemorySendChannel[Sequence[Event]]) -> Refused | None:
        """Decode and pass on what arrives; returns at an error frame, or with None at the end of the inbox."""
        while frames := await self._inbox.take(self._config.batch_events):
            events, refused = await decode_frames(frames)
            if events:
                await batches.send(events)
                self._batches += 1
                self._events += len(events)
                self._position = max(self._position, *(_seq(event) for event in events))
            if refused is not None:
                self._refusals += 1
                return refused
        return None

    def _report(self, end: StreamEnd, delay: float) -> None:
        retry = round(delay, 2)
        match end:
            case Refused(error, message) if error in _NEEDS_AN_OPERATOR:
                # Trying again will hardly help: somebody has to mend a setting.
                _log.error("stream refused", error=error, message=message, retry_seconds=retry)
            case Refused(error, message):
                _log.warning("stream ended", error=error, message=message, retry_seconds=retry)
            case Lost(reason):
                _log.warning("stream lost", reason=reason, retry_seconds=retry)


async def decode_frames(frames: Sequence[bytes]) -> tuple[list[Event], Refused | None]:
    """The events of frames up to an error frame, and that error.

    Every few frames other tasks have their turn: above all the projector, whose transactions run in a thread meanwhile and would
    otherwise take turns with the decoding instead of overlapping it.
    """
    events: list[Event] = []
    for start in range(0, len(frames), _FRAMES_PER_TURN):
        for frame in frames[start : start + _FRAMES_PER_TURN]:
            event = decode_event(frame)
            if isinstance(event, ErrorFrame):
                return events, Refused(event.error, event.message or "")
            if event is not None:
                events.append(event)
        await trio.lowlevel.checkpoint()
    return events, None


def _seq(event: Event) -> int:
    return 0 if isinstance(event, OutdatedCursor) else event.seq or 0
