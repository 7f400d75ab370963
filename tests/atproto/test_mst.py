"""The MST editing session: roots, reading, what an edit touches and what a change creates and removes."""

from __future__ import annotations

import json
import random
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.atproto.cid import Cid
from stratos.atproto.mst import EMPTY_MST_ROOT, InvalidMst, MissingBlock, Mst
from tests.atproto.mst_model import (
    EMPTY_NODE_BLOCK,
    KEYS,
    VALUE,
    VALUES,
    BlockStore,
    DictCache,
    height_of,
    keys_of_height,
    naive_tree,
    node_block,
    stored,
    tree_of,
)
from tests.vectors import interop

LEAF = Cid.parse("bafyreie5cvv4h45feadgeuwhbcutmh6t2ceseocckahdoe6uat64zmz454")
ALL = {key: VALUES[index % len(VALUES)] for index, key in enumerate(KEYS)}

entries = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=40)


def commit_proofs() -> list[dict[str, object]]:
    cases: list[dict[str, object]] = json.loads(interop("firehose/commit-proof-fixtures.json").read_text())
    return cases


def texts(value: object) -> list[str]:
    assert isinstance(value, list)
    return value


def records(*rkeys: str) -> dict[str, Cid]:
    return {f"com.example.record/3jqfcqzm{rkey}": LEAF for rkey in rkeys}


# Roots


@pytest.mark.parametrize(
    ("rkeys", "root"),
    [
        ("", "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"),
        ("3fo2j", "bafyreibj4lsc3aqnrvphp5xmrnfoorvru4wynt6lwidqbm2623a6tatzdu"),
        ("3fx2j", "bafyreih7wfei65pxzhauoibu3ls7jgmkju4bspy4t2ha2qdjnzqvoy33ai"),
        ("3fp2j 3fr2j 3fs2j 3ft2j 4fc2j", "bafyreicmahysq4n6wfuxo522m6dpiy7z7qzym3dzs756t5n7nfdgccwq7m"),
        ("3ft2j 3fz2j 3fx2j 4fd2j", "bafyreig4jv3vuajbsybhyvb7gggvpwh2zszwfyttjrj6qwvcsp24h6popu"),
    ],
)
def test_small_trees_have_the_roots_that_other_implementations_give_them(rkeys: str, root: str) -> None:
    assert str(tree_of(records(*rkeys.split())).root) == root


def test_commit_fixtures_have_the_expected_roots_before_and_after() -> None:
    for case in commit_proofs():
        value = Cid.parse(str(case["leafValue"]))
        tree = tree_of(dict.fromkeys(texts(case["keys"]), value))
        assert str(tree.root) == case["rootBeforeCommit"], case["comment"]
        for key in texts(case["adds"]):
            assert tree.put(key, value) is None
        for key in texts(case["dels"]):
            assert tree.delete(key) == value
        assert str(tree.root) == case["rootAfterCommit"], case["comment"]


def test_the_interoperability_keys_make_the_naive_tree_in_any_order() -> None:
    keys = interop("mst/example_keys.txt").read_text().split()
    root, blocks = naive_tree(dict.fromkeys(keys, VALUE))
    for seed in range(3):
        random.Random(seed).shuffle(keys)
        change = tree_of(dict.fromkeys(keys, VALUE)).change()
        assert change.root == root
        assert dict(change.created) == blocks


@given(entries, st.randoms(use_true_random=False))
def test_the_root_depends_on_the_entries_alone(wanted: dict[str, Cid], rng: random.Random) -> None:
    passing = [key for key in rng.sample(KEYS, 20) if key not in wanted]
    steps = [*wanted, *passing]
    rng.shuffle(steps)
    tree = Mst.empty()
    for key in steps:
        tree.put(key, wanted.get(key, VALUE))
    rng.shuffle(passing)
    for key in passing:
        tree.delete(key)
    assert tree.root == naive_tree(wanted)[0]


def test_a_key_far_above_the_root_gets_empty_nodes_below_it() -> None:
    low, high = keys_of_height(0)[0], keys_of_height(5)[0]
    tree = tree_of({low: VALUE, high: VALUE})
    assert tree.root == naive_tree({low: VALUE, high: VALUE})[0]
    assert len(list(tree.nodes())) == 6


def test_deleting_the_only_high_key_takes_the_empty_top_nodes_away() -> None:
    low, high = keys_of_height(0)[0], keys_of_height(5)[0]
    root, store = stored({low: VALUE, high: VALUE})
    tree = Mst.open(root, store)
    assert tree.delete(high) == VALUE
    change = tree.change()
    assert change.root == naive_tree({low: VALUE})[0]
    assert set(change.removed) == set(store.blocks) - {change.root}


def test_deleting_every_key_leaves_the_empty_node() -> None:
    root, store = stored(ALL)
    tree = Mst.open(root, store)
    for key in ALL:
        tree.delete(key)
    change = tree.change()
    assert change.root == EMPTY_MST_ROOT
    assert change.created == ((EMPTY_MST_ROOT, EMPTY_NODE_BLOCK),)
    assert set(change.removed) == set(store.blocks)


# Reading


def test_get_gives_the_value_or_nothing() -> None:
    root, store = stored({key: ALL[key] for key in KEYS[::2]})
    tree = Mst.open(root, store)
    assert {key: tree.get(key) for key in KEYS} == {key: ALL[key] if index % 2 == 0 else None for index, key in enumerate(KEYS)}


def test_get_sees_edits_before_anything_is_encoded() -> None:
    root, store = stored(ALL)
    tree = Mst.open(root, store)
    tree.put(KEYS[3], VALUES[0])
    tree.delete(KEYS[4])
    assert tree.get(KEYS[3]) == VALUES[0]
    assert tree.get(KEYS[4]) is None


@given(entries, st.none() | st.sampled_from(KEYS), st.booleans())
def test_entries_come_in_key_order_from_after_any_key(wanted: dict[str, Cid], after: str | None, saved: bool) -> None:
    tree = Mst.open(*stored(wanted)) if saved else tree_of(wanted)
    assert list(tree.entries(after)) == [(key, wanted[key]) for key in sorted(wanted) if after is None or key > after]


def test_entries_read_no_further_than_they_are_asked_for() -> None:
    root, store = stored(ALL)
    tree = Mst.open(root, store)
    walk = tree.entries()
    assert next(walk) == min(ALL.items())
    assert len(store.reads) <= 1 + 7  # the root at opening, then one node a layer
    assert len(list(islice(walk, 4))) == 4
    assert len(store.reads) < len(store.blocks) // 4


def test_pages_of_entries_join_to_the_whole() -> None:
    root, store = stored(ALL)
    tree = Mst.open(root, store)
    joined: list[tuple[str, Cid]] = []
    while page := list(islice(tree.entries(joined[-1][0] if joined else None), 7)):
        joined += page
    assert joined == sorted(ALL.items())


def test_entries_keep_showing_the_tree_in_which_they_began() -> None:
    tree = tree_of(ALL)
    walk = tree.entries()
    first = next(walk)
    for key in KEYS[::2]:
        tree.delete(key)
    assert tree.root == naive_tree({key: ALL[key] for key in KEYS[1::2]})[0]
    assert [first, *walk] == sorted(ALL.items())


@given(entries)
def test_nodes_are_the_naive_trees_nodes_each_before_its_subtrees(wanted: dict[str, Cid]) -> None:
    root, blocks = naive_tree(wanted)
    for tree in (tree_of(wanted), Mst.open(root, BlockStore(blocks))):
        walked = list(tree.nodes())
        assert dict(walked) == blocks
        assert len(walked) == len(blocks)
        for index, (_, block) in enumerate(walked):
            assert all(child.bytes not in block for child, _ in walked[:index])


# What an edit touches


def test_nothing_is_created_or_removed_without_an_edit() -> None:
    for wanted in (ALL, {}):
        root, store = stored(wanted)
        change = Mst.open(root, store).change()
        assert (change.root, change.created, change.removed) == (root, (), ())


def test_a_first_change_without_entries_creates_the_empty_node() -> None:
    change = Mst.empty().change()
    assert (change.root, change.created, change.removed) == (EMPTY_MST_ROOT, ((EMPTY_MST_ROOT, EMPTY_NODE_BLOCK),), ())


def test_the_first_entry_removes_the_stored_empty_node() -> None:
    root, store = stored({})
    tree = Mst.open(root, store)
    tree.put(KEYS[0], VALUE)
    change = tree.change()
    assert change.removed == (EMPTY_MST_ROOT,)
    assert dict(change.created) == naive_tree({KEYS[0]: VALUE})[1]


def test_an_edit_that_is_undone_creates_and_removes_nothing() -> None:
    absent, present = KEYS[10], KEYS[11]
    root, store = stored({key: value for key, value in ALL.items() if key != absent})
    tree = Mst.open(root, store)
    tree.put(absent, VALUE)
    tree.delete(present)
    assert tree.root != root
    tree.delete(absent)
    tree.put(present, ALL[present])
    change = tree.change()
    assert (change.root, change.created, change.removed) == (root, (), ())


def test_putting_the_same_value_or_deleting_nothing_is_no_edit() -> None:
    absent = KEYS[10]
    root, store = stored({key: value for key, value in ALL.items() if key != absent})
    tree = Mst.open(root, store)
    assert tree.put(KEYS[0], ALL[KEYS[0]]) == ALL[KEYS[0]]
    assert tree.delete(absent) is None
    assert Mst.empty().delete(absent) is None
    change = tree.change()
    assert (change.root, change.created, change.removed) == (root, (), ())


def test_created_nodes_come_root_first() -> None:
    tree = tree_of(ALL)
    change = tree.change()
    assert change.created[0][0] == change.root == tree.root


@pytest.mark.parametrize("height", range(7))
def test_an_edit_reads_and_replaces_only_the_nodes_on_its_path(height: int) -> None:
    key = keys_of_height(height)[1]
    without = {other: value for other, value in ALL.items() if other != key}
    root, store = stored(without)
    tree = Mst.open(root, store, DictCache())
    assert tree.put(key, VALUE) is None
    change = tree.change()
    # Down to the key's layer there is one path; below it the subtree is split, one node a layer.
    assert len(store.reads) == len(set(store.reads)) <= 7
    assert len(change.removed) <= 7
    assert len(change.created) <= 7 + height
    store.apply(change)
    assert store.blocks == naive_tree(without | {key: VALUE})[1]

    store.reads.clear()
    tree = Mst.open(change.root, store, DictCache())
    assert tree.delete(key) == VALUE
    assert tree.root == root
    assert len(store.reads) == len(set(store.reads)) <= 7 + height


def test_with_a_warm_cache_an_edit_reads_no_block() -> None:
    cache = DictCache()
    root, store = stored({})
    for key in KEYS:
        store.reads.clear()
        tree = Mst.open(root, store, cache)
        tree.put(key, VALUE)
        change = tree.change()
        assert not set(store.reads) - {EMPTY_MST_ROOT}
        store.apply(change)
        root = change.root
    assert store.blocks == naive_tree(dict.fromkeys(KEYS, VALUE))[1]


def test_a_walk_does_not_sweep_the_cache() -> None:
    root, store = stored(ALL)
    cache = DictCache()
    tree = Mst.open(root, store, cache)
    assert len(list(tree.entries())) == len(ALL)
    assert len(list(tree.nodes())) == len(store.blocks)
    assert set(cache.nodes) == {root}


def test_a_cache_that_forgets_at_once_changes_nothing() -> None:
    cache = DictCache(limit=1)
    root, store = stored({})
    for key in KEYS:
        tree = Mst.open(root, store, cache)
        tree.put(key, ALL[key])
        store.apply(tree.change())
        root = tree.root
    assert store.blocks == naive_tree(ALL)[1]


# Faults


@pytest.mark.parametrize("key", ["", "nocollection", "a/b/c", "a/b c", "a/é", "a/" + "b" * 1023])
def test_a_key_outside_the_grammar_is_refused_everywhere(key: str) -> None:
    tree = tree_of(ALL)
    for attempt in (
        lambda: tree.get(key),
        lambda: tree.put(key, VALUE),
        lambda: tree.delete(key),
        lambda: tree.proof(key),
        lambda: tree.covering_proof(key),
        lambda: next(tree.entries(key)),
    ):
        with pytest.raises(InvalidMst):
            attempt()
    assert tree.root == naive_tree(ALL)[0]


def test_opening_an_absent_root_names_the_missing_block() -> None:
    root, _ = naive_tree(ALL)
    with pytest.raises(MissingBlock) as caught:
        Mst.open(root, BlockStore())
    assert caught.value.cid == root


def test_a_root_without_entries_is_refused_unless_it_is_the_empty_tree() -> None:
    child, blocks = naive_tree({keys_of_height(0)[0]: VALUE})
    block = node_block([], child)
    blocks[Cid.of_dag_cbor(block)] = block
    with pytest.raises(InvalidMst):
        Mst.open(Cid.of_dag_cbor(block), BlockStore(blocks))


def test_a_block_with_another_hash_is_refused() -> None:
    root, store = stored(ALL)
    store.blocks[root] = EMPTY_NODE_BLOCK
    with pytest.raises(InvalidMst):
        Mst.open(root, store)


def test_a_root_that_is_not_a_dag_cbor_link_is_refused() -> None:
    root, blocks = naive_tree({KEYS[0]: VALUE})
    raw = Cid.of_raw(blocks[root])
    with pytest.raises(InvalidMst):
        Mst.open(raw, BlockStore({raw: blocks[root]}))


def test_a_chain_of_nodes_longer_than_the_layers_is_refused_even_unchecked() -> None:
    top = keys_of_height(3)[0]
    blocks = [node_block([(keys_of_height(0)[0], VALUE, None)])]
    for _ in range(5000):
        blocks.append(node_block([], Cid.of_dag_cbor(blocks[-1])))
    blocks.append(node_block([(top, VALUE, None)], Cid.of_dag_cbor(blocks[-1])))
    store = BlockStore({Cid.of_dag_cbor(block): block for block in blocks})
    low = next(key for key in keys_of_height(0) if key < top)
    for attempt in (
        lambda tree: tree.put(low, VALUE),
        lambda tree: list(tree.entries()),
        lambda tree: list(tree.nodes()),
        lambda tree: tree.proof(low),
        lambda tree: tree.put(next(key for key in keys_of_height(4) if key < top), VALUE),
    ):
        store.reads.clear()
        tree = Mst.open(Cid.of_dag_cbor(blocks[-1]), store)
        with pytest.raises(InvalidMst):
            attempt(tree)
        assert len(store.reads) <= 5


@pytest.mark.parametrize("key", [keys_of_height(height)[3] for height in range(7) if len(keys_of_height(height)) > 3])
@pytest.mark.parametrize("edit", ["put", "delete"])
def test_an_edit_that_fails_has_changed_nothing(key: str, edit: str) -> None:
    start = {other: value for other, value in ALL.items() if other != key or edit == "delete"}
    wanted = start | {key: VALUE} if edit == "put" else {k: v for k, v in start.items() if k != key}
    root, store = stored(start)
    tree = Mst.open(root, store)
    needed = store.blocks.keys() - naive_tree(wanted)[1].keys() - {root}
    assert needed
    for cid in needed:
        store.hidden = {cid}
        with pytest.raises(MissingBlock):
            tree.put(key, VALUE) if edit == "put" else tree.delete(key)
    store.hidden = set()
    change = tree.change()
    assert (change.root, change.created, change.removed) == (root, (), ())
    if edit == "put":
        tree.put(key, VALUE)
    else:
        tree.delete(key)
    store.apply(tree.change())
    assert store.blocks == naive_tree(wanted)[1]


def test_the_pool_of_keys_covers_the_layers() -> None:
    heights = [height_of(key) for key in KEYS]
    assert [heights.count(height) for height in range(7)] == [16, 16, 16, 16, 16, 16, 2]
