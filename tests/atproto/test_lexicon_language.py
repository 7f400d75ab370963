"""What each type and constraint of the Lexicon language means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.atproto.dag_cbor import DataModel
from stratos.atproto.lexicon import LexiconError, Lexicons
from stratos.atproto.lexicon.catalogue import MAX_VALUE_DEPTH
from stratos.atproto.lexicon.strings import grapheme_count
from tests.atproto.lexicon_builders import FAMILY, LINK, Json, image, lexicon_of, record_of, verdict


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("abc", 3),
        ("a\r\nb", 3),
        ("e\u0301", 1),
        (FAMILY, 1),
        ("🇩🇪🇫🇷", 2),
        ("👍🏽", 1),
        ("한글", 2),
        ("\u1112\u1161\u11ab", 1),
        ("क्षि", 1),
        ("日本語", 3),
        ("\u0301", 1),
        ("\ud83d", 1),
    ],
)
def test_grapheme_clusters_are_counted_as_people_see_them(text: str, count: int) -> None:
    assert grapheme_count(text) == count


@given(st.text(max_size=50))
def test_no_text_has_more_clusters_than_code_points(text: str) -> None:
    assert grapheme_count(text) <= len(text)


@given(st.text(max_size=12), st.integers(0, 12), st.integers(0, 12))
def test_lengths_are_utf8_bytes_and_inclusive(text: str, one: int, other: int) -> None:
    least, most = sorted((one, other))
    lexicons = record_of(a={"type": "string", "minLength": least, "maxLength": most})
    assert (verdict(lexicons, a=text) == "ok") is (least <= len(text.encode()) <= most)


@given(st.text(max_size=12), st.integers(0, 12), st.integers(0, 12))
def test_grapheme_limits_are_inclusive(text: str, one: int, other: int) -> None:
    least, most = sorted((one, other))
    lexicons = record_of(a={"type": "string", "minGraphemes": least, "maxGraphemes": most})
    assert (verdict(lexicons, a=text) == "ok") is (least <= grapheme_count(text) <= most)


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "boolean"}, [True, False], [0, 1, "true", None]),
        ({"type": "boolean", "const": True}, [True], [False]),
        ({"type": "integer"}, [0, -5], [True, "1", None, b""]),
        ({"type": "integer", "minimum": -1, "maximum": 3}, [-1, 3], [-2, 4]),
        ({"type": "integer", "enum": [2, 4]}, [2, 4], [3]),
        ({"type": "integer", "const": 0}, [0], [1, False]),
        ({"type": "string"}, ["", "x"], [b"x", 1, [], LINK]),
        ({"type": "string", "const": "a"}, ["a"], ["b", ""]),
        ({"type": "string", "enum": ["a", "b"]}, ["a", "b"], ["c", "A"]),
        ({"type": "string", "knownValues": ["a"]}, ["a", "z"], [1]),
        ({"type": "string", "const": ""}, [""], ["a"]),
        ({"type": "bytes", "minLength": 1, "maxLength": 2}, [b"a", b"ab"], [b"", b"abc", "a"]),
        ({"type": "cid-link"}, [LINK], [str(LINK), {"$link": str(LINK)}]),
        (
            {"type": "array", "items": {"type": "integer"}, "minLength": 1, "maxLength": 2},
            [[1], [1, 2]],
            [[], [1, 2, 3], ["1"], 1],
        ),
        ({"type": "unknown"}, [{}, {"$type": "a.b.c"}], [[], "x", None, b"", LINK, image()["image"]]),
        ({"type": "blob"}, [image()["image"]], [{}, {**image(), "$type": "blob"}, {"cid": str(LINK), "mimeType": "image/png"}]),
        ({"type": "blob", "maxSize": 5}, [image(5)["image"]], [image(6)["image"], image(-1)["image"], image(True)["image"]]),
        ({"type": "blob", "accept": ["*/*"]}, [image(mime_type="x/y")["image"]], []),
        (
            {"type": "blob", "accept": ["image/*", "text/vtt"]},
            [image(mime_type="IMAGE/PNG")["image"]],
            [image(mime_type="imagex/png")["image"]],
        ),
        ({"type": "object", "properties": {"a": {"type": "integer"}}}, [{}, {"a": 1}, {"b": "x"}], [[], {"a": None}]),
        ({"type": "union", "refs": []}, [{"$type": "a.b.c"}], [{}, {"$type": 1}, {"$type": ""}, "x"]),
    ],
)
def test_each_type_takes_its_values_and_no_others(schema: Json, good: list[DataModel], bad: list[DataModel]) -> None:
    lexicons = record_of(a=schema)
    assert [verdict(lexicons, a=value) for value in good] == ["ok"] * len(good)
    for value in bad:
        assert verdict(lexicons, a=value).startswith("Record/a"), value


def test_null_is_taken_only_where_it_is_nullable() -> None:
    body: Json = {
        "type": "object",
        "nullable": ["a"],
        "required": ["a"],
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    }
    lexicons = Lexicons.from_documents([lexicon_of({"type": "record", "key": "any", "record": body})])
    assert verdict(lexicons, a=None) == "ok"
    assert verdict(lexicons, a=1, b=None) == "Record/b must be an integer"
    assert verdict(lexicons) == 'Record must have the property "a"'


def test_a_closed_union_takes_only_its_own_and_never_by_the_name_main() -> None:
    part: Json = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    union: Json = {"type": "union", "closed": True, "refs": ["#part", "com.example.other#main"]}
    record: Json = {"type": "record", "key": "any", "record": {"type": "object", "properties": {"a": union}}}
    lexicons = Lexicons.from_documents([lexicon_of(record, part=part), lexicon_of(part, "com.example.other")])
    assert verdict(lexicons, a={"$type": "com.example.thing#part", "n": 1}) == "ok"
    assert verdict(lexicons, a={"$type": "com.example.other", "n": 1}) == "ok"
    assert verdict(lexicons, a={"$type": "com.example.other", "n": ""}) == "Record/a/n must be an integer"
    for kind in ("#part", "com.example.other#main", "com.example.third"):
        assert "one of (com.example.thing#part, com.example.other)" in verdict(lexicons, a={"$type": kind, "n": 1})


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("any", ["self", "3jzfcijpj2z2a", "~x"], ["", ".", "a/b", "x" * 513]),
        ("tid", ["3jzfcijpj2z2a"], ["self", "3jzfcijpj2z2"]),
        ("nsid", ["com.example.thing"], ["self"]),
        ("literal:self", ["self"], ["Self", "literal:self"]),
    ],
)
def test_record_keys_follow_their_kind(key: str, good: list[str], bad: list[str]) -> None:
    lexicons = Lexicons.from_documents(
        [lexicon_of({"type": "record", "key": key, "record": {"type": "object", "properties": {}}})]
    )
    for rkey in good:
        lexicons.check_record_key("com.example.thing", rkey)
    for rkey in bad:
        with pytest.raises(LexiconError, match="rkey"):
            lexicons.check_record_key("com.example.thing", rkey)


def tree() -> Lexicons:
    """A record whose lexicon contains itself."""
    branch: Json = {"type": "object", "properties": {"next": {"type": "ref", "ref": "#branch"}, "n": {"type": "integer"}}}
    record: Json = {"type": "object", "properties": {"next": {"type": "ref", "ref": "#branch"}}}
    return Lexicons.from_documents([lexicon_of({"type": "record", "key": "any", "record": record}, branch=branch)])


def nested(depth: int, innermost: DataModel) -> DataModel:
    value = innermost
    for _ in range(depth):
        value = {"next": value}
    return value


def test_a_lexicon_may_contain_itself() -> None:
    assert verdict(tree(), next=nested(20, {"n": 1})) == "ok"
    assert verdict(tree(), next=nested(2, {"n": "1"})) == "Record/next/next/next/n must be an integer"


def test_a_value_against_a_lexicon_that_contains_itself_is_bounded_in_depth() -> None:
    assert verdict(tree(), next=nested(MAX_VALUE_DEPTH - 2, {})) == "ok"
    assert "nested deeper" in verdict(tree(), next=nested(MAX_VALUE_DEPTH - 1, {}))
    assert "nested deeper" in verdict(tree(), next=nested(100_000, {}))
