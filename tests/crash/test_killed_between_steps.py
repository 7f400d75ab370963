"""A process killed at each step of plan, append and apply loses nothing that it acknowledged and does nothing by halves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.autopsy import Autopsy
from tests.crash.http import ServiceGone
from tests.crash.load import Load, recover
from tests.crash.processes import Home
from tests.crash.steps import Step

KILLED = -9
WRITERS = 6
"""Enough that batches hold several proposals."""

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]


@pytest.mark.parametrize(
    ("step", "nth"),
    [
        (Step.BEFORE_APPEND, 8),
        (Step.INSIDE_APPEND, 8),
        (Step.AFTER_APPEND, 8),
        (Step.BEFORE_APPLY, 20),
        (Step.BETWEEN_APPLIES, 9),
        (Step.INSIDE_APPLY, 20),
        (Step.AFTER_APPLY, 20),
    ],
)
async def test_a_death_at_any_step_loses_no_acknowledged_write_and_halves_none(tmp_path: Path, step: Step, nth: int) -> None:
    home, load = Home.below(tmp_path), Load.of(WRITERS, seed=nth)
    async with home.service(step, nth) as service:
        await load.enroll(service)
        await load.run_until_death(service)
        assert await service.death() == KILLED
    await recover(home, load, tmp_path)


async def test_a_death_while_a_store_catches_up_after_a_death_changes_nothing(tmp_path: Path) -> None:
    home, load = Home.below(tmp_path), Load.of(WRITERS, seed=1)
    async with home.service(Step.AFTER_APPEND, 10) as service:
        await load.enroll(service)
        await load.run_until_death(service)
        assert await service.death() == KILLED
    assert Autopsy.of_a_copy(home.data, tmp_path).check_stores(may_lag=True) > 0
    async with home.service(Step.INSIDE_APPLY) as service:
        with pytest.raises(ServiceGone):
            await load.check_acknowledged(service)
        assert await service.death() == KILLED
    await recover(home, load, tmp_path)


async def test_the_first_write_of_an_account_survives_a_death_before_its_store_exists(tmp_path: Path) -> None:
    home, load = Home.below(tmp_path), Load.of(1, seed=2)
    async with home.service(Step.BEFORE_APPLY) as service:
        await load.enroll(service)
        await load.run_until_death(service)
        assert await service.death() == KILLED
    autopsy = await recover(home, load, tmp_path)
    assert len(autopsy.commits()) == 3
