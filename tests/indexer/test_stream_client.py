"""The stream client on real websockets whose other end misbehaves."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import trio
import trio_websocket
from trio.testing import MockClock
from trio_websocket import WebSocketRequest

from stratos.atproto.frames import encode_error, encode_info, encode_message
from stratos.atproto.syntax import Did
from stratos.core.backoff import BackoffPolicy
from stratos.indexer.events import CommitEvent, Event, MalformedEvent, OutdatedCursor
from stratos.indexer.stream_client import StreamClient, StreamConfig
from stratos.transport.frame_inbox import FrameInbox
from stratos.transport.frame_stream import Lost, Refused
from stratos.transport.websocket import SocketLimits, websocket_connector
from tests.indexer.rows import decoded
from tests.indexer.stratos_model import SYNC_TOKEN, ModelService, post

ANN = Did("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
Handler = Callable[[WebSocketRequest], Awaitable[None]]


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[StreamConfig]:
    """A websocket server on loopback; gives a client configuration for it."""
    async with trio.open_nursery() as nursery:
        serve = partial(trio_websocket.serve_websocket, handler, "127.0.0.1", 0, None)
        server: trio_websocket.WebSocketServer = await nursery.start(serve)
        yield StreamConfig(
            f"http://127.0.0.1:{server.port}",
            SYNC_TOKEN,
            socket=SocketLimits(connect_timeout=5.0, close_timeout=0.2),
            backoff=BackoffPolicy(initial=0.01, longest=0.02),
        )
        nursery.cancel_scope.cancel()


def client(config: StreamConfig) -> StreamClient:
    return StreamClient(config, websocket_connector(config.socket), rng=random.Random(1))


def frames(count: int) -> list[bytes]:
    """An enrollment, a first commit and then posts: `count` frames."""
    service = ModelService()
    service.enroll(ANN, "writers")
    for number in range(count - 2):
        service.create(ANN, f"3mgaaaaaaa{number:03d}".translate(str.maketrans("01", "yz")), post(f"{number}", "writers"))
    return service.frames()


class Received:
    """The consumer's end of the channel."""

    def __init__(self, room: int = 100) -> None:
        self.send, self._receive = trio.open_memory_channel[Sequence[Event]](room)

    def batches(self) -> list[Sequence[Event]]:
        found: list[Sequence[Event]] = []
        while True:
            try:
                found.append(self._receive.receive_nowait())
            except trio.WouldBlock:
                return found

    def events(self) -> list[Event]:
        return [event for batch in self.batches() for event in batch]

    async def next(self) -> Sequence[Event]:
        return await self._receive.receive()


async def test_it_asks_for_everything_after_its_position_with_the_credential_in_a_header() -> None:
    asked: list[tuple[str, str]] = []

    async def handler(request: WebSocketRequest) -> None:
        headers = {bytes(name).lower(): bytes(value).decode() for name, value in request.headers}
        asked.append((request.path, headers[b"authorization"]))
        socket = await request.accept()
        await socket.send_message(encode_error("FutureCursor", "Cursor is in the future"))
        await socket.aclose(1008, "FutureCursor")

    async with served(handler) as config:
        end = await client(config).run(77, Received().send)
    assert end == Refused("FutureCursor", "Cursor is in the future")
    assert asked == [("/xrpc/zone.stratos.sync.subscribeRecords?includeCommits=true&cursor=77", f"Bearer {SYNC_TOKEN}")]


async def test_frames_arrive_in_order_and_in_lists_that_are_never_empty() -> None:
    sent = frames(300)

    async def handler(request: WebSocketRequest) -> None:
        socket = await request.accept()
        for frame in sent:
            await socket.send_message(frame)
        await socket.aclose(1001)

    received = Received(room=300)
    async with served(handler) as config:
        end = await client(config).follow(received.send)
    batches = received.batches()
    assert isinstance(end, Lost)
    assert [event for batch in batches for event in batch] == decoded(sent)
    assert all(batches)


async def test_it_reconnects_after_the_last_event_that_it_handed_over() -> None:
    sent = frames(6)
    cursors: list[int] = []

    async def handler(request: WebSocketRequest) -> None:
        cursors.append(int(request.path.rpartition("=")[2]))
        socket = await request.accept()
        if len(cursors) > 2:
            await socket.send_message(encode_error("FutureCursor"))
            return
        for frame in sent[len(cursors) * 2 - 2 : len(cursors) * 2]:
            await socket.send_message(frame)

    received = Received()
    async with served(handler) as config:
        await client(config).run(0, received.send)
    seqs = [event.seq for event in received.events() if not isinstance(event, OutdatedCursor)]
    assert cursors == [0, seqs[1], seqs[3]]


async def test_error_frames_are_results_and_what_came_before_them_is_kept() -> None:
    async def handler(request: WebSocketRequest) -> None:
        socket = await request.accept()
        await socket.send_message(encode_info("OutdatedCursor", "gone"))
        await socket.send_message(frames(2)[1])
        await socket.send_message(encode_error("ConsumerTooSlow", "too slow"))
        await socket.aclose(1008, "ConsumerTooSlow")

    received = Received()
    async with served(handler) as config:
        follower = client(config)
        end = await follower.follow(received.send)
    assert end == Refused("ConsumerTooSlow", "too slow")
    assert [type(event) for event in received.events()] == [OutdatedCursor, CommitEvent]
    assert follower.last_error == "ConsumerTooSlow: too slow"
    assert not follower.connected


async def test_garbage_is_handed_over_as_malformed_and_text_is_ignored() -> None:
    async def handler(request: WebSocketRequest) -> None:
        socket = await request.accept()
        await socket.send_message("text")
        await socket.send_message(b"\xff\xff")
        await socket.send_message(encode_message("#later", b"\xa0"))
        await socket.aclose()

    received = Received()
    async with served(handler) as config:
        await client(config).follow(received.send)
    assert [type(event) for event in received.events()] == [MalformedEvent]


async def test_a_message_above_the_limit_is_refused_by_name() -> None:
    async def handler(request: WebSocketRequest) -> None:
        socket = await request.accept()
        with trio.move_on_after(5):
            await socket.send_message(bytes(5_000))
            await socket.get_message()

    async with served(handler) as config:
        end = await client(replace(config, socket=SocketLimits(max_message_bytes=1_000))).follow(Received().send)
    assert end == Refused("MessageTooBig", "a message is larger than 1000 bytes")


async def test_a_refused_upgrade_is_a_lost_connection() -> None:
    async def handler(request: WebSocketRequest) -> None:
        await request.reject(401, body=b"no")

    async with served(handler) as config:
        end = await client(config).follow(Received().send)
    assert isinstance(end, Lost)
    assert "401" in end.reason


async def test_nobody_listening_is_a_lost_connection() -> None:
    async def handler(request: WebSocketRequest) -> None:
        raise AssertionError("never called")

    async with served(handler) as config:
        pass
    assert isinstance(await client(config).follow(Received().send), Lost)


@asynccontextmanager
async def raw_server(answer: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[StreamConfig]:
    """A bare TCP server."""
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        yield StreamConfig(f"http://127.0.0.1:{port}", SYNC_TOKEN, socket=SocketLimits(connect_timeout=0.3, close_timeout=0.1))
        nursery.cancel_scope.cancel()


async def test_a_peer_that_never_answers_the_upgrade_is_given_up() -> None:
    async def silence(_stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with raw_server(silence) as config:
        end = await client(config).follow(Received().send)
    assert isinstance(end, Lost)


async def test_a_peer_that_talks_nonsense_is_given_up() -> None:
    async def nonsense(stream: trio.SocketStream) -> None:
        await stream.send_all(b"\x00\x01\x02 nonsense\r\n\r\n")
        await trio.sleep_forever()

    async with raw_server(nonsense) as config:
        end = await client(config).follow(Received().send)
    assert isinstance(end, Lost)


class SilentSocket:
    """Connected, but dead: nothing arrives, no ping is answered."""

    async def get_message(self) -> bytes:
        await trio.sleep_forever()
        raise AssertionError("unreachable")

    async def ping(self, payload: bytes | None = None) -> None:
        await trio.sleep_forever()


async def test_a_close_that_fails_does_not_change_why_the_stream_ended() -> None:
    class RefusingSocket(SilentSocket):
        async def get_message(self) -> bytes:
            await trio.lowlevel.checkpoint()
            return encode_error("FutureCursor", "too far")

    @asynccontextmanager
    async def connect(url: str, headers: Sequence[tuple[str, str]]) -> AsyncIterator[RefusingSocket]:
        yield RefusingSocket()
        raise OSError("the close was not answered")

    config = StreamConfig("http://stratos.test", SYNC_TOKEN)
    end = await StreamClient(config, connect, rng=random.Random(1)).follow(Received().send)
    assert end == Refused("FutureCursor", "too far")


async def test_a_consumer_that_is_gone_is_not_taken_for_a_lost_connection() -> None:
    service = ModelService()
    service.enroll(ANN, "writers")
    send, receive = trio.open_memory_channel[Sequence[Event]](0)
    receive.close()
    config = StreamConfig("http://stratos.test", SYNC_TOKEN)
    with pytest.raises(ExceptionGroup):
        await StreamClient(config, service.connect, rng=random.Random(1)).follow(send)


async def test_a_dead_peer_is_noticed_by_its_missing_pong(autojump_clock: MockClock) -> None:
    @asynccontextmanager
    async def connect(url: str, headers: Sequence[tuple[str, str]]) -> AsyncIterator[SilentSocket]:
        yield SilentSocket()

    config = StreamConfig("http://stratos.test", SYNC_TOKEN, ping_interval=20.0, ping_timeout=10.0)
    end = await StreamClient(config, connect, rng=random.Random(1)).follow(Received().send)
    assert end == Lost("no answer to a ping within 10.0 s")
    assert trio.current_time() == pytest.approx(30.0)


async def test_a_slow_consumer_stops_the_reading_within_the_bounds(autojump_clock: MockClock) -> None:
    service = ModelService()
    service.enroll(ANN, "writers")
    for _ in range(200):
        service.write(ANN)
    config = replace(StreamConfig("http://stratos.test", SYNC_TOKEN), inbox_frames=10, batch_events=5)
    follower = StreamClient(config, service.connect, rng=random.Random(1))
    received = Received(room=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.run, 0, received.send)
        await trio.testing.wait_all_tasks_blocked()
        held = follower.statistics()["pending_frames"]
        taken = [len(await received.next()) for _ in range(3)]
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert held == 10
    assert max(taken) <= 5


async def test_delays_grow_while_nothing_arrives(autojump_clock: MockClock) -> None:
    times: list[float] = []

    @asynccontextmanager
    async def connect(url: str, headers: Sequence[tuple[str, str]]) -> AsyncIterator[SilentSocket]:
        times.append(trio.current_time())
        if len(times) == 8:
            nursery.cancel_scope.cancel()
        if times:
            raise OSError("refused")
        yield SilentSocket()

    config = StreamConfig("http://stratos.test", SYNC_TOKEN, backoff=BackoffPolicy(initial=1.0, longest=16.0))
    async with trio.open_nursery() as nursery:
        await StreamClient(config, connect, rng=random.Random(1)).run(0, Received().send)
    waits = [later - earlier for earlier, later in pairwise(times)]
    for number, wait in enumerate(waits):
        full = min(2.0**number, 16.0)
        assert full / 2 <= wait <= full


async def test_an_inbox_is_bounded_by_bytes_and_takes_one_frame_of_any_size() -> None:
    inbox = FrameInbox(max_frames=100, max_bytes=10)
    await inbox.put(bytes(50))
    with trio.move_on_after(0) as waiting:
        await inbox.put(b"x")
    assert waiting.cancelled_caught
    assert await inbox.take(5) == [bytes(50)]
    await inbox.put(bytes(6))
    await inbox.put(bytes(4))
    assert inbox.statistics()["pending_bytes"] == 10
    inbox.close()
    assert await inbox.take(5) == [bytes(6), bytes(4)]
    assert await inbox.take(5) == []
