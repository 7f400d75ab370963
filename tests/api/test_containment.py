"""No peer takes the process down, or keeps anybody else from being served."""

from __future__ import annotations

import random
import socket
import struct

import pytest
import trio
import trio.testing

from tests.api.tiny_app import UPGRADE, get, read_all, served

GARBAGE = [
    b"\x00",
    b"\r\n\r\n",
    b"\r\n" * 100,
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n: empty\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET http://[::1 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"G\xc3\x89T / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    b"SSH-2.0-OpenSSH_9.0\r\n",
    b"EHLO example.com\r\n",
    UPGRADE.replace(b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 99"),
    UPGRADE.replace(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b""),
    UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"),
    UPGRADE.replace(b"GET", b"POST"),
]


@pytest.mark.parametrize("stray", [b"\x00", b"x", b"\x81\x85", b"GET / HTTP/1.1\r\n\r\n", bytes(5000)])
@pytest.mark.parametrize("path", [b"/ws", b"/slow"])
async def test_stray_bytes_right_behind_an_upgrade_end_that_connection_only(stray: bytes, path: bytes) -> None:
    async with served() as it:
        stream = await it.connect()
        await stream.send_all(UPGRADE.replace(b"/ws", path) + stray)
        await trio.testing.wait_all_tasks_blocked()
        it.app.release.set()
        await read_all(stream)
        assert await it.is_well()


@pytest.mark.parametrize(
    "stray", [b"\x00\x00", b"\xff" * 10, b"\x81\x05hello", b"\x8b\x80\x00\x00\x00\x00", b"\x82\xff" + b"\xff" * 8]
)
async def test_bytes_that_are_no_websocket_frame_end_that_connection_only(stray: bytes) -> None:
    async with served() as it:
        stream = await it.connect()
        await stream.send_all(UPGRADE)
        assert (await stream.receive_some(4096)).startswith(b"HTTP/1.1 101")
        await stream.send_all(stray)
        await read_all(stream)
        assert await it.is_well()


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_garbage_is_answered_with_an_error_or_a_close_and_nothing_else_happens(
    garbage: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    del autojump_clock  # what is incomplete runs into its deadline
    async with served() as it:
        answer = await it.ask(garbage)
        assert answer[:12] in {b"", b"HTTP/1.1 200", b"HTTP/1.1 400", b"HTTP/1.1 501", b"HTTP/1.1 505", b"HTTP/1.1 413"}, answer
        assert await it.is_well()


@pytest.mark.parametrize("seed", range(20))
async def test_random_bytes_end_that_connection_only(seed: int, autojump_clock: trio.testing.MockClock) -> None:
    del autojump_clock
    rng = random.Random(seed)
    whole = rng.choice([get("/"), UPGRADE, b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcd"])
    mutated = bytearray(whole)
    for _ in range(rng.randrange(1, 10)):
        mutated[rng.randrange(len(mutated))] = rng.randrange(256)
    async with served() as it:
        stream = await it.connect()
        await stream.send_all(bytes(mutated) + rng.randbytes(rng.randrange(100)))
        await read_all(stream)
        assert await it.is_well()


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("request_", [get("/"), UPGRADE, b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcd"])
async def test_peer_may_vanish_after_any_byte_of_a_request(request_: bytes, reset: bool) -> None:
    async with served() as it:
        for length in range(0, len(request_) + 1, 7):
            stream = await it.connect()
            await stream.send_all(request_[:length])
            if reset:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert await it.is_well()
        assert await it.count("connections") == 0


async def test_peer_that_ends_its_side_still_gets_its_answer() -> None:
    async with served() as it:
        stream = await it.connect()
        await stream.send_all(get("/slow"))
        await it.app.entered.wait()
        await stream.send_eof()
        await trio.testing.wait_all_tasks_blocked()
        it.app.release.set()
        assert (await read_all(stream)).endswith(b"hello")


@pytest.mark.expects_error_log
async def test_error_of_the_application_is_a_500_and_ends_that_connection_only() -> None:
    async with served() as it:
        assert (await it.ask(get("/boom"))).startswith(b"HTTP/1.1 500")
        assert await it.count("contained_total") == 1
        assert await it.is_well()


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000, b"GET /" + b"a" * 20_000, b"a" * 20_000])
async def test_head_that_is_too_large_is_refused(head: bytes) -> None:
    async with served() as it:
        answer = await it.ask(head)
        assert answer.startswith((b"HTTP/1.1 431", b"HTTP/1.1 400"))
        assert await it.is_well()


async def test_http2_is_not_spoken_even_on_request() -> None:
    async with served() as it:
        stream = await it.connect()
        await stream.send_all(get("/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"))
        upgrade = await stream.receive_some(4096)
        assert upgrade.startswith(b"HTTP/1.1 200")
        assert upgrade.endswith(b"hello")
        prior = await it.ask(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
        assert prior[:9] in {b"", b"HTTP/1.1 "}
        assert await it.is_well()


async def test_answer_without_reading_the_body_reaches_a_peer_that_is_still_sending() -> None:
    """The unread body neither blocks the end of the answer nor makes the kernel throw it away."""
    async with served() as it:
        body = bytes(4 * 1024 * 1024)
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
        assert (await it.ask(head + body)).endswith(b"hello")
        assert it.app.finished == ["/"]
        assert await it.is_well()


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with served() as it:
        echo = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
        answer = await it.ask(echo + get("/") + echo + get("/", "Connection: close"))
        assert [part[:5] for part in answer.split(b"\r\n\r\n")[1:]] == [b"abcHT", b"hello", b"abcHT", b"hello"]


async def test_peer_that_waits_for_leave_to_send_its_body_gets_it() -> None:
    async with served() as it:
        stream = await it.connect()
        await stream.send_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert (await stream.receive_some(4096)).startswith(b"HTTP/1.1 100")
        await stream.send_all(b"abc")
        assert (await stream.receive_some(4096)).endswith(b"abc")


async def test_http_1_0_is_served() -> None:
    async with served() as it:
        assert (await it.ask(b"GET / HTTP/1.0\r\n\r\n")).endswith(b"hello")


async def test_flood_after_a_message_was_refused_as_too_large_drops_the_connection() -> None:
    async with served() as it:
        stream = await it.connect()
        await stream.send_all(UPGRADE)
        assert (await stream.receive_some(4096)).startswith(b"HTTP/1.1 101")
        frame = b"\x82\xfe" + struct.pack("!H", 60_000) + bytes(4) + bytes(60_000)

        async def flood() -> None:
            while True:
                await stream.send_all(frame)

        with pytest.raises(trio.BrokenResourceError):
            await flood()
        assert await it.is_well()
        assert await it.count("contained_total") == 1
