"""I7: an unenroll that a death interrupts is either not begun or finished at the next start, down to the last byte."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.crash.autopsy import Autopsy, database_of, files_with
from tests.crash.clients import POST, enroll, posts_of, secret_of, unenroll
from tests.crash.http import Refused, ServiceGone, connect
from tests.crash.load import Load
from tests.crash.processes import SYNC_TOKEN, Home, Running
from tests.crash.steps import Step

KILLED = -9
WRITERS = 4

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]


async def die_while_unenrolling(home: Home, load: Load, step: Step) -> None:
    """The last account writes, and is then unenrolled while the others go on writing; that ends in a death."""
    leaver = load.writers.pop()
    async with home.service(step) as service:
        await enroll(service.url, *load.dids, leaver.did)
        for _ in range(5):
            await leaver.write_once(service.url)
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                await nursery.start(load.everything.follow, service.url)
                for writer in load.writers:
                    nursery.start_soon(writer.write_until_death, service.url)
                await load.writers[0].first_answer.wait()
                with pytest.raises(ServiceGone):
                    await unenroll(service.url, leaver.did)
        assert await service.death() == KILLED
    load.writers.append(leaver)


async def test_a_death_before_an_unenroll_is_durable_leaves_the_account_whole(tmp_path: Path) -> None:
    home, load = Home.below(tmp_path), Load.of(WRITERS, seed=3)
    await die_while_unenrolling(home, load, Step.UNENROLL_INSIDE_APPEND)
    async with home.service() as service:
        await load.check_acknowledged(service)
        await load.write_on(service)
        assert await service.stop() == 0
    autopsy = Autopsy.of(home.data)
    autopsy.check_stores(may_lag=False)
    load.check_log(autopsy)
    assert home.logged_errors() == []


@pytest.mark.parametrize(
    "step",
    [
        Step.UNENROLL_AFTER_APPEND,
        Step.BEFORE_DESTROY,
        Step.INSIDE_DESTROY,
        Step.AFTER_DESTROY,
        Step.BEFORE_TRUNCATE,
    ],
)
async def test_nothing_of_an_account_is_left_after_a_death_in_the_middle_of_its_purge(tmp_path: Path, step: Step) -> None:
    home, load = Home.below(tmp_path), Load.of(WRITERS, seed=4)
    await die_while_unenrolling(home, load, step)
    gone = load.writers.pop()
    async with home.service() as service:
        assert files_with(home.data, secret_of(gone.did)) == []
        assert not database_of(home.data, gone.did).parent.exists()
        await check_unreadable(service, gone.did)
        await load.check_acknowledged(service)
        # The same account may come back; nothing returns with it, and its revs go on rising (I2).
        await enroll(service.url, gone.did)
        async with connect(service.url) as connection:
            assert await posts_of(connection, gone.did) == {}
        gone.settle({})
        await gone.write_once(service.url)
        await load.write_on(service)
        assert await service.stop() == 0
    autopsy = Autopsy.of(home.data)
    autopsy.check_stores(may_lag=False)
    load.check_log(autopsy, gone=[gone.did])
    assert autopsy.purging == frozenset()
    assert home.logged_errors() == []


async def check_unreadable(service: Running, did: str) -> None:
    """No way of reading an account's records finds any."""
    async with connect(service.url) as connection:
        status = await connection.get("zone.stratos.enrollment.status", SYNC_TOKEN, did=did)
        assert status == {"did": did, "enrolled": False}
        listed = await connection.get("zone.stratos.repo.listRecords", SYNC_TOKEN, repo=did, collection=POST)
        assert listed == {"records": []}
        assert did not in str(await connection.get("zone.stratos.sync.listRepos", SYNC_TOKEN))
        with pytest.raises(Refused) as refused:
            await connection.get("zone.stratos.sync.getRepo", SYNC_TOKEN, did=did)
        assert refused.value.error == "RepoNotFound"
