"""Content identifiers: CIDv1 with SHA-256, as a 36-byte value.

Source: the AT Protocol data model, https://atproto.com/specs/data-model#link-and-cid-formats.
"""

from __future__ import annotations

import builtins
import re
from hashlib import sha256
from typing import Final

DAG_CBOR: Final = 0x71
RAW: Final = 0x55
CID_LENGTH: Final = 36
_SHA256_32: Final = b"\x12\x20"
_PREFIX_DAG_CBOR: Final = bytes((1, DAG_CBOR)) + _SHA256_32
_PREFIX_RAW: Final = bytes((1, RAW)) + _SHA256_32
_PREFIXES: Final = (_PREFIX_DAG_CBOR, _PREFIX_RAW)

# 288 bits and two of padding are 58 digits. Base 32 by way of one big integer: several times faster than the `base64` module.
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"
_TEXT: Final = re.compile("b[a-z2-7]{58}")
_PADDING_BITS: Final = 2
_TO_PYTHON_BASE_32: Final = str.maketrans(_ALPHABET, "0123456789abcdefghijklmnopqrstuv")
_DIGIT_PAIRS: Final = tuple(high + low for high in _ALPHABET for low in _ALPHABET)
_PAIR_SHIFTS: Final = tuple(range(280, -1, -10))


class InvalidCid(ValueError):
    """The text or bytes are not a CIDv1 of codec dag-cbor or raw with a 32-byte SHA-256 digest."""


class Cid:
    """An immutable CIDv1; equal and hashed by its 36 bytes, ordered by them, printed in base32."""

    __slots__ = ("bytes",)
    bytes: builtins.bytes

    def __init__(self, raw: builtins.bytes) -> None:
        """Take the 36 bytes of a CID.

        Raises InvalidCid for any other version, codec, hash or length.
        """
        if len(raw) != CID_LENGTH or not raw.startswith(_PREFIXES):
            raise InvalidCid("a CID must be version 1, codec dag-cbor or raw, with a SHA-256 digest")
        self.bytes = raw

    @classmethod
    def of_dag_cbor(cls, block: builtins.bytes) -> Cid:
        """The CID of a DAG-CBOR block."""
        return cls(_PREFIX_DAG_CBOR + sha256(block).digest())

    @classmethod
    def of_raw(cls, content: builtins.bytes) -> Cid:
        """The CID of raw content, such as a blob."""
        return cls(_PREFIX_RAW + sha256(content).digest())

    @classmethod
    def parse(cls, text: str) -> Cid:
        """Read the base32 form (`b` and lower-case base32 without padding). Raises InvalidCid."""
        if _TEXT.fullmatch(text) is None:
            raise InvalidCid(f"not a base32 CIDv1 of 59 characters: {text[:80]!r}")
        number = int(text[1:].translate(_TO_PYTHON_BASE_32), 32)
        if number & (1 << _PADDING_BITS) - 1:
            raise InvalidCid(f"not the canonical base32 form: {text!r}")
        return cls((number >> _PADDING_BITS).to_bytes(CID_LENGTH, "big"))

    @property
    def codec(self) -> int:
        """The multicodec number: 0x71 for dag-cbor, 0x55 for raw."""
        return self.bytes[1]

    @property
    def digest(self) -> builtins.bytes:
        """The 32 bytes of the SHA-256 digest."""
        return self.bytes[4:]

    def matches(self, block: builtins.bytes) -> bool:
        """Whether this is the CID of these bytes."""
        return sha256(block).digest() == self.bytes[4:]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cid) and self.bytes == other.bytes

    def __lt__(self, other: Cid) -> bool:
        return self.bytes < other.bytes

    def __hash__(self) -> int:
        return hash(self.bytes)

    def __str__(self) -> str:
        number = int.from_bytes(self.bytes, "big") << _PADDING_BITS
        return "b" + "".join([_DIGIT_PAIRS[number >> shift & 0x3FF] for shift in _PAIR_SHIFTS])

    def __repr__(self) -> str:
        return f"Cid({self})"
