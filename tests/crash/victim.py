"""The service as a process that kills itself: `python -m tests.crash.victim [--die STEP --at N] [--clock-behind S]`.

Settings come from the environment. It is the real composition root on a free loopback port, upon a backend that at the n-th
time of one step sends SIGKILL to its own process. It prints its base URL once it listens; without `--die` it is the service
as it always is. Enrollments are not counted, so that a test may set up its accounts first.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from typing import Final
from unittest import mock

import trio

from stratos.assembly import open_backend
from stratos.atproto.syntax import Did
from stratos.core.log_entry import CommitEntry, Proposal
from stratos.engine.service import World
from stratos.logging_setup import configure_logging
from stratos.resources import sql_directory
from stratos.serve import run_service
from stratos.settings import ServiceSettings, load
from stratos.signals import watch_signals
from stratos.storage.appending import Batch, LoggedCommit
from stratos.storage.sql_files import SqlFiles, Statements
from stratos.storage.sqlite import actor_stores as actor_stores_module
from stratos.storage.sqlite import backend as backend_module
from stratos.storage.sqlite.actor_database import ActorDatabase
from stratos.storage.sqlite.append import append_batch
from stratos.storage.sqlite.apply import apply_commits
from stratos.storage.sqlite.backend import SqliteBackend
from tests.crash.steps import Step

LINGER_SECONDS: Final = 0.05
"""Between reaching the step and dying: time for the rest of the process to say what it must not say yet."""


class Death:
    """Ends this process at the n-th time that the chosen step is reached."""

    def __init__(self, step: Step, nth: int) -> None:
        self._step = step
        self._left = nth

    def awaits(self, step: Step) -> bool:
        """Whether this is the step that was chosen."""
        return step is self._step

    def at(self, step: Step) -> None:
        """The process is at a step."""
        if step is not self._step:
            return
        self._left -= 1
        if self._left == 0:
            time.sleep(LINGER_SECONDS)
            os.kill(os.getpid(), signal.SIGKILL)


def dying_backend(death: Death) -> type[SqliteBackend]:
    """The SQLite backend, with a visit of death at every step."""

    class DyingBackend(SqliteBackend):
        def _append(self, batch: Sequence[Proposal], now: datetime) -> Batch:
            if any(isinstance(entry, CommitEntry) and entry.ops for proposal in batch for entry in proposal.entries):
                death.at(Step.BEFORE_APPEND)
            appended = super()._append(batch, now)
            if _writes_records(appended):
                death.at(Step.AFTER_APPEND)
            if appended.purges:
                death.at(Step.UNENROLL_AFTER_APPEND)
            self._applied = 0
            return appended

        def _apply_actor(self, did: Did, commits: Sequence[LoggedCommit]) -> None:
            counts = _has_operations(commits)
            if counts:
                death.at(Step.BEFORE_APPLY)
            if self._applied:
                death.at(Step.BETWEEN_APPLIES)
            super()._apply_actor(did, commits)
            self._applied += 1
            if counts:
                death.at(Step.AFTER_APPLY)

        def _destroy_actor(self, did: Did) -> None:
            death.at(Step.BEFORE_DESTROY)
            super()._destroy_actor(did)

        def _purge_done(self, did: Did) -> None:
            death.at(Step.AFTER_DESTROY)
            super()._purge_done(did)
            death.at(Step.BEFORE_TRUNCATE)

    return DyingBackend


def haunt(death: Death, stack: ExitStack) -> None:
    """Bring death into the transactions of append and apply, and between two files of a purge, until the stack is closed.

    Inside a transaction it comes when some of the tables are written and others are not.
    """
    remove_all = shutil.rmtree

    def append(connection: Connection, sql: Statements, proposals: Sequence[Proposal], *, last_seq: int, now: datetime) -> Batch:
        with ExitStack() as watched:
            if death.awaits(Step.UNENROLL_INSIDE_APPEND):
                # In a batch with others' commits as much as in one of its own.
                watched.enter_context(_watch(connection, "INSERT INTO purge", lambda: death.at(Step.UNENROLL_INSIDE_APPEND)))
            elif any(isinstance(entry, CommitEntry) and entry.ops for proposal in proposals for entry in proposal.entries):
                watched.enter_context(_watch(connection, "INSERT INTO repo_head", lambda: death.at(Step.INSIDE_APPEND)))
            return append_batch(connection, sql, proposals, last_seq=last_seq, now=now)

    def apply(database: ActorDatabase, commits: Sequence[LoggedCommit]) -> None:
        if not _has_operations(commits):
            apply_commits(database, commits)
            return
        with _watch(database._open_writer(), "INSERT INTO stratos_repo_root", lambda: death.at(Step.INSIDE_APPLY)):
            apply_commits(database, commits)

    def remove(directory: Path) -> None:
        for path in sorted(directory.iterdir())[:1]:
            path.unlink()
        death.at(Step.INSIDE_DESTROY)
        remove_all(directory)

    stack.enter_context(mock.patch.object(backend_module, "append_batch", append))
    stack.enter_context(mock.patch.object(actor_stores_module, "apply_commits", apply))
    stack.enter_context(mock.patch("stratos.storage.sqlite.actor_stores.shutil.rmtree", remove))


@contextmanager
def _watch(connection: Connection, beginning: str, reached: Callable[[], None]) -> Iterator[None]:
    """Call `reached` before the first statement of the block that begins like this."""
    waiting = [reached]

    def see(statement: str) -> None:
        if waiting and statement.startswith(beginning):
            waiting.pop()()

    connection.set_trace_callback(see)
    try:
        yield
    finally:
        connection.set_trace_callback(None)


def _world_behind(seconds: int) -> World:
    """The real world, with a clock that is behind."""
    real = World.real()
    return replace(real, clock=lambda: real.clock() - timedelta(seconds=seconds))


def _writes_records(batch: Batch) -> bool:
    return any(_has_operations(commits) for commits in batch.commits.values())


def _has_operations(commits: Iterable[LoggedCommit]) -> bool:
    return any(commit.entry.ops for commit in commits)


async def serve(settings: ServiceSettings, backend: SqliteBackend) -> None:
    """Run the service until SIGTERM."""
    stop = trio.Event()
    async with trio.open_nursery() as outer:
        await outer.start(watch_signals, stop, settings.shutdown_seconds)
        async with trio.open_nursery() as serving:
            urls = await serving.start(run_service, settings, backend, stop)
            print(urls[0], flush=True)
        outer.cancel_scope.cancel()


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--die", type=Step, choices=list(Step))
    parser.add_argument("--at", type=int, default=1)
    parser.add_argument("--clock-behind", type=int, default=0)
    arguments = parser.parse_args()
    settings = load(ServiceSettings, os.environ).model_copy(update={"port": 0})
    configure_logging(settings.log_level, output=sys.stderr.buffer)
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(World, "real", return_value=_world_behind(arguments.clock_behind)))
        if arguments.die is None:
            backend = open_backend(settings, World.real())
        else:
            death = Death(arguments.die, arguments.at)
            haunt(death, stack)
            backend = dying_backend(death).open(
                settings.data_dir, sql=SqlFiles(sql_directory()), max_open_actors=settings.max_open_actors
            )
        stack.callback(backend.close)
        trio.run(partial(serve, settings, backend))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
