"""From an acknowledged write to the timeline of another viewer, through the whole system."""

from __future__ import annotations

import time

import trio

from benchmarks.figures import Figure, percentile
from benchmarks.processes import POST, actor, deployment, enroll, post
from benchmarks.wire import http

WRITES = 200
POLL_SECONDS = 0.002


async def visibility() -> list[Figure]:
    """One writer at about five writes a second; the viewer asks for the timeline until the post is there."""
    lags: list[float] = []
    async with deployment("dev") as running:
        await enroll(running, 2)
        async with http(running.port) as service, http(running.appview_port) as appview:
            for number in range(WRITES):
                body = {"repo": actor(0), "collection": POST, "record": post(running, f"post {number}")}
                answer = await service.post("zone.stratos.repo.createRecord", actor(0), body)
                acknowledged = time.perf_counter()
                uri = str(answer["uri"]).encode()
                while uri not in await appview.get("/xrpc/zone.stratos.feed.getTimeline?limit=5", actor(1)):  # noqa: ASYNC110
                    await trio.sleep(POLL_SECONDS)
                lags.append((time.perf_counter() - acknowledged) * 1000)
                await trio.sleep(0.05)
    return [
        Figure("acknowledged write → getTimeline, p50", percentile(lags, 0.5), "ms", 50, at_most=True),
        Figure("acknowledged write → getTimeline, p99", percentile(lags, 0.99), "ms", 250, at_most=True),
    ]
