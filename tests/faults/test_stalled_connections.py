"""The network before PostgreSQL falls silent: nothing is lost, nothing hangs, and everything comes back by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.house import ANSWER_SECONDS, RECOVERY_SECONDS, open_house
from tests.faults.load import FaultLoad
from tests.faults.own_postgres import OwnPostgres

WRITERS = 8
BOUND_SECONDS = ANSWER_SECONDS * 4 + 10
"""No answer takes longer: one unanswered statement, the search for what became of it, and a new connection that stalls too."""

pytestmark = [pytest.mark.crash, pytest.mark.slow, pytest.mark.timeout(180)]


async def test_while_every_connection_stalls_requests_end_in_503_in_time(own_postgres: OwnPostgres, tmp_path: Path) -> None:
    load = FaultLoad.of(WRITERS, seed=41)
    async with open_house(own_postgres, tmp_path) as house, house.under(load):
        house.proxy.stall()
        await house.watch.sees(503, within=10)
        print("everybody refused after", await load.all_refused_anew(within=BOUND_SECONDS))
        print("everybody refused again after", await load.all_refused_anew(within=BOUND_SECONDS))
        house.proxy.resume()
        print("writing again after", await load.all_acknowledged_anew(within=RECOVERY_SECONDS))
    print("slowest answer", max(each.slowest for each in load.writers), "slowest health", house.watch.slowest)
    assert max(each.slowest for each in load.writers) < BOUND_SECONDS


async def test_connections_that_stall_are_replaced_without_waiting_for_them(own_postgres: OwnPostgres, tmp_path: Path) -> None:
    load = FaultLoad.of(WRITERS, seed=42)
    async with open_house(own_postgres, tmp_path) as house, house.under(load):
        house.proxy.stall(new=False)
        print("writing again after", await load.all_acknowledged_anew(within=RECOVERY_SECONDS))
        house.proxy.resume()
        await load.all_acknowledged_anew(within=RECOVERY_SECONDS)


async def test_some_connections_that_stall_hold_nobody_up_for_long(own_postgres: OwnPostgres, tmp_path: Path) -> None:
    load = FaultLoad.of(WRITERS, seed=43)
    async with open_house(own_postgres, tmp_path) as house, house.under(load):
        for _ in range(3):
            house.proxy.stall_some()
            print("writing again after", await load.all_acknowledged_anew(within=RECOVERY_SECONDS))


async def test_connections_that_are_cut_are_replaced(own_postgres: OwnPostgres, tmp_path: Path) -> None:
    load = FaultLoad.of(WRITERS, seed=44)
    async with open_house(own_postgres, tmp_path) as house, house.under(load):
        for _ in range(5):
            house.proxy.cut()
            print("writing again after", await load.all_acknowledged_anew(within=RECOVERY_SECONDS))
