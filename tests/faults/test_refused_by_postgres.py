"""PostgreSQL answers, and what it says is no: the disk is full, or the transaction conflicted with another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.house import RECOVERY_SECONDS, House, open_house
from tests.faults.load import FaultLoad
from tests.faults.own_postgres import OwnPostgres

WRITERS = 8
DISK_FULL, SERIALIZATION_FAILURE, DEADLOCK = "53100", "40001", "40P01"

pytestmark = [pytest.mark.crash, pytest.mark.slow, pytest.mark.timeout(180)]


@contextmanager
def appends_raise(house: House, sqlstate: str, *, one_in: int = 1) -> Iterator[None]:
    """Let one insert into the log of so many fail like this, for the block."""
    with house.postgres.connect(house.database) as session:
        session.execute("CREATE SEQUENCE attempts")
        session.execute(
            f"""
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF nextval('attempts') % {one_in} = 0 THEN
                    RAISE EXCEPTION 'refused by the test' USING ERRCODE = '{sqlstate}';
                END IF;
                RETURN NULL;
            END $$
            """
        )
        session.execute("CREATE TRIGGER refuse AFTER INSERT ON log FOR EACH STATEMENT EXECUTE FUNCTION refuse()")
        yield
        session.execute("DROP TRIGGER refuse ON log")
        session.execute("DROP FUNCTION refuse")
        session.execute("DROP SEQUENCE attempts")


@pytest.mark.parametrize("sqlstate", [DISK_FULL, SERIALIZATION_FAILURE, DEADLOCK])
async def test_while_appends_fail_writes_end_in_503_and_reads_go_on(
    own_postgres: OwnPostgres, tmp_path: Path, sqlstate: str
) -> None:
    load = FaultLoad.of(WRITERS, seed=61)
    async with open_house(own_postgres, tmp_path) as house, house.under(load):
        with appends_raise(house, sqlstate):
            await load.all_refused_anew(within=RECOVERY_SECONDS)
            await house.watch.sees(200, within=RECOVERY_SECONDS)
        await load.all_acknowledged_anew(within=RECOVERY_SECONDS)
    assert {refusal.message for refusal in load.unavailable} == {"The service cannot do this at the moment"}
    assert load.following.connections == 1


@pytest.mark.parametrize("sqlstate", [SERIALIZATION_FAILURE, DEADLOCK])
async def test_a_conflict_now_and_then_is_nothing_that_a_client_learns_of(
    own_postgres: OwnPostgres, tmp_path: Path, sqlstate: str
) -> None:
    load = FaultLoad.of(WRITERS, seed=62)
    async with open_house(own_postgres, tmp_path) as house, house.under(load):
        with appends_raise(house, sqlstate, one_in=2):
            for _ in range(5):
                await load.all_acknowledged_anew(within=RECOVERY_SECONDS)
    assert load.unavailable == []
