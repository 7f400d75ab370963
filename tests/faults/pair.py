"""Two `stratos serve` on one PostgreSQL, each behind a proxy of its own, that may be killed and started again."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from tests.crash.processes import Home, Running, free_port
from tests.faults.house import on_postgres
from tests.faults.own_postgres import OwnPostgres
from tests.faults.tcp_proxy import TcpProxy

SHARED: Final = {
    "STRATOS_SIGNING_KEY_HEX": "17" * 32,
    "STRATOS_MASTER_KEY": "2a" * 32,
    "STRATOS_DPOP_NONCE_SECRET": "3c" * 32,
    "STRATOS_PG_ACTOR_POOL_SIZE": "16",
}
"""What processes of one service must agree upon."""


@dataclass
class Member:
    """One of the two. It keeps its port over its deaths, and runs until its time is over."""

    home: Home
    proxy: TcpProxy
    port: int = field(default_factory=free_port)
    _running: Running | None = None
    _may_live: bool = True
    _serves: trio.Event = field(default_factory=trio.Event)

    @property
    def url(self) -> str:
        """Where it listens, or did."""
        return f"http://127.0.0.1:{self.port}"

    async def live(self) -> None:
        """Serve, and start again after each death, until cancelled."""
        while self._may_live:
            async with self.home.served_by_command(self.port) as running:
                self._running = running
                self._serves.set()
                await running.process.wait()

    async def serves(self) -> None:
        """Wait until it serves."""
        await self._serves.wait()

    async def kill(self, *, for_good: bool = False) -> None:
        """SIGKILL; it starts again by itself, unless it is for good."""
        assert self._running is not None
        self._may_live = not for_good
        self._serves = trio.Event()
        self._running.process.send_signal(signal.SIGKILL)
        await self._running.process.wait()


@dataclass
class Pair:
    """The two, and what they stand on."""

    postgres: OwnPostgres
    database: str
    members: tuple[Member, Member]

    def lose_wakeups(self) -> None:
        """Stall the connections on which the two hear of each other's commits, and no others."""
        with self.postgres.connect(self.database) as session:
            rows = session.execute(
                "SELECT client_port FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN %'"
            )
            ports = [port for (port,) in rows.fetchall()]
            assert len(ports) == len(self.members)
            for port in ports:
                owner = next(member.proxy for member in self.members if port in member.proxy.ports)
                owner.stall_one(port)


@asynccontextmanager
async def open_pair(postgres: OwnPostgres, directory: Path, **settings: str) -> AsyncIterator[Pair]:
    """Two processes for the block, with a database of their own."""
    with postgres.database() as database:
        async with trio.open_nursery() as nursery:
            members = []
            for name in ("first", "second"):
                proxy = TcpProxy(postgres.port)
                await nursery.start(proxy.run)
                place = directory / name
                place.mkdir()
                url = postgres.url(database, port=proxy.port)
                members.append(Member(Home.below(place, **SHARED, **on_postgres(url), **settings), proxy))
            async with trio.open_nursery() as lives:
                for member in members:
                    lives.start_soon(member.live)
                    await member.serves()
                yield Pair(postgres, database, (members[0], members[1]))
                lives.cancel_scope.cancel()
            nursery.cancel_scope.cancel()
