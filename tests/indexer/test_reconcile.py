"""Comparing every actor with the service's list of repositories."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from stratos.atproto.syntax import Did
from stratos.indexer.appview_db import AppViewDatabase
from stratos.indexer.projection import ProjectionWriter
from stratos.indexer.reconcile import Reconciler
from stratos.indexer.service_client import ServiceClient, ServiceConfig
from tests.indexer.rows import NOW, SOURCE, apply, blocked, rows
from tests.indexer.stratos_model import SERVICE_URL, SYNC_TOKEN, ModelService, post

ANN, BOB, CAROL, DAN = (Did(f"did:plc:{letter * 24}") for letter in "abcd")
RKEY = "3mgaaaaaaaaaa"


@pytest.fixture
def service(appview_db: AppViewDatabase) -> ModelService:
    """Three accounts, indexed; and a wish to compare them."""
    service = ModelService()
    for did in (ANN, BOB, CAROL):
        service.enroll(did, "writers")
    apply(appview_db, [*service.frames(), b"what cannot be read asks for a comparison"])
    return service


class Comparison:
    """A reconciler under way."""

    def __init__(self, database: AppViewDatabase, client: ServiceClient) -> None:
        self._database = database
        self.done = trio.Event()
        writer = ProjectionWriter(database.queries, source=SOURCE, service_url=SERVICE_URL)
        self.reconciler = Reconciler(
            database, writer, client, source=SOURCE, wake_resync=self.done.set, clock=lambda: NOW, rng=random.Random(1)
        )

    async def once(self) -> None:
        """Compare, and wait until it is done."""
        self.done = trio.Event()
        self.reconciler._wake_resync = self.done.set
        self.reconciler.want()
        await self.done.wait()


@asynccontextmanager
async def comparing(database: AppViewDatabase, service: ModelService) -> AsyncIterator[Comparison]:
    async with service.http() as http, trio.open_nursery() as nursery:
        comparison = Comparison(database, ServiceClient(ServiceConfig(SERVICE_URL, SYNC_TOKEN, repos_page=2), http))
        await nursery.start(comparison.reconciler.run)
        yield comparison
        nursery.cancel_scope.cancel()


def wishes(database: AppViewDatabase) -> object:
    return rows(database, 'SELECT "reconcileWanted" FROM stratos_stream_cursor')[0][0]


async def test_nobody_is_blocked_when_all_agree(appview_db: AppViewDatabase, service: ModelService) -> None:
    assert wishes(appview_db) == 1
    async with comparing(appview_db, service) as comparison:
        await comparison.once()
    assert blocked(appview_db) == {}
    assert wishes(appview_db) == 0
    assert rows(appview_db, "SELECT * FROM stratos_listed_actor") == []


async def test_whoever_differs_is_blocked(appview_db: AppViewDatabase, service: ModelService) -> None:
    service.create(ANN, RKEY, post("behind", "writers"))
    service.unenroll(BOB)
    service.enroll(DAN, "writers")
    async with comparing(appview_db, service) as comparison:
        await comparison.once()
    assert blocked(appview_db).keys() == {ANN, BOB, DAN}


async def test_an_actor_without_an_enrollment_row_is_blocked(appview_db: AppViewDatabase, service: ModelService) -> None:
    with appview_db.transaction() as connection:
        connection.execute("DELETE FROM stratos_enrollment WHERE did = %s", (ANN,))
    async with comparing(appview_db, service) as comparison:
        await comparison.once()
    assert blocked(appview_db).keys() == {ANN}


async def test_a_wish_that_comes_up_meanwhile_is_kept(appview_db: AppViewDatabase, service: ModelService) -> None:
    def another_wish(method: str) -> int | None:
        if method.endswith("listRepos") and wishes(appview_db) == 1:
            apply(appview_db, [b"unreadable again"])
        return None

    service.refuse = another_wish
    async with comparing(appview_db, service) as comparison:
        await comparison.once()
        assert wishes(appview_db) == 2
        await comparison.once()
        assert wishes(appview_db) == 0


async def test_a_failing_list_is_asked_for_again(
    appview_db: AppViewDatabase, service: ModelService, autojump_clock: MockClock
) -> None:
    left = 3

    def fail_thrice(_method: str) -> int | None:
        nonlocal left
        left -= 1
        return 503 if left >= 0 else None

    service.refuse = fail_thrice
    async with comparing(appview_db, service) as comparison:
        await comparison.once()
        assert comparison.reconciler.statistics()["failures_total"] == 3
        assert comparison.reconciler.statistics()["runs_total"] == 1
    assert wishes(appview_db) == 0
