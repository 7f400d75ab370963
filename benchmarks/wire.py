"""Small fast clients, so that what is measured is the server: keep-alive HTTP/1.1 and a websocket that only reads."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

import trio


class HttpConnection:
    """One keep-alive connection; one request at a time."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def call(self, method: str, path: str, token: str, body: object | None = None) -> tuple[int, bytes]:
        """Send a request and read its answer: status and body."""
        payload = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n"
        await self._stream.send_all(head.encode() + b"\r\n" + payload)
        return await self._answer()

    async def post(self, nsid: str, token: str, body: object) -> dict[str, object]:
        """Call a procedure; raises on any status but 200."""
        status, answer = await self.call("POST", f"/xrpc/{nsid}", token, body)
        if status != 200:
            raise RuntimeError(f"{nsid}: {status} {answer[:300]!r}")
        return dict(json.loads(answer))

    async def get(self, path: str, token: str) -> bytes:
        """Call a query; raises on any status but 200."""
        status, answer = await self.call("GET", path, token)
        if status != 200:
            raise RuntimeError(f"{path}: {status} {answer[:300]!r}")
        return answer

    async def _answer(self) -> tuple[int, bytes]:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            await self._more()
        head = bytes(self._buffer[:end]).lower()
        del self._buffer[: end + 4]
        status = int(head[9:12])
        if b"transfer-encoding: chunked" in head:
            return status, await self._chunks()
        start = head.index(b"content-length:") + len(b"content-length:")
        length = int(head[start:].split(b"\r\n", 1)[0])
        while len(self._buffer) < length:
            await self._more()
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        return status, body

    async def _chunks(self) -> bytes:
        body = b""
        while True:
            while (end := self._buffer.find(b"\r\n")) < 0:
                await self._more()
            length = int(self._buffer[:end], 16)
            while len(self._buffer) < end + 2 + length + 2:
                await self._more()
            body += self._buffer[end + 2 : end + 2 + length]
            del self._buffer[: end + 2 + length + 2]
            if length == 0:
                return body

    async def _more(self) -> None:
        data = await self._stream.receive_some(65_536)
        if not data:
            raise RuntimeError("the server closed the connection")
        self._buffer += data


async def pipelined(port: int, request: bytes, batches: Iterator[int]) -> None:
    """Send one request over one connection, as many at once as the next of `batches` says, and take the answers in cheaply.

    Several connections may share `batches`: whichever is answered sooner takes more of them. All answers are as long as the first
    one, which is looked at. Raises RuntimeError where one is not a success.
    """
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        stream.setsockopt(6, 1, 1)  # TCP_NODELAY
        await stream.send_all(request)
        first = await stream.receive_some(65_536)
        while (end := first.find(b"\r\n\r\n")) < 0:
            first += await stream.receive_some(65_536)
        if not first.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{first[:300]!r}")
        start = first.lower().index(b"content-length:") + len(b"content-length:")
        length = end + 4 + int(first[start:].split(b"\r\n", 1)[0])
        left = length - len(first)
        for batch in batches:
            await stream.send_all(request * batch)
            left += length * batch
            while left > 0:
                left -= len(await stream.receive_some(1_048_576))
        if left < 0:
            raise RuntimeError("an answer was longer than the first one")


@asynccontextmanager
async def http(port: int) -> AsyncIterator[HttpConnection]:
    """Connect to a server on loopback."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        stream.setsockopt(6, 1, 1)  # TCP_NODELAY
        yield HttpConnection(stream)


PONG: Final = b"\x8a\x80\0\0\0\0"
"""An empty pong under a mask of zeros."""


class FrameReader:
    """A websocket subscriber that reads binary messages and answers pings, without looking further into them."""

    def __init__(self, stream: trio.SocketStream, received: bytes) -> None:
        self._stream = stream
        self._buffer = received
        self._pinged = False

    async def frames(self) -> list[bytes]:
        """The next messages: all that have arrived, at least one. Raises when the stream ends."""
        found: list[bytes] = []
        while not found:
            data = await self._stream.receive_some(262_144)
            if not data:
                raise RuntimeError("the stream ended")
            self._buffer = self._buffer + data if self._buffer else data
            found = self._split()
            if self._pinged:
                self._pinged = False
                await self._stream.send_all(PONG)
        return found

    def _split(self) -> list[bytes]:
        buffer, start, found = self._buffer, 0, []
        while len(buffer) - start >= 2:
            length, header = buffer[start + 1] & 0x7F, 2
            if length == 126:
                length, header = int.from_bytes(buffer[start + 2 : start + 4], "big"), 4
            elif length == 127:
                length, header = int.from_bytes(buffer[start + 2 : start + 10], "big"), 10
            if len(buffer) - start < header + length:
                break
            opcode = buffer[start] & 0x0F
            if opcode == 2:
                found.append(buffer[start + header : start + header + length])
            elif opcode == 9:
                self._pinged = True
            elif opcode == 8:
                raise RuntimeError(f"the stream was closed: {buffer[start + header :][:80]!r}")
            start += header + length
        self._buffer = buffer[start:]
        return found


@asynccontextmanager
async def subscribe(port: int, token: str, query: str) -> AsyncIterator[FrameReader]:
    """Open a stream of `subscribeRecords`."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        key = base64.b64encode(os.urandom(16)).decode()
        await stream.send_all(
            (
                f"GET /xrpc/zone.stratos.sync.subscribeRecords?{query} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
                f"Authorization: Bearer {token}\r\n\r\n"
            ).encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some(65_536)
        head, rest = head.split(b"\r\n\r\n", 1)
        if b" 101 " not in head.split(b"\r\n", 1)[0]:
            raise RuntimeError(f"no upgrade: {head[:200]!r}")
        yield FrameReader(stream, rest)
