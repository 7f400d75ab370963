"""`stratos serve --workers N` as a process: what it logs, its workers, and what each of them counts."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import httpx
import trio

from tests.crash.processes import SERVE, START_SECONDS, Home, Lines, Running
from tests.e2e.programs import free_ports

SERVES: Final = "worker serves"
REPLACED_SECONDS: Final = 30
"""A worker starts in about two seconds, after up to eight of waiting; this is for a machine that does much else."""

Event = dict[str, object]


@dataclass
class Crew:
    """A parent, its workers, and everything that they have logged."""

    process: trio.Process
    url: str
    first_port: int
    events: list[Event] = field(default_factory=list)
    ended: trio.Event = field(default_factory=trio.Event)
    """Set when the last process that writes to the common output has ended."""
    _arrived: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)

    @property
    def running(self) -> Running:
        """What those see who only want a service."""
        return Running(self.process, self.url)

    def worker_url(self, number: int) -> str:
        """Where one worker answers, and no other."""
        return f"http://127.0.0.1:{self.first_port + number}"

    def pids(self, number: int) -> list[int]:
        """The processes that served as a worker, in the order of their starts."""
        starts = (event for event in self.events if event["event"] == SERVES and event["worker"] == number)
        return [int(str(event["pid"])) for event in starts]

    def said(self, event: str) -> int:
        """How often something was logged, by anybody."""
        return sum(each["event"] == event for each in self.events)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds of what was logged."""
        with trio.fail_after(REPLACED_SECONDS):
            while not holds():
                await self._arrived.park()

    async def replaced(self, number: int, former: int) -> int:
        """Wait for a worker that serves in place of a process; its process."""
        await self.until(lambda: self.pids(number)[-1] != former)
        return self.pids(number)[-1]

    async def count(self, number: int, metric: str) -> float:
        """What one worker counts."""
        text = (await get(f"{self.worker_url(number)}/metrics")).text
        found = re.search(rf"^{metric} (\S+)$", text, re.MULTILINE)
        assert found is not None, f"no {metric} in {text[:2000]}"
        return float(found[1])

    async def follow(self, lines: Lines, *, task_status: trio.TaskStatus[None]) -> None:
        """Take in what is logged, to its end."""
        task_status.started()
        while line := await lines.line():
            self.events.append(json.loads(line))
            self._arrived.unpark_all()
        self.ended.set()


@asynccontextmanager
async def serving(home: Home, database: str, *, workers: int = 2, **settings: str) -> AsyncIterator[Crew]:
    """Run a parent with its workers for the block, upon a PostgreSQL database. All of them have ended afterwards."""
    port, first = free_ports(1)[0], _first_of_free(workers)
    command = (*SERVE, "--workers", str(workers))
    ours = {
        "STORAGE_BACKEND": "postgres",
        "STRATOS_POSTGRES_URL": database,
        "STRATOS_PG_ACTOR_POOL_SIZE": "8",
        "STRATOS_PORT": str(port),
        "STRATOS_PUBLIC_URL": f"http://localhost:{port}",
        "STRATOS_WORKER_PORT": str(first),
        "LOG_LEVEL": "info",
    }
    async with home.command(command, **(ours | settings)) as (process, lines), trio.open_nursery() as nursery:
        crew = Crew(process, f"http://127.0.0.1:{port}", first)
        await nursery.start(partial(crew.follow, lines))
        try:
            with trio.move_on_after(START_SECONDS):
                await crew.until(lambda: all(crew.pids(number) for number in range(workers)))
            assert all(crew.pids(number) for number in range(workers)), home.log.read_text() + str(crew.events)
            yield crew
        finally:
            with trio.CancelScope(shield=True):
                process.terminate()
                await process.wait()
                await crew.ended.wait()


async def get(url: str) -> httpx.Response:
    """Ask once, over a connection of its own."""
    async with httpx.AsyncClient(timeout=START_SECONDS) as client:
        answer = await client.get(url)
    answer.raise_for_status()
    return answer


def _first_of_free(count: int) -> int:
    """The first of so many ports in a row that were free a moment ago."""
    while True:
        (first,) = free_ports(1)
        try:
            with ExitStack() as opened:
                for port in range(first, first + count):
                    opened.enter_context(socket.create_server(("127.0.0.1", port)))
        except OSError:
            continue
        return first
