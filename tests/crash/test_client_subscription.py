"""The client library's subscription while the service is killed under it, and while its consumer dies as well."""

from __future__ import annotations

import random
import signal
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from stratos.client import (
    BackoffPolicy,
    BearerToken,
    CommitEvent,
    EnrollmentEvent,
    Gap,
    MalformedEvent,
    SubscriptionConfig,
    subscribe,
)
from tests.crash.clients import Writer, actor, enroll, posts_of
from tests.crash.http import connect
from tests.crash.processes import SYNC_TOKEN, Home, Running, free_port

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]

WRITERS = 4
DEATHS = 3
QUICK = SubscriptionConfig(backoff=BackoffPolicy(initial=0.05, longest=0.2))


@dataclass
class Consumer:
    """Keeps effects and cursor together, as one transaction would; everything else dies with it."""

    url: str
    rng: random.Random
    cursor: int = 0
    seqs: list[int] = field(default_factory=list)
    commits: list[str] = field(default_factory=list)
    awaited: set[str] = field(default_factory=set)
    caught_up: trio.Event = field(default_factory=trio.Event)
    connections: int = 0

    async def consume(self) -> None:
        """Until cancelled."""
        async with subscribe(self.url, BearerToken(SYNC_TOKEN), cursor=self.cursor, rng=self.rng, config=QUICK) as stream:
            async for batch in stream:
                await trio.sleep(self.rng.uniform(0, 0.02))  # the effect takes time, in which both sides may die
                for event in batch.events:
                    assert not isinstance(event, Gap | MalformedEvent), event
                    if isinstance(event, CommitEvent | EnrollmentEvent):
                        assert event.seq is not None
                        self.seqs.append(event.seq)
                    if isinstance(event, CommitEvent):
                        self.commits.append(str(event.commit))
                self.cursor = batch.cursor
                self.connections = max(self.connections, stream.statistics()["connections_total"])
                if self.awaited and self.awaited <= set(self.commits):
                    self.caught_up.set()

    async def consume_and_die(self) -> None:
        """The same, dying every now and then."""
        while True:
            with trio.move_on_after(self.rng.uniform(0.05, 0.5)):
                await self.consume()


async def settle(service: Running, writers: list[Writer]) -> None:
    """Let the writers know what became of the calls whose answers never came."""
    async with connect(service.url) as connection:
        for writer in writers:
            writer.settle(await posts_of(connection, writer.did))


async def write_and_kill(service: Running, writers: list[Writer], rng: random.Random) -> None:
    """Write until the service is killed in the middle of it."""
    async with trio.open_nursery() as nursery:
        for writer in writers:
            writer.first_answer = trio.Event()
            nursery.start_soon(writer.write_until_death, service.url)
        for writer in writers:
            await writer.first_answer.wait()
        await trio.sleep(rng.uniform(0.1, 0.5))  # the load goes on until a moment that nobody knows
        service.process.send_signal(signal.SIGKILL)
        assert await service.death() == -signal.SIGKILL


async def test_a_service_that_is_killed_and_comes_back_costs_a_subscriber_nothing(tmp_path: Path) -> None:
    home, port, rng = Home.below(tmp_path), free_port(), random.Random(20)
    writers = [Writer(actor(number), number, random.Random(number)) for number in range(WRITERS)]
    steady = Consumer(f"http://127.0.0.1:{port}", random.Random(21))
    mortal = Consumer(steady.url, random.Random(22))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(steady.consume)
        nursery.start_soon(mortal.consume_and_die)
        for death in range(DEATHS):
            async with home.served_by_command(port) as service:
                if death == 0:
                    await enroll(service.url, *(writer.did for writer in writers))
                await settle(service, writers)
                await write_and_kill(service, writers, rng)
        async with home.served_by_command(port) as service:
            await settle(service, writers)
            last = [await writer.write_once(service.url) for writer in writers]
            for consumer in (steady, mortal):
                consumer.awaited = {ack.commit for ack in last}
            for consumer in (steady, mortal):
                with trio.fail_after(30):
                    await consumer.caught_up.wait()
            fresh = Consumer(steady.url, random.Random(23), awaited=steady.awaited)
            nursery.start_soon(fresh.consume)
            with trio.fail_after(30):
                await fresh.caught_up.wait()
            nursery.cancel_scope.cancel()
    assert steady.connections > DEATHS
    acknowledged = {ack.commit for writer in writers for ack in writer.acks}
    for consumer in (steady, mortal):
        assert consumer.seqs == fresh.seqs == sorted(set(fresh.seqs))
        assert acknowledged <= set(consumer.commits)
        assert len(consumer.commits) == len(set(consumer.commits))
