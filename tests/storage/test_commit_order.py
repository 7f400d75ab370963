"""Several processes on one PostgreSQL: the order of `seq` is the order in which readers see entries, whoever commits first."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from select import select
from threading import Event

import psycopg
import pytest
from psycopg.rows import TupleRow

from stratos.core.log_entry import Proposal
from stratos.storage.ports import Appended, AppendOutcome, Backend, HeadMoved
from stratos.storage.postgres.batch_writer import LOG_LOCK
from tests.storage.builders import POSTS, START, RepoBuilder, did_of, post
from tests.storage.conftest import PostgresStorage
from tests.storage.gate import GATE, LOOK_SECONDS, PATIENCE_SECONDS, held_in_the_middle, until, waits_for
from tests.storage.steps import append, whole_log


class Reader:
    """Reads on from its cursor whenever it hears of a commit, and all the time besides."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.seen: list[int] = [entry.seq for entry in whole_log(backend)]
        self._stop = Event()

    def look(self) -> None:
        """Read what follows upon the cursor."""
        self.seen += [entry.seq for entry in self._backend.log.after(self.seen[-1], limit=100, max_bytes=1_000_000)]

    def follow(self) -> None:
        """Look until told to stop."""
        wakeups = self._backend.wakeups()
        assert wakeups is not None
        try:
            while not self._stop.is_set():
                select([wakeups.fileno()], [], [], LOOK_SECONDS)
                wakeups.drain()
                self.look()
        finally:
            wakeups.close()

    def stop(self) -> None:
        """End `follow` soon."""
        self._stop.set()


@pytest.fixture
def gate(postgres_storage: PostgresStorage) -> Iterator[psycopg.Connection[TupleRow]]:
    """A session of the test."""
    with psycopg.connect(postgres_storage.url, autocommit=True) as session:
        yield session


def test_a_reader_skips_nothing_where_the_later_batch_would_commit_first(
    postgres_storage: PostgresStorage, gate: psycopg.Connection[TupleRow]
) -> None:
    first, second, third = (postgres_storage.open() for _ in range(3))
    alice, bob = RepoBuilder(did_of("alice")), RepoBuilder(did_of("bob"))
    append(first, alice.enrolled(), bob.enrolled())
    reader = Reader(third)
    of_alice = alice.proposal(alice.create(POSTS, "a", post("one")))
    of_bob = bob.proposal(bob.create(POSTS, "b", post("two")))
    later: Future[list[AppendOutcome]]
    with ThreadPoolExecutor(3) as threads:
        following = threads.submit(reader.follow)
        with held_in_the_middle(gate, alice.did):
            earlier = threads.submit(first.commit, [of_alice], now=START + timedelta(seconds=1))
            until(gate, lambda: waits_for(gate, GATE))
            later = threads.submit(second.commit, [of_bob], now=START + timedelta(seconds=2))
            until(gate, lambda: later.done() or waits_for(gate, LOG_LOCK))
        ((one,), (two,)) = earlier.result(PATIENCE_SECONDS), later.result(PATIENCE_SECONDS)
        reader.stop()
        following.result(PATIENCE_SECONDS)
    reader.look()
    assert reader.seen == [entry.seq for entry in whole_log(first)]
    assert isinstance(one, Appended)
    assert isinstance(two, Appended)
    assert two.after == one.entries[-1].seq
    assert one.entries[0].seq < two.entries[0].seq


def test_of_two_processes_that_plan_upon_one_head_one_is_left_out(
    postgres_storage: PostgresStorage, gate: psycopg.Connection[TupleRow]
) -> None:
    first, second = postgres_storage.open(), postgres_storage.open()
    alice = RepoBuilder(did_of("alice"))
    append(first, alice.enrolled())
    rival = alice.copy()
    won = Proposal(alice.did, (alice.create(POSTS, "a", post("one")),))
    lost = Proposal(alice.did, (rival.create(POSTS, "b", post("two")),))
    with ThreadPoolExecutor(2) as threads:
        with held_in_the_middle(gate, alice.did):
            earlier = threads.submit(first.commit, [won], now=START)
            until(gate, lambda: waits_for(gate, GATE))
            later = threads.submit(second.commit, [lost], now=START)
            until(gate, lambda: waits_for(gate, LOG_LOCK))
        assert isinstance(earlier.result(PATIENCE_SECONDS)[0], Appended)
        assert later.result(PATIENCE_SECONDS) == [HeadMoved(alice.did)]
    head = second.log.repo_head(alice.did)
    assert head is not None
    assert head.commit == alice.commit
