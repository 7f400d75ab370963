"""Following a service's stream: over any number of connections, from a cursor, checked, in ordered batches.

Sources: spec service.md §7, design §4.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final
from urllib.parse import urlencode

import trio

from stratos.atproto.frames import ErrorFrame
from stratos.atproto.syntax import Did
from stratos.client.errors import FutureCursor, NoAnswer, SubscriptionRefused, XrpcFailure
from stratos.client.rev_chains import RevChains
from stratos.client.stream_events import CommitEvent, ConsumerTooSlow, StreamEvent, decode_event
from stratos.client.xrpc import Credentials
from stratos.core.backoff import BackoffPolicy
from stratos.core.stream_events import EnrollmentEvent, MalformedEvent
from stratos.transport.frame_stream import FrameStream, Lost, Refused, StreamEnd, StreamLimits
from stratos.transport.websocket import Connect, websocket_connector, websocket_url

SUBSCRIBE: Final = "zone.stratos.sync.subscribeRecords"
STREAM_BACKOFF: Final = BackoffPolicy(initial=0.5, longest=30.0)
_FUTURE_CURSOR: Final = "FutureCursor"
_CONSUMER_TOO_SLOW: Final = "ConsumerTooSlow"
_UNAVAILABLE: Final = "ServiceUnavailable"
"""The service cannot tell at the moment whether we may subscribe."""
_FRAMES_PER_TURN: Final = 10
"""Frames decoded between two turns of other tasks: a few milliseconds."""


@dataclass(frozen=True, slots=True)
class SubscriptionConfig:
    """Bounds of memory and waiting. `chained_actors`: of how many actors the last rev is remembered, to see gaps."""

    limits: StreamLimits = field(default_factory=StreamLimits)
    backoff: BackoffPolicy = STREAM_BACKOFF
    chained_actors: int = 100_000


DEFAULT_CONFIG: Final = SubscriptionConfig()


@dataclass(frozen=True, slots=True)
class Batch:
    """Events in the stream's order, at least one, and the cursor to keep once all of them have been dealt with."""

    events: tuple[StreamEvent, ...]
    cursor: int


class Subscription:
    """An iterator of batches; `subscribe` makes it. The next batch is asked for when the last one has been dealt with."""

    def __init__(self, query: Sequence[tuple[str, str]], cursor: int, stream: FrameStream, config: SubscriptionConfig) -> None:
        self._query = query
        self._stream = stream
        self._chains = RevChains(config.chained_actors)
        self._send, self._receive = trio.open_memory_channel[Batch](0)
        self._position = self._cursor = cursor
        self._ended: Exception | None = None
        self._batches = self._events = self._malformed = self._too_slow = 0

    @property
    def cursor(self) -> int:
        """The cursor of the last batch that was handed over."""
        return self._cursor

    @property
    def connected(self) -> bool:
        """Whether a connection is open."""
        return self._stream.connected

    @property
    def last_error(self) -> str:
        """Why the last connection ended; '' while none has."""
        return self._stream.last_error

    def __aiter__(self) -> Subscription:
        """The iterator itself."""
        return self

    async def __anext__(self) -> Batch:
        """The next batch, waiting for it.

        Raises FutureCursor and SubscriptionRefused where the service does not let us go on, and XrpcFailure where no token can be
        had; the iterator has then ended. Cancellation loses nothing: the batch comes with the next call.
        """
        try:
            batch = await self._receive.receive()
        except trio.EndOfChannel:
            if self._ended is None:
                raise StopAsyncIteration from None
            raise self._ended from None
        self._cursor = batch.cursor
        self._batches += 1
        self._events += len(batch.events)
        self._malformed += sum(isinstance(event, MalformedEvent) for event in batch.events)
        return batch

    def statistics(self) -> Mapping[str, int]:
        """Gauges and counters of the connection, the buffer and what was handed over."""
        return {
            "cursor": self._cursor,
            "batches_total": self._batches,
            "events_total": self._events,
            "malformed_total": self._malformed,
            "too_slow_total": self._too_slow,
            **self._chains.statistics(),
            **self._stream.statistics(),
        }

    async def run(self, service_url: str, credentials: Credentials, backoff: BackoffPolicy, rng: random.Random) -> None:
        """Follow the stream until the service refuses us for good; `subscribe` starts this."""
        failures = 0
        async with self._send:
            while True:
                before = self._position
                try:
                    await self._settle(await self._connection(service_url, credentials))
                except Exception as error:  # noqa: BLE001 - whatever ends the stream is raised where its batches are awaited
                    self._ended = error
                    return
                failures = 1 if self._position != before else failures + 1
                await trio.sleep(backoff.delay(failures, rng))

    async def _connection(self, service_url: str, credentials: Credentials) -> StreamEnd:
        """One connection, with a token of its own."""
        try:
            authorization = await credentials.authorization(SUBSCRIBE, once=True)
        except NoAnswer as error:
            return Lost(str(error))
        except XrpcFailure as error:
            if not error.may_pass:
                raise
            return Lost(str(error))
        query = urlencode([*self._query, ("cursor", str(self._position))])
        url = websocket_url(service_url, f"/xrpc/{SUBSCRIBE}", query)
        return await self._stream.follow(url, [("Authorization", authorization)], self._take)

    async def _settle(self, end: StreamEnd) -> None:
        """Raise for an end after which connecting again does not help."""
        match end:
            case Refused(error, message) if error == _FUTURE_CURSOR:
                raise FutureCursor(error, message)
            case Refused(error, message) if error == _CONSUMER_TOO_SLOW:
                self._too_slow += 1
                await self._hand_over([ConsumerTooSlow(message)], self._position)
            case Refused(error, message) if error != _UNAVAILABLE:
                raise SubscriptionRefused(error, message)

    async def _take(self, frames: Sequence[bytes]) -> Refused | None:
        """Decode and check frames, and hand over their events; gives the error of an error frame."""
        events: list[StreamEvent] = []
        refused: Refused | None = None
        position = self._position
        self._chains.forget_unkept()
        for number, frame in enumerate(frames):
            if number % _FRAMES_PER_TURN == 0:
                await trio.lowlevel.checkpoint()
            event = decode_event(frame)
            if isinstance(event, ErrorFrame):
                refused = Refused(event.error, event.message or "")
                break
            seq = event.seq if isinstance(event, CommitEvent | EnrollmentEvent | MalformedEvent) else None
            if event is None or (seq is not None and seq <= position):
                continue
            position = position if seq is None else seq
            events += self._chains.check(event)
        if events:
            await self._hand_over(events, position)
            self._chains.keep()
        return refused

    async def _hand_over(self, events: Sequence[StreamEvent], position: int) -> None:
        """Wait until the batch is taken; only then does the position move."""
        await self._send.send(Batch(tuple(events), position))
        self._position = position


@asynccontextmanager
async def subscribe(
    service_url: str,
    credentials: Credentials,
    *,
    cursor: int,
    rng: random.Random,
    did: Did | None = None,
    domains: Iterable[str] = (),
    include_commits: bool = True,
    config: SubscriptionConfig = DEFAULT_CONFIG,
    connect: Connect | None = None,
) -> AsyncIterator[Subscription]:
    """Follow a service's stream after `cursor` (0 is the beginning) for the block.

    With `did` that actor's commits; else all enrollments and, unless `include_commits` is off, all commits. `domains` limits the
    view to records with one of these boundaries. `credentials` is asked for a token at each connection: a `BearerToken` with the
    sync token, or `ServiceTokens`. `rng` jitters the waiting between connections; `connect` opens the websockets.

    Lost connections are replaced, from the last batch on. Each batch brings the cursor to keep: who stores it in the transaction
    that holds the batch's effect sees every event exactly once, also over deaths of either side; who stores it after the effect,
    at least once. Leaving the block ends the connection; an error of the block comes out as it is.
    """
    query = [("did", did)] if did is not None else [("includeCommits", "true")] if include_commits else []
    query += [("domain", domain) for domain in domains]
    stream = FrameStream(config.limits, websocket_connector(config.limits.socket) if connect is None else connect)
    subscription = Subscription(query, cursor, stream, config)
    fault: BaseException | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(subscription.run, service_url, credentials, config.backoff, rng))
        try:
            yield subscription
        except BaseException as error:  # noqa: BLE001 - raised below, outside the nursery, which would put it into a group
            fault = error
        nursery.cancel_scope.cancel()
    if fault is not None:
        raise fault
