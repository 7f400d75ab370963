"""Reads of a store that may be silent: every wait has an end."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest
import trio
import trio.testing

from stratos.engine.store_reads import PROBE_SECONDS, QUEUE_SECONDS, StoreReads
from stratos.storage.ports import StorageFault
from tests.engine.builders import open_backend


@pytest.fixture
def reads(data_dir: Path) -> StoreReads:
    """Reads with one thread."""
    backend = open_backend(data_dir)
    backend.close()
    return StoreReads(backend.actors, threads=1)


async def test_a_read_waits_for_a_thread_only_so_long_and_one_that_began_is_awaited(
    reads: StoreReads, autojump_clock: trio.testing.MockClock
) -> None:
    silent, answers = Event(), list[bool]()

    async def ask() -> None:
        answers.append(await reads(lambda: silent.wait(30)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        with pytest.raises(StorageFault):
            await reads(lambda: None)
        assert trio.current_time() - began == pytest.approx(QUEUE_SECONDS)
        silent.set()
    assert answers == [True]


async def test_a_prompt_read_does_not_wait_behind_others(reads: StoreReads) -> None:
    silent = Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reads, lambda: silent.wait(30))
        await trio.testing.wait_all_tasks_blocked()
        assert await reads.promptly(lambda: "well") == "well"
        silent.set()


async def test_a_prompt_read_gives_up_and_leaves_one_thread_behind_at_most(
    reads: StoreReads, autojump_clock: trio.testing.MockClock
) -> None:
    silent, ended, asked = Event(), Event(), list[None]()

    def ask() -> None:
        asked.append(None)
        silent.wait(30)
        ended.set()

    for _ in range(3):
        began = trio.current_time()
        with pytest.raises(StorageFault):
            await reads.promptly(ask)
        assert trio.current_time() - began == pytest.approx(PROBE_SECONDS)
    silent.set()
    assert ended.wait(10)
    assert len(asked) == 1  # looked at now, since time jumps on before the thread begins
