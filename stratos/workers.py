"""`stratos serve --workers N`: several processes of one host behind one port, all on one PostgreSQL.

The parent opens the port and owns nothing else: it starts workers that accept from the same sockets, replaces one that dies, and
passes a stop on. What nobody accepts meanwhile waits in the kernel. Each worker holds one end of a socket pair: there it says
that it serves, and hears that it is to stop, or that its parent is gone. It is not sent a signal for that: where a terminal or a
service manager signals the whole group, a second one would cut the clean stop short.
"""

from __future__ import annotations

import secrets
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Final

import structlog
import trio

from stratos.engine.service import World
from stratos.engine.supervisor import Supervisor

BACKLOG: Final = 1_024
READY: Final = b"r"
STOP: Final = b"s"
START_SECONDS: Final = 60.0
"""Within this time a worker serves, or is replaced."""
_SHARED_NONCES: Final = "STRATOS_DPOP_NONCE_SECRET"
_NONCE_BYTES: Final = 32

log = structlog.stdlib.get_logger(__name__)


class WorkerEnded(Exception):
    """A worker's process ended, or did not come to serve, although nobody had asked it to end."""


def open_port(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of `host`. Raises OSError."""
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with ExitStack() as undo:
        sockets = [
            undo.enter_context(socket.create_server(address[:2], family=family, backlog=BACKLOG))
            for family, *_, address in addresses
        ]
        undo.pop_all()
    return sockets


async def run_workers(
    count: int, sockets: Sequence[socket.socket], environment: Mapping[str, str], *, patience: float, stop: trio.Event
) -> None:
    """Keep `count` workers serving until `stop` is set; then all of them stop, within `patience` seconds.

    `environment` is theirs; what they must agree upon and the operator left to chance is drawn here. Raises EscalatedFailure when
    a worker dies again and again.
    """
    nonce_secret = environment.get(_SHARED_NONCES) or secrets.token_hex(_NONCE_BYTES)
    shared = {**environment, _SHARED_NONCES: nonce_secret}
    supervisor = Supervisor(rng=World.real().rng)
    async with trio.open_nursery() as nursery:
        for number in range(count):
            worker = partial(_run_worker, number, sockets, shared, patience)
            nursery.start_soon(supervisor.run, f"worker {number}", worker)
        await stop.wait()
        nursery.cancel_scope.cancel()


async def _run_worker(
    number: int,
    sockets: Sequence[socket.socket],
    environment: Mapping[str, str],
    patience: float,
    *,
    task_status: trio.TaskStatus[object],
) -> None:
    """Start one worker and stay with it to its end. Cancellation stops it and waits. Raises WorkerEnded when it ends unasked."""
    descriptors = [each.fileno() for each in sockets]
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            command = [sys.executable, "-m", "stratos.cli", "serve", "--worker", str(number)]
            for descriptor in descriptors:
                command += ["--listen-fd", str(descriptor)]
            process = await trio.lowlevel.open_process(command, stdin=theirs, env=environment, pass_fds=descriptors)
        try:
            await _until_ready(number, trio.socket.from_stdlib_socket(ours.dup()))
            task_status.started()
            log.info("worker serves", worker=number, pid=process.pid)
            await process.wait()
        finally:
            with trio.CancelScope(shield=True):
                await _stop(process, ours, patience)
    raise WorkerEnded(f"worker {number} ended with exit status {process.returncode}")


async def _until_ready(number: int, wire: trio.socket.SocketType) -> None:
    with wire, trio.move_on_after(START_SECONDS):
        if await wire.recv(len(READY)) == READY:
            return
        raise WorkerEnded(f"worker {number} ended before it served")
    raise WorkerEnded(f"worker {number} did not serve within {START_SECONDS:.0f} seconds")


async def _stop(process: trio.Process, wire: socket.socket, patience: float) -> None:
    """Ask a worker to stop, and wait until it has ended; one that takes longer than `patience` is killed."""
    with suppress(OSError):  # it is gone already
        wire.send(STOP)
    with trio.move_on_after(patience):
        await process.wait()
        return
    process.kill()
    await process.wait()


async def attend_parent(
    stop: trio.Event, serving: trio.Event, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """In a worker: tell the parent when `serving` is set, and set `stop` when the parent says so or is gone."""
    wire = trio.socket.fromfd(sys.stdin.fileno(), socket.AF_UNIX, socket.SOCK_STREAM)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_announce, wire, serving)
        task_status.started()
        try:
            heard = await wire.recv(len(STOP))
        except OSError as error:
            log.info("the parent's end is broken", error=str(error))
            heard = b""
        if heard == STOP:
            log.info("stopping", by="the parent process")
        else:
            log.warning("the parent process is gone, stopping")
        stop.set()
        nursery.cancel_scope.cancel()


async def _announce(wire: trio.socket.SocketType, serving: trio.Event) -> None:
    await serving.wait()
    with suppress(OSError):  # whoever listens for the parent learns it too
        await wire.send(READY)
