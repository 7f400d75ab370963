"""The client of `zone.stratos.sync.subscribeRecords`: all enrollments and commits of one service on one socket, resumable.

Sources: spec indexer.md §1.3 and §1.4, design §4 (`includeCommits`).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
import trio

from stratos.atproto.frames import ErrorFrame
from stratos.core.backoff import BackoffPolicy
from stratos.indexer.events import Event, OutdatedCursor, decode_event
from stratos.transport.frame_stream import MESSAGE_TOO_BIG, FrameStream, Lost, Refused, StreamEnd, StreamLimits
from stratos.transport.websocket import Connect, SocketLimits, websocket_url

SUBSCRIBE_PATH: Final = "/xrpc/zone.stratos.sync.subscribeRecords"
FUTURE_CURSOR: Final = "FutureCursor"
STREAM_BACKOFF: Final = BackoffPolicy(initial=0.5, longest=30.0)
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

    @property
    def limits(self) -> StreamLimits:
        """What bounds each connection."""
        return StreamLimits(
            socket=self.socket,
            ping_interval=self.ping_interval,
            ping_timeout=self.ping_timeout,
            inbox_frames=self.inbox_frames,
            inbox_bytes=self.inbox_bytes,
            batch_frames=self.batch_events,
        )

    def url(self, cursor: int) -> str:
        """The websocket address that resumes after `cursor`."""
        return websocket_url(self.service_url, SUBSCRIBE_PATH, f"includeCommits=true&cursor={cursor}")


_FRAMES_PER_TURN: Final = 10
"""About two milliseconds of decoding."""


class StreamClient:
    """Follows the stream from a position, over any number of connections, and hands over lists of events."""

    def __init__(self, config: StreamConfig, connect: Connect, *, rng: random.Random) -> None:
        self._config = config
        self._stream = FrameStream(config.limits, connect)
        self._rng = rng
        self._position = 0
        self._events = self._refusals = self._batches = 0

    @property
    def connected(self) -> bool:
        """Whether the socket is open."""
        return self._stream.connected

    @property
    def last_error(self) -> str:
        """Why the last connection ended; '' while none has."""
        return self._stream.last_error

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
        headers = [("Authorization", f"Bearer {self._config.sync_token}")]
        return await self._stream.follow(self._config.url(self._position), headers, partial(self._hand_over, batches))

    def statistics(self) -> Mapping[str, float]:
        """Gauges and counters of the connection and its buffers."""
        return {
            "position": self._position,
            "refusals_total": self._refusals,
            "events_total": self._events,
            "batches_total": self._batches,
            **self._stream.statistics(),
        }

    async def _hand_over(self, batches: trio.MemorySendChannel[Sequence[Event]], frames: Sequence[bytes]) -> Refused | None:
        """Decode frames and pass their events on; gives the error of an error frame."""
        events, refused = await decode_frames(frames)
        if events:
            await batches.send(events)
            self._batches += 1
            self._events += len(events)
            self._position = max(self._position, *(_seq(event) for event in events))
        if refused is not None:
            self._refusals += 1
        return refused

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
