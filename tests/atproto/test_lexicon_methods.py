"""Parameters, inputs and outputs held against the lexicons of their methods."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.atproto.dag_cbor import DataModel
from stratos.atproto.lexicon import LexiconError, Lexicons
from stratos.resources import lexicon_directory
from tests.atproto.lexicon_builders import OURS, POST, post


def test_parameters_become_typed_values() -> None:
    given_ = {"did": ["did:plc:abc"], "cursor": ["17"], "domain": ["a", "b"], "includeCommits": ["true"], "syncToken": [""]}
    assert OURS.check_params("zone.stratos.sync.subscribeRecords", given_) == {
        "did": "did:plc:abc",
        "cursor": 17,
        "domain": ["a", "b"],
        "includeCommits": True,
        "syncToken": "",
    }


def test_defaults_are_applied_and_undeclared_parameters_dropped() -> None:
    given_ = {"repo": ["did:plc:abc"], "collection": [POST], "colour": ["red", "blue"]}
    assert OURS.check_params("com.atproto.repo.listRecords", given_) == {
        "repo": "did:plc:abc",
        "collection": POST,
        "limit": 50,
    }
    assert OURS.check_params("zone.stratos.server.listDomains", {"x": ["1"]}) == {}


@pytest.mark.parametrize(
    ("nsid", "params", "message"),
    [
        ("zone.stratos.enrollment.status", {}, 'Error: Params must have the property "did"'),
        ("zone.stratos.enrollment.status", {"did": []}, 'Error: Params must have the property "did"'),
        ("zone.stratos.enrollment.status", {"did": ["alice.test"]}, "Error: Params/did must be a valid did"),
        ("zone.stratos.enrollment.status", {"did": ["did:plc:a", "did:plc:a"]}, "Error: Params/did must be given only once"),
        ("zone.stratos.feed.getTimeline", {"limit": ["ten"]}, "Error: Params/limit must be an integer"),
        ("zone.stratos.feed.getTimeline", {"limit": ["0"]}, "Error: Params/limit must not be less than 1"),
        ("zone.stratos.sync.listRepos", {"limit": ["1001"]}, "Error: Params/limit must not be greater than 1000"),
        (
            "zone.stratos.sync.subscribeRecords",
            {"includeCommits": ["1"]},
            "Error: Params/includeCommits must be a boolean: true or false",
        ),
        (
            "zone.stratos.sync.subscribeRecords",
            {"includeCommits": ["TRUE"]},
            "Error: Params/includeCommits must be a boolean: true or false",
        ),
        (
            "zone.stratos.sync.subscribeRecords",
            {"domain": ["a", "x" * 254]},
            "Error: Params/domain/1 must not be longer than 253 bytes",
        ),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(nsid: str, params: dict[str, list[str]], message: str) -> None:
    with pytest.raises(LexiconError) as refusal:
        OURS.check_params(nsid, params)
    assert str(refusal.value) == message


@pytest.mark.parametrize("text", ["", " 1", "1 ", "+1", "1.0", "1e3", "0x1", "007", "١", "9007199254740992", "9" * 5000, "1\n"])
def test_only_plain_decimal_numbers_are_integers(text: str) -> None:
    with pytest.raises(LexiconError, match="must be an integer"):
        OURS.check_params("zone.stratos.sync.subscribeRecords", {"cursor": [text]})


@given(number=st.integers(0, 2**53 - 1))
def test_any_safe_integer_is_read_as_written(number: int) -> None:
    assert SUBSCRIPTION.check_params("zone.stratos.sync.subscribeRecords", {"cursor": [str(number)]}) == {"cursor": number}


SUBSCRIPTION = Lexicons.from_documents(
    [json.loads((lexicon_directory() / "zone/stratos/sync/subscribeRecords.json").read_text())]
)


def test_an_input_is_checked_with_the_prefix_of_the_reference() -> None:
    with pytest.raises(LexiconError) as refusal:
        OURS.check_input("zone.stratos.admin.addBoundary", {"did": "did:plc:abc"})
    assert str(refusal.value) == 'Error: Input must have the property "boundary"'


def test_put_record_takes_null_as_the_swapped_record_and_create_does_not() -> None:
    wanted: dict[str, DataModel] = {"repo": "did:plc:abc", "collection": POST, "rkey": "3jzfcijpj2z2a", "record": post()}
    OURS.check_input("com.atproto.repo.putRecord", {**wanted, "swapRecord": None})
    with pytest.raises(LexiconError, match="Error: Input/swapCommit must be a string"):
        OURS.check_input("com.atproto.repo.createRecord", {**wanted, "swapCommit": None})


def test_apply_writes_takes_both_shapes_of_items() -> None:
    writes: list[DataModel] = [
        {"$type": "com.atproto.repo.applyWrites#create", "collection": POST, "value": post()},
        {"$type": "#delete", "collection": POST, "rkey": "3jzfcijpj2z2a"},
        {"action": "create", "collection": POST, "record": post()},
    ]
    OURS.check_input("com.atproto.repo.applyWrites", {"repo": "did:plc:abc", "writes": writes})
    OURS.check_definition("com.atproto.repo.applyWrites#create", writes[0])
    with pytest.raises(LexiconError, match="Error: Input/writes/0 must be an object"):
        OURS.check_input("com.atproto.repo.applyWrites", {"repo": "did:plc:abc", "writes": ["create"]})


def test_an_output_that_breaks_the_lexicon_is_found() -> None:
    OURS.check_output("zone.stratos.server.listDomains", {"domains": []})
    with pytest.raises(LexiconError, match='Output must have the property "domains"'):
        OURS.check_output("zone.stratos.server.listDomains", {})


def test_a_body_without_a_schema_is_taken_as_it_is() -> None:
    OURS.check_output("zone.stratos.sync.getRepo", None)
    OURS.check_input("com.atproto.repo.uploadBlob", b"anything")
