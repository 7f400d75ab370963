"""Request heads and bodies without a server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
from hypercorn.typing import ASGIReceiveEvent, HTTPScope

from stratos.api.errors import XrpcError
from stratos.api.request import RequestBody, RequestHead


def head(*headers: tuple[bytes, bytes], query: bytes = b"") -> RequestHead:
    """A request's head."""
    scope: HTTPScope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": query,
        "root_path": "",
        "headers": [*headers],
        "client": None,
        "server": None,
        "state": {},  # type: ignore[typeddict-item]  # hypercorn gives it a name of its own
        "extensions": {},
    }
    return RequestHead(scope)


def arriving(*chunks: bytes, every: float = 0.0, complete: bool = True) -> Callable[[], Awaitable[ASGIReceiveEvent]]:
    """A body that arrives in chunks, `every` so many seconds; without its end, the peer goes away after them."""
    waiting = list(chunks)

    async def receive() -> ASGIReceiveEvent:
        await trio.sleep(every)
        if not waiting:
            return {"type": "http.disconnect"}
        chunk = waiting.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(waiting) or not complete}

    return receive


def declared(length: int) -> RequestHead:
    """A head that announces so many bytes."""
    return head((b"content-length", str(length).encode()))


async def test_body_is_put_together_from_its_chunks() -> None:
    body = RequestBody(declared(5), arriving(b"he", b"llo", b""))
    assert await body.read(max_bytes=5, seconds=1) == b"hello"


@pytest.mark.parametrize("chunks", [[b"abcdef"], [b"abc", b"def"], [b"a"] * 6])
async def test_body_is_refused_as_soon_as_it_is_known_to_be_too_large(chunks: list[bytes]) -> None:
    body = RequestBody(head((b"transfer-encoding", b"chunked")), arriving(*chunks, b"never read", complete=False))
    with pytest.raises(XrpcError, match="413 PayloadTooLarge"):
        await body.read(max_bytes=5, seconds=1)


async def test_body_that_announces_too_much_is_not_read_at_all() -> None:
    async def receive() -> ASGIReceiveEvent:
        raise AssertionError("was read")

    with pytest.raises(XrpcError, match="413 PayloadTooLarge"):
        await RequestBody(declared(6), receive).read(max_bytes=5, seconds=1)


async def test_body_that_trickles_in_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    del autojump_clock
    body = RequestBody(declared(100), arriving(*[b"a"] * 100, every=1.0))
    started = trio.current_time()
    with pytest.raises(XrpcError, match="408 RequestTimeout"):
        await body.read(max_bytes=100, seconds=30)
    assert trio.current_time() - started == pytest.approx(30.0)


async def test_body_without_its_end_is_refused() -> None:
    with pytest.raises(XrpcError, match="ended early"):
        await RequestBody(declared(10), arriving(b"abc", complete=False)).read(max_bytes=10, seconds=1)


async def test_rest_of_a_body_is_discarded_only_where_it_is_short_and_comes_soon(
    autojump_clock: trio.testing.MockClock,
) -> None:
    del autojump_clock
    started = trio.current_time()
    await RequestBody(declared(3), arriving(b"abc")).discard(max_bytes=5, seconds=1)
    await RequestBody(declared(6), arriving(b"abcdef", every=99)).discard(max_bytes=5, seconds=1)
    await RequestBody(head((b"transfer-encoding", b"chunked")), arriving(b"a", every=99)).discard(max_bytes=5, seconds=1)
    assert trio.current_time() == started
    await RequestBody(declared(3), arriving(b"abc", every=99)).discard(max_bytes=5, seconds=1)
    assert trio.current_time() - started == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("headers", "present", "has_content"),
    [
        ([], False, False),
        ([(b"content-length", b"0")], True, False),
        ([(b"content-length", b"7")], True, True),
        ([(b"transfer-encoding", b"chunked")], True, True),
    ],
)
def test_head_tells_whether_there_is_a_body(headers: list[tuple[bytes, bytes]], present: bool, has_content: bool) -> None:
    body = RequestBody(head(*headers), arriving())
    assert (body.present, body.has_content) == (present, has_content)


def test_query_values_keep_their_order_and_the_last_one_counts() -> None:
    request = head(query=b"a=1&b=&a=2&c")
    assert request.query == {"a": ["1", "2"], "b": [""], "c": [""]}
    assert [request.query_value(name) for name in "abcd"] == ["2", "", "", None]
