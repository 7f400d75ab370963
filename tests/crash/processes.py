"""Services as processes of their own, for tests that kill them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from stratos.atproto.syntax import Did
from tests.crash.steps import Step

ROOT: Final = Path(__file__).parents[2]
ADMIN_PASSWORD: Final = "crash-admin"
SYNC_TOKEN: Final = "crash-sync-token"
SERVICE: Final = Did("did:web:stratos.test")
DOMAINS: Final = ("writers", "editors")
START_SECONDS: Final = 40
"""A start takes about a second; this is for a machine that does much else."""
STOP_SECONDS: Final = 10
"""Design §9, issue 2: SIGTERM drains within this time."""
STARTED: Final = "stratos server started"
SERVE: Final = (sys.executable, "-m", "stratos.cli", "serve")


@dataclass(frozen=True, slots=True)
class Running:
    """A service process that listens."""

    process: trio.Process
    url: str

    async def death(self) -> int:
        """Wait until the process has ended; its return code, negative for a signal."""
        with trio.fail_after(START_SECONDS):
            return await self.process.wait()

    async def stop(self) -> int:
        """Ask for a clean stop and wait for it."""
        self.process.send_signal(signal.SIGTERM)
        with trio.fail_after(STOP_SECONDS):
            return await self.process.wait()


@dataclass(frozen=True, slots=True)
class Home:
    """A data directory, and where the services that use it log."""

    data: Path
    log: Path
    settings: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def below(cls, directory: Path, **settings: str) -> Home:
        """A fresh one; `settings` beside those of every home."""
        return cls(directory / "data", directory / "service.log", settings)

    def environment(self, **settings: str) -> dict[str, str]:
        """The settings of a service at home here; dev mode, no write limit."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "STRATOS_SERVICE_DID": SERVICE,
            "STRATOS_HOST": "127.0.0.1",
            "STRATOS_PUBLIC_URL": "http://stratos.test",
            "STRATOS_DATA_DIR": str(self.data),
            "STRATOS_ALLOWED_DOMAINS": ",".join(DOMAINS),
            "STRATOS_DEV_MODE": "true",
            "STRATOS_ADMIN_PASSWORD": ADMIN_PASSWORD,
            "STRATOS_SYNC_TOKEN": SYNC_TOKEN,
            "STRATOS_WRITE_RATE_MAX_WRITES": "1000000",
            "LOG_LEVEL": "warn",
            **self.settings,
            **settings,
        }

    @asynccontextmanager
    async def service(self, die: Step | None = None, at: int = 1, *, clock_behind: int = 0) -> AsyncIterator[Running]:
        """Run a service for the block; with `die` it kills itself at the n-th time of that step.

        Its clock is `clock_behind` seconds behind.
        """
        death = () if die is None else ("--die", die.value, "--at", str(at))
        async with self.program("tests.crash.victim", "--clock-behind", str(clock_behind), *death) as (process, lines):
            with trio.fail_after(START_SECONDS):
                url = await lines.line()
            assert url, f"the service did not start: {self.log.read_text()}"
            yield Running(process, url)

    @asynccontextmanager
    async def served_by_command(self, port: int | None = None) -> AsyncIterator[Running]:
        """Run `stratos serve` for the block, on this port or on one that was free a moment ago."""
        async with self.command(SERVE, STRATOS_PORT=str(port or free_port()), LOG_LEVEL="info") as (process, lines):
            with trio.fail_after(START_SECONDS):
                while (line := await lines.line()) and json.loads(line)["event"] != STARTED:
                    pass
            assert line, f"the service did not start: {self.log.read_text()}"
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lines.drain)
                yield Running(process, json.loads(line)["urls"][0])
                nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def program(self, module: str, *arguments: str) -> AsyncIterator[tuple[trio.Process, Lines]]:
        """Run a module as a program for the block, with its standard output."""
        async with self.command((sys.executable, "-m", module, *arguments)) as started:
            yield started

    @asynccontextmanager
    async def command(self, command: Sequence[str], **settings: str) -> AsyncIterator[tuple[trio.Process, Lines]]:
        """Run a command for the block; it is killed at the end if it still runs. Its errors go to `log`."""
        with self.log.open("ab") as errors:
            process = await trio.lowlevel.open_process(
                command, env=self.environment(**settings), cwd=ROOT, stdout=subprocess.PIPE, stderr=errors
            )
        assert process.stdout is not None
        try:
            yield process, Lines(process.stdout)
        finally:
            with trio.CancelScope(shield=True):
                process.kill()
                await process.wait()
                await process.stdout.aclose()

    def logged_errors(self) -> list[str]:
        """What services logged here at error level and above, and every line that is no log line, such as of a traceback."""
        lines = self.log.read_text().splitlines()
        return [line for line in lines if not line.startswith("{") or json.loads(line)["level"] not in {"debug", "info", "warn"}]


class Lines:
    """A program's standard output, line by line."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._buffer = b""

    async def drain(self) -> None:
        """Throw everything away, so that the program need not wait for a reader."""
        while await self._stream.receive_some():
            pass

    async def line(self) -> str:
        """The next line without its end; empty at the end of the output."""
        while b"\n" not in self._buffer:
            data = await self._stream.receive_some()
            if not data:
                return ""
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()


def free_port() -> int:
    """A port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
