"""The real indexer upon real PostgreSQL follows a real service over real sockets, also through what it missed."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import trio

from stratos.atproto.syntax import Did
from stratos.engine.commit_log import LogLimits
from stratos.engine.rate_limit import WriteRate
from stratos.engine.service import ServiceLimits
from stratos.engine.supervisor import Supervisor
from stratos.indexer.appview_db import AppViewDatabase
from stratos.indexer.indexer import Indexer, IndexerConfig
from tests.api.builders import SYNC_TOKEN, Api, serving
from tests.engine.builders import EDITORS, KAORUKO, POST, REI, SAKURA, WRITERS

SMALL_TAIL = ServiceLimits(log=LogLimits(tail_entries=1), writes=WriteRate(max_writes=10_000))
CONVERGES_WITHIN = 30.0

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120), pytest.mark.xdist_group("postgres-e2e")]


@asynccontextmanager
async def following(api: Api, database: AppViewDatabase) -> AsyncIterator[Indexer]:
    """An indexer that follows the service for the block."""
    async with httpx.AsyncClient() as http, trio.open_nursery() as nursery:
        indexer = Indexer(
            IndexerConfig.of(api.url, SYNC_TOKEN), database, http, clock=lambda: datetime.now(UTC), rng=random.Random(1)
        )
        await nursery.start(indexer.run, Supervisor(rng=random.Random(1)))
        yield indexer
        nursery.cancel_scope.cancel()


def rows(database: AppViewDatabase) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Every indexed post: CID and boundaries by URI."""
    with database.transaction() as connection:
        found = connection.execute(
            "SELECT p.uri, p.cid, ARRAY(SELECT boundary FROM stratos_post_boundary b WHERE b.uri = p.uri ORDER BY 1)"
            " FROM stratos_post p"
        ).fetchall()
    return {uri: (cid, tuple(boundaries)) for uri, cid, boundaries in found}


async def truth(api: Api, *dids: Did) -> dict[str, tuple[str, tuple[str, ...]]]:
    """What the service itself says that its repositories hold."""
    held: dict[str, tuple[str, tuple[str, ...]]] = {}
    for did in dids:
        answer = await api.get("zone.stratos.repo.listRecords", did, repo=did, collection=POST, limit=100)
        assert answer.status == 200, answer
        records = answer.body["records"]
        assert isinstance(records, list)
        for record in records:
            values = tuple(sorted(item["value"] for item in record["value"]["boundary"]["values"]))
            held[record["uri"]] = (record["cid"], values)
    return held


async def until(holds: Callable[[], bool]) -> None:
    """Wait until the database shows something; another process's work can only be looked at again."""
    with trio.fail_after(CONVERGES_WITHIN):
        while not await trio.to_thread.run_sync(holds):  # noqa: ASYNC110 - there is no event to await in a database
            await trio.sleep(0.05)


async def converge(api: Api, database: AppViewDatabase, *dids: Did) -> None:
    """Wait until the rows are exactly what the service holds."""
    wanted = await truth(api, *dids)
    await until(lambda: rows(database) == wanted)


async def _edit(api: Api, did: Did, uri: str, text: str, *boundaries: str) -> None:
    record = {
        "text": text,
        "createdAt": "2026-05-28T12:00:00.000Z",
        "boundary": {"$type": "zone.stratos.boundary.defs#Domains", "values": [{"value": b} for b in boundaries]},
    }
    body = {"repo": did, "collection": POST, "rkey": uri.rsplit("/", 1)[-1], "record": record}
    answer = await api.post("zone.stratos.repo.putRecord", did, body)
    assert answer.status == 200, answer


async def _delete(api: Api, did: Did, uri: str) -> None:
    body = {"repo": did, "collection": POST, "rkey": uri.rsplit("/", 1)[-1]}
    assert (await api.post("zone.stratos.repo.deleteRecord", did, body)).status == 200


async def test_rows_follow_creates_edits_moves_deletes_and_unenrollment(data_dir: Path, appview_db: AppViewDatabase) -> None:
    async with serving(data_dir, limits=SMALL_TAIL) as api, following(api, appview_db):
        await api.engine.enroll(REI, WRITERS, EDITORS)
        await api.engine.enroll(SAKURA, WRITERS)
        first = await api.create(REI, "first", WRITERS)
        second = await api.create(REI, "second", WRITERS, EDITORS)
        await api.create(SAKURA, "hers", WRITERS)
        await converge(api, appview_db, REI, SAKURA)
        await _edit(api, REI, first, "moved", EDITORS)
        await _delete(api, REI, second)
        await converge(api, appview_db, REI, SAKURA)
        assert rows(appview_db)[first][1] == (EDITORS,)
        await api.engine.service.enrollment.unenroll(REI)
        await converge(api, appview_db, SAKURA)


async def test_posts_of_who_leaves_for_a_while_vanish_and_return_with_their_author(
    data_dir: Path, appview_db: AppViewDatabase
) -> None:
    async with serving(data_dir) as api, following(api, appview_db):
        await api.engine.enroll(REI, WRITERS)
        await api.engine.enroll(SAKURA, WRITERS)
        for text in ("one", "two"):
            await api.create(REI, text, WRITERS)
        await api.create(SAKURA, "stays", WRITERS)
        await converge(api, appview_db, REI, SAKURA)
        for _ in range(2):
            assert await api.engine.service.enrollment.revoke(REI) is None
            await converge(api, appview_db, SAKURA)
            await api.engine.enroll(REI, EDITORS)
            await converge(api, appview_db, REI, SAKURA)
        await api.create(REI, "back", EDITORS)
        await converge(api, appview_db, REI, SAKURA)


async def test_an_indexer_that_was_away_longer_than_retention_is_mended(data_dir: Path, appview_db: AppViewDatabase) -> None:
    async with serving(data_dir, limits=SMALL_TAIL) as api:
        for did in (REI, SAKURA, KAORUKO):
            await api.engine.enroll(did, WRITERS)
        kept = await api.create(REI, "kept", WRITERS)
        gone = await api.create(REI, "will be deleted", WRITERS)
        await api.create(KAORUKO, "of somebody who leaves", WRITERS)
        async with following(api, appview_db):
            await converge(api, appview_db, REI, SAKURA, KAORUKO)
        await _delete(api, REI, gone)
        await _edit(api, REI, kept, "edited meanwhile", WRITERS)
        await api.create(SAKURA, "written meanwhile", WRITERS)
        await api.engine.service.enrollment.unenroll(KAORUKO)
        api.engine.clock.now += timedelta(hours=100)
        assert await api.engine.service.retention.trim() > 0
        await api.create(SAKURA, "written after the trim", WRITERS)
        async with following(api, appview_db) as indexer:
            await converge(api, appview_db, REI, SAKURA)
            await api.create(REI, "live again", WRITERS)
            await converge(api, appview_db, REI, SAKURA)
            assert indexer.statistics()["indexer_resync"]["blocked_actors"] == 0


async def test_a_cursor_of_the_future_starts_from_the_beginning(data_dir: Path, appview_db: AppViewDatabase) -> None:
    async with serving(data_dir, limits=SMALL_TAIL) as api:
        await api.engine.enroll(REI, WRITERS)
        await api.create(REI, "one", WRITERS)
        async with following(api, appview_db):
            await converge(api, appview_db, REI)
        with appview_db.transaction() as connection:
            connection.execute("UPDATE stratos_stream_cursor SET seq = seq + 1000000000")
        await api.create(REI, "two", WRITERS)
        async with following(api, appview_db):
            await converge(api, appview_db, REI)
