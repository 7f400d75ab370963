"""MST nodes: heights, prefixes, key grammar, and exactly one block per node."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.atproto import dag_cbor
from stratos.atproto.cid import Cid
from stratos.atproto.dag_cbor import Encodable
from stratos.atproto.mst_node import (
    EMPTY_MST_ROOT,
    EMPTY_NODE,
    MAX_KEY_BYTES,
    InvalidMst,
    Node,
    checked_key,
    common_prefix,
    decode_node,
    encode_node,
    key_height,
)
from tests.atproto.mst_model import EMPTY_NODE_BLOCK, VALUE, VALUES, height_of, node_block, shared_bytes
from tests.vectors import interop

LINK = Cid.of_dag_cbor(b"subtree")
RAW_LINK = Cid.of_raw(b"subtree")

rkeys = st.text("ab-_.:~09Z", min_size=1, max_size=60)
keys = st.builds("{}/{}".format, st.sampled_from(["a", "a.b", "zone.stratos.feed.post"]), rkeys)
record_cids = st.sampled_from(VALUES)
subtrees = st.none() | st.builds(Cid.of_dag_cbor, st.binary(max_size=3))


@st.composite
def nodes(draw: st.DrawFn) -> Node:
    chosen = sorted(draw(st.sets(keys, max_size=30)))
    values = [draw(record_cids) for _ in chosen]
    children = [draw(subtrees) for _ in range(len(chosen) + 1)]
    return Node(tuple(key.encode() for key in chosen), tuple(values), tuple(children))


def generic_block(node: Node) -> bytes:
    texts = [key.decode() for key in node.keys]
    left = node.children[0]
    assert not isinstance(left, Node)
    listed = []
    for key, value, child in zip(texts, node.values, node.children[1:], strict=True):
        assert not isinstance(child, Node)
        listed.append((key, value, child))
    return node_block(listed, left)


def entry(
    suffix: Encodable = b"a/b", shared: Encodable = 0, tree: Encodable = None, value: Encodable = VALUE
) -> dict[str, Encodable]:
    return {"k": suffix, "p": shared, "t": tree, "v": value}


def test_heights_agree_with_the_interoperability_vectors() -> None:
    for case in json.loads(interop("mst/key_heights.json").read_text()):
        assert key_height(case["key"].encode()) == case["height"], case["key"]


def test_common_prefixes_agree_with_the_interoperability_vectors() -> None:
    for case in json.loads(interop("mst/common_prefix.json").read_text()):
        assert common_prefix(case["left"].encode(), case["right"].encode()) == case["len"], case


def test_example_keys_are_keys_whose_name_tells_their_height() -> None:
    for key in interop("mst/example_keys.txt").read_text().split():
        assert key_height(checked_key(key)) == int(key[1]), key


@given(keys)
def test_height_is_leading_zero_pairs_of_the_hash(key: str) -> None:
    assert key_height(key.encode()) == height_of(key)


@given(keys, keys)
def test_common_prefix_is_where_two_keys_first_differ(left: str, right: str) -> None:
    assert common_prefix(left.encode(), right.encode()) == shared_bytes(left, right)


@pytest.mark.parametrize(
    "key",
    [
        "com.example.record/3jqfcqzm3fo2j",
        "coll/self",
        "coll/did:web:example.com",
        "coll/~-_.:",
        "a/" + "b" * (MAX_KEY_BYTES - 2),
    ],
)
def test_a_collection_and_a_record_key_make_a_key(key: str) -> None:
    assert checked_key(key) == key.encode()


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "nocollection",
        "coll/",
        "/rkey",
        "/coll/rkey",
        "a/b/c",
        "a/b ",
        "a/b\n",
        "a/b@c",
        "a/b#c",
        "a/é",
        "a/\ud800",
        "a/b\x00",
        "a/b(c)",
        "a/" + "b" * (MAX_KEY_BYTES - 1),
    ],
)
def test_anything_else_is_no_key(key: str) -> None:
    with pytest.raises(InvalidMst):
        checked_key(key)


def test_the_empty_node_is_the_protocols() -> None:
    assert encode_node(EMPTY_NODE) == EMPTY_NODE_BLOCK
    assert str(EMPTY_MST_ROOT) == "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"


@given(nodes())
def test_a_node_is_encoded_as_the_generic_codec_does_and_read_back(node: Node) -> None:
    block = encode_node(node)
    assert block == generic_block(node)
    assert decode_node(block) == node


def test_counts_lengths_and_prefixes_of_every_size_are_encoded_as_the_generic_codec_does() -> None:
    lengths = [1, 21, 22, 23, 24, 253, 254, 255, 256, 1022]
    texts = sorted({f"a/{'b' * length}" for length in lengths} | {f"a/c{number:03}" for number in range(300)})
    node = Node(tuple(text.encode() for text in texts), (VALUE,) * len(texts), (None,) * (len(texts) + 1))
    assert encode_node(node) == generic_block(node)
    assert decode_node(encode_node(node)) == node


def test_a_node_is_encoded_only_after_its_subtrees() -> None:
    with pytest.raises(InvalidMst):
        encode_node(Node((), (), (EMPTY_NODE,)))


NOT_NODES: list[tuple[str, Encodable]] = [
    ("a list", []),
    ("an empty map", {}),
    ("no entries field", {"l": None}),
    ("no left field", {"e": []}),
    ("an extra field", {"e": [], "l": None, "x": None}),
    ("another field of the same length", {"f": [], "l": None}),
    ("entries that are a map", {"e": {}, "l": None}),
    ("entries that are null", {"e": None, "l": None}),
    ("a left link that is a number", {"e": [], "l": 0}),
    ("a left link that is bytes", {"e": [], "l": LINK.bytes}),
    ("a left link to raw content", {"e": [], "l": RAW_LINK}),
    ("an entry that is a list", {"e": [[]], "l": None}),
    ("an entry that is null", {"e": [None], "l": None}),
    ("an entry with an extra field", {"e": [entry() | {"x": None}], "l": None}),
    ("an entry without a tree", {"e": [{"k": b"a/b", "p": 0, "v": VALUE}], "l": None}),
    ("a key that is text", {"e": [entry("a/b")], "l": None}),
    ("a key that is null", {"e": [entry(None)], "l": None}),
    ("an empty key", {"e": [entry(b"")], "l": None}),
    ("a prefix that is null", {"e": [entry(shared=None)], "l": None}),
    ("a negative prefix", {"e": [entry(shared=-1)], "l": None}),
    ("a first key with a prefix", {"e": [entry(shared=1)], "l": None}),
    ("a prefix beyond the key before", {"e": [entry(), entry(b"c", 4)], "l": None}),
    ("an enormous prefix", {"e": [entry(), entry(b"c", 2**53 - 1)], "l": None}),
    ("a prefix that is not full", {"e": [entry(), entry(b"a/c", 0)], "l": None}),
    ("a prefix that is one short", {"e": [entry(), entry(b"/c", 1)], "l": None}),
    ("the same key twice", {"e": [entry(), entry(b"", 3)], "l": None}),
    ("the same key twice uncompressed", {"e": [entry(), entry(b"b", 2)], "l": None}),
    ("keys out of order", {"e": [entry(), entry(b"a", 2)], "l": None}),
    ("a key after a longer one that it begins", {"e": [entry(b"a/bc"), entry(b"", 3)], "l": None}),
    ("a key that is not ASCII", {"e": [entry("é/b".encode())], "l": None}),
    ("a key that is too long", {"e": [entry(b"a" * (MAX_KEY_BYTES + 1))], "l": None}),
    ("a key too long with its prefix", {"e": [entry(b"a/" + b"a" * 1000), entry(b"b" * 30, 1000)], "l": None}),
    ("a tree that is a number", {"e": [entry(tree=1)], "l": None}),
    ("a tree link to raw content", {"e": [entry(tree=RAW_LINK)], "l": None}),
    ("a value that is null", {"e": [entry(value=None)], "l": None}),
    ("a value that is bytes", {"e": [entry(value=VALUE.bytes)], "l": None}),
    ("null", None),
    ("a number", 1),
    ("text", "e"),
]


@pytest.mark.parametrize("value", [value for _, value in NOT_NODES], ids=[name for name, _ in NOT_NODES])
def test_other_data_are_not_a_node(value: Encodable) -> None:
    with pytest.raises(InvalidMst):
        decode_node(dag_cbor.encode(value))


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("nothing", b""),
        ("a count in two bytes", EMPTY_NODE_BLOCK.replace(b"\x80", b"\x98\x00")),
        ("a count in three bytes", EMPTY_NODE_BLOCK.replace(b"\x80", b"\x99\x00\x00")),
        ("a count of 2^64 - 1", EMPTY_NODE_BLOCK.replace(b"\x80", b"\x9b" + b"\xff" * 8)),
        ("a count of 65535", EMPTY_NODE_BLOCK.replace(b"\x80", b"\x99\xff\xff")),
        ("a list of indefinite length", EMPTY_NODE_BLOCK.replace(b"\x80", b"\x9f\xff")),
        ("undefined instead of null", EMPTY_NODE_BLOCK.replace(b"\xf6", b"\xf7")),
        ("fields in another order", b"\xa2al\xf6ae\x80"),
        ("a field twice", b"\xa3ae\x80ae\x80al\xf6"),
        ("a link of tag 43", dag_cbor.encode({"e": [], "l": LINK}).replace(b"\xd8\x2a", b"\xd8\x2b")),
        ("a link of version 0", dag_cbor.encode({"e": [], "l": LINK}).replace(b"\x00\x01\x71", b"\x00\x00\x71")),
        ("a link by another hash", dag_cbor.encode({"e": [], "l": LINK}).replace(b"\x71\x12\x20", b"\x71\x13\x20")),
        ("a key length in two bytes", dag_cbor.encode({"e": [entry()], "l": None}).replace(b"ak\x43", b"ak\x58\x03")),
        ("a prefix in two bytes", dag_cbor.encode({"e": [entry()], "l": None}).replace(b"ap\x00", b"ap\x18\x00")),
        ("a prefix that is a float", dag_cbor.encode({"e": [entry()], "l": None}).replace(b"ap\x00", b"ap\xf9\x00\x00")),
    ],
)
def test_other_encodings_are_not_a_node(name: str, block: bytes) -> None:
    with pytest.raises(InvalidMst):
        decode_node(block)


@given(nodes(), st.data())
def test_a_changed_block_is_refused_or_is_another_nodes_only_block(node: Node, data: st.DataObject) -> None:
    block = bytearray(encode_node(node))
    block[data.draw(st.integers(0, len(block) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = decode_node(bytes(block))
    except InvalidMst:
        return
    assert generic_block(read) == block


@given(nodes(), st.data())
def test_a_block_cut_short_or_with_bytes_after_it_is_refused(node: Node, data: st.DataObject) -> None:
    block = encode_node(node)
    cut = data.draw(st.integers(0, len(block) - 1))
    for broken in (block[:cut], block + b"\x00", block + block):
        with pytest.raises(InvalidMst):
            decode_node(broken)
