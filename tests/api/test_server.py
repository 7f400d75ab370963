"""The server: addresses, deadlines, bounds, and how it ends."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import cast

import pytest
import trio
import trio.testing
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIReceiveEvent

from stratos.api.connection import Connection, ConnectionCounters, ConnectionLimits
from stratos.api.http1 import AppQueue, Http1Protocol
from stratos.api.server import HttpServer, ServerConfig
from tests.api.tiny_app import MEGABYTE, UPGRADE, TinyApp, get, read_all, served

PONG = b"\x8a\x80\x00\x00\x00\x00"


async def test_every_address_is_bound_and_reported() -> None:
    async with served(binds=("127.0.0.1:0", "localhost:0", "[::1]:0")) as it:
        assert len(it.urls) >= 3
        for url in it.urls:
            stream = await it.connect(url)
            await stream.send_all(get("/", "Connection: close"))
            assert (await read_all(stream)).endswith(b"hello")


async def test_address_that_is_taken_is_an_error_and_leaves_nothing_bound() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        config = ServerConfig(binds=("127.0.0.1:0", address))
        with pytest.raises(OSError, match=f"cannot listen on {address}: .*in use"):
            await HttpServer(TinyApp(), config).run()


async def test_short_answer_is_one_segment() -> None:
    async with served() as it:
        stream = await it.connect()
        await stream.send_all(get("/"))
        answer = await stream.receive_some(4096)
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"hello")


async def test_peer_that_says_nothing_is_dropped(autojump_clock: trio.testing.MockClock) -> None:
    del autojump_clock
    async with served() as it:
        stream = await it.connect()
        started = trio.current_time()
        assert await read_all(stream) == b""
        assert trio.current_time() - started == pytest.approx(10.0, abs=0.1)


async def test_head_that_trickles_in_is_dropped_however_it_goes_on(autojump_clock: trio.testing.MockClock) -> None:
    del autojump_clock
    async with served() as it:
        stream = await it.connect()
        started = trio.current_time()

        async def trickle() -> None:
            for byte in get("/") * 100:
                await stream.send_all(bytes([byte]))
                await trio.sleep(3)

        with pytest.raises(trio.BrokenResourceError):
            await trickle()
        assert trio.current_time() - started < 20
        assert await it.count("timed_out_total") == 1
        assert it.app.finished == []


async def test_idle_connection_is_closed_after_its_time(autojump_clock: trio.testing.MockClock) -> None:
    del autojump_clock
    async with served() as it:
        stream = await it.connect()
        for _ in range(3):
            await stream.send_all(get("/"))
            assert (await stream.receive_some(4096)).endswith(b"hello")
            await trio.sleep(50)
        started = trio.current_time()
        assert await read_all(stream) == b""
        assert trio.current_time() - started == pytest.approx(10.0, abs=0.1)
        assert await it.count("timed_out_total") == 0


async def test_second_head_on_a_connection_has_the_same_time(autojump_clock: trio.testing.MockClock) -> None:
    del autojump_clock
    async with served() as it:
        stream = await it.connect()
        await stream.send_all(get("/"))
        await stream.receive_some(4096)
        await stream.send_all(b"GET / HT")
        started = trio.current_time()
        assert await read_all(stream) == b""
        assert trio.current_time() - started == pytest.approx(10.0, abs=0.1)
        assert await it.count("timed_out_total") == 1


async def test_answer_may_take_its_time(autojump_clock: trio.testing.MockClock) -> None:
    del autojump_clock
    async with served() as it:
        stream = await it.connect()
        await stream.send_all(get("/slow"))
        await trio.sleep(3600)
        it.app.release.set()
        assert (await stream.receive_some(4096)).endswith(b"hello")


async def test_peer_that_does_not_read_is_dropped(autojump_clock: trio.testing.MockClock) -> None:
    del autojump_clock
    async with served() as it:
        stream = await it.connect()
        await stream.send_all(get("/big"))
        await trio.sleep(40)
        assert await it.count("connections") == 0
        assert await it.count("timed_out_total") == 1
        assert len(await read_all(stream)) < 64 * len(MEGABYTE)
        assert await it.is_well()


async def test_peer_that_reads_slowly_but_steadily_gets_everything(autojump_clock: trio.testing.MockClock) -> None:
    del autojump_clock
    async with served() as it:
        stream = await it.connect()
        await stream.send_all(get("/big", "Connection: close"))
        received = 0
        while data := await stream.receive_some(4 * len(MEGABYTE)):
            received += len(data)
            await trio.sleep(1)
        assert received > 64 * len(MEGABYTE)


async def test_a_frame_that_was_begun_is_sent_whole_though_its_sender_is_cancelled() -> None:
    ours, theirs = socket.socketpair()
    frame, received = b"x" * 4_000_000, 0
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    peer = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
    app = TinyApp()
    connection = Connection(
        app, stream, config=Config(), context=WorkerContext(None), limits=ConnectionLimits(), counters=ConnectionCounters()
    )

    async def send_in_a_cancelled_scope() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await connection._send(frame)
        await stream.aclose()

    connection._protocol = cast("Http1Protocol", SimpleNamespace(take_head=lambda: b""))
    async with trio.open_nursery() as nursery, peer:
        nursery.start_soon(send_in_a_cancelled_scope)
        async for chunk in peer:
            received += len(chunk)
    assert received == len(frame)


async def test_websocket_peer_that_does_not_answer_a_ping_is_dropped(autojump_clock: trio.testing.MockClock) -> None:
    del autojump_clock
    async with served() as it:
        stream = await it.connect()
        await stream.send_all(UPGRADE)
        assert (await stream.receive_some(4096)).startswith(b"HTTP/1.1 101")
        started = trio.current_time()
        assert await read_all(stream) == b"\x89\x00"
        assert trio.current_time() - started == pytest.approx(60.0, abs=0.1)
        assert it.app.finished == ["/ws"]
        assert await it.count("websockets") == 0


async def test_websocket_peer_that_answers_pings_stays(autojump_clock: trio.testing.MockClock) -> None:
    del autojump_clock
    async with served() as it:
        stream = await it.connect()
        await stream.send_all(UPGRADE)
        await stream.receive_some(4096)
        started = trio.current_time()
        for _ in range(20):
            assert await stream.receive_some(4096) == b"\x89\x00"
            await stream.send_all(PONG)
        assert trio.current_time() - started == pytest.approx(600.0, abs=1)
        assert await it.count("websockets") == 1


async def test_websocket_peer_that_does_not_read_is_dropped(autojump_clock: trio.testing.MockClock) -> None:
    del autojump_clock
    async with served() as it:
        stream = await it.connect()
        await stream.send_all(UPGRADE.replace(b"/ws", b"/flood"))
        await trio.sleep(61)
        assert await it.count("connections") == 0
        assert it.app.finished == ["/flood"]


async def test_connections_beyond_the_limit_wait_for_room() -> None:
    async with served(max_connections=2) as it:
        busy = [await it.connect() for _ in range(2)]
        for stream in busy:
            await stream.send_all(get("/slow", "Connection: close"))
        waiting = await it.connect()
        await waiting.send_all(get("/", "Connection: close"))
        assert await it.count("connections") == 2
        it.app.release.set()
        assert (await read_all(waiting)).endswith(b"hello")
        for stream in busy:
            assert (await read_all(stream)).endswith(b"hello")


async def test_idle_connection_gives_way_when_room_is_short() -> None:
    async with served(max_connections=3) as it:
        idle = []
        for _ in range(3):
            idle.append(await it.connect())
            await idle[-1].send_all(get("/"))
            await idle[-1].receive_some(4096)
        assert await it.is_well()
        assert await read_all(idle[0]) == b""


async def test_stop_lets_requests_under_way_finish_and_accepts_no_more() -> None:
    async with served() as it:
        idle, busy = await it.connect(), await it.connect()
        await busy.send_all(get("/slow"))
        await it.app.entered.wait()
        it.app.stopping.set()
        assert await read_all(idle) == b""
        with pytest.raises(OSError, match="connect"):
            await it.connect()
        assert not it.stopped.is_set()
        it.app.release.set()
        assert (await read_all(busy)).endswith(b"hello")
        await busy.aclose()
        await it.stopped.wait()
        assert await it.count("cut_total") == 0


async def test_stop_lets_websockets_say_goodbye() -> None:
    async with served() as it:
        stream = await it.connect()
        await stream.send_all(UPGRADE)
        await stream.receive_some(4096)
        it.app.stopping.set()
        assert await read_all(stream) == b"\x88\x02\x03\xe9"
        await it.stopped.wait()
        assert await it.count("cut_total") == 0


@pytest.mark.parametrize("path", ["/slow", "/big"])
async def test_stop_cuts_what_takes_too_long(path: str, autojump_clock: trio.testing.MockClock) -> None:
    del autojump_clock
    async with served(graceful=5.0, limits=ConnectionLimits(send=3600)) as it:
        stream = await it.connect()
        await stream.send_all(get(path))
        await trio.sleep(1)
        started = trio.current_time()
        it.app.stopping.set()
        await it.stopped.wait()
        assert trio.current_time() - started == pytest.approx(5.0, abs=0.1)
        assert await it.count("cut_total") == 1


async def test_cancellation_ends_gracefully_too() -> None:
    async with served() as it:
        stream = await it.connect()
        await stream.send_all(get("/slow"))
        await it.app.entered.wait()
        it.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert it.app.stopping.is_set()
        assert not it.stopped.is_set()
        it.app.release.set()
        assert (await read_all(stream)).endswith(b"hello")
        await stream.aclose()
        await it.stopped.wait()


async def test_queue_to_the_application_is_bounded_for_bodies_but_never_full_for_a_disconnect() -> None:
    queue = AppQueue(2)
    chunk: ASGIReceiveEvent = {"type": "http.request", "body": b"x", "more_body": True}
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(queue.put, chunk)
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 3
        await queue.put({"type": "http.disconnect"})
        types = [(await queue.receive())["type"] for _ in range(2)]
        queue.finish()
    assert types == ["http.request", "http.request"]


async def test_disconnect_stays_the_last_message() -> None:
    queue = AppQueue(2)
    await queue.put({"type": "http.disconnect"})
    assert [(await queue.receive())["type"] for _ in range(3)] == ["http.disconnect"] * 3
