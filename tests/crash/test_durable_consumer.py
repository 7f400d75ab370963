"""I5: a consumer that saves its cursor with its effect has every effect exactly once, however often either side dies."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
import trio

from tests.crash.autopsy import Autopsy
from tests.crash.consumer import BROKEN_OFF, TAKING
from tests.crash.load import Load
from tests.crash.processes import Home, Running
from tests.crash.steps import Step

KILLED = -signal.SIGKILL
FAILED = 1
NEVER = "none"

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]


async def run_consumer(
    home: Home,
    service: Running,
    last_commit: str,
    *options: str,
    codes: list[int],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the consumer until it ends, and note its return code; started once it has taken an entry."""
    database = str(home.log.with_name("effects.sqlite"))
    quiet = Home(home.data, home.log.with_name("consumer.log"))
    arguments = (database, service.url, last_commit, *options)
    async with quiet.program("tests.crash.consumer", *arguments) as (process, lines):
        with trio.fail_after(60):
            assert await lines.line() == TAKING
            task_status.started()
            codes.append(await process.wait())


def effects(home: Home) -> list[tuple[int, bytes]]:
    """What the consumer did, in its order."""
    with closing(sqlite3.connect(home.log.with_name("effects.sqlite"))) as database:
        return list(database.execute("SELECT seq, digest FROM effect ORDER BY place"))


async def test_every_effect_happens_once_over_deaths_of_consumer_and_service_and_a_failed_effect(tmp_path: Path) -> None:
    home, load = Home.below(tmp_path), Load.of(4, seed=5)
    codes: list[int] = []
    async with home.service(Step.AFTER_APPLY, 80) as service:
        await load.enroll(service)
        for _ in range(3):
            await load.write_on(service)
        await run_consumer(home, service, NEVER, "--die-at", "7", codes=codes)
        await run_consumer(home, service, NEVER, "--fail-at", "5", codes=codes)
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(run_consumer, home, service, NEVER, codes=codes))
            await load.run_until_death(service)
    async with home.service() as service:
        await load.check_acknowledged(service)
        await load.write_on(service)
        last = load.writers[-1].acks[-1].commit
        await run_consumer(home, service, last, "--die-at", "3", codes=codes)
        await run_consumer(home, service, last, codes=codes)
        await service.stop()
    assert codes == [KILLED, FAILED, BROKEN_OFF, KILLED, 0], home.log.with_name("consumer.log").read_text()
    assert effects(home) == [(row.seq, sha256(row.frame).digest()) for row in Autopsy.of(home.data).rows]
