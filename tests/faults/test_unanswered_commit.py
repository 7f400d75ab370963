"""The network fails in the middle of a batch: the writer finds out what became of it, and holds nobody up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Final
from uuid import uuid4

import psycopg
import pytest
import trio
from psycopg.rows import TupleRow

from stratos.core.log_entry import Proposal
from stratos.resources import sql_directory
from stratos.storage.ports import Appended, AppendOutcome, OutcomeUnknown, StorageFault
from stratos.storage.postgres.backend import PostgresBackend
from stratos.storage.postgres.config import PostgresConfig
from stratos.storage.sql_files import SqlFiles
from tests.faults.own_postgres import OwnPostgres
from tests.faults.tcp_proxy import TcpProxy
from tests.storage.builders import POSTS, START, RepoBuilder, did_of, post
from tests.storage.gate import GATE, held_in_the_middle, until, waits_for
from tests.storage.steps import append, whole_log

ANSWER_SECONDS: Final = 2.0
BOUND_SECONDS: Final = 20.0
END_THOSE_WHO_WAIT: Final = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]


@contextmanager
def opened(url: str) -> Iterator[PostgresBackend]:
    """A backend that is quick to give up."""
    backend = PostgresBackend.open(
        PostgresConfig(url, pool_size=4, answer_timeout=ANSWER_SECONDS, connect_timeout=ANSWER_SECONDS),
        sql=SqlFiles(sql_directory()),
        max_open_actors=8,
        writer=uuid4().hex,
        now=START,
    )
    try:
        yield backend
    finally:
        backend.close()


class Scene:
    """A backend behind a proxy, a rival past it, a session of the test, and one account of each."""

    def __init__(self, backend: PostgresBackend, rival: PostgresBackend, proxy: TcpProxy, session: psycopg.Connection[TupleRow]):
        self.backend = backend
        self.rival = rival
        self.proxy = proxy
        self.session = session
        self.alice, self.bob = RepoBuilder(did_of("alice")), RepoBuilder(did_of("bob"))
        append(rival, self.alice.enrolled(), self.bob.enrolled())
        self.before = len(whole_log(rival))

    async def commit(self, batch: list[Proposal]) -> list[AppendOutcome]:
        """Append a batch through the proxy."""
        with trio.fail_after(BOUND_SECONDS):
            return await trio.to_thread.run_sync(partial(self.backend.commit, batch, now=START))

    def write(self, text: str = "one") -> list[Proposal]:
        """A batch with one post of Alice."""
        return [self.alice.proposal(self.alice.create(POSTS, "a", post(text)))]

    async def wait_at_the_gate(self) -> None:
        """Wait until the batch stands in the middle of its transaction."""
        await trio.to_thread.run_sync(until, self.session, partial(waits_for, self.session, GATE))

    def appended(self) -> int:
        """How many entries came after the beginning."""
        return len(whole_log(self.rival)) - self.before


@asynccontextmanager
async def scene_on(postgres: OwnPostgres) -> AsyncIterator[Scene]:
    """Set the scene up in a database of its own. What is opened is opened in a thread: the proxy runs on the event loop."""
    with postgres.database() as database:
        async with trio.open_nursery() as nursery:
            proxy = TcpProxy(postgres.port)
            await nursery.start(proxy.run)
            behind = opened(postgres.url(database, port=proxy.port))
            backend = await trio.to_thread.run_sync(behind.__enter__)
            try:
                with opened(postgres.url(database)) as rival, postgres.connect(database) as session:
                    yield Scene(backend, rival, proxy, session)
            finally:
                proxy.resume()
                await trio.to_thread.run_sync(behind.__exit__, None, None, None)
                nursery.cancel_scope.cancel()


async def test_a_commit_that_took_place_is_answered_although_its_answer_was_lost(own_postgres: OwnPostgres) -> None:
    async with scene_on(own_postgres) as scene:
        answers: list[AppendOutcome] = []

        async def commit() -> None:
            answers.extend(await scene.commit(scene.write()))

        async with trio.open_nursery() as nursery:
            with held_in_the_middle(scene.session, scene.alice.did):
                nursery.start_soon(commit)
                await scene.wait_at_the_gate()
                scene.proxy.mute()
        assert isinstance(answers[0], Appended)
        assert scene.appended() == 1


async def test_a_commit_that_did_not_take_place_is_a_fault_of_which_that_is_known(own_postgres: OwnPostgres) -> None:
    async with scene_on(own_postgres) as scene:
        faults: list[StorageFault] = []

        async def commit() -> None:
            try:
                await scene.commit(scene.write())
            except StorageFault as fault:
                faults.append(fault)

        async with trio.open_nursery() as nursery:
            with held_in_the_middle(scene.session, scene.alice.did):
                nursery.start_soon(commit)
                await scene.wait_at_the_gate()
                scene.proxy.mute()
                scene.session.execute(END_THOSE_WHO_WAIT)
        (fault,) = faults
        assert not isinstance(fault, OutcomeUnknown)
        assert scene.appended() == 0


async def test_where_nothing_can_be_found_out_the_outcome_is_unknown_and_never_doubled(own_postgres: OwnPostgres) -> None:
    async with scene_on(own_postgres) as scene:
        batch = scene.write()

        async def commit() -> None:
            with pytest.raises(OutcomeUnknown):
                await scene.commit(batch)

        async with trio.open_nursery() as nursery:
            with held_in_the_middle(scene.session, scene.alice.did):
                nursery.start_soon(commit)
                await scene.wait_at_the_gate()
                scene.proxy.stall()
        assert scene.appended() == 1
        scene.proxy.resume()
        (outcome,) = await scene.commit(batch)
        assert not isinstance(outcome, Appended)
        assert scene.appended() == 1


async def test_a_batch_of_which_half_arrived_holds_others_up_only_so_long_and_is_repeated(
    own_postgres: OwnPostgres,
) -> None:
    async with scene_on(own_postgres) as scene:
        await scene.commit(scene.write())
        large = [scene.alice.proposal(scene.alice.create(POSTS, "b", post("x" * 2_000_000)))]
        scene.proxy.stall_within(500_000)

        async def commit() -> None:
            (outcome,) = await scene.commit(large)
            assert isinstance(outcome, Appended)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(commit)
            await trio.to_thread.run_sync(until, scene.session, partial(holds_the_log, scene.session))
            of_bob = [scene.bob.proposal(scene.bob.create(POSTS, "b", post("two")))]
            began = trio.current_time()
            with trio.fail_after(BOUND_SECONDS):
                while not await trio.to_thread.run_sync(was_appended, scene.rival, of_bob):
                    pass
            assert trio.current_time() - began < 3 * ANSWER_SECONDS


def holds_the_log(session: psycopg.Connection[TupleRow]) -> bool:
    """Whether a batch is under way."""
    row = session.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted").fetchone()
    return row != (0,)


def was_appended(backend: PostgresBackend, batch: list[Proposal]) -> bool:
    """Try once."""
    try:
        (outcome,) = backend.commit(batch, now=START)
    except StorageFault:
        return False
    return isinstance(outcome, Appended)
