"""One `stratos serve` on a PostgreSQL behind a proxy, and somebody who asks it all the while how it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson
import trio

from tests.crash.clients import enroll
from tests.crash.http import connect
from tests.crash.processes import Home, Running
from tests.faults.load import AGAIN_SECONDS, FaultLoad
from tests.faults.own_postgres import OwnPostgres
from tests.faults.tcp_proxy import TcpProxy

ANSWER_SECONDS: Final = 4.0
"""`STRATOS_PG_ANSWER_TIMEOUT_SECONDS` of these tests; by default it is five times as long."""
HEALTH_SECONDS: Final = 6.0
"""Within this time `/health` answers, whatever the store does: three times what it gives the store."""
RECOVERY_SECONDS: Final = 30.0
"""Within this time after a fault everybody writes again, on a machine that does much else."""


@dataclass
class Watch:
    """Asks for `/health` again and again: it answers in time, whatever happens."""

    slowest: float = 0.0
    _seen: dict[int, trio.Event] = field(default_factory=dict)

    async def run(self, url: str) -> None:
        """Watch until cancelled."""
        async with connect(url) as connection:
            while True:
                started = trio.current_time()
                with trio.fail_after(HEALTH_SECONDS):
                    status, body = await connection.page("/health")
                self.slowest = max(self.slowest, trio.current_time() - started)
                components = orjson.loads(body)["components"]
                assert (status == 200) == (components["db"] == "ok"), body
                self._seen.pop(status, trio.Event()).set()
                await trio.sleep(AGAIN_SECONDS)

    async def sees(self, status: int, *, within: float) -> None:
        """Wait until the service says that it is well (200), or that it is not (503)."""
        with trio.fail_after(within):
            await self._seen.setdefault(status, trio.Event()).wait()


@dataclass
class House:
    """What a test of faults has to do with."""

    postgres: OwnPostgres
    database: str
    proxy: TcpProxy
    home: Home
    service: Running
    watch: Watch = field(default_factory=Watch)

    @asynccontextmanager
    async def under(self, load: FaultLoad) -> AsyncIterator[None]:
        """Keep the load on for the block, then let it end, and check everything that it knows."""
        await enroll(self.service.url, *load.dids)
        stop = trio.Event()
        async with trio.open_nursery() as watching:
            watching.start_soon(self.watch.run, self.service.url)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(load.following.follow, self.service.url, stop)
                for each in load.writers:
                    nursery.start_soon(each.write, self.service.url, stop)
                await load.all_acknowledged_anew(within=RECOVERY_SECONDS)
                yield
                stop.set()
            await self.watch.sees(200, within=RECOVERY_SECONDS)
            watching.cancel_scope.cancel()
        await load.check(self.service.url)
        assert self.service.process.returncode is None


@asynccontextmanager
async def open_house(postgres: OwnPostgres, directory: Path, **settings: str) -> AsyncIterator[House]:
    """A service for the block, with a database of its own."""
    with postgres.database() as database:
        async with trio.open_nursery() as nursery:
            proxy = TcpProxy(postgres.port)
            await nursery.start(proxy.run)
            home = Home.below(directory, **on_postgres(postgres.url(database, port=proxy.port)), **settings)
            async with home.served_by_command() as service:
                yield House(postgres, database, proxy, home, service)
            nursery.cancel_scope.cancel()


def on_postgres(url: str) -> dict[str, str]:
    """The settings of a service on PostgreSQL that is quick to give up."""
    return {
        "STORAGE_BACKEND": "postgres",
        "STRATOS_POSTGRES_URL": url,
        "STRATOS_PG_ANSWER_TIMEOUT_SECONDS": f"{ANSWER_SECONDS:g}",
    }
