"""Our own programs as processes: started for a test on free loopback ports, ended with it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

ADMIN_PASSWORD: Final = "test-admin"
SYNC_TOKEN: Final = "test-sync-token"
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Program:
    """A running program and where it answers."""

    process: subprocess.Popen[bytes]
    port: int
    appview_port: int
    indexer_port: int
    log: Path

    @property
    def service(self) -> str:
        """Base URL of the service."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def appview(self) -> str:
        """Base URL of the AppView."""
        return f"http://127.0.0.1:{self.appview_port}"

    @property
    def indexer(self) -> str:
        """Base URL of the indexer's health server."""
        return f"http://127.0.0.1:{self.indexer_port}"

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait; gives the exit status."""
        self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS)


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def bare_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """These settings and no other that our programs know, in what else this process's environment says."""
    ours = ("STRATOS_", "STORAGE_", "BSKY_", "APPVIEW_")
    return {**{name: value for name, value in os.environ.items() if not name.startswith(ours)}, **settings}


@contextmanager
def running(
    command: str, folder: Path, settings: Mapping[str, str] | None = None, *, service_port: int | None = None
) -> Iterator[Program]:
    """Run `stratos serve`, `index`, `appview` or `dev` in a folder for the block; fails where it does not become healthy."""
    free_port, appview_port, indexer_port = free_ports(3)
    port = free_port if service_port is None else service_port
    environment = {
        **bare_environment({}),
        "STRATOS_SERVICE_DID": "did:web:stratos.test",
        "STRATOS_PORT": str(port),
        "STRATOS_HOST": "127.0.0.1",
        "STRATOS_PUBLIC_URL": f"http://localhost:{port}",
        "STRATOS_DATA_DIR": str(folder / "data"),
        "STRATOS_DEV_MODE": "true",
        "STRATOS_ALLOWED_DOMAINS": "writers,editors",
        "STRATOS_ADMIN_PASSWORD": ADMIN_PASSWORD,
        "STRATOS_SYNC_TOKEN": SYNC_TOKEN,
        "APPVIEW_PORT": str(appview_port),
        "APPVIEW_PUBLIC_URL": f"http://localhost:{appview_port}",
        "HEALTH_PORT": str(indexer_port),
        **(settings or {}),
    }
    log = folder / f"{command}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "stratos.cli", command], env=environment, cwd=folder, stdout=output, stderr=output
        )
    program = Program(process, port, appview_port, indexer_port, log)
    try:
        parts = {"serve": [program.service], "index": [program.indexer], "appview": [program.appview]}
        await_healthy(program, parts.get(command, [program.service, program.appview]))
        yield program
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def await_healthy(program: Program, addresses: list[str]) -> None:
    """Wait until every address answers `/health` with 200."""
    deadline = time.monotonic() + START_SECONDS
    waiting = list(addresses)
    while waiting:
        if program.process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"not healthy: {waiting}\n{program.log.read_text()[-4000:]}")
        try:
            if httpx.get(f"{waiting[0]}/health", timeout=5).status_code == httpx.codes.OK:
                waiting.pop(0)
        except httpx.TransportError:
            time.sleep(0.05)  # a process that is starting can only be asked again
