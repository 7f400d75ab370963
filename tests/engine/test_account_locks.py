"""Holding an account's affairs exclusively, also against other processes of one store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from stratos.engine.account_locks import LONGEST_WAIT, PATIENCE, AccountLocks
from stratos.engine.actor_locks import ActorLocks
from stratos.engine.store_reads import StoreReads
from stratos.storage.ports import StorageFault
from tests.engine.builders import REI, SAKURA
from tests.engine.shared_store import SharedBackend


@pytest.fixture
def shared(data_dir: Path) -> Iterator[SharedBackend]:
    """A store that says that other processes use it too."""
    backend = SharedBackend.of(data_dir)
    yield backend
    backend.close()


def locks_of_a_process(backend: SharedBackend, purpose: str = "oauth") -> AccountLocks:
    """The locks of one process upon the store."""
    return AccountLocks(purpose, ActorLocks(), backend=backend, reads=StoreReads(backend.actors))


async def test_one_holds_an_account_at_a_time_whichever_process_it_is_in(
    shared: SharedBackend, autojump_clock: MockClock
) -> None:
    processes = [locks_of_a_process(shared) for _ in range(3)]
    inside, most, done = 0, 0, 0

    async def work(locks: AccountLocks) -> None:
        nonlocal inside, most, done
        async with locks.hold(REI):
            inside += 1
            most = max(most, inside)
            await trio.sleep(1)
            inside -= 1
            done += 1

    async with trio.open_nursery() as nursery:
        for locks in processes * 3:
            nursery.start_soon(work, locks)
    assert (most, done) == (1, 9)
    assert shared.holders == {}


async def test_other_accounts_and_other_purposes_are_not_waited_for(shared: SharedBackend, autojump_clock: MockClock) -> None:
    here, there = locks_of_a_process(shared), locks_of_a_process(shared)
    async with here.hold(REI), there.hold(SAKURA), locks_of_a_process(shared, "account").hold(REI):
        assert trio.current_time() == 0


async def test_who_is_let_go_is_followed_before_long(shared: SharedBackend, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:

        async def follow() -> None:
            async with locks_of_a_process(shared).hold(REI):
                assert 10 <= trio.current_time() <= 10 + LONGEST_WAIT

        async with locks_of_a_process(shared).hold(REI):
            nursery.start_soon(follow)
            await trio.sleep(10)


async def test_what_another_process_never_lets_go_is_given_up(shared: SharedBackend, autojump_clock: MockClock) -> None:
    waiting = locks_of_a_process(shared)
    async with locks_of_a_process(shared).hold(REI):
        with pytest.raises(StorageFault, match=f"another process holds the oauth of {REI}"):
            async with waiting.hold(REI):
                pytest.fail("two hold it")
        assert PATIENCE <= trio.current_time() <= PATIENCE + LONGEST_WAIT
    async with waiting.hold(REI):
        assert list(shared.holders) == [f"oauth:{REI}"]


async def test_nothing_is_left_of_a_fault_or_a_cancellation(shared: SharedBackend, autojump_clock: MockClock) -> None:
    locks, other = locks_of_a_process(shared), locks_of_a_process(shared)
    with pytest.raises(KeyError):
        async with locks.hold(REI):
            raise KeyError
    async with other.hold(REI):
        with trio.move_on_after(1) as waited:
            async with locks.hold(REI):
                pytest.fail("two hold it")
        assert waited.cancelled_caught
    assert shared.holders == {}
    async with locks.hold(REI):
        assert trio.current_time() == 1
