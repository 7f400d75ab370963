"""From a record to its rows."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from stratos.atproto.cid import Cid
from stratos.atproto.dag_cbor import DataModel
from stratos.atproto.syntax import Did
from stratos.core.boundaries import OWNER_ONLY
from stratos.indexer.post_row import PostRow, post_row
from tests.indexer.stratos_model import Record, boundary, post

DID = Did("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
INDEXED = "2026-03-01T00:00:00.000Z"


def row(record: Record) -> PostRow:
    return post_row(DID, "3mgaaaaaaaaaa", "bafy", record, INDEXED)


def test_every_column_comes_from_its_field() -> None:
    image = Cid.of_raw(b"image")
    record = post(
        "hello",
        "b",
        "a",
        reply={"root": {"uri": "at://r", "cid": "cr"}, "parent": {"uri": "at://p", "cid": "cp"}},
        embed={"image": image, "alt": b"\x01"},
        facets=[{"index": {"byteStart": 0}}],
        langs=["en", "de"],
        labels={"values": []},
        tags=["x,y", "z"],
    )
    found = row(record)
    assert found.uri == f"at://{DID}/zone.stratos.feed.post/3mgaaaaaaaaaa"
    assert (found.cid, found.rkey, found.creator, found.text) == ("bafy", "3mgaaaaaaaaaa", DID, "hello")
    assert (found.reply_root, found.reply_root_cid, found.reply_parent, found.reply_parent_cid) == (
        "at://r",
        "cr",
        "at://p",
        "cp",
    )
    assert json.loads(found.embed or "") == {"image": {"$link": str(image)}, "alt": {"$bytes": "AQ"}}
    assert json.loads(found.facets or "") == [{"index": {"byteStart": 0}}]
    assert found.langs == "en,de"
    assert json.loads(found.labels or "") == {"values": []}
    assert json.loads(found.tags or "") == ["x,y", "z"]
    assert (found.created_at, found.indexed_at) == ("2026-02-01T00:00:00.000Z", INDEXED)
    assert found.boundaries == (boundary("a"), boundary("b"))


def test_created_at_is_normalised_and_replaced_where_it_is_no_datetime() -> None:
    assert row(post("x", created_at="2026-02-01T01:30:00+01:30")).created_at == "2026-02-01T00:00:00.000Z"
    assert row(post("x", created_at="2026-02-01T00:00:00.98765Z")).created_at == "2026-02-01T00:00:00.987Z"
    assert row(post("x", created_at="last week")).created_at == INDEXED
    assert row({"text": "x"}).created_at == INDEXED


def test_repeated_boundaries_count_once() -> None:
    assert row(post("x", "a", "a")).boundaries == (boundary("a"),)


def test_nul_is_replaced_in_text_and_escaped_in_json() -> None:
    found = row(post("a\0b", "a", langs=["e\0n"], tags=["t\0"], embed={"k\0": "v\0"}, reply={"root": {"uri": "\0", "cid": "\0"}}))
    assert found.text == "a\ufffdb"
    assert found.langs == "e\ufffdn"
    assert found.reply_root == "\ufffd"
    assert json.loads(found.embed or "") == {"k\0": "v\0"}
    assert json.loads(found.tags or "") == ["t\0"]
    assert "\0" not in "".join(text for text in (found.embed, found.tags) if text)


def test_boundary_with_nul_is_nobodys_and_does_not_make_the_post_public() -> None:
    assert row(post("x", "a\0")).boundaries == (OWNER_ONLY,)
    assert row(post("x", "a\0", "b")).boundaries == (boundary("b"),)


def test_fields_of_other_types_are_left_out() -> None:
    found = row({"text": 1, "reply": [], "embed": None, "langs": "en", "tags": {}, "createdAt": 5, "boundary": "all"})
    assert (found.text, found.reply_root, found.embed, found.langs, found.tags) == ("", None, None, None, None)
    assert found.boundaries == (OWNER_ONLY,)


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
_names = st.sampled_from(["text", "reply", "embed", "facets", "langs", "labels", "tags", "createdAt", "boundary"])


@given(st.dictionaries(_names, _values))
def test_no_record_makes_it_raise_or_gives_a_nul(record: dict[str, DataModel]) -> None:
    found = row(record)
    fields = [found.text, found.reply_root, found.embed, found.facets, found.langs, found.labels, found.tags, *found.boundaries]
    assert not any("\0" in text for text in fields if text is not None)
