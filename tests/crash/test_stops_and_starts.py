"""Ends and beginnings that are not deaths: SIGTERM under load, a second process, a data directory restored from a back-up."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
import trio

from tests.crash.autopsy import Autopsy
from tests.crash.clients import Subscriber, actor, enroll, unenroll
from tests.crash.load import Load, recover
from tests.crash.processes import SERVE, START_SECONDS, STOP_SECONDS, Home

GOING_AWAY = 1001
WRITERS = 8

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]


async def test_sigterm_under_load_ends_in_time_says_goodbye_and_loses_nothing(tmp_path: Path) -> None:
    home, load = Home.below(tmp_path), Load.of(WRITERS, seed=6)
    idle = Subscriber(did=actor(2))
    async with home.served_by_command() as service:
        await load.enroll(service)
        async with trio.open_nursery() as nursery:
            await nursery.start(idle.follow, service.url)
            nursery.start_soon(load.run_until_death, service)
            for writer in load.writers:
                await writer.first_answer.wait()
            with trio.fail_after(STOP_SECONDS):
                assert await service.stop() == 0
    for subscriber in (load.everything, load.first, idle):
        assert subscriber.close is not None
        assert subscriber.close.code == GOING_AWAY
    Autopsy.of_a_copy(home.data, tmp_path).check_stores(may_lag=False)
    await recover(home, load, tmp_path)


async def test_a_second_process_on_the_same_data_directory_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    home, load = Home.below(tmp_path), Load.of(2, seed=7)
    second = Home(home.data, tmp_path / "second.log")
    async with home.service() as service:
        await load.enroll(service)
        async with second.command(SERVE) as (process, _):
            with trio.fail_after(START_SECONDS):
                assert await process.wait() == 1
        said = second.log.read_text()
        assert said.startswith("Fatal error: ")
        assert f"{home.data} is in use by another Stratos process (process {service.process.pid})" in said
        assert "Traceback" not in said
        await load.write_on(service)
        assert await service.stop() == 0
    await recover(home, load, tmp_path)


async def test_a_killed_process_leaves_no_lock_behind(tmp_path: Path) -> None:
    home = Home.below(tmp_path)
    for _ in range(2):
        async with home.service() as service:
            service.process.send_signal(signal.SIGKILL)
            assert await service.death() == -signal.SIGKILL


async def test_a_restored_back_up_hands_no_seq_out_twice(tmp_path: Path) -> None:
    home, load = Home.below(tmp_path), Load.of(3, seed=8)
    async with home.service() as service:
        await load.enroll(service)
        await load.write_on(service)
        assert await service.stop() == 0
    shutil.copytree(home.data, tmp_path / "backup")
    before = [(writer.acks[:], dict(writer.state), dict(writer.cids)) for writer in load.writers]
    async with home.service() as service:
        for _ in range(3):
            await load.write_on(service)
        assert await service.stop() == 0
    lost = {row.seq: row.frame for row in Autopsy.of(home.data).rows}

    shutil.rmtree(home.data)
    (tmp_path / "backup").rename(home.data)
    for writer, (acks, state, cids) in zip(load.writers, before, strict=True):
        writer.acks, writer.state, writer.cids = acks, state, cids
    ahead, load.everything, load.first = load.everything, Subscriber(), Subscriber(did=actor(0))
    async with home.service() as service:
        await load.check_acknowledged(service)
        await ahead.follow(service.url)
        assert "FutureCursor" in ahead.notices[-1]
        await load.write_on(service)
        await enroll(service.url, actor(50))
        assert await service.stop() == 0
    restored = Autopsy.of(home.data)
    restored.check_order()
    assert all(lost.get(row.seq, row.frame) == row.frame for row in restored.rows)
    assert max(lost) < restored.rows[-1].seq


async def test_a_clock_that_went_back_hands_no_seq_and_no_rev_out_twice(tmp_path: Path) -> None:
    home, load = Home.below(tmp_path), Load.of(3, seed=9)
    async with home.service() as service:
        await load.enroll(service)
        await load.write_on(service)
        assert await service.stop() == 0
    returning = load.writers[-1]
    async with home.service(clock_behind=3600) as service:
        await load.check_acknowledged(service)
        await load.write_on(service)
        await unenroll(service.url, returning.did)
        await enroll(service.url, returning.did)
        returning.settle({})
        await load.write_on(service)
        assert await service.stop() == 0
    autopsy = Autopsy.of(home.data)
    autopsy.check_stores(may_lag=False)
    load.check_log(autopsy, gone=[returning.did])
    assert home.logged_errors() == []
