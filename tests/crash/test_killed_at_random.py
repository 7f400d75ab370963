"""A process killed from outside at moments of no one's choosing, life after life on one data directory."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest
import trio

from tests.crash.autopsy import Autopsy
from tests.crash.load import Load, recover
from tests.crash.processes import Home, Running

SEED = 20260528
LIVES = 4
MOST_WRITERS, LEAST_WRITERS = 16, 8
LONGEST_LIFE_SECONDS = 1.0

pytestmark = [pytest.mark.crash, pytest.mark.timeout(180)]


async def kill_at(service: Running, seconds: float, *, task_status: trio.TaskStatus[None]) -> None:
    """Kill after a while. The time is the test's point, not a way to wait for something."""
    task_status.started()
    await trio.sleep(seconds)
    service.process.send_signal(signal.SIGKILL)


async def test_no_death_at_any_moment_under_load_breaks_an_invariant(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    home, load = Home.below(tmp_path), Load.of(MOST_WRITERS, seed=SEED)
    for life in range(LIVES):
        async with home.service() as service, trio.open_nursery() as nursery:
            await (load.check_acknowledged(service) if life else load.enroll(service))
            chosen = Load(rng.sample(load.writers, rng.randint(LEAST_WRITERS, MOST_WRITERS)), load.everything, load.first)
            await nursery.start(kill_at, service, rng.uniform(0.05, LONGEST_LIFE_SECONDS))
            await chosen.run_until_death(service)
            assert await service.death() == -signal.SIGKILL
        Autopsy.of_a_copy(home.data, tmp_path).check_stores(may_lag=True)
    await recover(home, load, tmp_path)
    assert sum(len(writer.acks) for writer in load.writers) > LIVES * LEAST_WRITERS
