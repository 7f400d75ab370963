"""Locks per actor."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from stratos.atproto.syntax import Did
from stratos.engine.actor_locks import ActorLocks

ALICE = Did("did:plc:alice")
BOB = Did("did:plc:bob")


async def test_two_holders_of_one_actor_follow_each_other_in_order() -> None:
    locks = ActorLocks()
    order: list[str] = []

    async def hold(name: str) -> None:
        async with locks.hold(ALICE):
            order.append(f"{name} in")
            await trio.testing.wait_all_tasks_blocked()
            order.append(f"{name} out")

    async with trio.open_nursery() as nursery:
        for name in ("a", "b"):
            nursery.start_soon(hold, name)
    assert order in (["a in", "a out", "b in", "b out"], ["b in", "b out", "a in", "a out"])


async def test_different_actors_do_not_wait_for_each_other() -> None:
    locks = ActorLocks()
    async with locks.hold(ALICE):
        with trio.fail_after(1):
            async with locks.hold(BOB):
                assert locks.statistics()["held"] == 2


async def test_no_lock_outlives_its_holders(autojump_clock: trio.testing.MockClock) -> None:
    locks = ActorLocks()

    async def give_up_waiting() -> None:
        with trio.move_on_after(1):
            async with locks.hold(ALICE):
                pytest.fail("held twice")

    async with locks.hold(ALICE), trio.open_nursery() as nursery:
        nursery.start_soon(give_up_waiting)
        await trio.sleep(0.5)
        assert locks.statistics() == {"held": 1, "waiting": 1}
    assert locks.statistics() == {"held": 0, "waiting": 0}
