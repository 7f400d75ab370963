"""Malformed lexicon documents are refused, naming the place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stratos.atproto.lexicon import InvalidLexicon, Lexicons
from tests.atproto.lexicon_builders import Json, lexicon_of, record_with


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ([], "lexicon document: must be an object"),
        ({"lexicon": 2, "id": "com.example.thing", "defs": {}}, "lexicon must be 1"),
        ({"lexicon": True, "id": "com.example.thing", "defs": {}}, "lexicon must be"),
        ({"lexicon": 1, "id": "thing", "defs": {}}, "'thing' is not a valid NSID"),
        ({"lexicon": 1, "id": "com.example.thing"}, "com.example.thing: defs is missing"),
        ({"lexicon": 1, "id": "com.example.thing", "defs": {}}, "com.example.thing: defs is empty"),
        (lexicon_of({"type": "wish"}), r"com.example.thing.defs.main: unknown type 'wish'"),
        (lexicon_of({}), "defs.main: type is missing"),
        ({"lexicon": 1, "id": "com.example.thing", "defs": {"a#b": {"type": "token"}}}, "not a name for a definition"),
        (lexicon_of({"type": "union", "refs": []}), "union cannot be a definition"),
        (lexicon_of({"type": "token"}, other={"type": "query"}), "a query must be the main definition"),
        (lexicon_of({"type": "record", "key": "uuid", "record": {}}), "key 'uuid' must be"),
        (lexicon_of({"type": "record", "key": "literal:", "record": {}}), "key 'literal:' must be"),
        (lexicon_of({"type": "record", "key": "any", "record": {"type": "string"}}), "record must be of type object"),
        (lexicon_of({"type": "object"}), "properties is missing"),
        (lexicon_of({"type": "object", "properties": {}, "required": ["a"]}), "required names 'a'"),
        (lexicon_of({"type": "object", "properties": {}, "nullable": ["a"]}), "nullable names 'a'"),
        (lexicon_of({"type": "object", "properties": {}, "required": "a"}), "required must be a list of text"),
        (record_with(a={"type": "token"}), r"properties.a: token cannot stand here"),
        (record_with(a={"type": "array"}), "items is missing"),
        (record_with(a={"type": "string", "format": "email"}), "unknown format 'email'"),
        (record_with(a={"type": "string", "maxLength": "9"}), "maxLength must be a whole number"),
        (record_with(a={"type": "string", "maxLength": -1}), "maxLength must not be negative"),
        (record_with(a={"type": "string", "minLength": 3, "maxLength": 2}), "minLength is above maxLength"),
        (record_with(a={"type": "string", "default": "abc", "maxLength": 2}), "default must not be longer"),
        (record_with(a={"type": "integer", "enum": [True]}), "enum must be a list of whole numbers"),
        (
            record_with(a={"type": "integer", "default": 5, "maximum": 4}),
            "com.example.thing.a: default must not be greater than 4",
        ),
        (record_with(a={"type": "blob", "accept": ["image*"]}), "'image\\*' is not a MIME type"),
        (record_with(a={"type": "union", "refs": [], "closed": True}), "a closed union must have refs"),
        (record_with(a={"type": "union"}), "refs is missing"),
        (record_with(a={"type": "ref", "ref": "nonsense"}), "reference 'nonsense'"),
        (record_with(a={"type": "ref", "ref": "#no-such"}), "com.example.thing.a: no lexicon defines com.example.thing#no-such"),
        (record_with(a={"type": "ref", "ref": "com.example.absent"}), "no lexicon defines com.example.absent"),
        (
            lexicon_of({"type": "object", "properties": {"a": {"type": "ref", "ref": "#t"}}}, t={"type": "token"}),
            "#t has no data to refer to",
        ),
        (
            lexicon_of({"type": "object", "properties": {"a": {"type": "union", "refs": ["#t"]}}}, t={"type": "string"}),
            "#t is in a union but neither",
        ),
        (lexicon_of({"type": "query", "parameters": {"type": "object"}}), "must be of type params"),
        (
            lexicon_of({"type": "query", "parameters": {"type": "params", "properties": {"a": {"type": "bytes"}}}}),
            "a parameter must be",
        ),
        (lexicon_of({"type": "query", "output": {}}), "encoding is missing"),
        (lexicon_of({"type": "query", "output": {"encoding": "x/y", "schema": {"type": "string"}}}), "schema must be an object"),
        (lexicon_of({"type": "query", "errors": [{"name": "Two Words"}]}), "name must be without white space"),
        (lexicon_of({"type": "subscription"}), "message is missing"),
        (
            lexicon_of({"type": "subscription", "message": {"schema": {"type": "object", "properties": {}}}}),
            "message.schema must be a union",
        ),
        (lexicon_of({"type": "permission-set"}), "permissions is missing"),
        (lexicon_of({"type": "permission-set", "permissions": [{"type": "permission", "resource": "rpc"}]}), "lxm must be"),
        (lexicon_of({"type": "permission-set", "permissions": [], "title:lang": {"?": "x"}}), "is not a valid language tag"),
    ],
)
def test_a_malformed_document_is_refused_by_its_place(document: Json, place: str) -> None:
    with pytest.raises(InvalidLexicon, match=place):
        Lexicons.from_documents([document])


def test_a_document_nested_without_end_is_refused() -> None:
    items: Json = {"type": "integer"}
    for _ in range(500):
        items = {"type": "array", "items": items}
    with pytest.raises(InvalidLexicon, match="nested deeper"):
        Lexicons.from_documents([lexicon_of(items)])


def test_members_that_the_language_does_not_know_are_ignored() -> None:
    document = lexicon_of({"type": "string", "maxLength": 3, "shiny": True})
    Lexicons.from_documents([{**document, "revision": 4, "description": "…"}])


def test_a_document_given_twice_is_refused() -> None:
    with pytest.raises(InvalidLexicon, match="defined twice"):
        Lexicons.from_documents([lexicon_of({"type": "token"})] * 2)


def write_lexicon(directory: Path, path: str, text: str) -> None:
    target = directory / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


@pytest.mark.parametrize(
    ("path", "text", "reason"),
    [
        ("com/example/thing.json", "{", "thing.json"),
        ("com/example/thing.json", json.dumps({"lexicon": 1}), "thing.json: lexicon document: id is missing"),
        ("com/example/other.json", json.dumps(lexicon_of({"type": "token"})), "the file of com.example.thing lies elsewhere"),
        ("readme.txt", "", "no lexicons in"),
    ],
)
def test_a_bad_folder_stops_the_loading_and_names_the_file(tmp_path: Path, path: str, text: str, reason: str) -> None:
    write_lexicon(tmp_path, path, text)
    with pytest.raises(InvalidLexicon, match=reason):
        Lexicons.load(tmp_path)
