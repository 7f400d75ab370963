"""getRecord and hydrateRecords, on SQLite and on PostgreSQL."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable

import trio

from benchmarks.figures import Figure
from benchmarks.processes import POST, Deployment, Storage, actor, deployment, enroll, post
from benchmarks.wire import HttpConnection, http

OWNERS = 64
RECORDS_PER_OWNER = 100
CLIENTS = 8
BATCH_SEED = 7
TARGETS: dict[Storage, tuple[float, float, float | None]] = {
    Storage.SQLITE: (700, 250, 100),
    Storage.POSTGRES: (600, 200, None),
}


async def reads() -> list[Figure]:
    """Reads by 8 clients of a viewer who shares a boundary with every owner."""
    figures: list[Figure] = []
    for storage, (get_target, one_target, many_target) in TARGETS.items():
        async with deployment(storage=storage) as running:
            get, one, many = await _rates(running)
        figures += [
            Figure(f"getRecord, {storage}", get, "/s", get_target),
            Figure(f"hydrateRecords(100), one owner, {storage}", one, "/s", one_target),
            Figure(f"hydrateRecords(100), 64 owners, {storage}", many, "/s", many_target),
        ]
    return figures


async def _rates(running: Deployment) -> tuple[float, float, float]:
    """getRecord, and hydrateRecords(100) for one owner and for 64, a second."""
    await enroll(running, OWNERS + 1)
    uris = await fill(running, OWNERS)
    viewer = actor(OWNERS)
    owners = random.Random(BATCH_SEED)
    mixed = [[uris[number % OWNERS][owners.randrange(RECORDS_PER_OWNER)] for number in range(100)] for _ in range(OWNERS)]

    async def get(connection: HttpConnection, number: int) -> None:
        owner, rkey = actor(number % OWNERS), uris[number % OWNERS][number % 100].rsplit("/", 1)[-1]
        await connection.get(f"/xrpc/zone.stratos.repo.getRecord?repo={owner}&collection={POST}&rkey={rkey}", viewer)

    def hydrate(batches: list[list[str]]) -> Callable[[HttpConnection, int], Awaitable[None]]:
        async def call(connection: HttpConnection, number: int) -> None:
            batch = batches[number % len(batches)]
            answer = await connection.post("zone.stratos.repo.hydrateRecords", viewer, {"uris": batch})
            assert len(answer["records"]) == 100  # type: ignore[arg-type]  # a JSON list

        return call

    return (
        await _rate(running, get, 3_000),
        await _rate(running, hydrate(uris), 800),
        await _rate(running, hydrate(mixed), 400),
    )


async def fill(running: Deployment, owners: int) -> list[list[str]]:
    """Write a hundred posts of each owner; gives their URIs."""
    uris: list[list[str]] = []
    async with http(running.port) as connection:
        for number in range(owners):
            writes = [
                {"$type": "com.atproto.repo.applyWrites#create", "collection": POST, "value": post(running, f"post {write}")}
                for write in range(RECORDS_PER_OWNER)
            ]
            body = {"repo": actor(number), "writes": writes}
            answer = await connection.post("zone.stratos.repo.applyWrites", actor(number), body)
            results = answer["results"]
            assert isinstance(results, list)
            uris.append([result["uri"] for result in results])
    return uris


async def _rate(running: Deployment, call: Callable[[HttpConnection, int], Awaitable[None]], count: int) -> float:
    async def client(first: int) -> None:
        async with http(running.port) as connection:
            for number in range(first, count, CLIENTS):
                await call(connection, number)

    started = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for first in range(CLIENTS):
            nursery.start_soon(client, first)
    return count / (time.perf_counter() - started)
