"""How the service uses PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PostgresConfig:
    """Where the database is, and with how much patience it is used; all durations are seconds.

    `pool_size` bounds the connections for reading and for small writes; the log's writer, every export, every leadership and the
    wake-ups have one of their own beside them. `answer_timeout` is how long the server may leave a statement unanswered before
    its connection is given up; the server's own limits are set below it, so that it normally speaks first.
    """

    url: str
    pool_size: int = 16
    checkout_timeout: float = 5.0
    connect_timeout: float = 5.0
    answer_timeout: float = 20.0
    application_name: str = "stratos"

    @property
    def statement_timeout(self) -> float:
        """When the server itself ends a statement."""
        return self.answer_timeout * 0.75

    @property
    def lock_timeout(self) -> float:
        """When the server itself ends the wait for a lock: longer than an idle transaction lives."""
        return self.answer_timeout * 0.5

    @property
    def finding_out(self) -> float:
        """How long to look for what became of a batch whose COMMIT was not answered: longer than an idle transaction lives."""
        return self.answer_timeout * 0.5

    @property
    def idle_transaction_timeout(self) -> float:
        """When the server ends a transaction whose client is silent: a stalled process must not hold the log's lock for long."""
        return self.answer_timeout * 0.25
