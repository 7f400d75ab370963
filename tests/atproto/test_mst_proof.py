"""Trees and proofs that come from elsewhere: the canonical form alone is accepted, and every fault has a verdict."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.atproto.car import read_car
from stratos.atproto.cid import Cid
from stratos.atproto.commit import SignedCommit
from stratos.atproto.keys import VerifyingKey
from stratos.atproto.mst import (
    EMPTY_MST_ROOT,
    InvalidMst,
    MappingSource,
    MissingBlock,
    Mst,
    check_tree,
    checked_entries,
    verify_proof,
)
from tests.atproto.mst_model import (
    EMPTY_NODE_BLOCK,
    KEYS,
    VALUE,
    VALUES,
    BlockStore,
    keys_of_height,
    naive_tree,
    node_block,
    stored,
    tree_of,
)
from tests.vectors import interop, reference

ALL = {key: VALUES[index % len(VALUES)] for index, key in enumerate(KEYS)}
LOW = keys_of_height(0)
MIDDLE = keys_of_height(1)
HIGH = keys_of_height(2)

entries = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=40)


class Blocks(dict[Cid, bytes]):
    """Node blocks being put together by hand."""

    def node(self, *entries: tuple[str, Cid | None], left: Cid | None = None) -> Cid:
        """Add a node from its keys and the subtrees to the right of each."""
        return self.block(node_block([(key, VALUE, tree) for key, tree in entries], left))

    def block(self, block: bytes) -> Cid:
        """Add a block."""
        cid = Cid.of_dag_cbor(block)
        self[cid] = block
        return cid


def between(keys: list[str], low: str = "", high: str = "~") -> str:
    return next(key for key in keys if low < key < high)


# Whole trees


@given(entries)
def test_every_canonical_tree_passes_and_yields_its_entries(wanted: dict[str, Cid]) -> None:
    root, blocks = naive_tree(wanted)
    check_tree(root, MappingSource(blocks))
    assert list(checked_entries(root, MappingSource(blocks))) == sorted(wanted.items())


@given(entries.filter(bool), st.data())
def test_a_tree_without_one_of_its_nodes_or_with_a_changed_one_fails(wanted: dict[str, Cid], data: st.DataObject) -> None:
    root, blocks = naive_tree(wanted)
    cid = data.draw(st.sampled_from(sorted(blocks)))
    with pytest.raises(MissingBlock) as caught:
        check_tree(root, MappingSource({other: block for other, block in blocks.items() if other != cid}))
    assert caught.value.cid == cid
    changed = bytearray(blocks[cid])
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(InvalidMst):
        check_tree(root, MappingSource(blocks | {cid: bytes(changed)}))


def only_an_empty_node_above_a_leaf(blocks: Blocks) -> Cid:
    return blocks.node(left=blocks.node((LOW[0], None)))


def an_empty_leaf(blocks: Blocks) -> Cid:
    return blocks.node((MIDDLE[0], blocks.block(EMPTY_NODE_BLOCK)))


def an_empty_node_above_an_empty_leaf(blocks: Blocks) -> Cid:
    return blocks.node((HIGH[0], blocks.node(left=blocks.block(EMPTY_NODE_BLOCK))))


def keys_of_two_layers_in_one_node(blocks: Blocks) -> Cid:
    return blocks.node((MIDDLE[0], None), (between(LOW, MIDDLE[0]), None))


def a_low_key_before_the_high_ones_in_their_node(blocks: Blocks) -> Cid:
    return blocks.node((between(LOW, high=MIDDLE[-1]), None), (MIDDLE[-1], None))


def a_child_two_layers_below(blocks: Blocks) -> Cid:
    return blocks.node((HIGH[0], blocks.node((between(LOW, HIGH[0]), None))))


def a_child_in_the_layer_of_its_parent(blocks: Blocks) -> Cid:
    return blocks.node((MIDDLE[0], blocks.node((MIDDLE[1], None))))


def a_child_above_its_parent(blocks: Blocks) -> Cid:
    return blocks.node((MIDDLE[0], blocks.node((between(HIGH, MIDDLE[0]), None))))


def a_subtree_below_layer_0(blocks: Blocks) -> Cid:
    return blocks.node((LOW[0], blocks.node((LOW[1], None))))


def a_left_subtree_below_layer_0(blocks: Blocks) -> Cid:
    return blocks.node((LOW[1], None), left=blocks.node((LOW[0], None)))


def a_right_subtree_with_keys_below_its_place(blocks: Blocks) -> Cid:
    return blocks.node((MIDDLE[-1], blocks.node((between(LOW, high=MIDDLE[-1]), None))))


def a_left_subtree_with_keys_above_its_place(blocks: Blocks) -> Cid:
    return blocks.node((MIDDLE[0], None), left=blocks.node((between(LOW, MIDDLE[0]), None)))


def two_subtrees_in_each_others_place(blocks: Blocks) -> Cid:
    middle = MIDDLE[len(MIDDLE) // 2]
    before, after = blocks.node((between(LOW, high=middle), None)), blocks.node((between(LOW, middle), None))
    return blocks.node((middle, before), left=after)


def the_same_subtree_twice(blocks: Blocks) -> Cid:
    subtree = blocks.node((between(LOW, high=MIDDLE[-1]), None))
    return blocks.node((MIDDLE[-1], subtree), left=subtree)


def a_key_outside_the_grammar(blocks: Blocks) -> Cid:
    return blocks.node(("nocollection", None))


def a_key_with_two_slashes(blocks: Blocks) -> Cid:
    return blocks.node(("a/b/c", None))


def a_node_that_is_a_record(blocks: Blocks) -> Cid:
    return blocks.block(b"\xa1aa\x01")


def a_child_that_is_a_record(blocks: Blocks) -> Cid:
    return blocks.node((MIDDLE[0], blocks.block(b"\xa1aa\x01")))


BROKEN_TREES = [
    only_an_empty_node_above_a_leaf,
    an_empty_leaf,
    an_empty_node_above_an_empty_leaf,
    keys_of_two_layers_in_one_node,
    a_low_key_before_the_high_ones_in_their_node,
    a_child_two_layers_below,
    a_child_in_the_layer_of_its_parent,
    a_child_above_its_parent,
    a_subtree_below_layer_0,
    a_left_subtree_below_layer_0,
    a_right_subtree_with_keys_below_its_place,
    a_left_subtree_with_keys_above_its_place,
    two_subtrees_in_each_others_place,
    the_same_subtree_twice,
    a_key_outside_the_grammar,
    a_key_with_two_slashes,
    a_node_that_is_a_record,
    a_child_that_is_a_record,
]


@pytest.mark.parametrize("build", BROKEN_TREES)
def test_no_other_form_of_a_tree_passes(build: Callable[[Blocks], Cid]) -> None:
    blocks = Blocks()
    root = build(blocks)
    with pytest.raises(InvalidMst):
        check_tree(root, MappingSource(blocks))


@pytest.mark.parametrize("build", BROKEN_TREES)
def test_a_proof_through_the_broken_place_fails(build: Callable[[Blocks], Cid]) -> None:
    blocks = Blocks()
    root = build(blocks)
    assert any(is_refused(root, blocks, key) for key in (*KEYS, "nowhere/near", "~/~"))


def is_refused(root: Cid, blocks: Blocks, key: str) -> bool:
    try:
        verify_proof(root, blocks, key)
    except InvalidMst:
        return True
    return False


def test_a_key_in_the_wrong_subtree_is_neither_proved_nor_disproved() -> None:
    blocks = Blocks()
    stray = between(LOW, high=MIDDLE[-1])
    root = blocks.node((MIDDLE[-1], blocks.node((stray, None))))
    assert verify_proof(root, blocks, stray) is None  # its own place is empty, and that is all that a proof is about
    with pytest.raises(InvalidMst):
        verify_proof(root, blocks, "~/~")
    with pytest.raises(InvalidMst):
        check_tree(root, MappingSource(blocks))


def test_the_depth_of_a_walk_is_bounded_by_the_layers() -> None:
    blocks = Blocks()
    chain = blocks.node((LOW[0], None))
    for _ in range(5000):
        chain = blocks.node(left=chain)
    root = blocks.node((HIGH[0], chain), left=chain)
    source = BlockStore(blocks)
    with pytest.raises(InvalidMst):
        check_tree(root, source)
    assert len(source.reads) <= 4
    with pytest.raises(InvalidMst):
        verify_proof(root, blocks, between(LOW, HIGH[0]))


def test_a_raw_link_is_no_tree() -> None:
    root, blocks = naive_tree({KEYS[0]: VALUE})
    raw = Cid.of_raw(blocks[root])
    with pytest.raises(InvalidMst):
        check_tree(raw, MappingSource({raw: blocks[root]}))


def test_entries_are_read_while_they_are_taken() -> None:
    root, store = stored(ALL)
    first = next(checked_entries(root, store))
    assert first == min(ALL.items())
    assert len(store.reads) <= 7


# Proofs


@given(entries, st.sampled_from(KEYS))
def test_a_proof_shows_a_value_or_its_absence(wanted: dict[str, Cid], key: str) -> None:
    tree = tree_of(wanted)
    proof = tree.proof(key)
    assert proof[0][0] == tree.root
    assert verify_proof(tree.root, dict(proof), key) == wanted.get(key)


def test_a_proof_has_the_nodes_on_the_path_alone() -> None:
    root, store = stored(ALL)
    tree = Mst.open(root, store)
    for height in range(7):
        key = keys_of_height(height)[1]
        proof = tree.proof(key)
        assert len(proof) == 7 - height
        assert dict(proof).items() <= store.blocks.items()


def test_the_empty_tree_proves_absence() -> None:
    proof = Mst.empty().proof(KEYS[0])
    assert proof == [(EMPTY_MST_ROOT, EMPTY_NODE_BLOCK)]
    assert verify_proof(EMPTY_MST_ROOT, dict(proof), KEYS[0]) is None


@pytest.mark.parametrize("height", range(7))
@pytest.mark.parametrize("present", [True, False])
def test_a_proof_with_any_byte_changed_or_any_node_left_out_fails(height: int, present: bool) -> None:
    key = keys_of_height(height)[1]
    tree = tree_of({other: value for other, value in ALL.items() if present or other != key})
    proof = dict(tree.proof(key))
    for cid, block in proof.items():
        with pytest.raises(MissingBlock):
            verify_proof(tree.root, {other: block for other, block in proof.items() if other != cid}, key)
        for index in range(len(block)):
            tampered = block[:index] + bytes([block[index] ^ 1]) + block[index + 1 :]
            with pytest.raises(InvalidMst):
                verify_proof(tree.root, proof | {cid: tampered}, key)


def test_a_proof_of_another_root_or_key_does_not_serve() -> None:
    tree = tree_of(ALL)
    low_key, other_key = LOW[0], LOW[-1]
    proof = dict(tree.proof(low_key))
    with pytest.raises(MissingBlock):
        verify_proof(tree.root, proof, other_key)
    other_value = next(value for value in VALUES if value != ALL[low_key])
    with pytest.raises(MissingBlock):
        verify_proof(naive_tree({low_key: other_value})[0], proof, low_key)


@pytest.mark.parametrize("key", ["", "nocollection", "a/é"])
def test_a_proof_of_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(InvalidMst):
        verify_proof(EMPTY_MST_ROOT, {EMPTY_MST_ROOT: EMPTY_NODE_BLOCK}, key)


def test_covering_proofs_of_a_commits_keys_are_the_interoperability_blocks() -> None:
    for case in json.loads(interop("firehose/commit-proof-fixtures.json").read_text()):
        value = Cid.parse(case["leafValue"])
        tree = tree_of(dict.fromkeys(case["keys"], value))
        for key in case["adds"]:
            tree.put(key, value)
        for key in case["dels"]:
            tree.delete(key)
        proof = {str(cid) for key in case["adds"] + case["dels"] for cid, _ in tree.covering_proof(key)}
        assert proof == set(case["blocksInProof"]), case["comment"]


# Recorded repositories


@pytest.mark.parametrize(("step", "records", "reachable"), [(1, 30, 39), (2, 54, 72), (3, 52, 70)])
def test_recorded_repositories_are_canonical_complete_and_signed(step: int, records: int, reachable: int) -> None:
    car = read_car(reference(f"valid/repo-after-step{step}.car").read_bytes())
    keys = json.loads(reference("valid/keys.json").read_text())
    source = MappingSource(car.blocks)
    [root] = car.roots
    commit = SignedCommit.decode(car.blocks[root])
    assert commit.did == keys["did"]
    assert commit.verify(VerifyingKey.from_did_key(keys["signingKeyDid"]))

    found = dict(checked_entries(commit.data, source))
    tree = Mst.open(commit.data, source)
    nodes = dict(tree.nodes())
    assert len(found) == records
    assert len({root, *nodes, *found.values()}) == reachable
    assert all(cid in car.blocks and cid.matches(car.blocks[cid]) for cid in found.values())
    assert dict(tree.entries()) == found
    assert naive_tree(found) == (commit.data, nodes)


@pytest.mark.parametrize("rkey", ["3lvalidah2222", "3lvalidau2222"])
def test_recorded_record_proofs_verify(rkey: str) -> None:
    car = read_car(reference(f"valid/sync.getRecord-{rkey}.car").read_bytes())
    [root] = car.roots
    commit = SignedCommit.decode(car.blocks[root])
    cid = verify_proof(commit.data, car.blocks, f"zone.stratos.feed.post/{rkey}")
    assert cid is not None
    assert cid.matches(car.blocks[cid])
