"""Judging Merkle Search Trees that come from elsewhere: whole trees and proofs. Every block is hashed and read strictly."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping

from stratos.atproto.cid import Cid
from stratos.atproto.mst_node import EMPTY_MST_ROOT, InvalidMst, Node, check_key, checked_key, key_height
from stratos.atproto.mst_reader import BlockSource, MappingSource, load_node


def check_tree(root: Cid, source: BlockSource) -> None:
    """Walk a whole tree and make sure that it has the canonical form, so that its root is the only one for these entries.

    Checked: hashes, node encoding and prefix compression, key grammar, key order throughout, every key in the layer of its
    height, every subtree one layer below its node, no node without entries except where it leads to a lower layer. Memory is
    bounded by the number of layers. Raises MissingBlock or InvalidMst.
    """
    for _ in checked_entries(root, source):
        pass


def checked_entries(root: Cid, source: BlockSource) -> Iterator[tuple[str, Cid]]:
    """The keys and values of an untrusted tree in key order, checked as in `check_tree` while they are read.

    Nothing may be believed before the iterator has ended without raising.
    """
    top = _load_root(root, source)
    if top is None:
        return
    previous = b""
    pending = [(*top, 0)]
    while pending:
        node, layer, index = pending.pop()
        if index > 0:
            raw = node.keys[index - 1]
            if raw <= previous:
                raise InvalidMst(f"the key {raw[:80]!r} is out of order")
            previous = raw
            yield raw.decode("ascii"), node.values[index - 1]
        if index < len(node.keys):
            pending.append((node, layer, index + 1))
        child = node.children[index]
        if isinstance(child, Cid):
            pending.append((_load_checked(child, layer - 1, source), layer - 1, 0))


def verify_proof(root: Cid, blocks: Mapping[Cid, bytes], key: str) -> Cid | None:
    """The value that a tree has for a key, None if it has none, from the nodes on the way there alone.

    `root` is trusted (from a verified commit), the blocks are not. Raises MissingBlock where the nodes do not suffice, InvalidMst
    where they are broken or the key is not one.
    """
    raw = checked_key(key)
    source = MappingSource(blocks)
    top = _load_root(root, source)
    if top is None:
        return None
    node, layer = top
    above, below = b"", None
    while True:
        if node.keys and (node.keys[0] <= above or (below is not None and node.keys[-1] >= below)):
            raise InvalidMst("a node holds keys outside its place")
        index = bisect_left(node.keys, raw)
        if node.holds(index, raw):
            return node.values[index]
        child = node.children[index]
        if not isinstance(child, Cid):
            return None
        above = node.keys[index - 1] if index > 0 else above
        below = node.keys[index] if index < len(node.keys) else below
        layer -= 1
        node = _load_checked(child, layer, source)


def _load_root(root: Cid, source: BlockSource) -> tuple[Node, int] | None:
    """The top node and its layer; None for the empty tree."""
    node = load_node(root, source)
    if node.keys:
        layer = key_height(node.keys[0])
        _check_node(node, layer)
        return node, layer
    if root == EMPTY_MST_ROOT:
        return None
    raise InvalidMst("the root node has no entries")


def _load_checked(cid: Cid, layer: int, source: BlockSource) -> Node:
    node = load_node(cid, source)
    _check_node(node, layer)
    return node


def _check_node(node: Node, layer: int) -> None:
    """Raise InvalidMst unless a node may stand in this layer."""
    if layer == 0 and any(child is not None for child in node.children):
        raise InvalidMst("a node of layer 0 has subtrees")
    if not node.keys and node.children[0] is None:
        raise InvalidMst("a node below the root is empty")
    for raw in node.keys:
        check_key(raw)
        if key_height(raw) != layer:
            raise InvalidMst(f"the key {raw[:80]!r} stands in layer {layer} instead of {key_height(raw)}")
