"""An application: XRPC and its websockets straight from the server, pages through Quart.

Quart's share of a request (contexts, signals, two tasks, routing, response object) costs about 0.3 ms, as much as all the rest of
a short read; so XRPC calls leave it at the connection class, which Quart lets an application choose. Pages, with their cookies
and templates, go the whole way.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import orjson
import structlog
import trio
from hypercorn.typing import HTTPScope, WebsocketScope
from quart import Response
from quart import request as current_request
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection, TrioASGIWebsocketConnection
from structlog.typing import FilteringBoundLogger
from werkzeug.exceptions import HTTPException

from stratos.api.edge import Exchange, Send, trace_id_of
from stratos.api.errors import INTERNAL_SERVER_ERROR, NOT_FOUND, XrpcError, internal_error, invalid_request, unavailable
from stratos.api.metrics import RequestStatistics
from stratos.api.request import Receive, RequestBody, RequestHead
from stratos.api.server import HttpServer
from stratos.api.websocket import SocketHandler, refuse_socket, serve_socket
from stratos.api.xrpc import JSON, XRPC_PREFIX, Bytes, Streamed, XrpcDispatcher
from stratos.storage.ports import StorageFault

MAX_PAGE_BODY_BYTES: Final = 100 * 1024
DISCARDED_BODY_BYTES: Final = 64 * 1024
DISCARD_SECONDS: Final = 1.0
HEALTH_PATH: Final = "/xrpc/_health"
TRACE_ID_BITS: Final = 64
OK: Final = 200
SWITCHING_PROTOCOLS: Final = 101
CLIENT_GONE: Final = 499
"""Stands in the access log where the caller went away before its answer was complete; it is never sent."""

_log: FilteringBoundLogger = structlog.get_logger(__name__)


class XrpcApp(QuartTrio):
    """An application of XRPC methods, XRPC websockets and pages; `pages` are added with Quart's own means."""

    def __init__(
        self,
        dispatcher: XrpcDispatcher,
        *,
        sockets: Mapping[str, SocketHandler],
        requests: RequestStatistics,
        clock: Callable[[], float] = time.perf_counter,
        new_trace_id: Callable[[], str] | None = None,
        answer_headers: Callable[[RequestHead], Mapping[str, str]] | None = None,
        tells_causes: bool = False,
    ) -> None:
        """`sockets` are the websocket endpoints by NSID. `clock` gives seconds for durations.

        `answer_headers` gives further headers for every answer to a request, such as its next nonce. With `tells_causes`, as in
        dev mode, a page that fails says why.
        """
        super().__init__(__name__, static_folder=None, template_folder=None)
        self.config["MAX_CONTENT_LENGTH"] = MAX_PAGE_BODY_BYTES
        self.register_error_handler(Exception, partial(_page_error, tells_causes=tells_causes))
        self.stopping = trio.Event()
        self._dispatcher = dispatcher
        self._sockets = sockets
        self._requests = requests
        self._clock = clock
        self._new_trace_id = new_trace_id or _trace_ids()
        self._answer_headers = answer_headers or (lambda _: {})
        self._server: HttpServer | None = None
        self.asgi_http_class = _HttpConnection
        self.asgi_websocket_class = _WebsocketConnection

    def observe_server(self, server: HttpServer) -> None:
        """Learn which server it is served by, for its metrics."""
        self._server = server

    def server_statistics(self) -> Mapping[str, Mapping[str, float]]:
        """The statistics of the server, as the part `http`; nothing before the application is served."""
        return {"http": self._server.statistics()} if self._server is not None else {}

    async def serve_http(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = self._clock()
        head = RequestHead(scope)
        exchange = Exchange(head, send, trace_id_of(head, self._new_trace_id), self._answer_headers(head))
        if head.verb == "OPTIONS":
            name = "preflight"
            await exchange.preflight()
        elif head.path.startswith(XRPC_PREFIX) and head.path != HEALTH_PATH:
            nsid = head.path.removeprefix(XRPC_PREFIX)
            name = nsid if self._dispatcher.knows(nsid) else "unknown"
            await self._serve_xrpc(exchange, receive)
        else:
            name = "page"
            await TrioASGIHTTPConnection(self, scope)(receive, exchange.send)
        exchange.status = exchange.status or CLIENT_GONE
        seconds = self._clock() - started
        self._requests.observe(name, exchange.status, seconds)
        exchange.log(seconds)

    async def serve_websocket(self, scope: WebsocketScope, receive: Receive, send: Send) -> None:
        """Serve one websocket upgrade; one that leads nowhere is refused before it is accepted."""
        started = self._clock()
        head = RequestHead(scope)
        exchange = Exchange(head, send, trace_id_of(head, self._new_trace_id))
        handler = self._sockets.get(head.path.removeprefix(XRPC_PREFIX)) if head.path.startswith(XRPC_PREFIX) else None
        if handler is None:
            exchange.status = NOT_FOUND
            await refuse_socket(send, NOT_FOUND)
        else:
            exchange.status = SWITCHING_PROTOCOLS
            await serve_socket(handler, head, receive, send, trace_id=exchange.trace_id, stopping=self.stopping)
        exchange.log(self._clock() - started)

    async def _serve_xrpc(self, exchange: Exchange, receive: Receive) -> None:
        body = RequestBody(exchange.head, receive)
        try:
            if exchange.head.path.removeprefix(XRPC_PREFIX) in self._sockets:
                raise invalid_request("This method is a subscription: a websocket upgrade is expected")
            reply = await self._dispatcher.answer(exchange.head, body, exchange.trace_id)
            if isinstance(reply, Bytes):
                await exchange.answer(OK, reply.content_type, reply.body)
            else:
                await self._stream(exchange, reply, receive)
        except XrpcError as error:
            if exchange.status == 0:
                await body.discard(max_bytes=DISCARDED_BODY_BYTES, seconds=DISCARD_SECONDS)
                await _answer_error(exchange, error)

    async def _stream(self, exchange: Exchange, reply: Streamed, receive: Receive) -> None:
        """Send chunks as they are produced. What ends early is left unfinished, and the server breaks the connection off."""
        failure: Exception | None = None
        finished = False

        async def send_chunk(chunk: bytes) -> None:
            if exchange.status == 0:
                await exchange.start(OK, reply.content_type)
            await exchange.write(chunk)
            if exchange.head.verb == "HEAD":
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_on_disconnect, receive, nursery.cancel_scope)
            try:
                await reply.produce(send_chunk)
                finished = True
            except Exception as error:  # noqa: BLE001 - explained below, outside of the nursery, as every handler's error is
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise self._dispatcher.explain(failure, exchange.head, exchange.trace_id)
        if finished or exchange.head.verb == "HEAD":
            await exchange.write(b"", last=True)


class _HttpConnection(TrioASGIHTTPConnection):
    app: XrpcApp

    async def __call__(self, receive: Receive, send: Send) -> None:
        await self.app.serve_http(self.scope, receive, send)


class _WebsocketConnection(TrioASGIWebsocketConnection):
    app: XrpcApp

    async def __call__(self, receive: Receive, send: Send) -> None:
        await self.app.serve_websocket(self.scope, receive, send)


async def _answer_error(exchange: Exchange, error: XrpcError) -> None:
    """Send the error envelope."""
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in error.headers.items()]
    await exchange.answer(error.status, f"{JSON}; charset=utf-8", orjson.dumps(error.envelope()), headers)


async def _page_error(error: Exception, *, tells_causes: bool) -> Response:
    """The envelope of an error on a page (service spec §0.6, §2.5)."""
    if isinstance(error, HTTPException):
        found = XrpcError(error.code or INTERNAL_SERVER_ERROR, error.name.replace(" ", ""), error.name)
    elif isinstance(error, XrpcError):
        found = error
    elif isinstance(error, StorageFault):
        _log.error("storage fault", path=current_request.path, exc_info=error)
        found = unavailable()
    else:
        _log.error("request failed", path=current_request.path, exc_info=error)
        found = internal_error(message=str(error) if tells_causes else "Internal server error")
    return Response(orjson.dumps(found.envelope()), found.status, dict(found.headers), content_type=f"{JSON}; charset=utf-8")


def _trace_ids() -> Callable[[], str]:
    """Makes trace ids: unlikely to repeat, and no secrets, so that the system need not be asked for each."""
    chance = random.Random()
    return lambda: f"{chance.getrandbits(TRACE_ID_BITS):0{TRACE_ID_BITS // 4}x}"


async def _cancel_on_disconnect(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
