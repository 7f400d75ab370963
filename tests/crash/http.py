"""A client that expects its service to die: one keep-alive connection, one call at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlencode, urlsplit

import h11
import orjson
import trio

REQUEST_SECONDS: Final = 30
READ_BYTES: Final = 64 * 1024
OK: Final = 200


class ServiceGone(Exception):
    """The connection ended before the answer was complete: nobody knows whether the call was carried out."""


class Refused(AssertionError):
    """The service answered with another status than 200."""

    def __init__(self, nsid: str, status: int, body: bytes, retry_after: str | None) -> None:
        super().__init__(f"{nsid}: {status} {body[:500]!r}")
        self.status = status
        answer = orjson.loads(body)
        self.error: str = answer["error"]
        self.message: str = answer["message"]
        self.retry_after = retry_after


class Connection:
    """One connection to a service."""

    def __init__(self, stream: trio.SocketStream, host: str) -> None:
        self._stream = stream
        self._host = host
        self._protocol = h11.Connection(h11.CLIENT)

    async def post(self, nsid: str, token: str, body: object) -> dict[str, object]:
        """Call a procedure. Raises ServiceGone, and Refused for any other answer than success."""
        return await self._call("POST", nsid, nsid, token, orjson.dumps(body))

    async def get(self, nsid: str, token: str, **params: str | int) -> dict[str, object]:
        """Call a query. Raises ServiceGone, and Refused for any other answer than success."""
        return await self._call("GET", nsid, f"{nsid}?{urlencode(params)}", token, None)

    async def _call(self, verb: str, nsid: str, target: str, token: str, body: bytes | None) -> dict[str, object]:
        status, headers, answer = await self._request(verb, f"/xrpc/{target}", token, body)
        if status != OK:
            raise Refused(nsid, status, answer, headers.get("retry-after"))
        decoded = orjson.loads(answer)
        assert isinstance(decoded, dict)
        return decoded

    async def page(self, path: str) -> tuple[int, bytes]:
        """The status and the body of a page. Raises ServiceGone."""
        status, _, answer = await self._request("GET", path, "", None)
        return status, answer

    async def file(self, nsid: str, token: str, **params: str | int) -> bytes:
        """Call a query whose answer is not JSON. Raises ServiceGone, and Refused for any other answer than success."""
        status, headers, answer = await self._request("GET", f"/xrpc/{nsid}?{urlencode(params)}", token, None)
        if status != OK:
            raise Refused(nsid, status, answer, headers.get("retry-after"))
        return answer

    async def _request(self, verb: str, target: str, token: str, body: bytes | None) -> tuple[int, Mapping[str, str], bytes]:
        headers = [("Host", self._host), *([("Authorization", f"Bearer {token}")] if token else [])]
        if body is not None:
            headers += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        data = self._protocol.send(h11.Request(method=verb, target=target, headers=headers)) or b""
        data += (self._protocol.send(h11.Data(data=body)) or b"") if body is not None else b""
        data += self._protocol.send(h11.EndOfMessage()) or b""
        try:
            with trio.fail_after(REQUEST_SECONDS):
                await self._stream.send_all(data)
                return await self._answer()
        except (trio.BrokenResourceError, h11.RemoteProtocolError) as error:
            raise ServiceGone from error

    async def _answer(self) -> tuple[int, Mapping[str, str], bytes]:
        status, headers, body = 0, dict[str, str](), b""
        while True:
            event = self._protocol.next_event()
            if event is h11.NEED_DATA:
                self._protocol.receive_data(await self._stream.receive_some(READ_BYTES))
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                if self._protocol.our_state is h11.DONE:
                    self._protocol.start_next_cycle()
                return status, headers, body
            else:
                raise ServiceGone


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Connection]:
    """Connect for the block. Raises ServiceGone."""
    parts = urlsplit(url)
    try:
        stream = await trio.open_tcp_stream(parts.hostname or "", parts.port or 0)
    except OSError as error:
        raise ServiceGone from error
    async with stream:
        yield Connection(stream, parts.netloc)


def as_text(fields: Mapping[str, object], name: str) -> str:
    """A field of an answer that has to be a text."""
    value = fields[name]
    assert isinstance(value, str)
    return value
