"""The projector from a backlog, and a timeline page among a million posts. Upon an embedded PostgreSQL, in this process."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import trio

from benchmarks.figures import Figure, percentile
from stratos.atproto import dag_cbor
from stratos.atproto.cid import Cid
from stratos.atproto.syntax import Did, Tid
from stratos.atproto.tid import tid_from
from stratos.core.access import Viewer
from stratos.core.boundaries import Boundary
from stratos.core.log_codec import entry_frame
from stratos.core.log_entry import Action, CommitEntry, RecordOp
from stratos.dev import embedded_postgres
from stratos.indexer.appview_db import AppViewDatabase, AppViewDbConfig
from stratos.indexer.appview_sql import AppViewSql
from stratos.indexer.events import CommitEvent, Event, decode_event
from stratos.indexer.feed import FeedPosition, FeedRequest, Feeds
from stratos.indexer.projection import ProjectionWriter
from stratos.indexer.projector import Projector, ProjectorSignals
from stratos.resources import sql_directory

RECORDS = 20_000
ACTORS = 64
BATCH = 500
POSTS = 1_000_000
BOUNDARIES = 50
HELD = ("room05", "room17", "room42")
PAGES = 300
SOURCE = "http://localhost"


async def projector() -> list[Figure]:
    """20,000 one-record commits of 64 actors, as the indexer does it: decoded on the loop, committed by a thread meanwhile."""
    frames = _frames()
    with _database() as database:
        writer = ProjectionWriter(database.queries, source=SOURCE, service_url=SOURCE)
        signals = ProjectorSignals(actors_waiting=lambda: None, reconcile_wanted=lambda: None)
        running = Projector(database, writer, signals, clock=lambda: datetime.now(UTC), rng=random.Random(1))
        send, receive = trio.open_memory_channel[Sequence[Event]](1)
        started = time.perf_counter()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(running.run, receive)
            async with send:
                for start in range(0, len(frames), BATCH):
                    await send.send([_event(frame) for frame in frames[start : start + BATCH]])
        seconds = time.perf_counter() - started
        with database.transaction() as connection:
            row = connection.execute("SELECT count(*) FROM stratos_post").fetchone()
    assert row == (RECORDS,)
    return [Figure("projector from a backlog", RECORDS / seconds, "records/s", 10_000, note="frames decoded, rows committed")]


async def timeline() -> list[Figure]:
    """Pages of 50, each beginning at another depth, for a viewer in 3 of 50 boundaries among 1,000,000 posts."""
    with _database() as database:
        _fill(database)
        feeds = Feeds(database.queries)
        viewer = Viewer(Did("did:web:viewer.example"), frozenset(map(Boundary, HELD)), enrolled=True)
        position = FeedPosition.parse(None)
        milliseconds: list[float] = []
        for _ in range(PAGES):
            started = time.perf_counter()
            with database.transaction() as connection:
                page = feeds.timeline(connection, viewer, FeedRequest(50, position))
            milliseconds.append((time.perf_counter() - started) * 1000)
            assert len(page.posts) == 50
            assert page.following is not None
            position = page.following
    p50, p99 = percentile(milliseconds, 0.5), percentile(milliseconds, 0.99)
    return [Figure("timeline page of 50 in 1,000,000 posts, p50", p50, "ms", 10, at_most=True, note=f"p99 {p99:.1f} ms")]


@contextmanager
def _database() -> Iterator[AppViewDatabase]:
    with tempfile.TemporaryDirectory(prefix="stratos-bench-") as folder, embedded_postgres(Path(folder) / "postgres") as url:
        database = AppViewDatabase(
            AppViewDbConfig(url, pool_size=4, statement_timeout=600.0), AppViewSql.load(sql_directory() / "appview")
        )
        database.open()
        try:
            database.migrate(datetime.now(UTC))
            yield database
        finally:
            database.close()


def _event(frame: bytes) -> Event:
    event = decode_event(frame)
    assert isinstance(event, CommitEvent)
    return event


def _frames() -> list[bytes]:
    frames: list[bytes] = []
    last: dict[Did, Tid] = {}
    for number in range(RECORDS):
        did = Did(f"did:web:actor{number % ACTORS:05d}.example")
        rev = tid_from(1_790_000_000_000_000 + number, 1)
        value: dict[str, dag_cbor.DataModel] = {
            "$type": "zone.stratos.feed.post",
            "text": f"post {number} — a few words that somebody would write to people whom they know, with an umlaut (ü)",
            "boundary": {
                "$type": "zone.stratos.boundary.defs#Domains",
                "values": [{"value": f"did:web:stratos.example.com/room{number % BOUNDARIES:02d}"}],
            },
            "langs": ["en"],
            "createdAt": "2026-05-28T20:26:41.000Z",
        }
        record = dag_cbor.encode(value)
        op = RecordOp(Action.CREATE, f"zone.stratos.feed.post/{rev}", Cid.of_dag_cbor(record), record, None, None, ())
        entry = CommitEntry(did, rev, last.get(did), Cid.of_dag_cbor(record), None, (op,), (), ())
        last[did] = rev
        frames.append(entry_frame(entry, 1_790_000_000_000_000 + number, "2026-05-28T20:26:41.000Z"))
    return frames


def _fill(database: AppViewDatabase) -> None:
    """A million posts, a second apart, each in one boundary, every tenth in two; as the projector would have written them."""
    with database.transaction() as connection:
        connection.execute(
            """
            INSERT INTO stratos_post (uri, cid, rkey, creator, text, "createdAt", "indexedAt")
            SELECT 'at://did:web:actor' || n %% 5000 || '.example/zone.stratos.feed.post/' || n, 'bafyreib' || n, n::text,
                'did:web:actor' || n %% 5000 || '.example', repeat('some words ', 12),
                to_char(moment, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), to_char(moment, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
            FROM (SELECT n, timestamp '2026-01-01' + n * interval '1 second' AS moment FROM generate_series(1, %s) AS n) AS made
            """,
            (POSTS,),
        )
        connection.execute(
            """
            INSERT INTO stratos_post_boundary (uri, boundary, creator, "sortAt")
            SELECT uri, 'room' || lpad((rkey::bigint * 7919 %% %s)::text, 2, '0'), creator, "sortAt" FROM stratos_post
            UNION ALL
            SELECT uri, 'room' || lpad(((rkey::bigint * 7919 + 1) %% %s)::text, 2, '0'), creator, "sortAt"
            FROM stratos_post WHERE rkey::bigint %% 10 = 0
            """,
            (BOUNDARIES, BOUNDARIES),
        )
    with database.transaction() as connection:
        connection.execute("ANALYZE stratos_post")
        connection.execute("ANALYZE stratos_post_boundary")
