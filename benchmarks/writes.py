"""createRecord, applyWrites, and the cost of a write as a repository grows."""

from __future__ import annotations

import time

import trio

from benchmarks.figures import Figure, percentile
from benchmarks.processes import POST, Deployment, actor, deployment, enroll, post
from benchmarks.wire import HttpConnection, http

CREATE_CLIENTS = {1: 300.0, 16: 500.0, 64: 500.0}
WRITES_PER_RUN = 3_000
SAMPLES = 300


async def create_records() -> list[Figure]:
    """createRecord by 1, 16 and 64 clients, an actor each; every answer is durable."""
    figures: list[Figure] = []
    async with deployment() as running:
        await enroll(running, 64)
        for clients, target in CREATE_CLIENTS.items():
            count = WRITES_PER_RUN if clients > 1 else WRITES_PER_RUN // 3
            latencies, seconds = await _creates(running, clients, count)
            rate = len(latencies) / seconds
            figures.append(
                Figure(f"createRecord, {clients} clients", rate, "/s", target, note=f"p50 {percentile(latencies, 0.5):.1f} ms")
            )
            limit = 60.0 if clients == 16 else None
            figures.append(Figure(f"createRecord p99, {clients} clients", percentile(latencies, 0.99), "ms", limit, at_most=True))
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
