"""The lexicon checker against the protocol's vectors and the records of the reference."""

from __future__ import annotations

import json
from typing import cast

import pytest

from stratos.atproto.data_model import InvalidData, from_json
from stratos.atproto.lexicon import InvalidLexicon, LexiconError, Lexicons
from tests.atproto.lexicon_builders import OURS, POST, Json
from tests.vectors import interop, reference


def cases(name: str) -> list[Json]:
    found = cast("list[Json]", json.loads(interop(f"lexicon/{name}").read_text()))
    assert found
    return found


def catalogue() -> Lexicons:
    documents = [json.loads(path.read_text()) for path in sorted(interop("lexicon/catalog").glob("*.json"))]
    assert len(documents) == 5
    # One of them refers to a definition that is not among the vectors.
    preferences = {"type": "array", "items": {"type": "union", "refs": []}}
    documents.append({"lexicon": 1, "id": "app.bsky.actor.defs", "defs": {"preferences": preferences}})
    return Lexicons.from_documents(documents)


def test_every_valid_lexicon_vector_loads() -> None:
    for case in cases("lexicon-valid.json"):
        Lexicons.from_documents([case["lexicon"]])


def loads(document: object) -> bool:
    try:
        Lexicons.from_documents([document])
    except InvalidLexicon:
        return False
    return True


def test_every_invalid_lexicon_vector_is_refused() -> None:
    loaded = [case["name"] for case in cases("lexicon-invalid.json") if loads(case["lexicon"])]
    assert loaded == []


def test_every_valid_record_vector_conforms() -> None:
    lexicons = catalogue()
    for case in cases("record-data-valid.json"):
        data = from_json(case["data"])
        assert isinstance(data, dict)
        lexicons.check_record(cast("str", data["$type"]), data)
        lexicons.check_record_key(cast("str", data["$type"]), cast("str", case["rkey"]))


def conforms(lexicons: Lexicons, json_value: object) -> bool:
    try:
        lexicons.check_record("example.lexicon.record", from_json(json_value))
    except (LexiconError, InvalidData):
        return False
    return True


def test_every_invalid_record_vector_is_refused() -> None:
    lexicons = catalogue()
    accepted = [case["name"] for case in cases("record-data-invalid.json") if conforms(lexicons, case["data"])]
    assert accepted == []


def test_the_vector_of_a_subscription_checks_its_messages() -> None:
    lexicons = catalogue()
    lexicons.check_message("example.lexicon.subscription", "#yo", {"seq": 1, "yo": True})
    with pytest.raises(LexiconError, match="Message/yo must be a boolean"):
        lexicons.check_message("example.lexicon.subscription", "#yo", {"seq": 1, "yo": 1})
    with pytest.raises(LexiconError, match="not '#other'"):
        lexicons.check_message("example.lexicon.subscription", "#other", {})


REFUSED_REFERENCE_RECORDS = {9: "Record/embed/images/0/image must be a blob of type image/*, not text/plain"}
REFERENCE_RECORDS_WITHOUT_TID = {3: "self"}


def reference_creates() -> list[Json]:
    creates = cast("list[Json]", json.loads(reference("createRecord.requests-and-responses.json").read_text()))
    assert [create["n"] for create in creates] == list(range(1, 43))
    return creates


def test_the_reference_records_conform_but_for_the_image_that_is_a_text() -> None:
    refused: dict[int, str] = {}
    for create in reference_creates():
        try:
            OURS.check_record(POST, from_json(create["record"]))
        except LexiconError as error:
            refused[cast("int", create["n"])] = str(error)
    assert refused == REFUSED_REFERENCE_RECORDS


def test_the_reference_record_keys_are_tids_but_for_one() -> None:
    refused: dict[int, str] = {}
    for create in reference_creates():
        try:
            OURS.check_record_key(POST, cast("str", create["rkey"]))
        except LexiconError:
            refused[cast("int", create["n"])] = cast("str", create["rkey"])
    assert refused == REFERENCE_RECORDS_WITHOUT_TID
