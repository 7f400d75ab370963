"""The shared allow list at a real Redis server, with a password, where this machine has the program."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import trio

from stratos.atproto.syntax import Did
from stratos.engine.allow_list import ListFault
from stratos.engine.valkey_set import MEMBERS_PER_COMMAND, ValkeySet
from tests.engine.test_valkey_set import LEFT, nothing_left_for_other_tests

__all__ = ["nothing_left_for_other_tests"]

pytestmark = pytest.mark.filterwarnings(f"ignore:{LEFT}:ResourceWarning")
PASSWORD = "not-a-secret"
START_SECONDS = 20.0


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    """Where the server answers; it keeps nothing, and ends with the test."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        pytest.skip("no redis-server is installed")
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--requirepass", PASSWORD, "--dir", str(tmp_path)]
    start = partial(trio.run_process, [program, *options], stdout=subprocess.DEVNULL, check=False)
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(start)
        try:
            with trio.fail_after(START_SECONDS):
                await listening(port)
            yield port
        finally:
            process.terminate()


async def listening(port: int) -> None:
    """Wait until the server takes connections: a process that is starting can only be asked again."""
    while True:
        try:
            await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
        except OSError:
            await trio.sleep(0.02)
        else:
            return


async def test_a_real_server_holds_the_list_and_tells_who_is_on_it(port: int) -> None:
    names = ValkeySet(f"valkey://:{PASSWORD}@127.0.0.1:{port}/0", "allowed")
    dids = {Did(f"did:plc:{number}") for number in range(2 * MEMBERS_PER_COMMAND + 1)}
    assert not await names.contains(Did("did:plc:0")), "a set that is not there holds nobody"
    await names.replace(dids)
    assert await names.contains(Did("did:plc:0"))
    assert await names.contains(Did(f"did:plc:{2 * MEMBERS_PER_COMMAND}"))
    await names.replace({Did("did:plc:alone")})
    assert await names.contains(Did("did:plc:alone"))
    assert not await names.contains(Did("did:plc:0"))


async def test_a_wrong_password_is_a_fault_that_does_not_tell_it(port: int) -> None:
    with pytest.raises(ListFault) as fault:
        await ValkeySet(f"valkey://:wrong-{PASSWORD}@127.0.0.1:{port}/0", "allowed").contains(Did("did:plc:0"))
    assert PASSWORD not in str(fault.value)
