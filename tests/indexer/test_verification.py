"""Verifying rows against repositories: only what stays different is a difference."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from stratos.indexer.actor_rows import Difference, Kind
from stratos.indexer.appview_db import AppViewDatabase
from stratos.indexer.service_client import ServiceClient, ServiceConfig
from stratos.indexer.verification import DEFAULT_PATIENCE, Verifier
from tests.indexer.rows import apply
from tests.indexer.stratos_model import SERVICE_URL, SYNC_TOKEN, ModelService, post
from tests.indexer.test_indexer import ANN, BOB, indexing, key, service, virtual_now

__all__ = ["service"]


@asynccontextmanager
async def verifying(model: ModelService, database: AppViewDatabase) -> AsyncIterator[Verifier]:
    async with model.http() as http:
        yield Verifier(database, ServiceClient(ServiceConfig(SERVICE_URL, SYNC_TOKEN), http), clock=virtual_now)


async def later(seconds: float, model: ModelService, database: AppViewDatabase) -> None:
    """The stream reaches the rows after a while."""
    await trio.sleep(seconds)
    await trio.to_thread.run_sync(partial(apply, database, model.frames()))


async def test_an_account_that_never_stops_writing_is_compared_and_agrees(
    appview_db: AppViewDatabase, service: ModelService, autojump_clock: MockClock
) -> None:
    async with indexing(service, appview_db) as running, verifying(service, appview_db) as verifier:
        await running.until_in_step()
        async with trio.open_nursery() as nursery:

            async def write_on() -> None:
                number = 0
                while True:
                    number += 1
                    service.update(ANN, key(0), post(f"edit {number}", "writers"))
                    await trio.sleep(0.2)

            nursery.start_soon(write_on)
            for _ in range(3):
                assert await verifier.verify(ANN) == []
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("change", ["boundaries", "departure", "post"])
async def test_what_the_stream_still_carries_is_no_difference(
    appview_db: AppViewDatabase, service: ModelService, autojump_clock: MockClock, change: str
) -> None:
    apply(appview_db, service.frames())
    match change:
        case "boundaries":
            service.enroll(ANN, "editors")
        case "departure":
            service.unenroll(ANN)
        case _:
            service.create(ANN, key(1), post("new", "writers"))
    async with verifying(service, appview_db) as verifier, trio.open_nursery() as nursery:
        nursery.start_soon(later, 0.9, service, appview_db)
        assert await verifier.verify(ANN) == []


async def test_what_the_stream_never_brings_is_a_difference(
    appview_db: AppViewDatabase, service: ModelService, autojump_clock: MockClock
) -> None:
    apply(appview_db, service.frames())
    service.enroll(ANN, "editors")
    service.unenroll(BOB)
    async with verifying(service, appview_db) as verifier:
        (held,) = await verifier.verify(ANN)
        (gone,) = await verifier.verify(BOB)
    assert held.kind is Kind.ENROLLMENT
    assert "/writers, the service " in held.detail
    assert (gone.kind, gone.uri) == (Kind.SURPLUS, None)


async def test_a_stream_that_stands_still_is_waited_for_in_full_only_once(
    appview_db: AppViewDatabase, service: ModelService, autojump_clock: MockClock
) -> None:
    apply(appview_db, service.frames())
    for did in (ANN, BOB):
        service.create(did, key(1), post("not indexed", "writers"))
    taken: list[float] = []
    async with verifying(service, appview_db) as verifier:
        for did in (ANN, BOB):
            began = trio.current_time()
            (difference,) = await verifier.verify(did)
            assert difference.kind is Kind.BEHIND
            taken.append(trio.current_time() - began)
    first, second = taken
    assert first >= DEFAULT_PATIENCE.catch_up > second >= DEFAULT_PATIENCE.hurried


async def test_a_service_that_refuses_for_a_moment_is_asked_again_and_one_that_does_not_stop_is_told(
    appview_db: AppViewDatabase, service: ModelService, autojump_clock: MockClock
) -> None:
    apply(appview_db, service.frames())
    refusals = iter([503, 503])
    service.refuse = lambda method: next(refusals, None)
    async with verifying(service, appview_db) as verifier:
        assert await verifier.verify(ANN) == []
        service.refuse = lambda method: 503 if "getRepo" in method else None
        found = await verifier.verify(ANN)
    assert [difference.kind for difference in found] == [Kind.UNVERIFIED]
    assert "getRepo" in found[0].detail


async def test_differences_name_no_text_of_a_record(
    appview_db: AppViewDatabase, service: ModelService, autojump_clock: MockClock
) -> None:
    service.create(ANN, key(1), post("a secret", "writers", tags=["another"]))
    apply(appview_db, service.frames())
    with appview_db.transaction() as connection:
        connection.execute("UPDATE stratos_post SET text = 'a forged secret', tags = NULL WHERE rkey = %s", (key(1),))
    async with verifying(service, appview_db) as verifier:
        found = await verifier.verify(ANN)
    assert found == [Difference(ANN, Kind.DIFFERENT, f"at://{ANN}/zone.stratos.feed.post/{key(1)}", "text, tags")]
