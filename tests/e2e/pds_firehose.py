"""What a PDS tells the world: its own firehose, read with nothing of ours."""

from __future__ import annotations

import hashlib
import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import cbor2
import trio
from trio_websocket import WebSocketConnection, open_websocket_url

from tests.e2e.network import PdsNetwork

WAIT_SECONDS: Final = 45.0
_CID_BYTES: Final = 36


@dataclass(frozen=True, slots=True)
class PublicWrite:
    """One operation that the world is told of. `record` comes out of the block whose hash is the operation's CID."""

    action: str
    path: str
    record: Mapping[str, object] | None


class PdsFirehose:
    """The writes of one account, in order, from the moment of opening on."""

    def __init__(self, socket: WebSocketConnection, did: str) -> None:
        self._socket = socket
        self._did = did

    async def until(self, action: str, path: str) -> PublicWrite:
        """Read on to this write; what comes before it is passed over. Fails where it does not come in time."""
        seen: list[str] = []
        with trio.move_on_after(WAIT_SECONDS):
            while True:
                for write in await self._writes():
                    seen.append(f"{write.action} {write.path}")
                    if (write.action, write.path) == (action, path):
                        return write
        raise AssertionError(f"no {action} of {path} within {WAIT_SECONDS:g} s, but {seen}")

    async def _writes(self) -> list[PublicWrite]:
        message = await self._socket.get_message()
        assert isinstance(message, bytes)
        decoder = cbor2.CBORDecoder(io.BytesIO(message))
        header, body = decoder.decode(), decoder.decode()
        if header.get("t") != "#commit" or body["repo"] != self._did:
            return []
        blocks = _blocks(body["blocks"])
        return [PublicWrite(op["action"], op["path"], _record(blocks, op["cid"])) for op in body["ops"]]


@asynccontextmanager
async def pds_firehose(network: PdsNetwork, did: str) -> AsyncIterator[PdsFirehose]:
    """The firehose from now on."""
    async with open_websocket_url(network.firehose_url) as socket:
        yield PdsFirehose(socket, did)


def _record(blocks: Mapping[bytes, bytes], link: cbor2.CBORTag | None) -> Mapping[str, object] | None:
    if link is None:
        return None
    cid: bytes = link.value[1:]
    block = blocks[cid]
    assert hashlib.sha256(block).digest() == cid[-32:]
    record: Mapping[str, object] = cbor2.loads(block)
    return record


def _blocks(car: bytes) -> dict[bytes, bytes]:
    """The blocks of a CAR by CID; each is `varint length ‖ CID ‖ bytes`, after a header of the same form."""
    stream = io.BytesIO(car)
    stream.read(_varint(stream))
    found: dict[bytes, bytes] = {}
    while stream.tell() < len(car):
        length = _varint(stream)
        cid = stream.read(_CID_BYTES)
        found[cid] = stream.read(length - _CID_BYTES)
    return found


def _varint(stream: io.BytesIO) -> int:
    value = shift = 0
    while True:
        byte = stream.read(1)[0]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
        shift += 7
