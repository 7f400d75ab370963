"""Names of the Domain Name System: addresses and texts, asked by tasks that can be cancelled, not by threads.

`getaddrinfo` takes a thread for as long as the slowest name server likes; whoever can choose the names that we ask could take
all threads.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Protocol

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver
import trio
from dns.rdtypes.ANY.TXT import TXT
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA

from stratos.engine.identity.addresses import IpAddress, as_address

DNS_PORT: Final = 53
LOOKUP_TIMEOUT: Final = 3.0
"""Seconds for one question, all name servers and attempts together."""
SERVER_TIMEOUT: Final = 1.5
"""Seconds until the next name server, or the same one again, is asked."""
SECOND_FAMILY_GRACE: Final = 0.25
"""Seconds that IPv6 addresses may come later than IPv4 addresses and still be used."""
MAX_ADDRESSES: Final = 16
_LOOPBACK: Final = (IPv4Address("127.0.0.1"), IPv6Address("::1"))
_NO_SUCH_NAME: Final = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


class NamesUnavailable(Exception):
    """The name servers give no usable answer."""


class Names(Protocol):
    """Looks names up. Empty: there is no such name, or nothing of that type. NamesUnavailable: that cannot be told."""

    async def addresses(self, host: str) -> Sequence[IpAddress]:
        """The addresses of a host, the ones to try first at the front."""
        ...

    async def texts(self, name: str) -> Sequence[str]:
        """The TXT records of a name, each with its parts joined."""
        ...


class DnsNames:
    """Asks name servers directly: those of `/etc/resolv.conf`, or those given. Knows no hosts file and no search domains."""

    def __init__(
        self, nameservers: Sequence[str] | None = None, *, port: int = DNS_PORT, lookup_timeout: float = LOOKUP_TIMEOUT
    ) -> None:
        """`port` counts only for given `nameservers`; `lookup_timeout` is in seconds. `/etc/resolv.conf` is read here, once."""
        self._resolver = _configured() if nameservers is None else dns.asyncresolver.Resolver(configure=False)
        if nameservers is not None:
            self._resolver.port = port
            self._resolver.nameservers = list(nameservers)
        self._resolver.lifetime = lookup_timeout
        self._resolver.timeout = min(SERVER_TIMEOUT, lookup_timeout)

    async def addresses(self, host: str) -> Sequence[IpAddress]:
        """IPv4 first: a host without IPv6 connectivity is commoner than one without IPv4."""
        if host.rstrip(".").lower().rpartition(".")[2] == "localhost":
            return _LOOPBACK  # RFC 6761: never asked of a server
        families = [_Lookup(lambda: self._v4(host)), _Lookup(lambda: self._v6(host))]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(families[1].run)
            await families[0].run()
            if families[0].found:
                nursery.cancel_scope.deadline = trio.current_time() + SECOND_FAMILY_GRACE
        found = [address for family in families for address in family.found][:MAX_ADDRESSES]
        fault = next((family.fault for family in families if family.fault is not None), None)
        if not found and fault is not None:
            raise fault
        return found

    async def texts(self, name: str) -> Sequence[str]:
        """Bytes that are not UTF-8 become replacement characters."""
        records = await self._records(name, dns.rdatatype.TXT)
        return [b"".join(record.strings).decode("utf-8", "replace") for record in records if isinstance(record, TXT)]

    async def _v4(self, host: str) -> Sequence[IpAddress]:
        return [IPv4Address(record.address) for record in await self._records(host, dns.rdatatype.A) if isinstance(record, A)]

    async def _v6(self, host: str) -> Sequence[IpAddress]:
        records = await self._records(host, dns.rdatatype.AAAA)
        return [IPv6Address(record.address) for record in records if isinstance(record, AAAA)]

    async def _records(self, name: str, kind: dns.rdatatype.RdataType) -> Sequence[object]:
        try:
            return list(await self._resolver.resolve(dns.name.from_text(name), kind))
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return ()
        except (dns.exception.DNSException, OSError) as error:
            raise NamesUnavailable(f"{name} cannot be looked up: {error}") from error


class SystemNames:
    """Addresses as the machine sees them, with hosts file and search domains: for names that operator or developer chose."""

    def __init__(self, dns_names: DnsNames) -> None:
        self._dns_names = dns_names

    async def addresses(self, host: str) -> Sequence[IpAddress]:
        """IPv4 first."""
        try:
            found = await trio.socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            if error.errno in _NO_SUCH_NAME:
                return ()
            raise NamesUnavailable(f"{host} cannot be looked up: {error.strerror}") from error
        except UnicodeError as error:
            raise NamesUnavailable(f"{host} is not a host name") from error
        addresses = {address for *_, place in found if (address := as_address(str(place[0]))) is not None}
        return sorted(addresses, key=lambda address: (address.version, int(address)))[:MAX_ADDRESSES]

    async def texts(self, name: str) -> Sequence[str]:
        """As the name servers say."""
        return await self._dns_names.texts(name)


class _Lookup:
    """One question of several; what it found, or why it could not, is kept for whoever asked them."""

    def __init__(self, question: Callable[[], Awaitable[Sequence[IpAddress]]]) -> None:
        self._question = question
        self.found: Sequence[IpAddress] = ()
        self.fault: NamesUnavailable | None = None

    async def run(self) -> None:
        try:
            self.found = await self._question()
        except NamesUnavailable as fault:
            self.fault = fault


def _configured() -> dns.asyncresolver.Resolver:
    try:
        return dns.asyncresolver.Resolver()
    except dns.resolver.NoResolverConfiguration:
        # A machine without name servers: every lookup fails, as it should, and nothing else does.
        return dns.asyncresolver.Resolver(configure=False)
