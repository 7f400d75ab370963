"""A bounded cache of decoded MST nodes."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from stratos.atproto.cid import Cid


class LruNodeCache:
    """At most `limit` nodes; the least recently used one leaves first. Nodes are immutable, so nothing ever goes stale.

    Safe to use from several threads.
    """

    __slots__ = ("_limit", "_lock", "_nodes")

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError("a node cache needs room for at least one node")
        self._limit = limit
        self._lock = Lock()
        self._nodes: OrderedDict[Cid, object] = OrderedDict()

    def get(self, cid: Cid) -> object | None:
        """The node, if it is cached."""
        with self._lock:
            node = self._nodes.get(cid)
            if node is not None:
                self._nodes.move_to_end(cid)
            return node

    def put(self, cid: Cid, node: object) -> None:
        """Remember a node."""
        with self._lock:
            self._nodes[cid] = node
            self._nodes.move_to_end(cid)
            if len(self._nodes) > self._limit:
                self._nodes.popitem(last=False)

    def clear(self) -> None:
        """Forget every node."""
        with self._lock:
            self._nodes.clear()

    def __len__(self) -> int:
        return len(self._nodes)
