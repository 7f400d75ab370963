"""The firehose: replay, fan-out, live latency, and the memory of the service."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack

import trio

from benchmarks.figures import Figure, percentile
from benchmarks.processes import POST, SYNC_TOKEN, Deployment, Storage, actor, deployment, enroll, post
from benchmarks.wire import FrameReader, HttpConnection, http, subscribe

ALL = "includeCommits=true&cursor="
SUBSCRIBERS = 100
REPLAY_TARGETS = {Storage.SQLITE: 0.8, Storage.POSTGRES: 2.0}


async def replay() -> list[Figure]:
    """A backlog of 10,000 events to one subscriber."""
    figures: list[Figure] = []
    for storage, target in REPLAY_TARGETS.items():
        async with deployment(storage=storage) as running:
            await enroll(running, 64)
            await _write_many(running, 64, 10_000)
            best = min([await _replayed(running, 10_000) for _ in range(3)])
        figures.append(Figure(f"replay of 10,000 events, {storage}", best, "s", target, at_most=True, note="best of 3"))
    return figures


async def fan_out_and_memory() -> list[Figure]:
    """One write to the last of 100 subscribers; then 10,000 writes by 64 actors while all 100 listen."""
    async with deployment() as running, AsyncExitStack() as stack:
        await enroll(running, 64)
        readers = [await stack.enter_async_context(subscribe(running.port, SYNC_TOKEN, ALL + "0")) for _ in range(SUBSCRIBERS)]
        counts = [0] * SUBSCRIBERS
        arrived = trio.Event()
        wanted = 128

        async def listen(number: int, reader: FrameReader) -> None:
            nonlocal arrived
            while True:
                counts[number] += len(await reader.frames())
                if min(counts) >= wanted:
                    arrived.set()

        async with trio.open_nursery() as nursery:
            for number, reader in enumerate(readers):
                nursery.start_soon(listen, number, reader)
            await arrived.wait()
            latencies: list[float] = []
            async with http(running.port) as connection:
                for number in range(50):
                    wanted, arrived = wanted + 1, trio.Event()
                    started = time.perf_counter()
                    await _create(running, connection, number % 64)
                    await arrived.wait()
                    latencies.append((time.perf_counter() - started) * 1000)
            wanted, arrived = wanted + 10_000, trio.Event()
            started = time.perf_counter()
            await _write_many(running, 64, 10_000)
            await arrived.wait()
            seconds = time.perf_counter() - started
            resident = running.resident_mb()
            nursery.cancel_scope.cancel()
    return [
        Figure("one write to the last of 100 subscribers, p50", percentile(latencies, 0.5), "ms", 25, at_most=True),
        Figure("memory after 10,000 writes, 64 actors, 100 subscribers", resident, "MB", 200, at_most=True),
        Figure("frames while 64 write and 100 listen", 10_000 * SUBSCRIBERS / seconds, "/s"),
    ]


async def live_latency() -> list[Figure]:
    """Acknowledged write to frame at a subscriber, four writers at a steady 40 writes a second."""
    arrivals: dict[bytes, float] = {}
    acknowledged: dict[bytes, float] = {}
    async with deployment() as running, subscribe(running.port, SYNC_TOKEN, ALL + "0") as reader:
        await enroll(running, 4)

        async def listen() -> None:
            while True:
                for frame in await reader.frames():
                    at = frame.find(b"mark-")
                    if at >= 0:
                        arrivals[frame[at : at + 12]] = time.perf_counter()

        async def write(number: int) -> None:
            async with http(running.port) as connection:
                for count in range(150):
                    mark = f"mark-{number:02d}-{count:04d}"
                    await _create(running, connection, number, mark)
                    acknowledged[mark.encode()] = time.perf_counter()
                    await trio.sleep(0.1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            async with trio.open_nursery() as writers:
                for number in range(4):
                    writers.start_soon(write, number)
            await trio.sleep(0.5)
            nursery.cancel_scope.cancel()
    lags = [max(0.0, arrivals[mark] - at) * 1000 for mark, at in acknowledged.items()]
    return [
        Figure("acknowledged write → frame, p50", percentile(lags, 0.5), "ms", 5, at_most=True),
        Figure("acknowledged write → frame, p99", percentile(lags, 0.99), "ms", 25, at_most=True),
    ]


async def _replayed(running: Deployment, count: int) -> float:
    started = time.perf_counter()
    async with subscribe(running.port, SYNC_TOKEN, ALL + "0") as reader:
        seen = 0
        while seen < count:
            seen += len(await reader.frames())
    return time.perf_counter() - started


async def _write_many(running: Deployment, actors: int, count: int) -> None:
    async def client(number: int) -> None:
        async with http(running.port) as connection:
            for _ in range(number, count, actors):
                await _create(running, connection, number)

    async with trio.open_nursery() as nursery:
        for number in range(actors):
            nursery.start_soon(client, number)


async def _create(running: Deployment, connection: HttpConnection, number: int, text: str = "a post") -> None:
    body = {"repo": actor(number), "collection": POST, "record": post(running, text, number % 3)}
    await connection.post("zone.stratos.repo.createRecord", actor(number), body)
