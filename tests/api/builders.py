"""A running service over HTTP, and how the tests talk to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlencode, urlsplit

import httpx
import orjson
import pytest
import trio
from trio_websocket import CloseReason, ConnectionClosed, WebSocketConnection, wrap_client_stream

from stratos.api.app import StratosApp
from stratos.api.config import ApiConfig
from stratos.api.connection import ConnectionLimits
from stratos.api.server import HttpServer, ServerConfig
from stratos.atproto.frames import ErrorFrame, decode_frame
from stratos.atproto.syntax import Did
from stratos.engine.identity import Identity
from stratos.engine.service import ServiceLimits
from tests.engine.builders import POST, Engine, open_backend, post, start_engine

ADMIN_PASSWORD: Final = "opensesame"
SYNC_TOKEN: Final = "sync-token-of-the-tests"
SUBSCRIBE: Final = "zone.stratos.sync.subscribeRecords"
CONFIG: Final = ApiConfig(dev_mode=True, admin_password=ADMIN_PASSWORD, sync_token=SYNC_TOKEN)
LOOPBACK: Final = ServerConfig(binds=("127.0.0.1:0",), graceful=5.0)


@dataclass
class Answer:
    """A JSON answer."""

    status: int
    body: dict[str, object]
    headers: httpx.Headers


@dataclass
class Api:
    """A served application, its engine and a client for it."""

    engine: Engine
    app: StratosApp
    server: HttpServer
    url: str
    client: httpx.AsyncClient
    stopped: trio.Event
    nursery: trio.Nursery
    subscribers: list[Subscriber] = field(default_factory=list)

    async def get(self, nsid: str, as_: str | None = None, **params: str | int) -> Answer:
        """Call a query."""
        response = await self.client.get(f"/xrpc/{nsid}", params=params, headers=authorized(as_))
        return _answer(response)

    async def post(self, nsid: str, as_: str | None, body: object) -> Answer:
        """Call a procedure."""
        headers = {**authorized(as_), "content-type": "application/json"}
        response = await self.client.post(f"/xrpc/{nsid}", content=orjson.dumps(body), headers=headers)
        return _answer(response)

    async def create(self, did: Did, text: str, *boundaries: str, rkey: str | None = None) -> str:
        """Write a post over HTTP; gives its URI."""
        body = {"repo": did, "collection": POST, "record": post(text, *boundaries), **({"rkey": rkey} if rkey else {})}
        answer = await self.post("zone.stratos.repo.createRecord", did, body)
        assert answer.status == 200, answer
        return str(answer.body["uri"])

    async def subscribe(self, as_: str | None = None, **params: object) -> Subscriber:
        """Open a subscription; it is closed with the service at the latest."""
        resource = f"/xrpc/{SUBSCRIBE}?{urlencode(params, doseq=True)}"
        headers = [(name.encode(), value.encode()) for name, value in authorized(as_).items()]
        stream = await self.raw()
        socket = await wrap_client_stream(self.nursery, stream, "localhost", resource, extra_headers=headers)
        self.subscribers.append(Subscriber(socket, stream))
        return self.subscribers[-1]

    async def raw(self) -> trio.SocketStream:
        """A bare connection."""
        parts = urlsplit(self.url)
        return await trio.open_tcp_stream(parts.hostname or "", parts.port or 0)

    async def stop(self) -> None:
        """Shut down as the service does: the listener first, then the engine."""
        for subscriber in self.subscribers:
            await subscriber.leave()
        self.app.stopping.set()
        await self.stopped.wait()
        await self.engine.stop()


@dataclass
class Subscriber:
    """An open subscription."""

    socket: WebSocketConnection
    stream: trio.SocketStream

    async def leave(self) -> None:
        """Close the subscription, and its socket, which trio-websocket leaves open where the server closed first."""
        await self.socket.aclose()
        await self.stream.aclose()

    async def frame(self) -> bytes:
        """The next frame."""
        message = await self.socket.get_message()
        assert isinstance(message, bytes)
        return message

    async def refusal(self) -> tuple[ErrorFrame, CloseReason]:
        """The one error frame of a refused subscription, and the close that follows it."""
        decoded = decode_frame(await self.frame())
        assert isinstance(decoded, ErrorFrame), decoded
        return decoded, await self.closed()

    async def closed(self) -> CloseReason:
        """How the server closes the subscription; a frame that comes before fails the test."""
        with pytest.raises(ConnectionClosed) as closed:
            await self.socket.get_message()
        assert closed.value.reason is not None
        return closed.value.reason


@asynccontextmanager
async def serving(
    data_dir: Path,
    *,
    config: ApiConfig = CONFIG,
    server_config: ServerConfig = LOOPBACK,
    limits: ServiceLimits | None = None,
    network: Identity | None = None,
) -> AsyncIterator[Api]:
    """Serve the application on a free port for the block; then shut down."""
    backend = open_backend(data_dir)
    try:
        async with trio.open_nursery() as nursery:
            engine = await start_engine(backend, nursery, limits, network=network)
            api = await _start(engine, nursery, config, server_config)
            async with api.client:
                yield api
            await api.stop()
    finally:
        backend.close()


async def _start(engine: Engine, nursery: trio.Nursery, config: ApiConfig, server_config: ServerConfig) -> Api:
    app = StratosApp(engine.service, config, checks_output=True)
    server = HttpServer(app, server_config)
    stopped = trio.Event()

    async def run(task_status: trio.TaskStatus[tuple[str, ...]]) -> None:
        try:
            await server.run(task_status=task_status)
        finally:
            stopped.set()

    (url,) = await nursery.start(run)
    # Reading the certificates of the world, for plain HTTP on loopback, takes as long as everything else here.
    client = httpx.AsyncClient(base_url=url, verify=False)  # noqa: S501
    return Api(engine, app, server, url, client, stopped, nursery)


def limits(**changes: float) -> ServerConfig:
    """A server on loopback with some connection limits changed."""
    return ServerConfig(binds=LOOPBACK.binds, graceful=LOOPBACK.graceful, limits=ConnectionLimits(**changes))


def authorized(as_: str | None) -> Mapping[str, str]:
    """The header for a caller: a DID or a token; None for nobody."""
    return {} if as_ is None else {"authorization": f"Bearer {as_}"}


def _answer(response: httpx.Response) -> Answer:
    body = orjson.loads(response.content)
    assert isinstance(body, dict), body
    return Answer(response.status_code, body, response.headers)
