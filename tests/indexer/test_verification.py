"""Verifying rows against repositories: only what stays different is a difference."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
import trio

from stratos.indexer.actor_rows import Difference, Kind
from stratos.indexer.appview_db import AppViewDatabase, AppViewDbConfig, Connection, T
from stratos.indexer.appview_sql import AppViewSql
from stratos.indexer.service_client import ServiceClient, ServiceConfig
from stratos.indexer.verification import Patience, Verifier
from tests.indexer.rows import NOW, apply
from tests.indexer.stratos_model import SERVICE_URL, SYNC_TOKEN, ModelService, post
from tests.indexer.test_indexer import ANN, BOB, key, service

__all__ = ["service"]

BRIEF = Patience(catch_up=0.2, hurried=0.05, poll=0.01, pause=0.0)
"""For what never comes."""
LONG = Patience(catch_up=60.0, poll=0.01, pause=0.0)
"""For what comes."""


class Watched(AppViewDatabase):
    """Does something once somebody has looked at the rows."""

    then: Callable[[], object] | None = None

    async def run(self, work: Callable[[Connection], T]) -> T:
        result = await super().run(work)
        if self.then is not None:
            then, self.then = self.then, None
            then()
        return result


@pytest.fixture
def database(appview_db: AppViewDatabase, appview_db_config: AppViewDbConfig, appview_sql: AppViewSql) -> Iterator[Watched]:
    watched = Watched(appview_db_config, appview_sql)
    watched.open()
    yield watched
    watched.close()


@asynccontextmanager
async def verifying(model: ModelService, database: AppViewDatabase, patience: Patience) -> AsyncIterator[Verifier]:
    async with model.http() as http:
        client = ServiceClient(ServiceConfig(SERVICE_URL, SYNC_TOKEN), http)
        yield Verifier(database, client, clock=lambda: NOW, patience=patience)


def write_on(model: ModelService, database: AppViewDatabase, times: int) -> None:
    """So many times, whenever the repository has been fetched, the account writes and the rows follow before they are read."""
    left = iter(range(times))

    def refuse(method: str) -> None:
        if method == "zone.stratos.identity.resolveEnrollments" and next(left, None) is not None:
            model.update(ANN, key(0), post("one more edit", "writers"))
            apply(database, model.frames())

    model.refuse = refuse


async def test_an_account_that_writes_while_it_is_compared_is_fetched_again(database: Watched, service: ModelService) -> None:
    apply(database, service.frames())
    write_on(service, database, times=LONG.attempts - 1)
    async with verifying(service, database, LONG) as verifier:
        assert await verifier.verify(ANN) == []


async def test_an_account_that_always_writes_while_it_is_compared_is_not_called_verified(
    database: Watched, service: ModelService
) -> None:
    apply(database, service.frames())
    write_on(service, database, times=1_000)
    async with verifying(service, database, LONG) as verifier:
        assert [difference.kind for difference in await verifier.verify(ANN)] == [Kind.UNVERIFIED]


@pytest.mark.parametrize("change", ["boundaries", "departure", "post"])
async def test_what_the_stream_still_carries_is_no_difference(database: Watched, service: ModelService, change: str) -> None:
    apply(database, service.frames())
    match change:
        case "boundaries":
            service.enroll(ANN, "editors")
        case "departure":
            service.unenroll(ANN)
        case _:
            service.create(ANN, key(1), post("new", "writers"))
    async with verifying(service, database, LONG) as verifier:
        database.then = lambda: apply(database, service.frames())
        assert await verifier.verify(ANN) == []
    assert database.then is None


async def test_an_account_that_is_being_fetched_anew_is_waited_for(database: Watched, service: ModelService) -> None:
    apply(database, service.frames())

    def block() -> None:
        with database.transaction() as connection:
            connection.execute("INSERT INTO stratos_blocked_actor (did, error) VALUES (%s, 'a gap')", (ANN,))

    def unblock() -> None:
        with database.transaction() as connection:
            connection.execute("DELETE FROM stratos_blocked_actor")

    block()
    async with verifying(service, database, BRIEF) as verifier:
        assert await verifier.verify(ANN) == [Difference(ANN, Kind.BLOCKED, None, "a gap")]
    async with verifying(service, database, LONG) as verifier:
        database.then = unblock
        assert await verifier.verify(ANN) == []


async def test_what_the_stream_never_brings_is_a_difference(database: Watched, service: ModelService) -> None:
    apply(database, service.frames())
    service.enroll(ANN, "editors")
    service.unenroll(BOB)
    async with verifying(service, database, BRIEF) as verifier:
        (held,) = await verifier.verify(ANN)
        (gone,) = await verifier.verify(BOB)
    assert held.kind is Kind.ENROLLMENT
    assert "/writers, the service " in held.detail
    assert (gone.kind, gone.uri) == (Kind.SURPLUS, None)


async def test_a_stream_that_stands_still_is_waited_for_in_full_only_once(database: Watched, service: ModelService) -> None:
    apply(database, service.frames())
    for did in (ANN, BOB):
        service.create(did, key(1), post("not indexed", "writers"))
    forever = Patience(catch_up=0.2, hurried=0.0, poll=0.01, pause=0.0)
    async with verifying(service, database, forever) as verifier:
        began = trio.current_time()
        (difference,) = await verifier.verify(ANN)
        assert (difference.kind, trio.current_time() - began >= forever.catch_up) == (Kind.BEHIND, True)
        looks = database.statistics()["transactions_total"]
        (difference,) = await verifier.verify(BOB)
        assert (difference.kind, database.statistics()["transactions_total"] - looks) == (Kind.BEHIND, 1)


async def test_a_service_that_refuses_for_a_moment_is_asked_again_and_one_that_does_not_stop_is_told(
    database: Watched, service: ModelService
) -> None:
    apply(database, service.frames())
    refusals = iter([503, 503])
    service.refuse = lambda method: next(refusals, None)
    async with verifying(service, database, LONG) as verifier:
        assert await verifier.verify(ANN) == []
        service.refuse = lambda method: 503 if "getRepo" in method else None
        found = await verifier.verify(ANN)
    assert [difference.kind for difference in found] == [Kind.UNVERIFIED]
    assert "getRepo" in found[0].detail


async def test_differences_name_no_text_of_a_record(database: Watched, service: ModelService) -> None:
    service.create(ANN, key(1), post("a secret", "writers", tags=["another"]))
    apply(database, service.frames())
    with database.transaction() as connection:
        connection.execute("UPDATE stratos_post SET text = 'a forged secret', tags = NULL WHERE rkey = %s", (key(1),))
    async with verifying(service, database, LONG) as verifier:
        found = await verifier.verify(ANN)
    assert found == [Difference(ANN, Kind.DIFFERENT, f"at://{ANN}/zone.stratos.feed.post/{key(1)}", "text, tags")]
