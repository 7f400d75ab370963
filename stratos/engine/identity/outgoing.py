"""HTTP requests to addresses that somebody else chose: a DID's host, a handle's, a PDS, an authorization server.

What such a request can reach, how long it may last and how much it may bring are bounded here, whatever the other side does.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final

import httpcore
import httpx
import orjson
import trio

from stratos.engine.identity.addresses import AddressRule, RefusedUrl, any_host, checked_url, public_only
from stratos.engine.identity.names import DnsNames, Names, SystemNames
from stratos.engine.identity.network import GuardedNetwork, RefusedAddress, UnknownHost

_OK: Final = 200
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_REDIRECTED_METHODS: Final = frozenset({"GET", "HEAD"})
_KEPT_FOR_OTHERS: Final = frozenset({"accept"})
"""Headers of the caller's that a redirect to another origin takes along: nothing that could be a credential."""
_FAULTS: Final = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol)


class OutgoingError(Exception):
    """A request that brought no answer that we could use."""


class AddressRefused(OutgoingError):
    """We do not ask this address; asking again does not help."""


class NoSuchHost(OutgoingError):
    """The name servers know no address of the host."""


class Unreachable(OutgoingError):
    """No answer: no connection, a broken one, no time left, or too many requests waiting here already."""


class AnswerRefused(OutgoingError):
    """The answer is none that was asked for: too large, encoded, one redirect too many, another status, no JSON."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class OutgoingPolicy:
    """Bounds of outgoing requests. Durations are seconds.

    With `allow_private`, plain http, any port and private, loopback and link-local addresses are allowed, and names are looked up
    as the machine does. `total_timeout` is for everything from waiting for a place to the last byte, redirects included;
    `read_timeout` for the silence between two reads. Beyond `max_waiting` a request fails at once.
    """

    allow_private: bool = False
    connect_timeout: float = 3.0
    read_timeout: float = 5.0
    total_timeout: float = 10.0
    max_redirects: int = 3
    max_bytes: int = 1024 * 1024
    max_concurrent: int = 32
    max_waiting: int = 256
    max_idle: int = 16
    idle_seconds: float = 15.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. Header names in lower case, repeated headers joined by commas; `url` is where it came from in the end."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    url: str


class OutgoingHttp(AbstractAsyncContextManager["OutgoingHttp"]):
    """Asks over HTTP/1.1, without cookies, proxies, decoding and retries. Close it, or use it as a context manager."""

    def __init__(
        self,
        policy: OutgoingPolicy,
        *,
        user_agent: str,
        names: Names | None = None,
        rule: AddressRule | None = None,
        tls: ssl.SSLContext | None = None,
        network: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        """`names` and `rule` default to `DnsNames` and `public_only`, where private addresses are allowed to `SystemNames` and
        `any_host`; `tls` to the authorities of certifi or `SSL_CERT_FILE`. `network` connects to addresses that were vetted.
        """
        self._policy = policy
        self._user_agent = user_agent
        if names is None:
            names = SystemNames(DnsNames()) if policy.allow_private else DnsNames()
        if rule is None:
            rule = any_host if policy.allow_private else public_only
        self._network = GuardedNetwork(names, rule, httpcore.TrioBackend() if network is None else network)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context() if tls is None else tls,
            max_connections=policy.max_concurrent,
            max_keepalive_connections=policy.max_idle,
            keepalive_expiry=policy.idle_seconds,
            network_backend=self._network,
        )
        self._places = trio.CapacityLimiter(policy.max_concurrent)
        self._requests = self._refused = self._answers_refused = self._faults = 0

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def policy(self) -> OutgoingPolicy:
        """The bounds of every request."""
        return self._policy

    async def get_json(self, url: str, *, max_bytes: int | None = None) -> object:
        """The JSON value at this address. Raises OutgoingError; AnswerRefused has the status where it is not 200."""
        answer = await self.request("GET", url, headers={"Accept": "application/json"}, max_bytes=max_bytes)
        if answer.status != _OK:
            raise AnswerRefused(f"{url} answers {answer.status}", answer.status)
        try:
            value: object = orjson.loads(answer.body)
        except orjson.JSONDecodeError as error:
            raise AnswerRefused(f"{url} answers no JSON", answer.status) from error
        return value

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        max_bytes: int | None = None,
        max_redirects: int | None = None,
        total_timeout: float | None = None,
    ) -> Answer:
        """Ask, follow redirects of GET and HEAD, and read the whole answer, whatever its status. Raises OutgoingError.

        Other methods are never redirected: the answer with the redirect is returned. With `max_redirects=0` none is followed, and
        one is refused; to another origin the caller's headers do not go along. Cancellation closes the connection.
        """
        policy = self._policy
        seconds = policy.total_timeout if total_timeout is None else total_timeout
        left = policy.max_redirects if max_redirects is None else max_redirects
        if self._places.statistics().tasks_waiting >= policy.max_waiting:
            self._faults += 1
            raise Unreachable(f"{url}: too many requests are waiting")
        self._requests += 1
        try:
            with trio.fail_after(seconds):
                async with self._places:
                    hops = _Hops(method, checked_url(url, allow_private=policy.allow_private), dict(headers or {}), left)
                    while True:
                        answer = await self._ask(hops, body, policy.max_bytes if max_bytes is None else max_bytes)
                        if answer is not None:
                            return answer
        except (RefusedUrl, RefusedAddress) as error:
            self._refused += 1
            raise AddressRefused(f"{url}: {error}") from error
        except AnswerRefused:
            self._answers_refused += 1
            raise
        except UnknownHost as error:
            raise NoSuchHost(f"{url}: {error}") from error
        except trio.TooSlowError as error:
            self._faults += 1
            raise Unreachable(f"{url}: no whole answer within {seconds:g} s") from error
        except _FAULTS as error:
            self._faults += 1
            raise Unreachable(f"{url}: {type(error).__name__} {error}".rstrip()) from error

    async def aclose(self) -> None:
        """Close every connection. Requests under way fail."""
        await self._pool.aclose()

    def statistics(self) -> Mapping[str, int]:
        """Gauges and counters of requests, places and connections."""
        places = self._places.statistics()
        return {
            "in_flight": places.borrowed_tokens,
            "in_flight_limit": self._policy.max_concurrent,
            "waiting": places.tasks_waiting,
            "waiting_limit": self._policy.max_waiting,
            "connections": len(self._pool.connections),
            "requests_total": self._requests,
            "refused_total": self._refused,
            "refused_answers_total": self._answers_refused,
            "faults_total": self._faults,
            **self._network.statistics(),
        }

    async def _ask(self, hops: _Hops, body: bytes | None, max_bytes: int) -> Answer | None:
        """One request; None when its answer has sent `hops` on to another address."""
        url, policy = hops.url, self._policy
        async with self._pool.stream(
            hops.method,
            httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=[
                ("Host", url.netloc),
                ("User-Agent", self._user_agent),
                ("Accept-Encoding", "identity"),
                *hops.headers.items(),
            ],
            content=body,
            extensions={
                "timeout": {
                    "connect": policy.connect_timeout,
                    "read": policy.read_timeout,
                    "write": policy.read_timeout,
                }
            },
        ) as response:
            headers = _headers(response)
            location = headers.get("location")
            if response.status in _REDIRECTS and location is not None and hops.method in _REDIRECTED_METHODS:
                hops.follow(location, allow_private=policy.allow_private)
                return None
            return Answer(response.status, headers, await _body(response, headers, max_bytes, str(url)), str(url))


class _Hops:
    """Where a request stands on its way along redirects."""

    def __init__(self, method: str, url: httpx.URL, headers: Mapping[str, str], left: int) -> None:
        self.method = method
        self.url = url
        self.headers = headers
        self._left = left

    def follow(self, location: str, *, allow_private: bool) -> None:
        """Go on to where the answer points. Raises RefusedUrl, and AnswerRefused when enough redirects were followed."""
        if self._left <= 0:
            raise AnswerRefused(f"{self.url} redirects once too often")
        self._left -= 1
        try:
            target = str(self.url.join(location))
        except (httpx.InvalidURL, ValueError) as error:
            raise RefusedUrl(f"a redirect to no URL: {error}") from error
        url = checked_url(target, allow_private=allow_private)
        if _origin(url) != _origin(self.url):
            self.headers = {name: value for name, value in self.headers.items() if name.lower() in _KEPT_FOR_OTHERS}
        self.url = url


def user_agent(version: str, repo_url: str, contact: str | None) -> str:
    """What we call ourselves, so that whoever is asked knows whom to write to. Source: service spec §3.9."""
    text = f"Stratos/{version} (+{repo_url}; {contact or 'unknown'})"
    return "".join(character if character.isascii() and character.isprintable() else "?" for character in text)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _headers(response: httpcore.Response) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in response.headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


async def _body(response: httpcore.Response, headers: Mapping[str, str], max_bytes: int, url: str) -> bytes:
    """The whole body, given up as soon as it is known to be too large. Raises AnswerRefused."""
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise AnswerRefused(f"{url} answers in an encoding that was not asked for", response.status)
    # h11 has checked that it is one number, and not a long one.
    if int(headers.get("content-length", "0")) > max_bytes:
        raise AnswerRefused(f"{url} announces more than {max_bytes} bytes", response.status)
    body = bytearray()
    try:
        async for chunk in response.aiter_stream():
            body += chunk
            if len(body) > max_bytes:
                # Leaving the loop would leave httpcore's generators to the garbage collector, which trio warns of. Once closed
                # they hand out what they hold and end by themselves.
                await response.aclose()
    except httpcore.NetworkError:
        if len(body) <= max_bytes:
            raise
    if len(body) > max_bytes:
        raise AnswerRefused(f"{url} answers more than {max_bytes} bytes", response.status)
    return bytes(body)
