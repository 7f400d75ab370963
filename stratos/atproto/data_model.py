"""The JSON form of AT Protocol data: links as `{"$link": …}`, byte strings as `{"$bytes": …}`.

Source: https://atproto.com/specs/data-model. Incoming JSON is turned into data-model values before anything else looks at it;
their canonical encoding is what CIDs are made of.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from typing import Final, TypeAlias

from stratos.atproto.cid import Cid, InvalidCid
from stratos.atproto.dag_cbor import MAX_BLOCK_DEPTH, MAX_INTEGER, DataModel

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
"""What a JSON parser gives and a JSON writer takes."""

_LINK: Final = "$link"
_BYTES: Final = "$bytes"
_TYPE: Final = "$type"
_MAX_PATH_CHARACTERS: Final = 200


class InvalidData(ValueError):
    """The JSON value is not AT Protocol data; the message begins with the path of the offending part."""


class _Fault(Exception):
    """What is wrong, while the path to it is gathered from the inside out."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.path: list[str] = []


def from_json(value: object) -> DataModel:
    """The data-model value of a parsed JSON value.

    Numbers written as integer-like floats (`123.0`) become integers. Raises InvalidData for other floats, integers beyond
    ±(2^53−1), lone surrogates, malformed links, byte strings, `$type`s and blobs, nesting deeper than MAX_BLOCK_DEPTH and values
    that no JSON parser gives.
    """
    try:
        return _from_json(value, MAX_BLOCK_DEPTH)
    except _Fault as fault:
        path = "".join(reversed(fault.path)).removeprefix(".")[:_MAX_PATH_CHARACTERS]
        raise InvalidData(f"{path or 'the value'}: {fault}") from None


def object_from_json(value: object) -> dict[str, DataModel]:
    """As `from_json`, for a value that must be an object, as every record and every input is. Raises InvalidData."""
    data = from_json(value)
    if not isinstance(data, dict):
        raise InvalidData("the value: not an object")
    return data


def to_json(value: DataModel) -> Json:
    """The JSON value of a data-model value; byte strings without padding."""
    if isinstance(value, dict):
        return {key: item if type(item) is str else to_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if isinstance(value, Cid):
        return {_LINK: str(value)}
    if isinstance(value, bytes):
        return {_BYTES: b64encode(value).decode("ascii").rstrip("=")}
    return value


def _from_json(value: object, depth: int) -> DataModel:
    if type(value) is str:
        return _text(value)
    if type(value) is dict:
        return _object(value, depth)
    if type(value) is list:
        return _array(value, depth)
    if value is None or type(value) is bool:
        return value
    if type(value) is int:
        return _integer(value)
    if type(value) is float:
        if not value.is_integer():
            raise _Fault(f"{value} is not an integer")
        return _integer(int(value))
    raise _Fault(f"a value of type {type(value).__name__} is not JSON")


def _text(text: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _Fault("text with a lone surrogate") from None
    return text


def _integer(number: int) -> int:
    if not -MAX_INTEGER <= number <= MAX_INTEGER:
        raise _Fault("an integer beyond ±(2^53−1)")
    return number


def _array(items: list[object], depth: int) -> list[DataModel]:
    if not depth:
        raise _Fault(f"nested deeper than {MAX_BLOCK_DEPTH}")
    values: list[DataModel] = []
    for item in items:
        try:
            values.append(_from_json(item, depth - 1))
        except _Fault as fault:
            fault.path.append(f"[{len(values)}]")
            raise
    return values


def _object(members: dict[object, object], depth: int) -> DataModel:
    if not depth:
        raise _Fault(f"nested deeper than {MAX_BLOCK_DEPTH}")
    if _LINK in members:
        return _link(members)
    if _BYTES in members:
        return _byte_string(members)
    values: dict[str, DataModel] = {}
    for key, member in members.items():
        if type(key) is not str:
            raise _Fault(f"a key of type {type(key).__name__}")
        _text(key)
        try:
            values[key] = _text(member) if type(member) is str else _from_json(member, depth - 1)
        except _Fault as fault:
            fault.path.append(f".{key[:80]}")
            raise
    if _TYPE in values:
        _check_type(values)
    return values


def _link(members: dict[object, object]) -> Cid:
    text = members[_LINK]
    if len(members) != 1 or not isinstance(text, str):
        raise _Fault("a $link must be an object with one text member")
    try:
        return Cid.parse(text)
    except InvalidCid as error:
        raise _Fault(str(error)) from None


def _byte_string(members: dict[object, object]) -> bytes:
    text = members[_BYTES]
    if len(members) != 1 or not isinstance(text, str):
        raise _Fault("$bytes must be an object with one text member")
    digits = text.rstrip("=")
    if len(text) - len(digits) not in (0, -len(digits) % 4):
        raise _Fault("$bytes is not base64")
    try:
        return b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise _Fault("$bytes is not base64") from None


def _check_type(values: dict[str, DataModel]) -> None:
    kind = values[_TYPE]
    if not isinstance(kind, str) or not kind:
        raise _Fault("$type must be text that is not empty")
    if kind != "blob":
        return
    if not isinstance(values.get("ref"), Cid):
        raise _Fault("the ref of a blob must be a $link")
    if not isinstance(values.get("mimeType"), str):
        raise _Fault("the mimeType of a blob must be text")
    size = values.get("size")
    if type(size) is not int or size < 0:
        raise _Fault("the size of a blob must be a number of bytes")
