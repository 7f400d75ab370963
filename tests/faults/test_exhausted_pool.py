"""Every connection is in use: by others of this process, or by others of the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
import trio

from stratos.api.errors import unknown_outcome
from stratos.storage.postgres.batch_writer import LOG_LOCK
from tests.faults.house import RECOVERY_SECONDS, open_house
from tests.faults.load import FaultLoad
from tests.faults.own_postgres import OwnPostgres

WRITERS = 8

pytestmark = [pytest.mark.crash, pytest.mark.slow, pytest.mark.timeout(180)]


@contextmanager
def every_connection(postgres: OwnPostgres, database: str) -> Iterator[int]:
    """Take what the server has left, for the block; gives how many those are."""
    with ExitStack() as stack:
        taken = 0
        while True:
            try:
                stack.enter_context(postgres.connect(database))
            except psycopg.OperationalError:
                break
            taken += 1
        yield taken


async def test_a_pool_of_one_behind_a_lock_that_another_holds_refuses_and_recovers(
    own_postgres: OwnPostgres, tmp_path: Path
) -> None:
    load = FaultLoad.of(WRITERS, seed=51)
    async with open_house(own_postgres, tmp_path, STRATOS_PG_ACTOR_POOL_SIZE="1") as house, house.under(load):
        with own_postgres.connect(house.database) as other:
            other.execute("BEGIN")
            other.execute("LOCK TABLE enrollment IN ACCESS EXCLUSIVE MODE")
            print("everybody refused after", await load.all_refused_anew(within=RECOVERY_SECONDS))
            other.execute("ROLLBACK")
        print("writing again after", await load.all_acknowledged_anew(within=RECOVERY_SECONDS))


async def test_a_log_that_another_session_holds_refuses_writes_and_recovers(own_postgres: OwnPostgres, tmp_path: Path) -> None:
    load = FaultLoad.of(WRITERS, seed=52)
    async with open_house(own_postgres, tmp_path) as house, house.under(load):
        with own_postgres.connect(house.database) as other:
            other.execute("SELECT pg_advisory_lock(%s)", (LOG_LOCK,))
            await load.all_refused_anew(within=RECOVERY_SECONDS)
            await house.watch.sees(200, within=1)
            told = {refusal.message for refusal in load.unavailable}
            # A batch whose COMMIT was cut short as the lock went over cannot be looked for while the lock is held.
            assert "The service cannot do this at the moment" in told
            assert told <= {"The service cannot do this at the moment", unknown_outcome().message}
        print("writing again after", await load.all_acknowledged_anew(within=RECOVERY_SECONDS))


async def test_a_server_without_a_connection_left_is_waited_for(own_postgres: OwnPostgres, tmp_path: Path) -> None:
    load = FaultLoad.of(WRITERS, seed=53)
    async with open_house(own_postgres, tmp_path) as house, house.under(load):
        await trio.to_thread.run_sync(own_postgres.stop, "fast")
        await trio.to_thread.run_sync(own_postgres.start)
        with every_connection(own_postgres, house.database) as taken:
            assert taken
            house.proxy.cut()
            await load.all_refused_anew(within=RECOVERY_SECONDS)
        print("writing again after", await load.all_acknowledged_anew(within=RECOVERY_SECONDS))
