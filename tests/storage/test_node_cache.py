"""The cache of decoded MST nodes."""

from __future__ import annotations

import pytest

from stratos.atproto.cid import Cid
from stratos.storage.node_cache import LruNodeCache

A, B, C = (Cid.of_dag_cbor(name) for name in (b"a", b"b", b"c"))


def test_the_least_recently_used_node_leaves() -> None:
    cache = LruNodeCache(2)
    cache.put(A, "a")
    cache.put(B, "b")
    assert cache.get(A) == "a"
    cache.put(C, "c")
    assert (cache.get(A), cache.get(B), cache.get(C)) == ("a", None, "c")
    assert len(cache) == 2


def test_a_node_that_is_put_again_counts_once_and_is_recent() -> None:
    cache = LruNodeCache(2)
    cache.put(A, "a")
    cache.put(B, "b")
    cache.put(A, "again")
    cache.put(C, "c")
    assert (cache.get(A), cache.get(B)) == ("again", None)


def test_a_cache_without_room_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="at least one"):
        LruNodeCache(0)
