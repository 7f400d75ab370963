"""The shared allow list at a server that speaks Valkey's protocol: a small one of the test's own, with real connections."""

from __future__ import annotations

import gc
import warnings
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import pytest
import trio

from stratos.engine.allow_list import ListFault
from stratos.engine.valkey_set import MEMBERS_PER_COMMAND, ValkeySet
from tests.engine.builders import REI, SAKURA

# Streams inside coredis are left to the garbage collector.
LEFT = "Unclosed <MemoryObject"
pytestmark = pytest.mark.filterwarnings(f"ignore:{LEFT}:ResourceWarning")
HELLO = b"%4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.2.0\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:1\r\n"


@dataclass
class Server:
    """Knows sets, and the few commands that we send; `mute` makes it listen without an answer, `broken` answer with errors."""

    sets: dict[bytes, set[bytes]] = field(default_factory=dict)
    commands: list[list[bytes]] = field(default_factory=list)
    mute: bool = False
    broken: bool = False
    port: int = 0

    async def converse(self, stream: trio.SocketStream) -> None:
        """Serve one connection."""
        received = b""
        async for chunk in stream:
            received += chunk
            while (taken := _command(received)) is not None:
                words, received = taken
                if self.mute:
                    continue
                await stream.send_all(self.answer(words))

    def answer(self, words: list[bytes]) -> bytes:
        """Do what a command says."""
        name, *rest = words
        if name == b"HELLO":
            return HELLO
        if name == b"CLIENT":
            return b"+OK\r\n"
        if self.broken:
            return b"-ERR out of order\r\n"
        self.commands.append(words)
        members = self.sets.setdefault(rest[0], set())
        if name == b"DEL":
            members.clear()
            return b":1\r\n"
        if name == b"SADD":
            members |= set(rest[1:])
            return b":%d\r\n" % len(rest[1:])
        assert name == b"SISMEMBER", name
        return b":%d\r\n" % (rest[1] in members)


def _command(received: bytes) -> tuple[list[bytes], bytes] | None:
    """The first whole command and what follows it."""
    head, _, rest = received.partition(b"\r\n")
    if not head.startswith(b"*"):
        return None
    words: list[bytes] = []
    for _ in range(int(head[1:])):
        size, found, rest = rest.partition(b"\r\n")
        if not found or len(rest) < int(size[1:]) + 2:
            return None
        words.append(rest[: int(size[1:])])
        rest = rest[int(size[1:]) + 2 :]
    return words, rest


@pytest.fixture(autouse=True)
def nothing_left_for_other_tests() -> Iterator[None]:
    """Collects what coredis has left before its warnings fall upon another test."""
    yield
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", LEFT, ResourceWarning)
        gc.collect()


@pytest.fixture
async def server(nursery: trio.Nursery) -> AsyncIterator[Server]:
    """A server on a free port."""
    server = Server()
    listeners: list[trio.SocketListener] = await nursery.start(trio.serve_tcp, server.converse, 0)
    server.port = listeners[0].socket.getsockname()[1]
    yield server
    nursery.cancel_scope.cancel()


async def test_membership_is_what_the_server_says(server: Server) -> None:
    server.sets[b"names"] = {REI.encode()}
    names = ValkeySet(f"valkey://:secret@127.0.0.1:{server.port}/0", "names")
    assert await names.contains(REI)
    assert not await names.contains(SAKURA)


async def test_replacing_deletes_and_adds_in_chunks(server: Server) -> None:
    server.sets[b"names"] = {b"did:plc:former"}
    dids = {type(REI)(f"did:plc:{number}") for number in range(2 * MEMBERS_PER_COMMAND + 1)}
    await ValkeySet(f"redis://127.0.0.1:{server.port}", "names").replace(dids)
    assert server.sets[b"names"] == {did.encode() for did in dids}
    sizes = [(words[0], len(words) - 2) for words in server.commands]
    assert sizes == [(b"DEL", 0), (b"SADD", MEMBERS_PER_COMMAND), (b"SADD", MEMBERS_PER_COMMAND), (b"SADD", 1)]


@pytest.mark.expects_error_log  # coredis's own
async def test_a_server_that_is_broken_silent_or_gone_is_a_fault_that_tells_no_password(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stratos.engine.valkey_set.ANSWER_SECONDS", 0.2)
    names = ValkeySet(f"redis://:secret@127.0.0.1:{server.port}", "names")
    faults: list[str] = []
    server.broken = True
    with pytest.raises(ListFault) as broken:
        await names.contains(REI)
    faults.append(str(broken.value))
    server.mute = True
    with pytest.raises(ListFault) as silent:
        await names.contains(REI)
    faults.append(str(silent.value))
    with pytest.raises(ListFault) as gone:
        await ValkeySet("redis://:secret@127.0.0.1:1", "names").contains(REI)
    faults.append(str(gone.value))
    assert not any("secret" in fault for fault in faults)
