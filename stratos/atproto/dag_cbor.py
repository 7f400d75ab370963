"""DAG-CBOR, the one binary form of AT Protocol data: records, tree nodes, commits and frames.

Every value has exactly one encoding, so that equal data have equal CIDs. The encoder writes only that form; the strict decoders
refuse every other one, naming the first fault. Sources: https://ipld.io/specs/codecs/dag-cbor/spec/ and
https://atproto.com/specs/data-model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Final, TypeAlias, cast

import cbor2

from stratos.atproto.cid import CID_LENGTH, Cid, InvalidCid

DataModel: TypeAlias = "bool | int | str | bytes | Cid | list[DataModel] | dict[str, DataModel] | None"
"""What the decoders give. Maps keep the wire's key order, which is the canonical one."""

Encodable: TypeAlias = "bool | int | str | bytes | Cid | Sequence[Encodable] | Mapping[str, Encodable] | None"
"""What the encoder takes: data-model values, of which lists may be tuples; map keys may be in any order."""

Rows: TypeAlias = "int | str | bytes | Sequence[Rows] | None"
"""Data without maps and links, such as the rows of a table."""

MAX_INTEGER: Final = 2**53 - 1
"""Largest magnitude of an integer, so that it survives JSON readers that hold numbers as doubles."""
MAX_BLOCK_DEPTH: Final = 64
"""Nested lists and maps in one strictly decoded block."""
MAX_DEPTH: Final = 80
"""Nested lists and maps in anything that is encoded: room for an envelope, such as a frame, around any block."""

_BYTES, _TEXT, _LIST, _MAP, _TAG = 0x40, 0x60, 0x80, 0xA0, 0xC0
_FALSE, _TRUE, _NULL = b"\xf4", b"\xf5", b"\xf6"
_LINK_TAG: Final = 42
_LINK_PREFIX: Final = b"\xd8\x2a\x58\x25\x00"
_LINK_LENGTH: Final = len(_LINK_PREFIX) + CID_LENGTH
_NOT_ITEMS: Final = {
    0xF7: "the undefined value",
    0xF9: "a 16-bit float",
    0xFA: "a 32-bit float",
    0xFB: "a 64-bit float",
    0xFF: "a stray break",
}


class InvalidDagCbor(ValueError):
    """The bytes are not canonical DAG-CBOR, or the value has no such form; the message says why."""


def _head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes((major | argument,))
    if argument < 0x100:
        return bytes((major | 24, argument))
    if argument < 0x10000:
        return bytes((major | 25,)) + argument.to_bytes(2, "big")
    if argument < 0x100000000:
        return bytes((major | 26,)) + argument.to_bytes(4, "big")
    return bytes((major | 27,)) + argument.to_bytes(8, "big")


_TEXT_HEADS: Final = tuple(_head(_TEXT, length) for length in range(256))
_BYTES_HEADS: Final = tuple(_head(_BYTES, length) for length in range(256))
_MAP_HEADS: Final = tuple(_head(_MAP, count) for count in range(24))


def encode(value: Encodable) -> bytes:
    """The canonical encoding of a value.

    Raises InvalidDagCbor for other types (floats above all), integers beyond ±(2^53−1), keys that are not text, lone surrogates
    and nesting deeper than MAX_DEPTH (which a cyclic value reaches).
    """
    try:
        return _encoded(value, MAX_DEPTH)
    except UnicodeEncodeError as error:
        raise InvalidDagCbor(f"text is not valid Unicode: {error}") from error


def encode_rows(value: Rows) -> bytes:
    """The same as `encode`, several times faster: without maps there is no order in which a general encoder could differ.

    For what we made ourselves; types and integers are not looked at. Raises InvalidDagCbor for lone surrogates.
    """
    try:
        return cbor2.dumps(value)
    except UnicodeEncodeError as error:
        raise InvalidDagCbor(f"text is not valid Unicode: {error}") from error


def _encoded(value: Encodable, depth: int) -> bytes:
    # One concatenation per item; text, which most values are, is written in place instead of by another call.
    if type(value) is str:
        raw = value.encode()
        return (_TEXT_HEADS[len(raw)] if len(raw) < 256 else _head(_TEXT, len(raw))) + raw
    if type(value) is dict:
        if not depth:
            raise InvalidDagCbor(f"nested deeper than {MAX_DEPTH}")
        entries = []
        for key, item in value.items():
            if type(key) is not str:
                raise InvalidDagCbor(f"map key of type {type(key).__name__}: {key!r:.80}")
            raw = key.encode()
            name = (_TEXT_HEADS[len(raw)] if len(raw) < 256 else _head(_TEXT, len(raw))) + raw
            if type(item) is str:
                raw = item.encode()
                entries.append(name + (_TEXT_HEADS[len(raw)] if len(raw) < 256 else _head(_TEXT, len(raw))) + raw)
            elif type(item) is Cid:
                entries.append(name + _LINK_PREFIX + item.bytes)
            else:
                entries.append(name + _encoded(item, depth - 1))
        # Encoded keys are prefix-free and start with their length: sorting whole entries is the canonical order of keys.
        entries.sort()
        return (_MAP_HEADS[len(entries)] if len(entries) < 24 else _head(_MAP, len(entries))) + b"".join(entries)
    if type(value) is list or type(value) is tuple:
        if not depth:
            raise InvalidDagCbor(f"nested deeper than {MAX_DEPTH}")
        return _head(_LIST, len(value)) + b"".join([_encoded(item, depth - 1) for item in value])
    return _encoded_scalar(value)


def _encoded_scalar(value: Encodable) -> bytes:
    if type(value) is Cid:
        return _LINK_PREFIX + value.bytes
    if type(value) is int:
        return _head(0x00, _in_range(value)) if value >= 0 else _head(0x20, -1 - _in_range(value))
    if type(value) is bytes:
        return (_BYTES_HEADS[len(value)] if len(value) < 256 else _head(_BYTES, len(value))) + value
    if value is None:
        return _NULL
    if type(value) is bool:
        return _TRUE if value else _FALSE
    raise InvalidDagCbor(f"a value of type {type(value).__name__} has no DAG-CBOR form")


def decode(data: bytes) -> DataModel:
    """Read exactly one item from untrusted bytes.

    Raises InvalidDagCbor unless the bytes are what `encode` makes of the value, of at most MAX_BLOCK_DEPTH nested containers.
    """
    value, end = _strict(data, 0, MAX_BLOCK_DEPTH)
    if end != len(data):
        raise InvalidDagCbor(f"{len(data) - end} bytes after the item")
    return value


def decode_prefix(data: bytes, offset: int = 0) -> tuple[DataModel, int]:
    """Read the item that begins at an offset of untrusted bytes; gives it and the offset of what follows.

    As strict as `decode`, but up to MAX_DEPTH, for frames, whose bodies hold whole records.
    """
    return _strict(data, offset, MAX_DEPTH)


def decode_own(data: bytes) -> DataModel:
    """Read one item that this codec wrote and nobody could change since.

    About three times faster than `decode`, and lax: never use it on bytes from outside. Raises InvalidDagCbor when they are
    damaged so badly that even a lax reader fails.
    """
    source = BytesIO(data)
    try:
        value = cbor2.CBORDecoder(source, tag_hook=_own_link, max_depth=MAX_DEPTH + 1).decode()
    except (cbor2.CBORError, InvalidCid) as error:
        raise InvalidDagCbor(f"damaged: {error}") from error
    if source.tell() != len(data):
        raise InvalidDagCbor(f"damaged: {len(data) - source.tell()} bytes after the item")
    return cast("DataModel", value)


def _own_link(tag: cbor2.CBORTag, _immutable: bool) -> Cid:
    if tag.tag != _LINK_TAG:
        raise InvalidCid(f"tag {tag.tag}")
    return Cid(tag.value[1:])


def _strict(data: bytes, offset: int, depth: int) -> tuple[DataModel, int]:
    try:
        return _item(data, offset, depth)
    except IndexError:
        raise InvalidDagCbor("truncated: the data end inside an item") from None
    except UnicodeDecodeError as error:
        raise InvalidDagCbor(f"text is not valid UTF-8: {error.reason}") from error


def _item(data: bytes, at: int, depth: int) -> tuple[DataModel, int]:
    """The item at an offset and the offset after it; IndexError at the end of data, UnicodeDecodeError for bad text."""
    initial = data[at]
    if initial == 0x78:
        # Text of 24 to 255 bytes is the most frequent value; when it is not as it should be, the general way below says why.
        start = at + 2
        end = start + data[at + 1]
        if start + 24 <= end <= len(data):
            return data[start:end].decode(), end
    if initial >= _TAG:
        if data.startswith(_LINK_PREFIX, at):
            return _link(data, at)
        return _tag_or_simple(data, at, initial)
    argument = initial & 31
    at += 1
    if argument >= 24:
        argument, at = _argument(data, at, argument)
    major = initial & 0xE0
    if major == _TEXT:
        end = at + argument
        if end > len(data):
            raise _too_short("text", argument, len(data) - at)
        return data[at:end].decode(), end
    if major == _MAP:
        return _map(data, at, argument, depth)
    if major == _LIST:
        return _list(data, at, argument, depth)
    if major == _BYTES:
        end = at + argument
        if end > len(data):
            raise _too_short("byte string", argument, len(data) - at)
        return data[at:end], end
    integer = -1 - argument if major else argument
    return _in_range(integer), at


def _in_range(integer: int) -> int:
    if not -MAX_INTEGER <= integer <= MAX_INTEGER:
        raise InvalidDagCbor("integer beyond ±(2^53−1)")
    return integer


def _list(data: bytes, at: int, count: int, depth: int) -> tuple[list[DataModel], int]:
    if not depth:
        raise InvalidDagCbor(f"nested too deeply at byte {at}")
    if count > len(data) - at:
        raise _too_short("list", count, len(data) - at)
    items = []
    for _ in range(count):
        item, at = _item(data, at, depth - 1)
        items.append(item)
    return items, at


def _map(data: bytes, at: int, count: int, depth: int) -> tuple[dict[str, DataModel], int]:
    if not depth:
        raise InvalidDagCbor(f"nested too deeply at byte {at}")
    if 2 * count > len(data) - at:
        raise _too_short("map", count, len(data) - at)
    entries: dict[str, DataModel] = {}
    previous = b""
    for _ in range(count):
        start = at
        length = data[at] - _TEXT
        at += 1
        if not 0 <= length < 24:
            if not 24 <= length < 32:
                raise InvalidDagCbor(f"map key that is not text at byte {start}")
            length, at = _argument(data, at, length)
        end = at + length
        if end > len(data):
            raise _too_short("map key", length, len(data) - at)
        # Head and text together sort in the canonical order, and no key's encoding is the beginning of another's.
        encoded_key = data[start:end]
        key = data[at:end].decode()
        if encoded_key <= previous:
            fault = "twice" if encoded_key == previous else "out of canonical order"
            raise InvalidDagCbor(f"map key {key[:80]!r} {fault} at byte {start}")
        previous = encoded_key
        # The most frequent values, short text and small numbers, are read here instead of by another call.
        initial = data[end]
        if 0x60 <= initial < 0x78:
            at = end + 1 + initial - _TEXT
            if at > len(data):
                raise _too_short("text", initial - _TEXT, len(data) - end - 1)
            entries[key] = data[end + 1 : at].decode()
        elif initial < 24:
            entries[key] = initial
            at = end + 1
        else:
            entries[key], at = _item(data, end, depth - 1)
    return entries, at


def _argument(data: bytes, at: int, additional: int) -> tuple[int, int]:
    """The argument that follows an initial byte whose low five bits are 24 or more."""
    if additional == 24:
        argument, end, least = data[at], at + 1, 24
    elif additional == 25:
        argument, end, least = int.from_bytes(data[at : at + 2], "big"), at + 2, 0x100
    elif additional == 26:
        argument, end, least = int.from_bytes(data[at : at + 4], "big"), at + 4, 0x10000
    elif additional == 27:
        argument, end, least = int.from_bytes(data[at : at + 8], "big"), at + 8, 0x100000000
    elif additional == 31:
        raise InvalidDagCbor(f"indefinite length at byte {at - 1}")
    else:
        raise InvalidDagCbor(f"reserved initial byte 0x{data[at - 1]:02x} at byte {at - 1}")
    if end > len(data):
        raise IndexError
    if argument < least:
        raise InvalidDagCbor(f"number or length in a longer form than needed at byte {at - 1}")
    return argument, end


def _link(data: bytes, at: int) -> tuple[Cid, int]:
    end = at + _LINK_LENGTH
    if end > len(data):
        raise IndexError
    try:
        return Cid(data[at + len(_LINK_PREFIX) : end]), end
    except InvalidCid as error:
        raise InvalidDagCbor(f"link at byte {at}: {error}") from error


def _tag_or_simple(data: bytes, at: int, initial: int) -> tuple[DataModel, int]:
    if initial == _NULL[0]:
        return None, at + 1
    if initial == _TRUE[0]:
        return True, at + 1
    if initial == _FALSE[0]:
        return False, at + 1
    if initial >= 0xE0:
        what = _NOT_ITEMS.get(initial, f"a simple value (0x{initial:02x})")
        raise InvalidDagCbor(f"{what} at byte {at}: only false, true and null are allowed")
    tag = initial & 31
    if tag >= 24:
        tag, at = _argument(data, at + 1, tag)
    if tag != _LINK_TAG:
        raise InvalidDagCbor(f"tag {tag}: only 42, a link, is allowed")
    raise InvalidDagCbor("tag 42 must hold a byte string of 37 bytes: 0x00 and a CIDv1 of 36 bytes")


def _too_short(what: str, declared: int, left: int) -> InvalidDagCbor:
    return InvalidDagCbor(f"truncated: a {what} declares length {declared}, {left} bytes are left")
