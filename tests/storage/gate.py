"""A gate in the middle of a batch's transaction, which a test holds shut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import TupleRow

GATE: Final = 4711
"""An advisory lock at which a batch waits, in the middle of its transaction, while the test holds it."""
PATIENCE_SECONDS: Final = 10
LOOK_SECONDS: Final = 0.01


@contextmanager
def held_in_the_middle(session: psycopg.Connection[TupleRow], did: str) -> Iterator[None]:
    """Every batch with an entry of this account stops between its insert and its COMMIT, for the block."""
    session.execute("SELECT pg_advisory_lock(%s)", (GATE,))
    session.execute(
        sql.SQL(
            """
            CREATE FUNCTION wait_at_the_gate() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF NEW.did = {did} THEN
                    PERFORM pg_advisory_xact_lock_shared({gate});
                END IF;
                RETURN NULL;
            END $$
            """
        ).format(did=sql.Literal(did), gate=sql.Literal(GATE))
    )
    session.execute("CREATE TRIGGER gate AFTER INSERT ON log FOR EACH ROW EXECUTE FUNCTION wait_at_the_gate()")
    yield
    session.execute("SELECT pg_advisory_unlock(%s)", (GATE,))


def waits_for(session: psycopg.Connection[TupleRow], lock: int) -> bool:
    """Whether somebody waits for an advisory lock of this database."""
    row = session.execute(
        """
        SELECT count(*) FROM pg_locks
        WHERE locktype = 'advisory' AND NOT granted AND (classid::bigint << 32 | objid::bigint) = %s
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        """,
        (lock,),
    ).fetchone()
    return row != (0,)


def until(session: psycopg.Connection[TupleRow], holds: Callable[[], bool]) -> None:
    """Ask again until it holds; the server waits in between."""
    for _ in range(int(PATIENCE_SECONDS / LOOK_SECONDS)):
        if holds():
            return
        session.execute("SELECT pg_sleep(%s)", (LOOK_SECONDS,))
    pytest.fail("it never came to that")
