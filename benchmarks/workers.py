"""Two service processes upon one PostgreSQL against one, on reads that keep the service's processors busy."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import dataclass

import trio

from benchmarks.figures import Figure
from benchmarks.processes import POST, Deployment, Storage, actor, deployment, enroll
from benchmarks.reads import fill
from benchmarks.wire import pipelined

CONNECTIONS = 32
"""Enough that the kernel spreads them over the processes."""
DEPTH = 4
WARM_UP = 800
OWNERS = 4
SECONDS = 5.0
"""What a run should take, roughly."""
TARGET = 1.6


@dataclass(frozen=True, slots=True)
class Load:
    """What a run of one read gave: requests a second, and the processor milliseconds that each cost in its three places."""

    rate: float
    service: float
    database: float
    client: float

    @property
    def ceiling(self) -> float:
        """How many times as fast two processes can be as one that never waits, where two cores must do for everything."""
        total = self.service + self.database + self.client
        return 2 * max(self.service, total / 2) / total


async def two_processes() -> list[Figure]:
    """`stratos serve --workers 2` against one process; the client sends requests made beforehand and only counts bytes."""
    one = await _loads(1)
    two = await _loads(2)
    figures: list[Figure] = []
    for name, single in one.items():
        costs = f"{single.service:.2f} ms service, {single.database:.2f} ms PostgreSQL, {single.client:.2f} ms client"
        note = f"{single.rate:.0f}/s → {two[name].rate:.0f}/s; a read: {costs}; two cores allow {single.ceiling:.2f}"
        figures.append(Figure(f"{name}, 2 processes / 1", two[name].rate / single.rate, "×", TARGET, note=note))
    return figures


async def _loads(workers: int) -> dict[str, Load]:
    async with deployment("serve", "--workers", str(workers), storage=Storage.POSTGRES) as running:
        await enroll(running, OWNERS + 1)
        uris = await fill(running, OWNERS)
        return {name: await _load(running, request) for name, request in _requests(uris[0]).items()}


def _requests(uris: list[str]) -> dict[str, bytes]:
    """Reads of one owner's hundred posts."""
    owner, rkey = actor(0), uris[0].rpartition("/")[2]
    record = f"collection={POST}&rkey={rkey}"
    head = f"HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {actor(OWNERS)}\r\n"
    body = json.dumps({"uris": uris})
    return {
        "getRecord": f"GET /xrpc/zone.stratos.repo.getRecord?repo={owner}&{record} {head}\r\n".encode(),
        "proof of a record": f"GET /xrpc/com.atproto.sync.getRecord?did={owner}&{record} {head}\r\n".encode(),
        "hydrateRecords(100)": (
            f"POST /xrpc/zone.stratos.repo.hydrateRecords {head}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        ).encode(),
    }


async def _load(running: Deployment, request: bytes) -> Load:
    started = time.perf_counter()
    await _run(running, request, WARM_UP)
    count = max(WARM_UP, round(WARM_UP * SECONDS / (time.perf_counter() - started)))
    before = running.service_seconds(), running.database_seconds(), time.process_time()
    started = time.perf_counter()
    await _run(running, request, count)
    seconds = time.perf_counter() - started
    after = running.service_seconds(), running.database_seconds(), time.process_time()
    service, database, client = ((late - early) / count * 1000 for early, late in zip(before, after, strict=True))
    return Load(count / seconds, service, database, client)


async def _run(running: Deployment, request: bytes, count: int) -> None:
    batches = itertools.repeat(DEPTH, count // DEPTH)
    async with trio.open_nursery() as nursery:
        for _ in range(CONNECTIONS):
            nursery.start_soon(pipelined, running.port, request, batches)
