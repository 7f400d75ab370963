"""PostgreSQL goes away and comes back under load."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.faults.house import RECOVERY_SECONDS, open_house
from tests.faults.load import FaultLoad
from tests.faults.own_postgres import OwnPostgres, StopMode

WRITERS = 8

pytestmark = [pytest.mark.crash, pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.mark.parametrize("mode", ["immediate", "fast"])
async def test_a_restart_of_postgres_costs_503s_at_most_and_nothing_acknowledged(
    own_postgres: OwnPostgres, tmp_path: Path, mode: StopMode
) -> None:
    load = FaultLoad.of(WRITERS, seed=31)
    async with open_house(own_postgres, tmp_path) as house, house.under(load):
        await own_postgres.restart(mode)
        print("writing again after", await load.all_acknowledged_anew(within=RECOVERY_SECONDS))


async def test_while_postgres_is_away_requests_end_in_503_and_health_says_so(own_postgres: OwnPostgres, tmp_path: Path) -> None:
    load = FaultLoad.of(WRITERS, seed=32)
    async with open_house(own_postgres, tmp_path) as house, house.under(load):
        await trio.to_thread.run_sync(own_postgres.stop, "fast")
        await house.watch.sees(503, within=10)
        await load.all_refused_anew(within=RECOVERY_SECONDS)
        await trio.to_thread.run_sync(own_postgres.start)
        print("writing again after", await load.all_acknowledged_anew(within=RECOVERY_SECONDS))
    assert max(each.slowest for each in load.writers) < RECOVERY_SECONDS
