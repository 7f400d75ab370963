"""Hearing of other processes' commits."""

from __future__ import annotations

from stratos.storage.postgres.database import PgConnection, faults

_LISTENING = "listening for other processes"


class PostgresWakeups:
    """Implements `ports.Wakeups` over a connection that LISTENs."""

    def __init__(self, connection: PgConnection) -> None:
        """Takes the connection over. Raises psycopg.Error."""
        self._connection = connection
        connection.execute("LISTEN stratos_log")

    def fileno(self) -> int:
        """Readable when something may have arrived."""
        with faults(_LISTENING):
            return self._connection.raw.fileno()

    def drain(self) -> int:
        """Take what has arrived: the highest `seq` announced, 0 for nothing."""
        announced = 0
        with faults(_LISTENING):
            wire = self._connection.raw.pgconn
            wire.consume_input()
            while (notification := wire.notifies()) is not None:
                announced = max(announced, int(notification.extra))
        return announced

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        self._connection.raw.close()
