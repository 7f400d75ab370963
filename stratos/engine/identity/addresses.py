"""Which addresses and URLs of others we may ask. Pure.

The tables follow the IANA registries of special-purpose addresses (RFC 6890 and its successors); the standard library's
`is_global` changes its mind between Python releases.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, TypeAlias

import httpx

IpAddress: TypeAlias = IPv4Address | IPv6Address
AddressRule: TypeAlias = Callable[[IpAddress], str | None]
"""Says why an address must not be connected to; None when it may."""

MAX_URL_CHARACTERS: Final = 4096
HTTPS_PORT: Final = 443
FIRST_FREE_PORT: Final = 1024
"""Below it only 443: the others belong to protocols that might make something of what we send."""
LAST_PORT: Final = 65_535
MAX_HOST_CHARACTERS: Final = 253

_NOT_PUBLIC_V4: Final = {
    IPv4Network("0.0.0.0/8"): "this network",
    IPv4Network("10.0.0.0/8"): "private",
    IPv4Network("100.64.0.0/10"): "carrier-grade NAT",
    IPv4Network("127.0.0.0/8"): "loopback",
    IPv4Network("168.63.129.16/32"): "a cloud's metadata service",
    IPv4Network("169.254.0.0/16"): "link-local",
    IPv4Network("172.16.0.0/12"): "private",
    IPv4Network("192.0.0.0/24"): "reserved",
    IPv4Network("192.0.2.0/24"): "for documentation",
    IPv4Network("192.31.196.0/24"): "AS112",
    IPv4Network("192.52.193.0/24"): "AMT",
    IPv4Network("192.88.99.0/24"): "a 6to4 relay",
    IPv4Network("192.168.0.0/16"): "private",
    IPv4Network("192.175.48.0/24"): "AS112",
    IPv4Network("198.18.0.0/15"): "for benchmarks",
    IPv4Network("198.51.100.0/24"): "for documentation",
    IPv4Network("203.0.113.0/24"): "for documentation",
    IPv4Network("224.0.0.0/4"): "multicast",
    IPv4Network("240.0.0.0/4"): "reserved",
}
_GLOBAL_V6: Final = IPv6Network("2000::/3")
_NOT_PUBLIC_V6: Final = {
    IPv6Network("2001::/23"): "of a protocol",
    IPv6Network("2001:db8::/32"): "for documentation",
    IPv6Network("2002::/16"): "6to4",
    IPv6Network("2620:4f:8000::/48"): "AS112",
    IPv6Network("3fff::/20"): "for documentation",
}
_NAT64: Final = IPv6Network("64:ff9b::/96")
_V4_BITS: Final = 0xFFFF_FFFF
# As browsers read it: a host whose last label looks like a number is an address or nothing.
_ends_in_a_number = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)\.?").fullmatch
_is_host_name = re.compile(r"(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?").fullmatch


class RefusedUrl(ValueError):
    """We do not ask this address; the message says why."""


def public_only(address: IpAddress) -> str | None:
    """The rule for addresses that others chose: nothing but public unicast."""
    if isinstance(address, IPv4Address):
        return next((why for network, why in _NOT_PUBLIC_V4.items() if address in network), None)
    if address in _NAT64:
        return public_only(IPv4Address(int(address) & _V4_BITS))
    if address.ipv4_mapped is not None:
        return "an IPv4 address in IPv6 clothes"
    if address not in _GLOBAL_V6:
        return "not global unicast"
    return next((why for network, why in _NOT_PUBLIC_V6.items() if address in network), None)


def any_host(address: IpAddress) -> str | None:
    """The rule where private addresses are allowed: whatever is one host."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return any_host(address.ipv4_mapped)
    if address.is_multicast:
        return "multicast"
    return "unspecified" if address.is_unspecified else None


def as_address(host: str) -> IpAddress | None:
    """The address that a URL's host is, where it is one in its only proper spelling."""
    if ":" not in host:
        try:
            return IPv4Address(host)
        except AddressValueError:
            return None
    try:
        address = IPv6Address(host)
    except AddressValueError:
        return None
    # A zone names an interface of this machine; nobody else can know one.
    return None if address.scope_id else address


def checked_url(text: str, *, allow_private: bool) -> httpx.URL:
    """Parse and check what can be told without the network. Raises RefusedUrl.

    Refused are user names in URLs, other schemes than https (and http where private addresses are allowed), ports of other
    protocols, and hosts that are neither a name nor an address in its only proper spelling, such as `2130706433` or `0x7f.1`.
    """
    if len(text) > MAX_URL_CHARACTERS:
        raise RefusedUrl(f"a URL longer than {MAX_URL_CHARACTERS} characters")
    try:
        url = httpx.URL(text)
        # Parts are decoded late and raise late.
        host, port = url.raw_host.decode("ascii"), url.port
    except (httpx.InvalidURL, ValueError) as error:
        raise RefusedUrl(f"not a URL: {error}") from error
    if url.scheme != "https" and not (allow_private and url.scheme == "http"):
        raise RefusedUrl(f"{url.scheme or 'no scheme'} in place of https")
    if url.userinfo or "@" in url.netloc.decode("ascii"):
        raise RefusedUrl("a user name in a URL")
    if port is not None and not _may_ask_port(port, allow_private=allow_private):
        raise RefusedUrl(f"port {port}")
    _check_host(host)
    return url.copy_with(fragment=None)


def _may_ask_port(port: int, *, allow_private: bool) -> bool:
    if not 0 < port <= LAST_PORT:
        return False
    return allow_private or port == HTTPS_PORT or port >= FIRST_FREE_PORT


def _check_host(host: str) -> None:
    if as_address(host) is not None:
        return
    if len(host) > MAX_HOST_CHARACTERS or _is_host_name(host) is None:
        raise RefusedUrl(f"{host[:MAX_HOST_CHARACTERS]!r} is not a host name")
    if _ends_in_a_number(host) is not None:
        raise RefusedUrl(f"{host!r} is an address in disguise")
