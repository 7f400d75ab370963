"""Event-stream frames: two concatenated DAG-CBOR items, a header and a body, in one binary websocket message.

Source: https://atproto.com/specs/event-stream. A body arrives here encoded, because it is encoded once and sent to many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from stratos.atproto.dag_cbor import DataModel, InvalidDagCbor, decode_prefix, encode

MESSAGE_OP: Final = 1
ERROR_OP: Final = -1


class InvalidFrame(ValueError):
    """The bytes are not an event-stream frame; the message says why."""


@dataclass(frozen=True, slots=True)
class MessageFrame:
    """A message: its kind in the short form, such as `#commit`, and its body. Kinds that are unknown here pass through."""

    kind: str
    body: dict[str, DataModel]


@dataclass(frozen=True, slots=True)
class ErrorFrame:
    """The last frame of a refused or ended stream: the error's name and, possibly, an explanation."""

    error: str
    message: str | None


def encode_message(kind: str, body: bytes) -> bytes:
    """A message frame of a kind such as `#commit` around an already encoded body."""
    return encode({"op": MESSAGE_OP, "t": kind}) + body


def encode_info(name: str, message: str) -> bytes:
    """An `#info` frame, such as OutdatedCursor: a notice, after which the stream goes on."""
    return encode_message("#info", encode({"name": name, "message": message}))


def encode_error(name: str, message: str | None = None) -> bytes:
    """An error frame; the sender closes the connection after it."""
    body = {"error": name} if message is None else {"error": name, "message": message}
    return encode({"op": ERROR_OP}) + encode(body)


def decode_frame(data: bytes) -> MessageFrame | ErrorFrame | None:
    """Read one frame; None when its header names an operation of a later protocol, to be ignored.

    A kind may be fully qualified (`zone.stratos.sync.subscribeRecords#commit`); it is given in the short form. Raises
    InvalidFrame for anything that is not exactly a header and a body.
    """
    try:
        header, body_at = decode_prefix(data)
        if not isinstance(header, dict):
            raise InvalidFrame("the header is not a map")
        op = header.get("op")
        if type(op) is not int:
            raise InvalidFrame("the header has no integer `op`")
        if op not in (MESSAGE_OP, ERROR_OP):
            return None
        if body_at == len(data):
            raise InvalidFrame("the frame has no body")
        body, end = decode_prefix(data, body_at)
    except InvalidDagCbor as error:
        raise InvalidFrame(f"not DAG-CBOR: {error}") from error
    if end != len(data):
        raise InvalidFrame(f"{len(data) - end} bytes after the body")
    if not isinstance(body, dict):
        raise InvalidFrame("the body is not a map")
    if op == ERROR_OP:
        return _error(body)
    kind = header.get("t")
    if not isinstance(kind, str):
        raise InvalidFrame("the header of a message has no text `t`")
    return MessageFrame(kind[max(kind.find("#"), 0) :], body)


def _error(body: dict[str, DataModel]) -> ErrorFrame:
    error, message = body.get("error"), body.get("message")
    if not isinstance(error, str):
        raise InvalidFrame("the body of an error has no text `error`")
    if message is not None and not isinstance(message, str):
        raise InvalidFrame("the `message` of an error is not text")
    return ErrorFrame(error, message)
