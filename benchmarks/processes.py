"""Stratos as processes of its own: started for a benchmark, ended with it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import httpx
import trio

from benchmarks.wire import http
from stratos.dev import embedded_postgres

ADMIN_PASSWORD = "bench-admin"  # noqa: S105 - of a server that lives for one benchmark
SYNC_TOKEN = "bench-sync-token"  # noqa: S105
DOMAINS = [f"room{number:02d}" for number in range(50)]
POST = "zone.stratos.feed.post"
ENROLLING_CLIENTS = 32


class Storage(StrEnum):
    """Where a deployment keeps its records."""

    SQLITE = "SQLite"
    POSTGRES = "PostgreSQL"


@dataclass(frozen=True, slots=True)
class Deployment:
    """A running deployment.

    `appview_port` only for the whole system; `database` is the folder of its PostgreSQL, where it has one.
    """

    port: int
    service_did: str
    process: subprocess.Popen[bytes]
    appview_port: int = 0
    database: Path | None = None

    def boundary(self, number: int) -> str:
        """The full form of one of the fifty boundaries."""
        return f"{self.service_did}/{DOMAINS[number % len(DOMAINS)]}"

    def resident_mb(self) -> float:
        """The resident memory of the process, in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024

    def service_seconds(self) -> float:
        """Processor time that the service's processes have taken so far."""
        return processor_seconds(self.process.pid)

    def database_seconds(self) -> float:
        """Processor time that PostgreSQL's processes have taken so far; 0 without one."""
        if self.database is None:
            return 0.0
        return processor_seconds(int((self.database / "postmaster.pid").read_text().split("\n", 1)[0]))


def actor(number: int) -> str:
    """The DID of a benchmark's account."""
    return f"did:web:actor{number:05d}.example"


def post(deployment: Deployment, text: str, room: int = 0) -> dict[str, object]:
    """A realistic post of about 390 bytes in one boundary."""
    return {
        "$type": POST,
        "text": f"{text} — a few words that somebody would write to people whom they know, with an umlaut (ü) and so on",
        "boundary": {"$type": "zone.stratos.boundary.defs#Domains", "values": [{"value": deployment.boundary(room)}]},
        "langs": ["en"],
        "createdAt": "2026-05-28T20:26:41.000Z",
    }


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Installation:
    """What a deployment runs upon: it may be started, stopped and started again."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    database: Path | None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Deployment]:
        """Start it, wait until it is healthy, and stop it after the block."""
        port, appview_port = int(self.environment["STRATOS_PORT"]), int(self.environment["APPVIEW_PORT"])
        process = self._start()
        try:
            await _healthy(process, appview_port if self.command == ("dev",) else port)
            yield Deployment(port, self.environment["STRATOS_SERVICE_DID"], process, appview_port, self.database)
        finally:
            process.terminate()
            process.wait(30)

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "stratos.cli", *self.command], env=self.environment, cwd=self.folder)


@contextmanager
def installation(
    *command: str, storage: Storage = Storage.SQLITE, settings: Mapping[str, str] | None = None
) -> Iterator[Installation]:
    """A fresh data directory, a PostgreSQL where one is wanted, free ports, for the command `stratos serve`, or another one."""
    port = free_port()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stratos-bench-", ignore_cleanup_errors=True)))
        environment = {
            **os.environ,
            "STRATOS_SERVICE_DID": f"did:web:localhost%3A{port}",
            "STRATOS_PORT": str(port),
            "STRATOS_HOST": "127.0.0.1",
            "STRATOS_PUBLIC_URL": f"http://localhost:{port}",
            "STRATOS_DATA_DIR": str(folder),
            "STRATOS_DEV_MODE": "true",
            "STRATOS_ALLOWED_DOMAINS": ",".join(DOMAINS),
            "STRATOS_ADMIN_PASSWORD": ADMIN_PASSWORD,
            "STRATOS_SYNC_TOKEN": SYNC_TOKEN,
            "STRATOS_WRITE_RATE_MAX_WRITES": "1000000000",
            "APPVIEW_PORT": str(free_port()),
            "HEALTH_PORT": str(free_port()),
            "LOG_LEVEL": "error",
            **(settings or {}),
        }
        database = None
        if storage is Storage.POSTGRES:
            database = folder / "service-postgres"
            url = stack.enter_context(embedded_postgres(database))
            environment |= {"STORAGE_BACKEND": "postgres", "STRATOS_POSTGRES_URL": url}
        yield Installation(command or ("serve",), environment, folder, database)


@asynccontextmanager
async def deployment(*command: str, storage: Storage = Storage.SQLITE) -> AsyncIterator[Deployment]:
    """Start `stratos serve`, or another command, upon a fresh installation."""
    with installation(*command, storage=storage) as installed:
        async with installed.running() as running:
            yield running


async def enroll(running: Deployment, count: int, first: int = 0) -> None:
    """Enroll accounts `first`..`count`-1, each in three rooms, by several clients at once."""
    rooms = [running.boundary(number) for number in range(3)]

    async def enroll_share(share: int) -> None:
        async with http(running.port) as connection:
            for number in range(first + share, count, ENROLLING_CLIENTS):
                await connection.post("zone.stratos.admin.enroll", ADMIN_PASSWORD, {"did": actor(number), "boundaries": rooms})

    async with trio.open_nursery() as nursery:
        for share in range(min(ENROLLING_CLIENTS, count - first)):
            nursery.start_soon(enroll_share, share)


def processor_seconds(pid: int) -> float:
    """Processor time, user and system, of a process and of those that it started, as far as they still run."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = [task.read_text().split() for task in Path(f"/proc/{pid}/task").glob("*/children")]
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    ticks = int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK") + sum(processor_seconds(int(child)) for part in children for child in part)


async def _healthy(process: subprocess.Popen[bytes], port: int) -> None:
    with trio.fail_after(60):
        async with httpx.AsyncClient() as client:
            while True:
                if process.poll() is not None:
                    raise RuntimeError(f"the server ended with {process.returncode}")
                try:
                    if (await client.get(f"http://127.0.0.1:{port}/health")).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                await trio.sleep(0.05)
