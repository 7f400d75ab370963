"""Reading the nodes of a Merkle Search Tree from blocks: checked, cached, one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from stratos.atproto.cid import DAG_CBOR, Cid
from stratos.atproto.mst_node import InvalidMst, Node, decode_node


class MissingBlock(Exception):
    """A block that the tree needs is not in the source."""

    def __init__(self, cid: Cid) -> None:
        """Name the block that is absent."""
        super().__init__(f"missing block {cid}")
        self.cid = cid


class BlockSource(Protocol):
    """Where the blocks of stored nodes come from."""

    def block(self, cid: Cid) -> bytes | None:
        """The bytes of a block; None where the source has none."""


class MappingSource:
    """Blocks that are in memory already, such as those of a CAR."""

    __slots__ = ("_blocks",)

    def __init__(self, blocks: Mapping[Cid, bytes]) -> None:
        """Serve from this mapping, which stays the caller's."""
        self._blocks = blocks

    def block(self, cid: Cid) -> bytes | None:
        """The bytes of a block; None where the mapping has none."""
        return self._blocks.get(cid)


class NodeCache(Protocol):
    """Decoded nodes by CID; safe to lose at any moment."""

    def get(self, cid: Cid) -> object | None:
        """What was last put under this CID, if it is still there."""

    def put(self, cid: Cid, node: object) -> None:
        """Remember a node."""


def load_node(cid: Cid, source: BlockSource) -> Node:
    """Read a node. Raises MissingBlock, and InvalidMst where the block does not hash to its CID or is not a node."""
    if cid.codec != DAG_CBOR:
        raise InvalidMst(f"the CID of a node must be of dag-cbor: {cid}")
    block = source.block(cid)
    if block is None:
        raise MissingBlock(cid)
    if not cid.matches(block):
        raise InvalidMst(f"the block of {cid} has another hash")
    return decode_node(block)


class NodeReader:
    """The nodes of one editing session: those that it built, those in the cache, those in the source, in this order.

    `built` is the session's: the nodes that it encoded, with their blocks. Every read raises MissingBlock for an absent and
    InvalidMst for a broken node or one below layer 0, so that no chain of links leads deeper than the layers do.
    """

    __slots__ = ("_cache", "_source", "built")

    def __init__(self, source: BlockSource | None, cache: NodeCache | None) -> None:
        """Read from `source` (None: there is nothing but what the session builds), remember in `cache`."""
        self._source = source
        self._cache = cache
        self.built: dict[Cid, tuple[Node, bytes]] = {}

    def node(self, child: Cid | Node, layer: int) -> Node:
        """A node to work on: it stays in the cache."""
        if isinstance(child, Node):
            return child
        node = self._known(child, layer)
        if node is None:
            node = self._load(child)
            self.remember(child, node)
        return node

    def passing(self, child: Cid | Node, layer: int) -> Node:
        """A node to pass by once, in a walk that must not sweep the cache."""
        if isinstance(child, Node):
            return child
        return self._known(child, layer) or self._load(child)

    def remember(self, cid: Cid, node: Node) -> None:
        """Put a node without unstored subtrees in the cache."""
        if self._cache is not None:
            self._cache.put(cid, node)

    def _known(self, cid: Cid, layer: int) -> Node | None:
        if layer < 0:
            raise InvalidMst("a node has subtrees below layer 0")
        built = self.built.get(cid)
        if built is not None:
            return built[0]
        cached = None if self._cache is None else self._cache.get(cid)
        return cached if isinstance(cached, Node) else None

    def _load(self, cid: Cid) -> Node:
        if self._source is None:
            raise MissingBlock(cid)
        return load_node(cid, self._source)
