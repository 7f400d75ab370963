"""Merkle Search Tree: an editing session over a stored tree.

Nodes are immutable and read lazily from a block source. An edit replaces the nodes on one path; encoding and hashing wait until
the root is asked for. Source: https://atproto.com/specs/repository#mst-structure.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from stratos.atproto.cid import Cid
from stratos.atproto.mst_edit import EMPTY_TREE, Tree, path_to, with_entry, without_entry
from stratos.atproto.mst_node import (
    EMPTY_MST_ROOT,
    EMPTY_NODE,
    Child,
    InvalidMst,
    Node,
    checked_key,
    encode_node,
    entry_heads,
    key_height,
)
from stratos.atproto.mst_proof import check_tree, checked_entries, verify_proof
from stratos.atproto.mst_reader import BlockSource, MappingSource, MissingBlock, NodeCache, NodeReader

__all__ = [
    "EMPTY_MST_ROOT",
    "BlockSource",
    "InvalidMst",
    "MappingSource",
    "MissingBlock",
    "Mst",
    "MstChange",
    "NodeCache",
    "check_tree",
    "checked_entries",
    "verify_proof",
]


@dataclass(frozen=True, slots=True)
class MstChange:
    """What a session did to the tree that it opened.

    `created` are the nodes (root first) of the new tree that the opened one lacks, `removed` those of the opened tree that the
    new one lacks.
    """

    root: Cid
    created: tuple[tuple[Cid, bytes], ...]
    removed: tuple[Cid, ...]


class Mst:
    """A tree being read and edited. Keys are `collection/rkey`, values record CIDs.

    Every method that takes a key raises InvalidMst for one outside the key grammar; every method that reads nodes raises
    MissingBlock for an absent and InvalidMst for a broken one. An edit that raises has changed nothing. Not for use by several
    threads at once.
    """

    __slots__ = ("_change", "_opened", "_reader", "_tree")

    def __init__(self, reader: NodeReader, opened: Cid | None, tree: Tree) -> None:
        """Use `Mst.open` or `Mst.empty`."""
        self._reader = reader
        self._opened = None if opened is None else (opened, tree.layer)
        self._tree = tree
        self._change: MstChange | None = None

    @classmethod
    def open(cls, root: Cid, source: BlockSource, cache: NodeCache | None = None) -> Mst:
        """Open a stored tree of canonical form; one from elsewhere must have passed `check_tree`.

        Blocks are hash-checked and decoded strictly, whoever wrote them; nodes read by `get`, proofs and edits stay in `cache`.
        """
        reader = NodeReader(source, cache)
        node = reader.node(root, 0)
        if node.keys:
            return cls(reader, root, Tree(root, key_height(node.keys[0])))
        if root == EMPTY_MST_ROOT:
            return cls(reader, root, EMPTY_TREE)
        raise InvalidMst("the root node has no entries")

    @classmethod
    def empty(cls, source: BlockSource | None = None) -> Mst:
        """A tree without entries that replaces none: its change creates every node, if need be the empty one."""
        return cls(NodeReader(source, None), None, EMPTY_TREE)

    @property
    def root(self) -> Cid:
        """The CID of the tree as it is now; encodes and hashes what was edited since it was last asked for."""
        return self.change().root

    def get(self, key: str) -> Cid | None:
        """The value of a key."""
        raw = checked_key(key)
        path = path_to(self._reader, self._tree, raw, key_height(raw))
        if not path:
            return None
        node, index = path[-1]
        return node.values[index] if node.holds(index, raw) else None

    def put(self, key: str, value: Cid) -> Cid | None:
        """Set a key; returns the value that it had."""
        return self._become(*with_entry(self._reader, self._tree, checked_key(key), value))

    def delete(self, key: str) -> Cid | None:
        """Remove a key; returns the value that it had. An absent key is no error."""
        return self._become(*without_entry(self._reader, self._tree, checked_key(key)))

    def change(self) -> MstChange:
        """What this session did so far to the tree that it opened."""
        if self._change is None:
            self._change = self._settled()
        return self._change

    def entries(self, after: str | None = None) -> Iterator[tuple[str, Cid]]:
        """Keys and values in key order, `after` being an exclusive start; nodes are read as the iterator reaches them.

        The iterator goes on showing the tree as it was when the first item was taken, whatever is edited meanwhile.
        """
        start = b"" if after is None else checked_key(after)
        pending: list[tuple[Node, int, int]] = []
        child, layer = self._tree.top, self._tree.layer
        while True:
            while child is not None:
                node = self._reader.passing(child, layer)
                index = bisect_right(node.keys, start)
                pending.append((node, index, layer))
                child, layer = node.children[index], layer - 1
            if not pending:
                return
            node, index, layer = pending.pop()
            if index < len(node.keys):
                yield node.keys[index].decode("ascii"), node.values[index]
                pending.append((node, index + 1, layer))
                child, layer = node.children[index + 1], layer - 1

    def nodes(self) -> Iterator[tuple[Cid, bytes]]:
        """Every node with its block, root first and each before its subtrees, read as the iterator reaches it."""
        pending = [(self.root, self._tree.layer)]
        while pending:
            cid, layer = pending.pop()
            node = self._reader.passing(cid, layer)
            yield cid, encode_node(node)
            pending += [(child, layer - 1) for child in reversed(node.links())]

    def proof(self, key: str) -> list[tuple[Cid, bytes]]:
        """The nodes, root first, that prove which value a key has, or that it has none: see `verify_proof`."""
        return [(cid, encode_node(node)) for cid, node, _ in self._proof_path(checked_key(key))]

    def covering_proof(self, key: str) -> list[tuple[Cid, bytes]]:
        """The nodes, root first, that prove the value of a key and which keys stand next to it on either side.

        With them a consumer of the protocol's repository stream can undo the operation on this key and compare the roots.
        """
        raw = checked_key(key)
        path = self._proof_path(raw)
        found = [(cid, node) for cid, node, _ in path]
        _, last, index = path[-1]
        if last.holds(index, raw):
            below = key_height(raw) - 1
            found += self._edge(last.children[index], below, -1)
            found += self._edge(last.children[index + 1], below, 0)
        return [(cid, encode_node(node)) for cid, node in found]

    def _become(self, tree: Tree, previous: Cid | None) -> Cid | None:
        if tree is not self._tree:
            self._tree, self._change = tree, None
        return previous

    def _settled(self) -> MstChange:
        built: dict[Cid, tuple[Node, bytes]] = {}
        kept: set[bytes] = set()
        top = EMPTY_NODE if self._tree.top is None else self._tree.top
        if isinstance(top, Node):
            root = _encode_drafts(top, built, kept)
        else:
            root = top
            kept.add(root.bytes)
        replaced = self._replaced(kept)
        self._reader.built.update(built)
        created: list[tuple[Cid, bytes]] = []
        for cid, (node, block) in reversed(built.items()):
            if cid not in replaced:
                created.append((cid, block))
                self._reader.remember(cid, node)
        return MstChange(root, tuple(created), tuple([cid for cid in replaced if cid not in built]))

    def _replaced(self, kept: set[bytes]) -> dict[Cid, None]:
        """The nodes of the opened tree outside the kept subtrees, root first: those on the paths that were edited.

        Every node leads to keys, and a key stands only once in a tree; so no node stands twice, and no kept subtree holds one of
        the nodes outside it.
        """
        replaced: dict[Cid, None] = {}
        pending = [] if self._opened is None else [self._opened]
        while pending:
            cid, layer = pending.pop()
            if cid.bytes not in kept:
                replaced[cid] = None
                node = self._reader.node(cid, layer)
                pending += [(child, layer - 1) for child in reversed(node.links()) if child.bytes not in kept]
        return replaced

    def _proof_path(self, raw: bytes) -> list[tuple[Cid, Node, int]]:
        """The way down to a key, or to the empty gap where it would stand, with the nodes' CIDs; never empty."""
        child: Child = self.root
        layer = self._tree.layer
        path: list[tuple[Cid, Node, int]] = []
        while isinstance(child, Cid):
            node = self._reader.node(child, layer)
            index = bisect_left(node.keys, raw)
            path.append((child, node, index))
            if node.holds(index, raw):
                break
            child, layer = node.children[index], layer - 1
        return path

    def _edge(self, child: Child, layer: int, side: int) -> list[tuple[Cid, Node]]:
        """The nodes on the left (side 0) or right (side -1) edge of a settled subtree, from its top."""
        edge: list[tuple[Cid, Node]] = []
        while isinstance(child, Cid):
            node = self._reader.node(child, layer)
            edge.append((child, node))
            child, layer = node.children[side], layer - 1
        return edge


def _encode_drafts(draft: Node, built: dict[Cid, tuple[Node, bytes]], kept: set[bytes]) -> Cid:
    """Encode a draft and every draft below it.

    Adds them to `built`, subtrees first, and to `kept` the CIDs (as bytes, which hash faster) of the stored subtrees that hang
    from them.
    """
    children = draft.children
    if any(children):
        below = list(children)
        for index, child in enumerate(children):
            if child is None:
                continue
            if isinstance(child, Node):
                below[index] = _encode_drafts(child, built, kept)
            else:
                kept.add(child.bytes)
        children = tuple(below)
    heads = entry_heads(draft.keys) if draft.heads is None else draft.heads
    node = Node(draft.keys, draft.values, children, heads)
    block = encode_node(node)
    cid = Cid.of_dag_cbor(block)
    built[cid] = node, block
    return cid
