"""The servers of these tests and the clients that ask them, put together."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Final

import httpcore
import trio

from stratos.atproto.syntax import Did
from stratos.engine.identity import (
    CacheLimits,
    DnsNames,
    IdentityLimits,
    IdentityResolver,
    Names,
    OutgoingHttp,
    OutgoingPolicy,
)
from stratos.engine.identity.addresses import IpAddress, public_only
from tests.engine.identity.certificates import Authority
from tests.engine.identity.name_server import NameServer
from tests.engine.identity.web_server import WebServer

HOSTS: Final = (
    "rei.garden.net",
    "pds.garden.net",
    "inside.garden.net",
    "turning.garden.net",
    "plc.garden.net",
    "mirror.garden.net",
)
REI_HANDLE: Final = "rei.garden.net"
REI: Final = Did("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
SAKURA: Final = Did("did:plc:z72i7hdynmk6r22z27h6tvur")
PLC_URL: Final = "https://plc.garden.net"
HTTPS: Final = 443
QUICK: Final = OutgoingPolicy(connect_timeout=2.0, read_timeout=2.0, total_timeout=4.0)
_OUR_PUBLIC: Final = IPv4Network("127.0.0.1/32")


def taking_loopback_for_public(address: IpAddress) -> str | None:
    """The real rule, but for 127.0.0.1; 127.0.0.2 and all others stay what they are."""
    return None if address in _OUR_PUBLIC else public_only(address)


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Wires(httpcore.AsyncNetworkBackend):
    """Real connections; port 443 leads to the test's TLS server. Notes where connections went."""

    def __init__(self, tls_port: int) -> None:
        self._tls_port = tls_port
        self._network = httpcore.TrioBackend()
        self.went_to: list[str] = []
        self.black_holes: set[str] = set()
        """Addresses that never answer."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.went_to.append(host)
        if host in self.black_holes:
            with trio.move_on_after(math.inf if timeout is None else timeout):
                await trio.sleep_forever()
            raise httpcore.ConnectTimeout
        port = self._tls_port if port == HTTPS else port
        return await self._network.connect_tcp(host, port, timeout, local_address, socket_options)


@dataclass
class Internet:
    """Servers and their clients. `web` speaks TLS and is at port 443 of every host; `plain` speaks HTTP at its own port."""

    authority: Authority
    dns: NameServer
    web: WebServer
    plain: WebServer
    wires: Wires
    clock: Clock = field(default_factory=Clock)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    def names(self, *, lookup_timeout: float = 2.0) -> DnsNames:
        """Asks this internet's name server."""
        return DnsNames(["127.0.0.1"], port=self.dns.port, lookup_timeout=lookup_timeout)

    async def http(self, policy: OutgoingPolicy = QUICK) -> OutgoingHttp:
        """A client with the real guard, except that 127.0.0.1 counts as public."""
        return await self.stack.enter_async_context(
            OutgoingHttp(
                policy,
                user_agent="Stratos/0 (+https://garden.net; unknown)",
                names=self.names(),
                rule=taking_loopback_for_public,
                tls=self.authority.client_context(),
                network=self.wires,
            )
        )

    async def strict_http(self, policy: OutgoingPolicy = QUICK, names: Names | None = None) -> OutgoingHttp:
        """A client with the guard as it is in production, or as the policy says."""
        tls = self.authority.client_context()
        return await self.stack.enter_async_context(
            OutgoingHttp(policy, user_agent="Stratos/0", names=names or self.names(), tls=tls, network=self.wires)
        )

    async def resolver(
        self,
        *,
        policy: OutgoingPolicy = QUICK,
        plc_url: str = PLC_URL,
        handle_services: tuple[str, ...] = (),
        documents: CacheLimits | None = None,
        seconds: float = 2.0,
        dns_head_start: float = 0.5,
    ) -> IdentityResolver:
        """A resolver of this internet."""
        limits = IdentityLimits(timeout=seconds, dns_head_start=dns_head_start, documents=documents or CacheLimits())
        return IdentityResolver(
            plc_url=plc_url,
            plc_http=await self.http(policy),
            http=await self.http(policy),
            names=self.names(),
            clock=self.clock,
            handle_services=handle_services,
            limits=limits,
        )


def did_document(did: str, handle: str | None = REI_HANDLE, **members: object) -> Mapping[str, object]:
    """A DID document as the directory renders it."""
    return {
        "@context": ["https://www.w3.org/ns/did/v1"],
        "id": did,
        "alsoKnownAs": [] if handle is None else [f"at://{handle}"],
        "verificationMethod": [],
        "service": [{"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": "https://pds.garden.net"}],
        **members,
    }


@asynccontextmanager
async def open_internet(authority: Authority, nursery: trio.Nursery) -> AsyncIterator[Internet]:
    """Start the servers; every host of HOSTS is at 127.0.0.1, but for inside.garden.net, which is at 127.0.0.2."""
    dns, web, plain = NameServer(), WebServer(authority), WebServer()
    await nursery.start(dns.run)
    await nursery.start(web.run)
    await nursery.start(plain.run)
    for host in HOSTS:
        dns.host(host, "127.0.0.1")
    dns.host("inside.garden.net", "127.0.0.2")
    internet = Internet(authority, dns, web, plain, Wires(web.port))
    async with internet.stack:
        yield internet
