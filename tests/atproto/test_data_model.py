"""The JSON form of data: links and byte strings, and what is refused by path."""

from __future__ import annotations

import json
from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.atproto.cid import Cid
from stratos.atproto.dag_cbor import MAX_BLOCK_DEPTH, MAX_INTEGER, DataModel, decode, encode
from stratos.atproto.data_model import InvalidData, Json, from_json, object_from_json, to_json
from tests.atproto.values import values
from tests.vectors import interop, reference

LINK = "bafkreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity"


def test_published_fixtures_have_their_bytes_cid_and_json() -> None:
    for fixture in json.loads(interop("data-model/data-model-fixtures.json").read_text()):
        value = object_from_json(fixture["json"])
        block = b64decode(fixture["cbor_base64"] + "==")
        assert encode(value) == block
        assert str(Cid.of_dag_cbor(block)) == fixture["cid"]
        assert to_json(decode(block)) == fixture["json"]


def test_published_valid_data_are_read() -> None:
    for case in json.loads(interop("data-model/data-model-valid.json").read_text()):
        value = object_from_json(case["json"])
        assert to_json(decode(encode(value))) == case["json"], case["note"]


def test_published_invalid_data_are_refused() -> None:
    for case in json.loads(interop("data-model/data-model-invalid.json").read_text()):
        try:
            read = object_from_json(case["json"])
        except InvalidData:
            continue
        pytest.fail(f"{case['note']} was read as {read}")


def test_records_of_the_reference_have_its_blocks() -> None:
    """In batches the reference hashes right, but leaves `$link` and `$bytes` as maps: all other records must agree with it."""
    steps = json.loads(reference("valid/steps.json").read_text())
    answered = 0
    for step in steps:
        writes = [write for write in step["request"]["writes"] if "record" in write]
        results = {result["uri"]: result["cid"] for result in step["response"]["results"] if "cid" in result}
        for write in writes:
            if "$link" in json.dumps(write) or "$bytes" in json.dumps(write):
                continue
            uri = f"at://{step['request']['repo']}/{write['collection']}/{write['rkey']}"
            assert str(Cid.of_dag_cbor(encode(from_json(write["record"])))) == results[uri]
            answered += 1
    assert answered > 20


@given(values)
def test_json_reads_back_as_the_same_value(value: DataModel) -> None:
    through_text = json.loads(json.dumps(to_json(value)))
    assert encode(from_json(through_text)) == encode(value)


@pytest.mark.parametrize(("number", "expected"), [(123.0, 123), (-0.0, 0), (1e3, 1000), (float(MAX_INTEGER), MAX_INTEGER)])
def test_integer_like_floats_become_integers(number: float, expected: int) -> None:
    value = from_json({"a": number})
    assert value == {"a": expected}
    assert isinstance(value, dict)
    assert type(value["a"]) is int


def test_booleans_stay_booleans() -> None:
    assert encode(from_json([True, False])) == b"\x82\xf5\xf4"


@pytest.mark.parametrize("text", ["nFE", "nFE=", "AAAA", "", "AA==", "AA"])
def test_byte_strings_are_read_with_and_without_padding(text: str) -> None:
    assert from_json({"$bytes": text}) == b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))


def test_byte_strings_are_written_without_padding() -> None:
    assert to_json([b"\x00", b"\x00\x01", b"\xff\xfe\xfd"]) == [{"$bytes": "AA"}, {"$bytes": "AAE"}, {"$bytes": "//79"}]


def test_maps_that_a_foreign_block_holds_in_place_of_bytes_pass_through() -> None:
    assert to_json({"sig": {"$bytes": "AA"}}) == {"sig": {"$bytes": "AA"}}


def deep(depth: int) -> Json:
    value: Json = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (123.456, r"the value: 123\.456 is not an integer"),
        ({"rcrd": {"a": [1, {"b": 2.5}]}}, r"rcrd\.a\[1\]\.b: 2\.5 is not an integer"),
        ([[0.5]], r"\[0\]\[0\]: "),
        ({"a": float("nan")}, "a: nan is not an integer"),
        ({"a": float("inf")}, "a: inf is not an integer"),
        ({"a": 1e300}, "a: an integer beyond"),
        ({"a": MAX_INTEGER + 1}, "a: an integer beyond"),
        ({"a": -MAX_INTEGER - 1}, "a: an integer beyond"),
        ({"a": "\ud800"}, "a: text with a lone surrogate"),
        ({"a": ["\udfff"]}, r"a\[0\]: text with a lone surrogate"),
        ({"a": {"\ud800": 1}}, "a: text with a lone surrogate"),
        ({"a": {"$link": 1}}, r"a: a \$link must be"),
        ({"a": {"$link": LINK, "b": 1}}, r"a: a \$link must be"),
        ({"a": {"$link": LINK.upper()}}, "a: not a base32 CIDv1"),
        ({"a": {"$link": "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi"}}, "a: a CID must be"),
        ({"a": {"$bytes": None}}, r"a: \$bytes must be"),
        ({"a": {"$bytes": "AA", "$link": LINK}}, r"a: a \$link must be"),
        ({"a": {"$bytes": "A"}}, r"a: \$bytes is not base64"),
        ({"a": {"$bytes": "AA="}}, r"a: \$bytes is not base64"),
        ({"a": {"$bytes": "AA==="}}, r"a: \$bytes is not base64"),
        ({"a": {"$bytes": "===="}}, r"a: \$bytes is not base64"),
        ({"a": {"$bytes": "A-_A"}}, r"a: \$bytes is not base64"),
        ({"a": {"$bytes": "AA AA"}}, r"a: \$bytes is not base64"),
        ({"a": {"$bytes": "éé"}}, r"a: \$bytes is not base64"),
        ({"a": {"$type": ""}}, r"a: \$type"),
        ({"a": {"$type": None}}, r"a: \$type"),
        ({"a": {"$type": "blob", "mimeType": "a/b", "size": 1}}, "a: the ref of a blob"),
        ({"a": {"$type": "blob", "ref": LINK, "mimeType": "a/b", "size": 1}}, "a: the ref of a blob"),
        ({"a": {"$type": "blob", "ref": {"$link": LINK}, "size": 1}}, "a: the mimeType of a blob"),
        ({"a": {"$type": "blob", "ref": {"$link": LINK}, "mimeType": "a/b", "size": "1"}}, "a: the size of a blob"),
        ({"a": {"$type": "blob", "ref": {"$link": LINK}, "mimeType": "a/b", "size": True}}, "a: the size of a blob"),
        ({"a": {"$type": "blob", "ref": {"$link": LINK}, "mimeType": "a/b", "size": -1}}, "a: the size of a blob"),
        (deep(MAX_BLOCK_DEPTH + 1), r"(\[0\])+: nested deeper than"),
        ({"a": {1: 2}}, "a: a key of type int"),
        ({"a": (1, 2)}, "a: a value of type tuple"),
        ({"a": b"raw"}, "a: a value of type bytes"),
    ],
)
def test_a_value_that_is_no_data_is_refused_by_its_path(value: object, message: str) -> None:
    with pytest.raises(InvalidData, match=f"^{message}"):
        from_json(value)


@pytest.mark.parametrize("depth", [500, 100_000])
def test_endless_nesting_is_refused_at_once(depth: int) -> None:
    with pytest.raises(InvalidData, match="nested deeper"):
        from_json(deep(depth))


def test_what_is_read_can_always_be_encoded_and_decoded() -> None:
    value = from_json(deep(MAX_BLOCK_DEPTH))
    assert decode(encode(value)) == value


json_values: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(st.characters()) | st.sampled_from(["$link", "$bytes", "$type", "ref", "size"]), inner)
    ),
)


@given(json_values)
def test_any_json_is_refused_or_becomes_encodable_data(value: object) -> None:
    try:
        data = from_json(value)
    except InvalidData:
        return
    assert decode(encode(data)) == data


@pytest.mark.parametrize("value", ["blah", 1, None, True, [], {"$link": LINK}, {"$bytes": ""}])
def test_a_record_must_be_an_object(value: object) -> None:
    with pytest.raises(InvalidData, match="the value: not an object"):
        object_from_json(value)
