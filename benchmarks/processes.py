"""Stratos as processes of its own: started for a benchmark, ended with it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import trio

from benchmarks.wire import http

ADMIN_PASSWORD = "bench-admin"  # noqa: S105 - of a server that lives for one benchmark
SYNC_TOKEN = "bench-sync-token"  # noqa: S105
DOMAINS = [f"room{number:02d}" for number in range(50)]
POST = "zone.stratos.feed.post"


@dataclass(frozen=True, slots=True)
class Deployment:
    """A running deployment; `appview_port` only for the whole system."""

    port: int
    service_did: str
    process: subprocess.Popen[bytes]
    appview_port: int = 0

    def boundary(self, number: int) -> str:
        """The full form of one of the fifty boundaries."""
        return f"{self.service_did}/{DOMAINS[number % len(DOMAINS)]}"

    def resident_mb(self) -> float:
        """The resident memory of the process, in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024


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


@asynccontextmanager
async def deployment(command: str = "serve", settings: Mapping[str, str] | None = None) -> AsyncIterator[Deployment]:
    """Start `stratos serve` or `stratos dev` on free ports with a fresh data directory."""
    port, appview_port = free_port(), free_port()
    did = f"did:web:localhost%3A{port}"
    with tempfile.TemporaryDirectory(prefix="stratos-bench-") as data:
        environment = {
            **os.environ,
            "STRATOS_SERVICE_DID": did,
            "STRATOS_PORT": str(port),
            "STRATOS_HOST": "127.0.0.1",
            "STRATOS_PUBLIC_URL": f"http://localhost:{port}",
            "STRATOS_DATA_DIR": data,
            "STRATOS_DEV_MODE": "true",
            "STRATOS_ALLOWED_DOMAINS": ",".join(DOMAINS),
            "STRATOS_ADMIN_PASSWORD": ADMIN_PASSWORD,
            "STRATOS_SYNC_TOKEN": SYNC_TOKEN,
            "STRATOS_WRITE_RATE_MAX_WRITES": "1000000000",
            "APPVIEW_PORT": str(appview_port),
            "HEALTH_PORT": str(free_port()),
            "LOG_LEVEL": "warn",
            **(settings or {}),
        }
        process = _start(command, environment, data)
        try:
            await _healthy(process, port if command == "serve" else appview_port)
            yield Deployment(port, did, process, appview_port)
        finally:
            process.terminate()
            process.wait(20)


async def enroll(running: Deployment, count: int, room_of: int | None = None) -> None:
    """Enroll accounts 0..count-1, each in all rooms or in one."""
    rooms = [running.boundary(number) for number in range(3)] if room_of is None else [running.boundary(room_of)]
    async with http(running.port) as connection:
        for number in range(count):
            await connection.post("zone.stratos.admin.enroll", ADMIN_PASSWORD, {"did": actor(number), "boundaries": rooms})


def _start(command: str, environment: Mapping[str, str], folder: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "stratos.cli", command], env=environment, cwd=folder)


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
