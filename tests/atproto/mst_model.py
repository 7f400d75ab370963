"""A naive Merkle Search Tree to hold the real one against, and what its tests share.

The model rebuilds everything from a dict of entries, with the generic codec and loops that follow the definition word by word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256

from stratos.atproto import dag_cbor
from stratos.atproto.cid import Cid
from stratos.atproto.dag_cbor import Encodable
from stratos.atproto.mst import Mst, MstChange

EMPTY_NODE_BLOCK = dag_cbor.encode({"e": [], "l": None})

VALUES = tuple(Cid.of_dag_cbor(dag_cbor.encode(number)) for number in range(4))
VALUE = VALUES[0]


def height_of(key: str) -> int:
    """Leading zero bits of the key's hash, two to a layer."""
    bits = "".join(f"{byte:08b}" for byte in sha256(key.encode()).digest())
    return (len(bits) - len(bits.lstrip("0"))) // 2


def shared_bytes(left: str, right: str) -> int:
    """How far two keys agree."""
    count = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        count += 1
    return count


def node_block(entries: Sequence[tuple[str, Cid, Cid | None]], left: Cid | None = None) -> bytes:
    """The block of a node from its keys, values and the subtrees to the right of each."""
    listed: list[Encodable] = []
    previous = ""
    for key, value, tree in entries:
        shared = shared_bytes(previous, key)
        listed.append({"k": key[shared:].encode(), "p": shared, "t": tree, "v": value})
        previous = key
    return dag_cbor.encode({"e": listed, "l": left})


def naive_tree(entries: Mapping[str, Cid]) -> tuple[Cid, dict[Cid, bytes]]:
    """The root and all node blocks of the tree of these entries."""
    blocks: dict[Cid, bytes] = {}

    def store(block: bytes) -> Cid:
        cid = Cid.of_dag_cbor(block)
        blocks[cid] = block
        return cid

    def subtree(keys: list[str], layer: int) -> Cid | None:
        if not keys:
            return None
        own = [index for index, key in enumerate(keys) if height_of(key) == layer]
        gaps = [subtree(keys[start + 1 : end], layer - 1) for start, end in zip([-1, *own], [*own, len(keys)], strict=True)]
        listed = [(keys[index], entries[keys[index]], gap) for index, gap in zip(own, gaps[1:], strict=True)]
        return store(node_block(listed, gaps[0]))

    root = subtree(sorted(entries), max(map(height_of, entries), default=0))
    return root or store(EMPTY_NODE_BLOCK), blocks


def _keys_of_many_heights() -> tuple[str, ...]:
    """Sixteen keys of each height from 0 to 5, and two of 6, that lie between one another in key order."""
    found: dict[int, list[str]] = {}
    for number in range(40_000):
        key = f"c.{number % 3}/{number * 7919 % 100_003:06}"
        height = height_of(key)
        if len(found.setdefault(height, [])) < (16 if height < 6 else 2):
            found[height].append(key)
    return tuple(key for height in range(7) for key in found[height])


KEYS = _keys_of_many_heights()


def keys_of_height(height: int) -> list[str]:
    """The keys among KEYS of one height, in key order."""
    return sorted(key for key in KEYS if height_of(key) == height)


class BlockStore:
    """Blocks in memory that counts what is read of it and can hide some of them."""

    def __init__(self, blocks: Mapping[Cid, bytes] | None = None) -> None:
        self.blocks = dict(blocks or {})
        self.hidden: set[Cid] = set()
        self.reads: list[Cid] = []

    def block(self, cid: Cid) -> bytes | None:
        self.reads.append(cid)
        return None if cid in self.hidden else self.blocks.get(cid)

    def apply(self, change: MstChange) -> None:
        self.blocks.update(change.created)
        for cid in change.removed:
            del self.blocks[cid]


class DictCache:
    """A node cache that keeps everything, or nothing beyond a number of nodes."""

    def __init__(self, limit: int | None = None) -> None:
        self.nodes: dict[Cid, object] = {}
        self.limit = limit

    def get(self, cid: Cid) -> object | None:
        return self.nodes.get(cid)

    def put(self, cid: Cid, node: object) -> None:
        self.nodes[cid] = node
        if self.limit is not None and len(self.nodes) > self.limit:
            del self.nodes[next(iter(self.nodes))]


def tree_of(entries: Mapping[str, Cid]) -> Mst:
    """An unsaved tree with these entries."""
    tree = Mst.empty()
    for key, value in entries.items():
        tree.put(key, value)
    return tree


def stored(entries: Mapping[str, Cid]) -> tuple[Cid, BlockStore]:
    """A saved tree with these entries, made by the model."""
    root, blocks = naive_tree(entries)
    return root, BlockStore(blocks)
