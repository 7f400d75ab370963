"""What ten thousand enrolled accounts cost: the write of one of them, the start, the memory."""

from __future__ import annotations

import random
import time

import trio

from benchmarks.figures import Figure, percentile
from benchmarks.processes import POST, Deployment, Installation, Storage, actor, enroll, installation, post
from benchmarks.wire import http

FEW = 100
MANY = 10_000
WRITES = 1_000
CLIENTS = 4
SEED = 11


async def crowd() -> list[Figure]:
    """createRecord by accounts drawn at random from 100 and from 10,000; then a stop and a start."""
    figures: list[Figure] = []
    for storage in Storage:
        with installation(storage=storage) as installed:
            figures += await _crowd(installed, storage)
    return figures


async def _crowd(installed: Installation, storage: Storage) -> list[Figure]:
    async with installed.running() as running:
        await enroll(running, FEW)
        few = await _write_latencies(running, FEW)
        started = time.perf_counter()
        await enroll(running, MANY, first=FEW)
        enrolling = time.perf_counter() - started
        many = await _write_latencies(running, MANY)
        resident = running.resident_mb()
    started = time.perf_counter()
    async with installed.running():
        start = time.perf_counter() - started
    small, large = percentile(few, 0.5), percentile(many, 0.5)
    note = f"{small:.2f} ms with {FEW}, {large:.2f} ms with {MANY:,}; enrolling took {enrolling:.0f} s"
    where = f"{MANY:,} accounts, {storage}"
    return [
        Figure(f"createRecord p50, {where} / {FEW}", large / small, "×", 1.5, at_most=True, note=note),
        Figure(f"start to healthy, {where}", start, "s", 5, at_most=True),
        Figure(f"memory, {where}", resident, "MB", 300, at_most=True),
    ]


async def _write_latencies(running: Deployment, accounts: int) -> list[float]:
    """Milliseconds of writes, once each account drawn has been written to before or, among many, most have not."""
    chance = random.Random(SEED)
    milliseconds: list[float] = []

    async def client(writers: list[int]) -> None:
        async with http(running.port) as connection:
            for number in writers:
                body = {"repo": actor(number), "collection": POST, "record": post(running, "a post")}
                started = time.perf_counter()
                await connection.post("zone.stratos.repo.createRecord", actor(number), body)
                milliseconds.append((time.perf_counter() - started) * 1000)

    async with trio.open_nursery() as nursery:
        for _ in range(CLIENTS):
            nursery.start_soon(client, [chance.randrange(accounts) for _ in range(WRITES // CLIENTS)])
    return milliseconds
