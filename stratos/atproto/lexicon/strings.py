"""Checks of text: formats, lengths in bytes and in grapheme clusters, enumerations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import regex

from stratos.atproto.dag_cbor import DataModel
from stratos.atproto.lexicon import schema
from stratos.atproto.lexicon.errors import Mismatch
from stratos.atproto.syntax import (
    InvalidSyntax,
    check_at_uri,
    check_cid_text,
    check_datetime,
    check_language,
    check_uri,
    parse_at_identifier,
    parse_did,
    parse_handle,
    parse_nsid,
    parse_rkey,
    parse_tid,
)

Check: TypeAlias = Callable[[DataModel], None]
"""Raises Mismatch unless the value conforms."""
_TextCheck: TypeAlias = Callable[[str], None]

FORMATS: Final[Mapping[str, Callable[[str], object]]] = {
    "at-identifier": parse_at_identifier,
    "at-uri": check_at_uri,
    "cid": check_cid_text,
    "datetime": check_datetime,
    "did": parse_did,
    "handle": parse_handle,
    "language": check_language,
    "nsid": parse_nsid,
    "record-key": parse_rkey,
    "tid": parse_tid,
    "uri": check_uri,
}

_clusters = regex.compile(r"\X").findall


def grapheme_count(text: str) -> int:
    """The number of extended grapheme clusters (Unicode Standard Annex 29) in the text."""
    if text.isascii() and "\r" not in text:
        return len(text)
    return len(_clusters(text))


def string_check(string: schema.String) -> Check:
    """The check of one string schema. Byte lengths come first, so that what is counted in clusters is already bounded."""
    checks = tuple(_constraints(string))
    if not checks:
        return _is_text
    if len(checks) == 1:
        return _one_constraint(checks[0])

    def check(value: DataModel) -> None:
        if type(value) is not str:
            raise Mismatch("must be a string")
        for one in checks:
            one(value)

    return check


def _is_text(value: DataModel) -> None:
    if type(value) is not str:
        raise Mismatch("must be a string")


def _one_constraint(constraint: _TextCheck) -> Check:
    def check(value: DataModel) -> None:
        if type(value) is not str:
            raise Mismatch("must be a string")
        constraint(value)

    return check


def _constraints(string: schema.String) -> list[_TextCheck]:
    checks: list[_TextCheck] = []
    if string.const is not None:
        checks.append(_one_of(frozenset({string.const})))
    if string.enum is not None:
        checks.append(_one_of(string.enum))
    if string.min_length is not None or string.max_length is not None:
        checks.append(_length(string.min_length, string.max_length))
    if string.min_graphemes is not None or string.max_graphemes is not None:
        checks.append(_graphemes(string.min_graphemes, string.max_graphemes))
    if string.format is not None:
        checks.append(_format(string.format))
    return checks


def _one_of(allowed: frozenset[str]) -> _TextCheck:
    reason = f"must be one of ({', '.join(sorted(allowed))})" if len(allowed) != 1 else f"must be {next(iter(allowed))}"

    def check(text: str) -> None:
        if text not in allowed:
            raise Mismatch(reason)

    return check


def _length(least: int | None, most: int | None) -> _TextCheck:
    floor, ceiling = least or 0, float("inf") if most is None else most

    def check(text: str) -> None:
        # Lone surrogates, which only come in from outside the data model, count three bytes instead of failing.
        length = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        if length > ceiling:
            raise Mismatch(f"must not be longer than {most} bytes")
        if length < floor:
            raise Mismatch(f"must not be shorter than {least} bytes")

    return check


def _graphemes(least: int | None, most: int | None) -> _TextCheck:
    floor, ceiling = least or 0, float("inf") if most is None else most

    def check(text: str) -> None:
        # No text has more clusters than code points, so most texts need no counting.
        if not floor and len(text) <= ceiling:
            return
        count = grapheme_count(text)
        if count > ceiling:
            raise Mismatch(f"must not be longer than {most} graphemes")
        if count < floor:
            raise Mismatch(f"must not be shorter than {least} graphemes")

    return check


def _format(name: str) -> _TextCheck:
    read = FORMATS[name]

    def check(text: str) -> None:
        try:
            read(text)
        except InvalidSyntax:
            raise Mismatch(f"must be a valid {name}") from None

    return check
