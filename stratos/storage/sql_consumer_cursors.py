"""Durable positions of internal consumers of the log, in the table of either database."""

from __future__ import annotations

from stratos.storage.sql_database import SqlDatabase


class SqlConsumerCursors:
    """Implements `ports.ConsumerCursors`."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    def get(self, consumer: str) -> int | None:
        """The last `seq` that the consumer has handled."""
        with self._database.read(f"reading the cursor of {consumer}") as connection:
            row: tuple[int] | None = connection.execute(self._database.sql["cursor.get"], (consumer,)).fetchone()
        return None if row is None else row[0]

    def save(self, consumer: str, seq: int) -> None:
        """Remember a position; never moves backwards."""
        with self._database.write(f"saving the cursor of {consumer}") as connection:
            connection.execute(self._database.sql["cursor.save"], (consumer, seq))
