"""One node of a Merkle Search Tree: its value, its block, its place in the tree.

A node's block has exactly one form, so reading is strict by construction: what `decode_node` accepts, `encode_node` gives back
byte for byte. Source: https://atproto.com/specs/repository#mst-structure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from stratos.atproto.cid import CID_LENGTH, DAG_CBOR, Cid, InvalidCid

MAX_KEY_BYTES: Final = 1024

_KEY: Final = re.compile(rb"[A-Za-z0-9_~:.-]+/[A-Za-z0-9_~:.-]+")
_NULL: Final = b"\xf6"
_LINK: Final = b"\xd8\x2a\x58\x25\x00"
_NODE_OPENING: Final = b"\xa2ae"
_NODE_LEFT: Final = b"al"
_ENTRY_OPENING: Final = b"\xa4ak"
_ENTRY_PREFIX: Final = b"ap"
_ENTRY_TREE: Final = b"at"
_ENTRY_VALUE: Final = b"av"
_UNSIGNED: Final = 0
_BYTES: Final = 2
_ARRAY: Final = 4
_MAX_COUNT: Final = 0xFFFF


class InvalidMst(ValueError):
    """The tree, one of its nodes or a key breaks the rules of the Merkle Search Tree."""


@dataclass(frozen=True, slots=True)
class Node:
    """One node: n ascending keys, their n values and the n + 1 subtrees around them.

    All keys of a node have the same height, the node's layer; the subtrees are one layer below. A subtree is the CID of a stored
    node, a `Node` that has no block yet, or None. `heads` are the beginnings of the entries in the block, which follow from the
    keys and are half of what encoding costs: whoever keeps the keys of a node hands them on.
    """

    keys: tuple[bytes, ...]
    values: tuple[Cid, ...]
    children: tuple[Child, ...]
    heads: tuple[bytes, ...] | None = field(default=None, compare=False, repr=False)

    def holds(self, index: int, raw: bytes) -> bool:
        """Whether the key at an index, if there is one, is this one."""
        return index < len(self.keys) and self.keys[index] == raw

    def links(self) -> list[Cid]:
        """The CIDs of the subtrees that are stored, in key order."""
        return [child for child in self.children if isinstance(child, Cid)]


Child = Cid | Node | None

EMPTY_NODE: Final = Node((), (), (None,))


def checked_key(key: str) -> bytes:
    """The bytes of a key `collection/rkey`. Raises InvalidMst where it is not one, or is longer than MAX_KEY_BYTES."""
    raw = key.encode("utf-8", "replace")
    check_key(raw)
    return raw


def check_key(raw: bytes) -> None:
    """Raise InvalidMst unless these bytes are a key `collection/rkey` of at most MAX_KEY_BYTES."""
    if len(raw) > MAX_KEY_BYTES:
        raise InvalidMst(f"the key is longer than {MAX_KEY_BYTES} bytes: {raw[:80]!r}…")
    if _KEY.fullmatch(raw) is None:
        raise InvalidMst(f"not a key of the form collection/rkey: {raw[:80]!r}")


def key_height(raw: bytes) -> int:
    """The layer of a key: how many pairs of zero bits its SHA-256 begins with."""
    digest = int.from_bytes(sha256(raw).digest(), "big")
    return (256 - digest.bit_length()) // 2


def common_prefix(left: bytes, right: bytes) -> int:
    """How many leading bytes two keys share."""
    length = len(left)
    if length != len(right):
        length = min(length, len(right))
        left, right = left[:length], right[:length]
    difference = int.from_bytes(left, "big") ^ int.from_bytes(right, "big")
    return length - (difference.bit_length() + 7) // 8


def entry_heads(keys: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The beginning of each entry of these keys in a node's block, up to the subtree."""
    heads = []
    previous = b""
    for key in keys:
        shared = common_prefix(previous, key) if previous else 0
        suffix = key[shared:]
        heads.append(_SUFFIX_OPENINGS[len(suffix)] + suffix + _PREFIX_LENGTHS[shared])
        previous = key
    return tuple(heads)


def encode_node(node: Node) -> bytes:
    """The block of a node all of whose children are CIDs or None.

    Written by hand because it is most of what a write costs; equal to `dag_cbor.encode` of the node's map.
    """
    children = node.children
    heads = entry_heads(node.keys) if node.heads is None else node.heads
    parts = [_NODE_OPENING, _head(_ARRAY, len(heads))]
    for head, child, value in zip(heads, children[1:], node.values, strict=True):
        parts += (head, _NULL if child is None else _link(child), _VALUE_OPENING, value.bytes)
    parts += (_NODE_LEFT, _NULL if children[0] is None else _link(children[0]))
    return b"".join(parts)


def decode_node(block: bytes) -> Node:
    """Read a node's block. Raises InvalidMst for anything but the one canonical form.

    Checked: the exact shape and encoding, ASCII keys of at most MAX_KEY_BYTES in ascending order, full prefix compression,
    subtree links to dag-cbor blocks. Key grammar and layers are the business of whoever reads an untrusted tree (`mst_proof`).
    """
    try:
        return _decode(block)
    except IndexError:
        raise InvalidMst("the node's block ends too early") from None
    except InvalidCid as error:
        raise InvalidMst(f"a link in the node is not a CID: {error}") from error


def _decode(block: bytes) -> Node:
    at = _expect(block, 0, _NODE_OPENING)
    count, at = _read_head(block, at, _ARRAY)
    keys: list[bytes] = []
    values: list[Cid] = []
    children: list[Child] = [None]
    heads: list[bytes] = []
    previous = b""
    for _ in range(count):
        start = at
        length, at = _read_head(block, _expect(block, at, _ENTRY_OPENING), _BYTES)
        suffix = block[at : at + length]
        shared, at = _read_head(block, _expect(block, at + length, _ENTRY_PREFIX), _UNSIGNED)
        previous = _next_key(previous, shared, suffix)
        at = _expect(block, at, _ENTRY_TREE)
        heads.append(block[start:at])
        child, at = _read_child(block, at)
        value, at = _read_link(block, _expect(block, at, _ENTRY_VALUE))
        keys.append(previous)
        values.append(value)
        children.append(child)
    children[0], at = _read_child(block, _expect(block, at, _NODE_LEFT))
    if at != len(block):
        raise InvalidMst("bytes follow the node's block")
    return Node(tuple(keys), tuple(values), tuple(children), tuple(heads))


def _next_key(previous: bytes, shared: int, suffix: bytes) -> bytes:
    if shared > len(previous):
        raise InvalidMst("a key shares more bytes than the key before it has")
    if shared + len(suffix) > MAX_KEY_BYTES:
        raise InvalidMst(f"a key is longer than {MAX_KEY_BYTES} bytes")
    if not suffix or (shared < len(previous) and suffix[0] <= previous[shared]):
        raise InvalidMst("the keys are not ascending with full prefix compression")
    if not suffix.isascii():
        raise InvalidMst("a key is not ASCII")
    return previous[:shared] + suffix


def _expect(block: bytes, at: int, literal: bytes) -> int:
    if not block.startswith(literal, at):
        raise InvalidMst(f"not the form of a node at byte {at}")
    return at + len(literal)


def _read_child(block: bytes, at: int) -> tuple[Cid | None, int]:
    if block[at] == _NULL[0]:
        return None, at + 1
    cid, at = _read_link(block, at)
    if cid.codec != DAG_CBOR:
        raise InvalidMst(f"a subtree link is not to a dag-cbor block: {cid}")
    return cid, at


def _read_link(block: bytes, at: int) -> tuple[Cid, int]:
    start = _expect(block, at, _LINK)
    end = start + CID_LENGTH
    return Cid(block[start:end]), end


def _read_head(block: bytes, at: int, major: int) -> tuple[int, int]:
    kind, value = divmod(block[at], 32)
    if kind != major:
        raise InvalidMst(f"not the form of a node at byte {at}")
    if value < 24:
        return value, at + 1
    if value == 24 and block[at + 1] >= 24:
        return block[at + 1], at + 2
    if value == 25 and block[at + 1] > 0:
        return block[at + 1] << 8 | block[at + 2], at + 3
    raise InvalidMst(f"a number at byte {at} is too large or not in its shortest form")


def _head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes((major << 5 | number,))
    if number <= 0xFF:
        return bytes((major << 5 | 24, number))
    if number <= _MAX_COUNT:
        return bytes((major << 5 | 25, number >> 8, number & 0xFF))
    raise InvalidMst(f"a node holds at most {_MAX_COUNT} entries")


def _link(child: Cid | Node) -> bytes:
    if isinstance(child, Cid):
        return _LINK + child.bytes
    raise InvalidMst("a node is encoded only after its subtrees")


_SUFFIX_OPENINGS: Final = tuple(_ENTRY_OPENING + _head(_BYTES, length) for length in range(MAX_KEY_BYTES + 1))
_PREFIX_LENGTHS: Final = tuple(_ENTRY_PREFIX + _head(_UNSIGNED, length) + _ENTRY_TREE for length in range(MAX_KEY_BYTES + 1))
_VALUE_OPENING: Final = _ENTRY_VALUE + _LINK
EMPTY_MST_ROOT: Final = Cid.of_dag_cbor(encode_node(EMPTY_NODE))
