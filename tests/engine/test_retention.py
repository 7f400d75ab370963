"""Retention: what may leave the log, and what may not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from stratos.atproto.syntax import Did
from stratos.core.log_entry import EntryKind
from stratos.storage.ports import StorageFault
from tests.engine.builders import KAORUKO, REI, SAKURA, WRITERS, Engine
from tests.engine.conftest import ON_SQLITE


async def test_entries_leave_by_age_once_their_stores_are_durable(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    await engine.post(REI, "old", WRITERS)
    engine.clock.now += timedelta(hours=71)
    await engine.enroll(SAKURA, WRITERS)
    assert await engine.service.retention.trim() == 0
    engine.clock.now += timedelta(hours=2)
    assert await engine.service.retention.trim() == 3
    left = engine.service.backend.log.after(0, limit=10, max_bytes=100_000)
    assert {entry.did for entry in left} == {SAKURA}
    with engine.service.backend.actors.open(REI) as store:
        assert store is not None
        assert store.record_count() == 1


async def test_an_internal_consumer_that_is_behind_keeps_its_entries(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    engine.service.backend.cursors.save("publisher", 0)
    engine.clock.now += timedelta(hours=100)
    assert await engine.service.retention.trim() == 0
    engine.service.backend.cursors.save("publisher", engine.service.log.head)
    assert await engine.service.retention.trim() == 2


async def test_a_trimmed_repository_goes_on_with_the_next_write(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    engine.clock.now += timedelta(hours=100)
    await engine.service.retention.trim()
    outcome = await engine.post(REI, "after the trim", WRITERS)
    with engine.service.backend.actors.open(REI) as store:
        assert store is not None
        assert store.root().commit == outcome.commit


@ON_SQLITE
@pytest.mark.expects_error_log
async def test_a_store_that_cannot_be_checkpointed_keeps_only_its_own_entries(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for did in (KAORUKO, REI, SAKURA):
        await engine.enroll(did, WRITERS)
    engine.clock.now += timedelta(hours=100)
    actors = engine.service.backend.actors
    checkpoint = actors.checkpoint

    def failing(did: Did) -> None:
        if did == KAORUKO:
            raise StorageFault("the disk says no")
        checkpoint(did)

    monkeypatch.setattr(actors, "checkpoint", failing)
    assert await engine.service.retention.trim() == 5
    (left,) = engine.service.backend.log.after(0, limit=10, max_bytes=100_000)
    assert (left.did, left.kind) == (KAORUKO, EntryKind.COMMIT)
