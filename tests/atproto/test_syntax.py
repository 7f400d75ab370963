"""Identifier and string syntax, against the protocol's vectors and by property."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.atproto import syntax
from stratos.atproto.syntax import AtUri, InvalidSyntax, Nsid, Rkey, format_datetime, parse_datetime
from tests.vectors import interop

Parser = Callable[[str], object]

PARSERS: dict[str, Parser] = {
    "atidentifier": syntax.parse_at_identifier,
    "aturi": AtUri.parse,
    "cid": syntax.check_cid_text,
    "datetime": syntax.check_datetime,
    "did": syntax.parse_did,
    "handle": syntax.parse_handle,
    "language": syntax.check_language,
    "nsid": syntax.parse_nsid,
    "recordkey": syntax.parse_rkey,
    "tid": syntax.parse_tid,
    "uri": syntax.check_uri,
}


def lines_of(name: str) -> list[str]:
    lines = [line for line in interop(name).read_text().split("\n") if line and not line.startswith("#")]
    assert lines
    return lines


def accepts(parse: Parser, text: str) -> bool:
    try:
        parse(text)
    except InvalidSyntax:
        return False
    return True


@pytest.mark.parametrize("kind", PARSERS)
def test_every_valid_vector_is_accepted(kind: str) -> None:
    refused = [line for line in lines_of(f"syntax/{kind}_syntax_valid.txt") if not accepts(PARSERS[kind], line)]
    assert refused == []


@pytest.mark.parametrize("kind", PARSERS)
def test_every_invalid_vector_is_refused(kind: str) -> None:
    accepted = [line for line in lines_of(f"syntax/{kind}_syntax_invalid.txt") if accepts(PARSERS[kind], line)]
    assert accepted == []


@pytest.mark.parametrize("kind", ["datetime", "language"])
def test_well_formed_but_impossible_values_are_refused(kind: str) -> None:
    accepted = [line for line in lines_of(f"syntax/{kind}_parse_invalid.txt") if accepts(PARSERS[kind], line)]
    assert accepted == []


@pytest.mark.parametrize(
    ("parse", "text", "reason"),
    [
        (syntax.parse_did, "plc:abc", "must start with did:"),
        (syntax.parse_did, "did:plc:" + "a" * 2041, "longer than 2048"),
        (syntax.parse_handle, "a." * 126 + "test", "longer than 253"),
        (syntax.parse_tid, "3jzf", "13 characters"),
        (syntax.parse_rkey, "", "empty"),
        (syntax.parse_rkey, "a/b", "record key"),
        (syntax.parse_nsid, "com.example", "NSID"),
        (AtUri.parse, "https://a.test", "must start with at://"),
        (syntax.check_cid_text, "QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR", "version 0"),
        (syntax.check_datetime, "1985-02-30T00:00:00Z", "no such date"),
        (syntax.check_datetime, "yesterday", "expected like"),
        (syntax.check_uri, "https://example.com/" + "é" * 4090, "8192 bytes"),
    ],
)
def test_a_refusal_says_what_is_wrong(parse: Parser, text: str, reason: str) -> None:
    with pytest.raises(InvalidSyntax, match=reason):
        parse(text)


def test_a_refusal_repeats_only_the_beginning_of_a_long_text() -> None:
    with pytest.raises(InvalidSyntax) as refusal:
        syntax.parse_did("did:plc:" + "!" * 1_000_000)
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize("parse", PARSERS.values())
def test_no_parser_takes_a_line_end_along(parse: Parser) -> None:
    for valid in ("did:plc:abc", "a.test", "com.example.thing", "3jzfcijpj2z2a", "at://a.test", "en", "1985-04-12T23:20:50Z"):
        assert not accepts(parse, valid + "\n")


def test_handles_come_out_in_lower_case() -> None:
    assert syntax.parse_handle("Alice.Example.COM") == "alice.example.com"


def test_record_path_is_collection_and_key() -> None:
    assert syntax.record_path("zone.stratos.feed.post", "3jzfcijpj2z2a") == "zone.stratos.feed.post/3jzfcijpj2z2a"


AUTHORITIES = st.from_regex("did:(plc|web):[a-z0-9.]{0,20}[a-z0-9]", fullmatch=True) | st.from_regex(
    r"([a-z0-9]{1,10}\.){1,3}[a-z]{2,8}", fullmatch=True
)
NSIDS = st.from_regex(r"[a-z]{2,5}(\.[a-z0-9]{1,8}){1,3}\.[a-zA-Z][a-zA-Z0-9]{0,8}", fullmatch=True).map(Nsid)
RKEYS = st.from_regex("[A-Za-z0-9._:~-]{1,20}", fullmatch=True).filter(lambda key: key not in (".", "..")).map(Rkey)
FRAGMENTS = st.none() | st.from_regex(r"/[a-zA-Z0-9._~:@!$&%')(*+,;=\[\]/-]{0,10}", fullmatch=True)
AT_URIS = (
    st.builds(AtUri, AUTHORITIES, st.none(), st.none(), FRAGMENTS)
    | st.builds(AtUri, AUTHORITIES, NSIDS, st.none(), FRAGMENTS)
    | st.builds(AtUri, AUTHORITIES, NSIDS, RKEYS, FRAGMENTS)
)


@given(AT_URIS)
def test_an_at_uri_survives_printing_and_parsing(uri: AtUri) -> None:
    assert AtUri.parse(str(uri)) == uri


@given(st.text(max_size=40) | st.text(alphabet="at:/did.plc#~-0", max_size=30).map("at://".__add__))
def test_whatever_parses_as_an_at_uri_prints_as_it_was(text: str) -> None:
    if accepts(AtUri.parse, text):
        assert str(AtUri.parse(text)) == text


def test_an_at_uri_has_its_parts() -> None:
    uri = AtUri.parse("at://did:plc:abc/zone.stratos.feed.post/3jzfcijpj2z2a#/text")
    assert (uri.authority, uri.collection, uri.rkey, uri.fragment) == (
        "did:plc:abc",
        "zone.stratos.feed.post",
        "3jzfcijpj2z2a",
        "/text",
    )


@pytest.mark.parametrize(
    "text",
    [
        "at://" + "a." * 126 + "test",
        "at://did:plc:" + "a" * 2048,
        "at://a.test/" + "a." * 160 + "b",
        "at://a.test/com.example.thing/" + "o" * 513,
    ],
)
def test_an_at_uri_with_an_overlong_part_is_refused(text: str) -> None:
    assert not accepts(AtUri.parse, text)


ZONES = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 12, 31), timezones=ZONES)  # noqa: DTZ001


@given(MOMENTS)
def test_a_datetime_comes_out_in_utc_and_the_same_instant(moment: datetime) -> None:
    parsed = parse_datetime(moment.isoformat(timespec="microseconds"))
    assert parsed == moment
    assert parsed.tzinfo is UTC


@given(MOMENTS)
def test_formatting_a_datetime_is_stable_and_keeps_milliseconds(moment: datetime) -> None:
    text = format_datetime(moment)
    assert format_datetime(parse_datetime(text)) == text
    assert timedelta(0) <= moment - parse_datetime(text) < timedelta(milliseconds=1)
    assert len(text) == len("2026-01-02T03:04:05.678Z")


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1985-04-12T23:20:50Z", "1985-04-12T23:20:50.000Z"),
        ("1985-04-12T23:20:50.1Z", "1985-04-12T23:20:50.100Z"),
        ("1985-04-12T23:20:50.1239999999Z", "1985-04-12T23:20:50.123Z"),
        ("1985-04-12T23:20:50.123+01:45", "1985-04-12T21:35:50.123Z"),
        ("2000-02-29T23:59:59-23:59", "2000-03-01T23:58:59.000Z"),
        # What datetime cannot hold becomes the nearest that it can.
        ("0000-01-01T00:00:00.000Z", "0001-01-01T00:00:00.000Z"),
        ("0000-02-29T00:00:00.000Z", "0001-01-01T00:00:00.000Z"),
        ("0001-01-01T00:00:00+23:59", "0001-01-01T00:00:00.000Z"),
        ("0000-12-31T23:59:00-01:00", "0001-01-01T00:59:00.000Z"),
        ("9999-12-31T23:59:59.999-23:59", "9999-12-31T23:59:59.999Z"),
    ],
)
def test_a_datetime_is_normalised(text: str, instant: str) -> None:
    assert format_datetime(parse_datetime(text)) == instant


@pytest.mark.parametrize(
    "text",
    [
        "1985-04-31T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "0000-02-30T00:00:00Z",
        "1985-04-12T24:00:00Z",
        "1985-04-12T23:59:60Z",
        "1985-04-12T23:20:50+24:00",
        "1985-04-12T23:20:50." + "1" * 60 + "Z",
        "１985-04-12T23:20:50Z",
    ],
)
def test_a_datetime_outside_calendar_or_clock_is_refused(text: str) -> None:
    with pytest.raises(InvalidSyntax):
        syntax.check_datetime(text)


@given(st.text(max_size=30), st.sampled_from(sorted(PARSERS)))
def test_no_text_makes_a_parser_fail_otherwise(text: str, kind: str) -> None:
    accepts(PARSERS[kind], text)
