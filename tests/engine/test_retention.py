"""Retention: what may leave the log, and what may not."""

from __future__ import annotations

from datetime import timedelta

from tests.engine.builders import REI, SAKURA, WRITERS, Engine


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
