"""Connections to addresses that others chose: the name is looked up here, and only what was found and vetted is connected to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import httpcore
import trio
from httpcore import SOCKET_OPTION, AsyncNetworkBackend, AsyncNetworkStream

from stratos.engine.identity.addresses import AddressRule, IpAddress, as_address
from stratos.engine.identity.names import Names, NamesUnavailable


class RefusedAddress(Exception):
    """The host has addresses, and none that we connect to."""


class UnknownHost(Exception):
    """The host has no addresses."""


class GuardedNetwork(AsyncNetworkBackend):
    """httpcore's way to the network. No name is looked up between check and connection, so none can change its meaning."""

    def __init__(self, names: Names, rule: AddressRule, network: AsyncNetworkBackend) -> None:
        self._names = names
        self._rule = rule
        self._network = network
        self._connections = self._refusals = 0

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        """Raises RefusedAddress, UnknownHost, or httpcore's ConnectError and ConnectTimeout."""
        seconds = float("inf") if timeout is None else timeout
        try:
            with trio.fail_after(seconds):
                vetted = await self._vetted(host)
                stream = await self._first_that_answers(vetted, port, local_address, socket_options)
        except trio.TooSlowError as error:
            raise httpcore.ConnectTimeout(f"no connection within {seconds:g} s") from error
        self._connections += 1
        return stream

    async def sleep(self, seconds: float) -> None:
        """As httpcore asks between attempts."""
        await trio.sleep(seconds)

    def statistics(self) -> Mapping[str, int]:
        """Counters: connections opened, and hosts refused for their addresses."""
        return {"connections_total": self._connections, "refused_addresses_total": self._refusals}

    async def _vetted(self, host: str) -> Sequence[IpAddress]:
        """The host's addresses that pass the rule, at least one."""
        literal = as_address(host)
        try:
            candidates = [literal] if literal is not None else await self._names.addresses(host)
        except NamesUnavailable as error:
            raise httpcore.ConnectError(str(error)) from error
        if not candidates:
            raise UnknownHost(f"{host} has no address")
        refusals = {address: self._rule(address) for address in candidates}
        vetted = [address for address, refusal in refusals.items() if refusal is None]
        if not vetted:
            self._refusals += 1
            # The address is not named: whoever chose the host would learn what our name servers know of the inside.
            raise RefusedAddress(f"{host} is {next(iter(refusals.values()))}")
        return vetted

    async def _first_that_answers(
        self,
        addresses: Sequence[IpAddress],
        port: int,
        local_address: str | None,
        socket_options: Iterable[SOCKET_OPTION] | None,
    ) -> AsyncNetworkStream:
        """Try one address after the other; each gets its even share of the time that is left."""
        *others, last = addresses
        for tried, address in enumerate(others):
            share = (trio.current_effective_deadline() - trio.current_time()) / (len(addresses) - tried)
            try:
                return await self._network.connect_tcp(str(address), port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._network.connect_tcp(str(last), port, None, local_address, socket_options)
