"""The disk of a SQLite service is full: files may not grow any more, and then they may again."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import trio

from tests.crash.clients import enroll
from tests.crash.processes import Home
from tests.faults.house import RECOVERY_SECONDS, Watch
from tests.faults.load import FaultLoad

WRITERS = 8

pytestmark = [pytest.mark.crash, pytest.mark.slow, pytest.mark.timeout(120)]


async def test_while_the_files_cannot_grow_writes_end_in_503_and_everything_comes_back(tmp_path: Path) -> None:
    home, load, watch, stop = Home.below(tmp_path), FaultLoad.of(WRITERS, seed=71), Watch(), trio.Event()
    async with home.served_by_command() as service:
        await enroll(service.url, *load.dids)
        async with trio.open_nursery() as watching:
            watching.start_soon(watch.run, service.url)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(load.following.follow, service.url, stop)
                for each in load.writers:
                    nursery.start_soon(each.write, service.url, stop)
                await load.all_acknowledged_anew(within=RECOVERY_SECONDS)
                before = resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE)
                # Every file of the service is larger than this or about to be: nothing can be appended to any of them.
                resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (1024, before[1]))
                await load.all_refused_anew(within=RECOVERY_SECONDS)
                await watch.sees(200, within=RECOVERY_SECONDS)
                resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, before)
                print("writing again after", await load.all_acknowledged_anew(within=RECOVERY_SECONDS))
                stop.set()
            watching.cancel_scope.cancel()
        await load.check(service.url)
        assert load.following.connections == 1
        assert service.process.returncode is None
