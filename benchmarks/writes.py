"""createRecord, applyWrites, and the cost of a write as a repository grows."""

from __future__ import annotations

import time

import trio

from benchmarks.figures import Figure, percentile
from benchmarks.processes import POST, Deployment, Storage, actor, deployment, enroll, post
from benchmarks.wire import HttpConnection, http

CREATE_TARGETS: dict[tuple[Storage, int], float | None] = {
    (Storage.SQLITE, 1): 300,
    (Storage.SQLITE, 16): 500,
    (Storage.SQLITE, 64): 500,
    (Storage.POSTGRES, 1): None,
    (Storage.POSTGRES, 16): None,
    (Storage.POSTGRES, 64): 400,
}
P99_CLIENTS = 16
P99_MILLISECONDS = 60.0
WRITES_PER_RUN = 3_000
SAMPLES = 300


async def create_records() -> list[Figure]:
    """createRecord by 1, 16 and 64 clients, an actor each; every answer is durable."""
    figures: list[Figure] = []
    for storage in Storage:
        async with deployment(storage=storage) as running:
            await enroll(running, 64)
            for clients in (1, 16, 64):
                figures += await _create_figures(running, storage, clients)
    return figures


async def growth() -> list[Figure]:
    """The median cost of a write at 100 and at 10,000 records in one repository."""
    async with deployment() as running:
        await enroll(running, 1)
        async with http(running.port) as connection:
            await _apply(running, connection, 100)
            small = percentile([await _create(running, connection, 0, number) for number in range(SAMPLES)], 0.5)
            for _ in range((10_000 - 100 - SAMPLES) // 200):
                await _apply(running, connection, 200)
            large = percentile([await _create(running, connection, 0, number) for number in range(SAMPLES)], 0.5)
    note = f"{small:.2f} ms at 100, {large:.2f} ms at 10,000"
    return [Figure("write at 10,000 records / at 100", large / small, "×", 1.5, at_most=True, note=note)]


async def apply_writes() -> list[Figure]:
    """applyWrites with 200 creates a call, one client."""
    async with deployment() as running:
        await enroll(running, 1)
        async with http(running.port) as connection:
            await _apply(running, connection, 200)
            started = time.perf_counter()
            for _ in range(20):
                await _apply(running, connection, 200)
            seconds = time.perf_counter() - started
    return [Figure("applyWrites of 200", 4_000 / seconds, "records/s", 5_000, note=f"{seconds / 20 * 1000:.0f} ms a call")]


async def _create_figures(running: Deployment, storage: Storage, clients: int) -> list[Figure]:
    count = WRITES_PER_RUN if clients > 1 else WRITES_PER_RUN // 3
    before = running.service_seconds(), running.database_seconds()
    latencies, seconds = await _creates(running, clients, count)
    service, database = (running.service_seconds() - before[0], running.database_seconds() - before[1])
    rate, written = len(latencies) / seconds, len(latencies)
    p50, p99 = percentile(latencies, 0.5), percentile(latencies, 0.99)
    costs = f"{service / written * 1000:.2f} ms" + (f" + {database / written * 1000:.2f} ms" if database else "")
    limit = P99_MILLISECONDS if clients == P99_CLIENTS and storage is Storage.SQLITE else None
    name = f"{clients} clients, {storage}"
    note = f"p50 {p50:.1f} ms; processor {costs}"
    return [
        Figure(f"createRecord, {name}", rate, "/s", CREATE_TARGETS[storage, clients], note=note),
        Figure(f"createRecord p99, {name}", p99, "ms", limit, at_most=True),
    ]


async def _creates(running: Deployment, clients: int, count: int) -> tuple[list[float], float]:
    latencies: list[float] = []

    async def client(number: int) -> None:
        async with http(running.port) as connection:
            latencies.extend([await _create(running, connection, number, write) for write in range(count // clients)])

    started = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for number in range(clients):
            nursery.start_soon(client, number)
    return latencies, time.perf_counter() - started


async def _create(running: Deployment, connection: HttpConnection, number: int, write: int) -> float:
    """One createRecord; milliseconds until its answer."""
    body = {"repo": actor(number), "collection": POST, "record": post(running, f"post {write} of {number}", number % 3)}
    started = time.perf_counter()
    await connection.post("zone.stratos.repo.createRecord", actor(number), body)
    return (time.perf_counter() - started) * 1000


async def _apply(running: Deployment, connection: HttpConnection, count: int) -> None:
    writes = [
        {"$type": "com.atproto.repo.applyWrites#create", "collection": POST, "value": post(running, f"batch post {number}")}
        for number in range(count)
    ]
    await connection.post("zone.stratos.repo.applyWrites", actor(0), {"repo": actor(0), "writes": writes})
