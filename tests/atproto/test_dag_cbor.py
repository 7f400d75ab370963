"""DAG-CBOR: one encoding per value, and nothing else is read."""

from __future__ import annotations

import tracemalloc
from enum import StrEnum

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stratos.atproto.cid import Cid
from stratos.atproto.dag_cbor import (
    MAX_BLOCK_DEPTH,
    MAX_DEPTH,
    MAX_INTEGER,
    DataModel,
    Encodable,
    InvalidDagCbor,
    Rows,
    decode,
    decode_own,
    decode_prefix,
    encode,
    encode_rows,
)
from tests.atproto.values import data_model_values, integers, values

LINK = Cid.of_raw(b"content")
ENCODED_LINK = b"\xd8\x2a\x58\x25\x00" + LINK.bytes

KNOWN = [
    (None, "f6"),
    (False, "f4"),
    (True, "f5"),
    (0, "00"),
    (23, "17"),
    (24, "1818"),
    (255, "18ff"),
    (256, "190100"),
    (65535, "19ffff"),
    (65536, "1a00010000"),
    (2**32 - 1, "1affffffff"),
    (2**32, "1b0000000100000000"),
    (MAX_INTEGER, "1b001fffffffffffff"),
    (-1, "20"),
    (-24, "37"),
    (-25, "3818"),
    (-MAX_INTEGER, "3b001ffffffffffffe"),
    ("", "60"),
    ("é", "62c3a9"),
    ("a" * 24, "7818" + "61" * 24),
    ("a" * 256, "790100" + "61" * 256),
    (b"", "40"),
    (b"\x01" * 24, "5818" + "01" * 24),
    (b"\x01" * 256, "590100" + "01" * 256),
    ([], "80"),
    ([1, [2, "b"]], "82018202" + "6162"),
    ([0] * 24, "9818" + "00" * 24),
    ({}, "a0"),
    (LINK, ENCODED_LINK.hex()),
    ({"b": 1, "aa": 2, "": 3}, "a3" + "6003" + "616201" + "62616102"),
    # By length of the UTF-8 bytes, not of the characters; then by these bytes.
    ({"é": 1, "zz": 2, "abc": 3}, "a3" + "627a7a02" + "62c3a901" + "6361626303"),
    ({"\uffff": 1, "\U00010000": 2, "abc": 3}, "a3" + "6361626303" + "63efbfbf01" + "64f090808002"),
    # Across the border from a one-byte to a two-byte head, where order by head and by length could part.
    ({"b" * 24: 1, "c" * 23: 2}, "a2" + "77" + "63" * 23 + "02" + "7818" + "62" * 24 + "01"),
    ({"a" * 256: 1, "b" * 255: 2}, "a2" + "78ff" + "62" * 255 + "02" + "790100" + "61" * 256 + "01"),
]


@pytest.mark.parametrize(("value", "encoded"), KNOWN)
def test_a_value_has_its_known_encoding(value: DataModel, encoded: str) -> None:
    data = bytes.fromhex(encoded)
    assert encode(value) == data
    assert decode(data) == decode_own(data) == value


def test_the_attestation_example_of_the_specification_is_encoded_as_it_says() -> None:
    payload = {"signingKey": "did:key:z", "boundaries": ("did:web:s.example/a",), "did": "did:plc:x"}
    assert encode(payload) == bytes.fromhex(
        "a3 63 646964 69 6469643a706c633a78"
        "6a 626f756e646172696573 81 73 6469643a7765623a732e6578616d706c652f61"
        "6a 7369676e696e674b6579 69 6469643a6b65793a7a"
    )


@given(values)
def test_every_decoder_gives_back_what_was_encoded(value: DataModel) -> None:
    data = encode(value)
    assert decode(data) == value
    assert decode_own(data) == value
    assert decode_prefix(b"\xff" + data + b"\xff", 1) == (value, 1 + len(data))


@given(values)
def test_decoders_keep_types_apart_that_compare_equal(value: DataModel) -> None:
    assert encode(decode(encode(value))) == encode(value)
    assert encode(decode_own(encode(value))) == encode(value)


@given(values)
def test_decoded_maps_are_in_canonical_order(value: DataModel) -> None:
    def check(part: DataModel) -> None:
        if isinstance(part, dict):
            assert list(part) == sorted(part, key=lambda key: (len(key.encode()), key.encode()))
        for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            check(inner)

    check(decode(encode(value)))


def without_links(value: DataModel) -> object:
    """The value as libipld shows it: links as bytes."""
    if isinstance(value, Cid):
        return value.bytes
    if isinstance(value, list):
        return [without_links(item) for item in value]
    if isinstance(value, dict):
        return {key: without_links(item) for key, item in value.items()}
    return value


# libipld writes any byte string that reads as a CID as a link; none that begins like this does.
@given(data_model_values(st.binary(max_size=300).map(lambda raw: b"\x20" + raw)))
def test_an_independent_codec_writes_and_reads_the_same_bytes(value: DataModel) -> None:
    libipld = pytest.importorskip("libipld", reason="libipld is not installed")
    data = encode(value)
    assert libipld.encode_dag_cbor(without_links(value)) == data
    assert libipld.decode_dag_cbor(data) == without_links(value)


@given(values)
def test_map_keys_may_come_in_any_order_and_lists_as_tuples(value: DataModel) -> None:
    def disarranged(part: DataModel) -> Encodable:
        if isinstance(part, dict):
            return {key: disarranged(part[key]) for key in reversed(part)}
        if isinstance(part, list):
            return tuple(disarranged(item) for item in part)
        return part

    assert encode(disarranged(value)) == encode(value)


# --- values without a form ---


class Name(StrEnum):
    ONE = "one"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1.0, "float"),
        ([float("nan")], "float"),
        (MAX_INTEGER + 1, "integer beyond"),
        (-MAX_INTEGER - 1, "integer beyond"),
        (2**64, "integer beyond"),
        ("\ud800", "Unicode"),
        ({"\udfff": 1}, "Unicode"),
        ({"a": "\ud800"}, "Unicode"),
        ({1: 2}, "map key of type int"),
        ({b"a": 2}, "map key of type bytes"),
        ({None: 2}, "map key of type NoneType"),
        ({1, 2}, "type set"),
        (bytearray(b"a"), "type bytearray"),
        (memoryview(b"a"), "type memoryview"),
        (object, "type type"),
        (Name.ONE, "type Name"),
    ],
)
def test_a_value_outside_the_data_model_is_not_encoded(value: Encodable, message: str) -> None:
    with pytest.raises(InvalidDagCbor, match=message):
        encode(value)


def test_a_cyclic_value_is_refused_as_too_deep() -> None:
    cyclic: list[Encodable] = []
    cyclic.append({"a": cyclic})
    with pytest.raises(InvalidDagCbor, match="deeper"):
        encode(cyclic)


def nested(depth: int, kind: str) -> DataModel:
    value: DataModel = LINK
    for _ in range(depth):
        value = [value] if kind == "list" else {"a": value}
    return value


@pytest.mark.parametrize("kind", ["list", "map"])
def test_nesting_is_bounded_for_blocks_and_a_little_wider_for_what_holds_them(kind: str) -> None:
    deepest_block, deepest = nested(MAX_BLOCK_DEPTH, kind), nested(MAX_DEPTH, kind)
    assert decode(encode(deepest_block)) == deepest_block
    assert decode_prefix(encode(deepest))[0] == deepest
    assert decode_own(encode(deepest)) == deepest
    with pytest.raises(InvalidDagCbor, match="deep"):
        decode(encode(nested(MAX_BLOCK_DEPTH + 1, kind)))
    with pytest.raises(InvalidDagCbor, match="deep"):
        encode(nested(MAX_DEPTH + 1, kind))
    opening = b"\x81" if kind == "list" else b"\xa1\x61a"
    with pytest.raises(InvalidDagCbor, match="deep"):
        decode_prefix(opening * (MAX_DEPTH + 1) + b"\x00")


# --- bytes that are refused ---

MALFORMED = [
    ("", "truncated"),
    ("0000", "1 bytes after"),
    (ENCODED_LINK.hex() + "a0", "1 bytes after"),
    # integers and lengths in longer forms than needed
    ("1817", "longer form"),
    ("1900ff", "longer form"),
    ("1a0000ffff", "longer form"),
    ("1b00000000ffffffff", "longer form"),
    ("3817", "longer form"),
    ("580161", "longer form"),
    ("780161", "longer form"),
    ("980100", "longer form"),
    ("b801616100", "longer form"),
    ("d9002a" + ENCODED_LINK[2:].hex(), "longer form"),
    ("a178016100", "longer form"),
    # integers out of range
    ("1b0020000000000000", "integer beyond"),
    ("3b001fffffffffffff", "integer beyond"),
    ("1bffffffffffffffff", "integer beyond"),
    ("3bffffffffffffffff", "integer beyond"),
    # reserved and indefinite
    ("1c", "reserved"),
    ("1d", "reserved"),
    ("1e", "reserved"),
    ("1f", "indefinite"),
    ("5f4161ff", "indefinite"),
    ("7f6161ff", "indefinite"),
    ("9f00ff", "indefinite"),
    ("bf616100ff", "indefinite"),
    ("a17f6161ff00", "indefinite"),
    ("ff", "break"),
    # floats and simple values
    ("f93c00", "16-bit float"),
    ("f97e00", "16-bit float"),
    ("fa47c35000", "32-bit float"),
    ("fb3ff199999999999a", "64-bit float"),
    ("81f93c00", "16-bit float"),
    ("f7", "undefined"),
    ("e0", "simple value"),
    ("f3", "simple value"),
    ("f814", "simple value"),
    ("f8ff", "simple value"),
    ("fc", "simple value"),
    # maps
    ("a200000000", "not text"),
    ("a10000", "not text"),
    ("a1410000", "not text"),
    ("a1f600", "not text"),
    ("a18000", "not text"),
    ("a1a000", "not text"),
    ("a1d82a0000", "not text"),
    ("a2616200616100", "out of canonical order"),
    ("a262616100616200", "out of canonical order"),
    ("a2616100616100", "'a' twice"),
    ("a36161006162006161f6", "out of canonical order"),
    # text
    ("61ff", "UTF-8"),
    ("63eda080", "UTF-8"),
    ("62c080", "UTF-8"),
    ("64f4908080", "UTF-8"),
    ("a161ff00", "UTF-8"),
    ("a1616161ff", "UTF-8"),
    ("781861" + "ff" * 23, "UTF-8"),
    # tags
    ("c24101", "tag 2:"),
    ("c074323031332d30332d32315432303a30343a30305a", "tag 0:"),
    ("d82a00", "tag 42"),
    ("d82a40", "tag 42"),
    ("d82a6161", "tag 42"),
    ("d82a5824" + LINK.bytes.hex(), "tag 42"),
    ("d82a582501" + LINK.bytes.hex(), "tag 42"),
    ("d82a582600" + LINK.bytes.hex() + "00", "tag 42"),
    ("d82a590025" + "00" + LINK.bytes.hex(), "tag 42"),
    ("d82a582500" + "01701220" + "00" * 32, r"link at byte \d: a CID must be"),
    ("d82a582500" + "00711220" + "00" * 32, r"link at byte \d: a CID must be"),
    ("d82a582500" + "01711320" + "00" * 32, r"link at byte \d: a CID must be"),
    ("d82b" + ENCODED_LINK[2:].hex(), "tag 43:"),
    ("d81c81d81d00", "tag 28:"),
    ("d82361612f", "tag 35:"),
    ("d9d9f700", "tag 55799:"),
    ("dbffffffffffffffff00", "tag 18446744073709551615:"),
    ("df00", "indefinite"),
    ("d8", "truncated"),
    # ends inside an item
    ("18", "truncated"),
    ("19ff", "truncated"),
    ("1affffff", "truncated"),
    ("1bffffffffffffff", "truncated"),
    ("41", "truncated"),
    ("6261", "truncated"),
    ("81", "truncated"),
    ("8200", "truncated: a list declares length 2, 1 bytes are left"),
    ("a2616100", "truncated: a map declares length 2, 3 bytes are left"),
    ("a16161", "truncated"),
    ("a161", "truncated"),
    ("a1616162", "truncated"),
    ("a278ff", "truncated"),
    (ENCODED_LINK[:-1].hex(), "truncated"),
    ("d82a582500", "truncated"),
]


@pytest.mark.parametrize(("data", "message"), MALFORMED)
def test_malformed_data_are_refused_by_what_is_wrong_with_them(data: str, message: str) -> None:
    with pytest.raises(InvalidDagCbor, match=message):
        decode(bytes.fromhex(data))


@pytest.mark.parametrize(("data", "message"), [case for case in MALFORMED if "bytes after" not in case[1]])
def test_malformed_data_are_refused_anywhere_in_a_sequence(data: str, message: str) -> None:
    with pytest.raises(InvalidDagCbor, match=message):
        decode_prefix(b"\xa0" + bytes.fromhex(data), 1)


HOSTILE_LENGTHS = [
    initial + length
    for initial in ("9", "b", "5", "7")
    for length in ("affffffff", "b7fffffffffffffff", "bffffffffffffffff", "a00ffffff")
]


@pytest.mark.parametrize("length", HOSTILE_LENGTHS)
@pytest.mark.parametrize("repeated", [1, 60])
def test_a_hostile_length_costs_no_memory(length: str, repeated: int) -> None:
    data = bytes.fromhex(length) * repeated + bytes(1000)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidDagCbor, match="truncated"):
            decode(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024


@pytest.mark.parametrize("opening", [b"\x81", b"\xa1\x61a", b"\x82\x00", b"\xd8\x2a", b"\xc6", b"\x9f"])
def test_endless_nesting_is_refused_at_once(opening: bytes) -> None:
    with pytest.raises(InvalidDagCbor):
        decode(opening * 1_000_000)


def mutated(data: bytes, at: int, removed: int, inserted: bytes) -> bytes:
    at %= len(data) + 1
    return data[:at] + inserted + data[at + removed :]


def reads_only_canonical_data(data: bytes) -> None:
    try:
        value = decode(data)
    except InvalidDagCbor:
        return
    assert encode(value) == data


@given(st.binary(max_size=60))
@example(bytes.fromhex("a1616183f6f5f4"))
def test_random_bytes_are_refused_or_are_the_encoding_of_their_value(data: bytes) -> None:
    reads_only_canonical_data(data)


@given(values, st.integers(0, 10_000), st.integers(0, 3), st.binary(max_size=3))
def test_changed_encodings_are_refused_or_are_the_encoding_of_their_value(
    value: DataModel, at: int, removed: int, inserted: bytes
) -> None:
    reads_only_canonical_data(mutated(encode(value), at, removed, inserted))


@given(values, st.integers(0, 10_000), st.integers(0, 3), st.binary(max_size=3))
def test_what_a_general_reader_accepts_and_rewrites_identically_is_accepted(
    value: DataModel, at: int, removed: int, inserted: bytes
) -> None:
    """The converse of strictness: nothing canonical is refused."""
    data = mutated(encode(value), at, removed, inserted)
    try:
        read = decode_own(data)
        rewritten = encode(read)
    except InvalidDagCbor:
        return
    if rewritten == data:
        assert decode(data) == read


@given(values)
def test_a_general_reader_sees_the_same_value(value: DataModel) -> None:
    def link(tag: cbor2.CBORTag, immutable: bool) -> Cid:
        assert tag.tag == 42
        assert tag.value[:1] == b"\0"
        return Cid(tag.value[1:])

    assert cbor2.loads(encode(value), tag_hook=link) == value


@pytest.mark.parametrize("data", ["", "18", "d82a00", "d82a4100", "d82b00", "ff", "1c", "d82a5825" + "00" * 36])
def test_damage_to_own_data_is_reported_as_such(data: str) -> None:
    with pytest.raises(InvalidDagCbor, match="damaged"):
        decode_own(bytes.fromhex(data))


def test_items_in_a_row_are_read_one_after_the_other() -> None:
    data = encode({"op": 1}) + encode([1, 2]) + encode(None)
    first, at = decode_prefix(data)
    second, at = decode_prefix(data, at)
    third, at = decode_prefix(data, at)
    assert [first, second, third, at] == [{"op": 1}, [1, 2], None, len(data)]
    with pytest.raises(InvalidDagCbor, match="truncated"):
        decode_prefix(data, at)


_row_items: st.SearchStrategy[Rows] = st.none() | integers | st.text(max_size=300) | st.binary(max_size=300)


@given(rows=st.recursive(_row_items, lambda inner: st.lists(inner, max_size=30) | st.lists(inner, max_size=5).map(tuple)))
def test_rows_have_the_one_encoding_too(rows: Rows) -> None:
    assert encode_rows(rows) == encode(rows)


def test_rows_with_a_lone_surrogate_are_refused() -> None:
    with pytest.raises(InvalidDagCbor, match="Unicode"):
        encode_rows(["\ud800"])
