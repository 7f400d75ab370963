"""Answers of the network, remembered."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from stratos.engine.identity.answer_cache import Absent, AnswerCache, CacheLimits, Failed, Found, Outcome
from tests.engine.identity.internet import Clock

LIMITS = CacheLimits(fresh=100, stale=1000, absent=20, retry=5, refresh=10, max_entries=3, max_bytes=1000)
OUTAGE = Failed("the network is down")
NOTHING = Absent("there is nothing")


class Network:
    """What is asked; a test sets the outcome of the next askings, or holds them back."""

    def __init__(self) -> None:
        self.outcome: Outcome[str] = Found("first", 1)
        self.asked: list[str] = []
        self.gate: trio.Event | None = None
        self.fault: Exception | None = None

    async def ask(self, key: str) -> Outcome[str]:
        self.asked.append(key)
        await trio.lowlevel.checkpoint()
        if self.gate is not None:
            await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        return self.outcome


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(network: Network, clock: Clock) -> AnswerCache[str, str]:
    return AnswerCache(network.ask, LIMITS, clock=clock)


async def test_a_fresh_answer_is_given_without_asking(cache: AnswerCache[str, str], network: Network, clock: Clock) -> None:
    await cache.get("rei")
    network.outcome = Found("second", 1)
    clock.now += 99.9
    assert await cache.get("rei") == Found("first", 1)
    assert network.asked == ["rei"]


async def test_an_answer_no_longer_fresh_is_asked_for_again(cache: AnswerCache[str, str], network: Network, clock: Clock) -> None:
    await cache.get("rei")
    network.outcome = Found("second", 1)
    clock.now += 100
    assert await cache.get("rei") == Found("second", 1)
    assert network.asked == ["rei", "rei"]


async def test_in_an_outage_a_stale_answer_is_given(cache: AnswerCache[str, str], network: Network, clock: Clock) -> None:
    await cache.get("rei")
    network.outcome = OUTAGE
    clock.now += 999
    assert await cache.get("rei") == Found("first", 1)
    assert cache.statistics()["stale_answers_total"] == 1


async def test_in_an_outage_an_answer_beyond_stale_is_not_given(
    cache: AnswerCache[str, str], network: Network, clock: Clock
) -> None:
    await cache.get("rei")
    network.outcome = OUTAGE
    clock.now += 1000
    assert await cache.get("rei") == OUTAGE
    assert cache.statistics()["bytes"] == 0


async def test_after_a_failure_nobody_is_asked_for_a_while(cache: AnswerCache[str, str], network: Network, clock: Clock) -> None:
    network.outcome = OUTAGE
    await cache.get("rei")
    network.outcome = Found("back", 1)
    clock.now += 4.9
    assert await cache.get("rei") == OUTAGE
    clock.now += 0.1
    assert await cache.get("rei") == Found("back", 1)


async def test_during_an_outage_stale_answers_come_without_waiting_for_another_failure(
    cache: AnswerCache[str, str], network: Network, clock: Clock
) -> None:
    await cache.get("rei")
    network.outcome = OUTAGE
    clock.now += 200
    await cache.get("rei")
    clock.now += 4
    assert await cache.get("rei") == Found("first", 1)
    assert len(network.asked) == 2


async def test_that_there_is_nothing_is_believed_briefly(cache: AnswerCache[str, str], network: Network, clock: Clock) -> None:
    network.outcome = NOTHING
    await cache.get("rei")
    network.outcome = Found("new", 1)
    clock.now += 19.9
    assert await cache.get("rei") == NOTHING
    clock.now += 0.1
    assert await cache.get("rei") == Found("new", 1)


async def test_what_has_gone_is_not_given_as_stale(cache: AnswerCache[str, str], network: Network, clock: Clock) -> None:
    await cache.get("rei")
    clock.now += 100
    network.outcome = NOTHING
    assert await cache.get("rei") == NOTHING
    network.outcome = OUTAGE
    clock.now += 20
    assert await cache.get("rei") == OUTAGE


async def test_a_refresh_asks_although_the_answer_is_fresh(cache: AnswerCache[str, str], network: Network, clock: Clock) -> None:
    await cache.get("rei")
    network.outcome = Found("rotated", 1)
    clock.now += 10
    assert await cache.get("rei", refresh=True) == Found("rotated", 1)
    assert await cache.get("rei") == Found("rotated", 1)


async def test_a_refresh_soon_after_an_asking_asks_nobody(cache: AnswerCache[str, str], network: Network, clock: Clock) -> None:
    await cache.get("rei")
    for _ in range(100):
        clock.now += 0.099
        assert await cache.get("rei", refresh=True) == Found("first", 1)
    assert network.asked == ["rei"]


async def test_a_refresh_that_fails_gives_what_was_at_hand(cache: AnswerCache[str, str], network: Network, clock: Clock) -> None:
    await cache.get("rei")
    network.outcome = OUTAGE
    clock.now += 50
    assert await cache.get("rei", refresh=True) == Found("first", 1)
    assert await cache.get("rei", refresh=True) == Found("first", 1)
    assert len(network.asked) == 2


async def test_callers_with_the_same_question_share_one_asking(
    cache: AnswerCache[str, str], network: Network, nursery: trio.Nursery
) -> None:
    network.gate = trio.Event()
    answers: list[Outcome[str]] = []

    async def get(key: str) -> None:
        answers.append(await cache.get(key))

    for key in ("rei", "rei", "rei", "sakura"):
        nursery.start_soon(get, key)
    await wait_all_tasks_blocked()
    assert sorted(network.asked) == ["rei", "sakura"]
    assert cache.statistics()["under_way"] == 2
    network.gate.set()
    await wait_all_tasks_blocked()
    assert answers == [Found("first", 1)] * 4
    assert cache.statistics()["under_way"] == 0


async def test_what_a_refresh_finds_replaces_that_there_was_nothing(
    cache: AnswerCache[str, str], network: Network, clock: Clock
) -> None:
    network.outcome = NOTHING
    await cache.get("rei")
    network.outcome = Found("new", 1)
    clock.now += 10
    assert await cache.get("rei", refresh=True) == Found("new", 1)
    assert await cache.get("rei") == Found("new", 1)
    assert cache.statistics()["misses"] == 0


@pytest.mark.parametrize("outcome", [OUTAGE, NOTHING])
async def test_a_shared_asking_that_finds_nothing_tells_all(
    cache: AnswerCache[str, str], network: Network, nursery: trio.Nursery, outcome: Outcome[str]
) -> None:
    network.gate, network.outcome = trio.Event(), outcome
    answers: list[Outcome[str]] = []

    async def get() -> None:
        answers.append(await cache.get("rei"))

    for _ in range(3):
        nursery.start_soon(get)
    await wait_all_tasks_blocked()
    network.gate.set()
    await wait_all_tasks_blocked()
    assert answers == [outcome] * 3
    assert network.asked == ["rei"]


async def test_when_the_asker_is_cancelled_another_takes_over(
    cache: AnswerCache[str, str], network: Network, nursery: trio.Nursery
) -> None:
    network.gate = trio.Event()
    scopes = [trio.CancelScope() for _ in range(3)]
    answers: list[Outcome[str]] = []

    async def get(scope: trio.CancelScope) -> None:
        with scope:
            answers.append(await cache.get("rei"))

    for scope in scopes:
        nursery.start_soon(get, scope)
        await wait_all_tasks_blocked()
    scopes[0].cancel()
    await wait_all_tasks_blocked()
    assert network.asked == ["rei", "rei"]
    network.gate.set()
    await wait_all_tasks_blocked()
    assert answers == [Found("first", 1)] * 2


async def test_a_fault_of_ours_leaves_no_question_under_way(cache: AnswerCache[str, str], network: Network) -> None:
    network.fault = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await cache.get("rei")
    network.fault = None
    assert await cache.get("rei") == Found("first", 1)


async def test_the_least_recently_used_answers_leave_first(cache: AnswerCache[str, str], network: Network) -> None:
    for key in ("rei", "sakura", "kaoruko", "rei", "new"):
        await cache.get(key)
    network.asked.clear()
    for key in ("rei", "kaoruko", "new", "sakura"):
        await cache.get(key)
    assert network.asked == ["sakura"]
    assert cache.statistics()["entries"] == 3


async def test_large_answers_displace_others_by_their_bytes(cache: AnswerCache[str, str], network: Network) -> None:
    network.outcome = Found("large", 600)
    await cache.get("rei")
    await cache.get("sakura")
    assert cache.statistics()["entries"] == 1
    assert cache.statistics()["bytes"] == 600


async def test_an_answer_replaced_is_not_counted_twice(cache: AnswerCache[str, str], network: Network, clock: Clock) -> None:
    network.outcome = Found("large", 600)
    await cache.get("rei")
    clock.now += 100
    network.outcome = Found("larger", 700)
    await cache.get("rei")
    assert cache.statistics()["bytes"] == 700


async def test_an_answer_larger_than_the_cache_is_given_and_not_kept(cache: AnswerCache[str, str], network: Network) -> None:
    network.outcome = Found("huge", 1001)
    assert await cache.get("rei") == Found("huge", 1001)
    assert cache.statistics()["entries"] == cache.statistics()["bytes"] == 0


@pytest.mark.parametrize("outcome", [OUTAGE, NOTHING])
async def test_questions_for_nonsense_displace_no_answers(
    cache: AnswerCache[str, str], network: Network, outcome: Outcome[str]
) -> None:
    await cache.get("rei")
    network.outcome = outcome
    for number in range(100):
        await cache.get(f"nonsense {number}")
    network.asked.clear()
    assert await cache.get("rei") == Found("first", 1)
    assert network.asked == []
    assert cache.statistics()["misses"] == LIMITS.max_entries
