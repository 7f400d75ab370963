"""The `stratos` command as of a later version: its SQL files come from another directory.

`python -m tests.e2e.later_version <directory> <n> <arguments>`: with n above 0 the process kills itself in the middle of
migrating the n-th account's store.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path
from sqlite3 import Connection
from unittest.mock import patch

from stratos import assembly
from stratos.cli import app
from stratos.storage.postgres import schema_migrator
from stratos.storage.postgres.database import PgConnection
from stratos.storage.postgres.migrations import run_steps
from stratos.storage.sql_files import Migration
from stratos.storage.sqlite import actor_database
from stratos.storage.sqlite.connection import transaction
from stratos.storage.sqlite.migrations import migrate


def die_in(number: int) -> None:
    """Kill this process when it has made the changes to that account's store, and not committed them."""
    numbers = count(1)

    def run_steps_or_die(connection: PgConnection, steps: Iterable[str], what: str, diagnostics: str) -> None:
        run_steps(connection, steps, what, diagnostics)
        if next(numbers) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def migrate_or_die(connection: Connection, migrations: Sequence[Migration], what: str) -> None:
        if next(numbers) == number:
            with transaction(connection):
                connection.execute("CREATE TABLE half_done (x TEXT)")
                os.kill(os.getpid(), signal.SIGKILL)
        migrate(connection, migrations, what)

    patch.object(schema_migrator, "run_steps", run_steps_or_die).start()
    patch.object(actor_database, "migrate", migrate_or_die).start()


if __name__ == "__main__":
    directory, death, *arguments = sys.argv[1:]
    patch.object(assembly, "sql_directory", lambda: Path(directory)).start()
    if int(death):
        die_in(int(death))
    app(arguments)
