"""The MST session against the naive model, in random interleavings of edits, questions, saving and failing."""

from __future__ import annotations

import pytest
from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from stratos.atproto.cid import Cid
from stratos.atproto.mst import EMPTY_MST_ROOT, InvalidMst, MissingBlock, Mst, check_tree, verify_proof
from tests.atproto.mst_model import EMPTY_NODE_BLOCK, KEYS, VALUES, BlockStore, DictCache, naive_tree

keys = st.sampled_from(KEYS)
values = st.sampled_from(VALUES)


class MstSession(RuleBasedStateMachine):
    """`model` is what the session holds, `saved` what the block store holds."""

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, Cid] = {}
        self.saved: dict[str, Cid] | None = None
        self.store = BlockStore()
        self.tree = Mst.empty(self.store)

    @initialize(start=st.dictionaries(keys, values), was_saved=st.booleans())
    def begin(self, start: dict[str, Cid], was_saved: bool) -> None:
        if was_saved:
            self.model, self.saved = dict(start), dict(start)
            root, self.store.blocks = naive_tree(start)
            self.tree = Mst.open(root, self.store)

    @rule(key=keys, value=values)
    def put(self, key: str, value: Cid) -> None:
        assert self.tree.put(key, value) == self.model.get(key)
        self.model[key] = value

    @rule(key=keys)
    def delete(self, key: str) -> None:
        assert self.tree.delete(key) == self.model.get(key)
        self.model.pop(key, None)

    @rule(many=st.dictionaries(keys, st.none() | values, min_size=5))
    def batch(self, many: dict[str, Cid | None]) -> None:
        for key, value in many.items():
            if value is None:
                self.delete(key)
            else:
                self.put(key, value)

    @rule(key=keys)
    def get(self, key: str) -> None:
        assert self.tree.get(key) == self.model.get(key)

    @rule()
    def list_entries(self) -> None:
        assert list(self.tree.entries()) == sorted(self.model.items())

    @rule(data=st.data(), key=keys, value=st.none() | values)
    @precondition(lambda self: self.store.blocks)
    def edit_while_blocks_are_missing(self, data: st.DataObject, key: str, value: Cid | None) -> None:
        present = sorted(self.store.blocks)
        self.store.hidden = set(data.draw(st.lists(st.sampled_from(present), max_size=len(present))))
        try:
            if value is None:
                self.delete(key)
            else:
                self.put(key, value)
        except MissingBlock:
            event("an edit failed")
        finally:
            self.store.hidden = set()

    @rule()
    def ask_for_the_change(self) -> None:
        root, new = naive_tree(self.model)
        old = {} if self.saved is None else naive_tree(self.saved)[1]
        change = self.tree.change()
        assert change.root == self.tree.root == root
        assert len(dict(change.created)) == len(change.created)
        assert dict(change.created) == {cid: new[cid] for cid in new.keys() - old.keys()}
        assert len(set(change.removed)) == len(change.removed)
        assert set(change.removed) == old.keys() - new.keys()

    @rule(cache_limit=st.none() | st.integers(1, 20))
    def save_and_reopen(self, cache_limit: int | None) -> None:
        self.store.apply(self.tree.change())
        self.saved = dict(self.model)
        assert self.store.blocks == naive_tree(self.model)[1]
        check_tree(self.tree.root, self.store)
        self.tree = Mst.open(self.tree.root, self.store, DictCache(cache_limit))

    @rule(key=keys, data=st.data())
    def prove(self, key: str, data: st.DataObject) -> None:
        proof = self.tree.proof(key)
        assert proof[0][0] == self.tree.root
        assert verify_proof(self.tree.root, dict(proof), key) == self.model.get(key)
        cid, block = proof[data.draw(st.integers(0, len(proof) - 1))]
        with pytest.raises(MissingBlock):
            verify_proof(self.tree.root, {other: block for other, block in proof if other != cid}, key)
        tampered = bytearray(block)
        tampered[data.draw(st.integers(0, len(block) - 1))] ^= data.draw(st.integers(1, 255))
        with pytest.raises(InvalidMst):
            verify_proof(self.tree.root, dict(proof) | {cid: bytes(tampered)}, key)

    @rule(key=keys)
    def prove_with_neighbours(self, key: str) -> None:
        blocks = dict(self.tree.covering_proof(key))
        left = max((other for other in self.model if other < key), default=None)
        right = min((other for other in self.model if other > key), default=None)
        for shown in filter(None, (left, key, right)):
            assert verify_proof(self.tree.root, blocks, shown) == self.model.get(shown)

    def teardown(self) -> None:
        """Everything that was left open is right too."""
        self.list_entries()
        self.ask_for_the_change()
        for key in list(self.model):
            self.delete(key)
        assert self.tree.root == EMPTY_MST_ROOT
        assert dict(self.tree.nodes()) == {EMPTY_MST_ROOT: EMPTY_NODE_BLOCK}


TestMstSession = MstSession.TestCase
TestMstSession.settings = settings(stateful_step_count=30)
