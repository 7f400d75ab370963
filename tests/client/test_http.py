"""The fetch that comes with the library, on real sockets whose other end misbehaves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio

from stratos.client import HttpRequest, NoAnswer, open_fetch

OK = b"HTTP/1.1 200 OK\r\n"


@asynccontextmanager
async def server(*answer: bytes, hang: bool = False) -> AsyncIterator[str]:
    """A server that answers every connection with these bytes."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            for piece in answer:
                await stream.send_all(piece)
            if hang:
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/x"
        nursery.cancel_scope.cancel()


async def get(url: str, *, limit: int = 100, seconds: float = 5.0) -> bytes:
    async with open_fetch(timeout=seconds) as fetch:
        return (await fetch(HttpRequest("GET", url, limit))).body


async def test_a_whole_answer_arrives() -> None:
    async with server(OK, b"content-length: 2\r\n\r\n", b"ok") as url:
        assert await get(url) == b"ok"


async def test_a_body_without_an_end_is_given_up_at_the_limit() -> None:
    async with server(OK, b"\r\n", *[b"x" * 64] * 100, hang=True) as url:
        with pytest.raises(NoAnswer, match="more than 100 bytes"):
            await get(url)


async def test_an_answer_that_does_not_come_is_given_up_in_time() -> None:
    for answer in ((), (OK, b"content-length: 2\r\n\r\n", b"o")):
        async with server(*answer, hang=True) as url:
            with pytest.raises(NoAnswer):
                await get(url, seconds=0.2)


async def test_an_answer_that_comes_by_drops_is_given_up_in_time() -> None:
    async def drip(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(OK + b"content-length: 100\r\n\r\n")
            with suppress(trio.BrokenResourceError):
                while True:
                    await stream.send_all(b"x")
                    await trio.sleep(0.02)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, drip, 0, host="127.0.0.1"))
        with pytest.raises(NoAnswer, match="TooSlowError"):
            await get(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/x", seconds=0.3)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "answer",
    [
        (b"nonsense\r\n\r\n",),
        (OK, b"content-length: 9\r\n\r\n", b"o"),
        (OK, b"content-encoding: gzip\r\ncontent-length: 2\r\n\r\n", b"ok"),
        (),
    ],
)
async def test_what_is_no_answer_is_a_typed_error(answer: tuple[bytes, ...]) -> None:
    async with server(*answer) as url:
        with pytest.raises(NoAnswer):
            await get(url)


async def test_a_redirect_is_an_answer_and_not_followed() -> None:
    async with (
        server(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n") as url,
        open_fetch() as fetch,
    ):
        assert (await fetch(HttpRequest("GET", url, 100))).status == 302


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://[", "no url", "ftp://127.0.0.1/"])
async def test_nobody_there_is_a_typed_error(url: str) -> None:
    with pytest.raises(NoAnswer):
        await get(url)


async def test_cancellation_ends_a_request() -> None:
    async with server(hang=True) as url:
        with trio.move_on_after(0.1) as scope:
            await get(url)
        assert scope.cancelled_caught
