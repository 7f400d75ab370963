"""A connection that gives up: libpq waits for ever, and a stalled network says nothing."""

from __future__ import annotations

import time
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.rows import TupleRow

DEFAULT_PATIENCE = 20.0
LOOK_SECONDS = 0.25

RV = TypeVar("RV")


class PatientConnection(psycopg.Connection[TupleRow]):
    """Ends itself when the server leaves a statement unanswered for `patience` seconds."""

    patience = DEFAULT_PATIENCE
    made_at = 0.0
    """When it was ready for use, by `time.monotonic`."""

    def wait(self, gen: PQGen[RV], interval: float = LOOK_SECONDS, timeout: float | None = None) -> RV:
        """As psycopg's, within our patience. Raises OperationalError after it; the connection is closed then."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.patience)
        except psycopg.errors._WaitTimeout as error:  # noqa: SLF001 - the only name that it has
            self.pgconn.finish()
            raise psycopg.OperationalError(f"the server did not answer within {self.patience:g} seconds") from error


def patient(connection: psycopg.Connection[Any], patience: float) -> None:
    """Set how long a connection waits."""
    if isinstance(connection, PatientConnection):
        connection.patience = patience
        connection.made_at = time.monotonic()
