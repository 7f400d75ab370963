"""CAR files, version 1: a header that names roots, then blocks, each behind its CID.

Source: https://ipld.io/specs/transport/car/carv1/. The decoder takes untrusted bytes in chunks of any size and holds no
more than one block that is not complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from stratos.atproto.cid import CID_LENGTH, Cid, InvalidCid
from stratos.atproto.dag_cbor import DataModel, InvalidDagCbor, decode, encode

MAX_BLOCK_BYTES: Final = 4 * 1024 * 1024
"""Largest block: well above any record or tree node."""
MAX_HEADER_BYTES: Final = 8 * 1024
"""Largest header: nearly two hundred roots, of which a repository has one."""
_MAX_VARINT_BYTES: Final = 9
_VERSION: Final = 1


class InvalidCar(ValueError):
    """The bytes are not a CAR file within the limits, or a block is not what its CID says."""


@dataclass(frozen=True, slots=True)
class Car:
    """A whole CAR file: its roots (none, one or several: the caller decides) and its distinct blocks in the file's order."""

    roots: tuple[Cid, ...]
    blocks: dict[Cid, bytes]


def encode_header(root: Cid) -> bytes:
    """The header of a file with one root, as it stands at the file's beginning."""
    header = encode({"version": _VERSION, "roots": [root]})
    return _varint(len(header)) + header


def encode_block(cid: Cid, block: bytes) -> bytes:
    """One block as it stands in the file. The caller vouches that the CID is the block's."""
    return _varint(CID_LENGTH + len(block)) + cid.bytes + block


def read_car(data: bytes, *, verify: bool = True) -> Car:
    """Read a whole file. Raises InvalidCar; `verify=False` leaves the check of the blocks' hashes to the caller."""
    decoder = CarDecoder(verify=verify)
    blocks = dict(decoder.feed(data))
    return Car(decoder.finish(), blocks)


class CarDecoder:
    """Reads a CAR file chunk by chunk.

    After InvalidCar it is of no further use: every later call raises it again.
    """

    __slots__ = ("_at", "_buffer", "_fault", "_max_block_bytes", "_max_header_bytes", "_roots", "_verify")

    def __init__(
        self, max_block_bytes: int = MAX_BLOCK_BYTES, max_header_bytes: int = MAX_HEADER_BYTES, *, verify: bool = True
    ) -> None:
        """Take the limits, and whether each block's hash is checked; one who does not must not trust the CIDs."""
        self._max_block_bytes = max_block_bytes
        self._max_header_bytes = max_header_bytes
        self._verify = verify
        self._buffer = bytearray()
        self._at = 0
        self._roots: tuple[Cid, ...] | None = None
        self._fault: str | None = None

    @property
    def roots(self) -> tuple[Cid, ...] | None:
        """The roots that the header names; None until the header has been read."""
        return self._roots

    def feed(self, chunk: bytes) -> Iterator[tuple[Cid, bytes]]:
        """Take the next bytes of the file; gives the blocks that they complete, in order, as the iterator is advanced.

        The iterator raises InvalidCar at the first fault. What an abandoned iterator did not give, that of the next call gives.
        """
        if self._fault is not None:
            raise InvalidCar(self._fault)
        self._buffer += chunk
        return self._blocks()

    def finish(self) -> tuple[Cid, ...]:
        """Say that the file has ended; gives its roots. Raises InvalidCar when it ended early."""
        if self._fault is not None:
            raise InvalidCar(self._fault)
        if self._roots is None:
            raise self._failed("truncated: the file ends inside its header")
        if self._at != len(self._buffer):
            raise self._failed("truncated: the file ends inside a block")
        return self._roots

    def _blocks(self) -> Iterator[tuple[Cid, bytes]]:
        try:
            while True:
                if self._roots is None:
                    header = self._section(self._max_header_bytes, "header")
                    if header is None:
                        return
                    self._roots = _read_header(header)
                section = self._section(CID_LENGTH + self._max_block_bytes, "block")
                if section is None:
                    return
                yield self._block(section)
        except InvalidCar as error:
            self._failed(str(error))
            raise
        finally:
            del self._buffer[: self._at]
            self._at = 0

    def _section(self, max_bytes: int, what: str) -> bytes | None:
        """The next length-prefixed section, or None while it is not complete."""
        length = shift = 0
        at = self._at
        while True:
            if at == len(self._buffer):
                return None
            octet = self._buffer[at]
            at += 1
            length |= (octet & 0x7F) << shift
            shift += 7
            if octet < 0x80:
                break
            if shift == 7 * _MAX_VARINT_BYTES:
                raise InvalidCar(f"the length of a {what} has more than {_MAX_VARINT_BYTES} bytes")
        if not octet and shift > 7:
            raise InvalidCar(f"the length of a {what} is in a longer form than needed")
        if length > max_bytes:
            raise InvalidCar(f"a {what} of {length} bytes is larger than {max_bytes}")
        if length > len(self._buffer) - at:
            return None
        self._at = at + length
        return bytes(memoryview(self._buffer)[at : self._at])

    def _block(self, section: bytes) -> tuple[Cid, bytes]:
        if len(section) < CID_LENGTH:
            raise InvalidCar(f"a block section of {len(section)} bytes is too short for its CID")
        try:
            cid = Cid(section[:CID_LENGTH])
        except InvalidCid as error:
            raise InvalidCar(f"unusable CID 0x{section[:CID_LENGTH].hex()} before a block: {error}") from error
        block = section[CID_LENGTH:]
        if self._verify and not cid.matches(block):
            raise InvalidCar(f"a block is not what its CID {cid} says")
        return cid, block

    def _failed(self, fault: str) -> InvalidCar:
        self._fault = fault
        self._buffer.clear()
        self._at = 0
        return InvalidCar(fault)


def _read_header(header: bytes) -> tuple[Cid, ...]:
    try:
        value: DataModel = decode(header)
    except InvalidDagCbor as error:
        raise InvalidCar(f"the header is not DAG-CBOR: {error}") from error
    if not isinstance(value, dict) or value.get("version") != _VERSION or type(value.get("version")) is not int:
        raise InvalidCar("the header is not that of a CAR file of version 1")
    roots = value.get("roots")
    if not isinstance(roots, list):
        raise InvalidCar("the header has no list of roots")
    cids = tuple(root for root in roots if isinstance(root, Cid))
    if len(cids) != len(roots):
        raise InvalidCar("a root in the header is not a link")
    return cids


def _varint(number: int) -> bytes:
    octets = bytearray()
    while number > 0x7F:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)
