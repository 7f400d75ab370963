"""Hostile websockets: upgrades, subscription parameters, and frames that break the protocol. Source: RFC 6455."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from tests.crash.processes import SYNC_TOKEN
from tests.wire.cases import BAD_TEXTS, Case
from tests.wire.queries import UNDECODABLE
from tests.wire.service import HOSTILE, OWNER, READ_BYTES, STRANGER

SUBSCRIBE: Final = "/xrpc/zone.stratos.sync.subscribeRecords"
KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="
MASK: Final = b"\x11\x22\x33\x44"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
PROTOCOL_ERROR, INVALID_DATA, TOO_BIG = 1002, 1007, 1009
MAX_MESSAGE: Final = 4096
"""What the service takes of a subscriber, who has nothing to say."""


@dataclass(frozen=True, slots=True)
class SocketCase:
    """Bytes sent after an accepted upgrade, and how the service may end it: with one of these close codes, or (None) without."""

    name: str
    sent: bytes
    codes: frozenset[int | None]

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription that must be refused in-band: its query and token, the error's name, what the message names."""

    name: str
    query: str
    token: str | None
    error: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return self.name


def upgrade_cases() -> Iterator[Case]:
    """Upgrades that are none, or lead nowhere."""
    right = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    }
    for label, changes in (
        ("no key", {"Sec-WebSocket-Key": None}),
        ("no version", {"Sec-WebSocket-Version": None}),
        ("version 8", {"Sec-WebSocket-Version": "8"}),
        ("version 99", {"Sec-WebSocket-Version": "99"}),
        ("version text", {"Sec-WebSocket-Version": "thirteen"}),
        ("another protocol", {"Upgrade": "h2c"}),
        ("no Upgrade", {"Upgrade": None}),
        ("no Connection", {"Connection": None}),
        ("Connection: close", {"Connection": "close"}),
        ("an empty Upgrade", {"Upgrade": ""}),
    ):
        headers = {name: value for name, value in {**right, **changes}.items() if value is not None}
        yield Case(
            f"upgrade with {label}",
            _upgrade(f"{SUBSCRIBE}?syncToken={SYNC_TOKEN}", headers),
            statuses=frozenset({400, 426}),
            half_close=False,
        )
    for path in (
        "/",
        "/xrpc/",
        "/xrpc/x",
        "/xrpc/zone.stratos.repo.getRecord",
        f"{SUBSCRIBE}/x",
        "/health",
        "/%ff",
        f"{SUBSCRIBE}%00",
    ):
        yield Case(f"upgrade of {path}", _upgrade(path, right), statuses=frozenset({404}))
    for verb in ("POST", "PUT", "DELETE"):
        sent = _upgrade(f"{SUBSCRIBE}?syncToken={SYNC_TOKEN}", right, verb=verb)
        yield Case(f"upgrade by {verb}", sent, statuses=frozenset({400, 405}))
    plain = _upgrade(f"{SUBSCRIBE}?syncToken={SYNC_TOKEN}", right).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    yield Case("upgrade in HTTP/1.0", plain, statuses=frozenset({400, 404, 426}))


def subscriptions() -> Iterator[Subscription]:
    """Parameters and credentials of the stream that must be refused."""
    token = SYNC_TOKEN
    for name, text_format in (("did", "did"), ("cursor", "integer"), ("includeCommits", "boolean")):
        for place, text in enumerate(BAD_TEXTS[text_format]):
            yield Subscription(f"{name} {place}", f"{name}={quote(text, safe='')}", token, "InvalidRequest", (name,))
    for text in ("9007199254740993", "18446744073709551616"):
        yield Subscription(f"cursor {text}", f"cursor={text}", token, "InvalidRequest", ("cursor",))
    for place, encoded in enumerate(UNDECODABLE):
        yield Subscription(f"undecodable {place}", f"domain={encoded}", token, "InvalidRequest", ("query string",))
    yield Subscription("domain too long", f"domain={'x' * 254}", token, "InvalidRequest", ("domain",))
    yield Subscription("both", f"did={OWNER}&includeCommits=true", token, "InvalidRequest", ("includeCommits",))
    yield Subscription("future", "cursor=9007199254740991&includeCommits=true", token, "FutureCursor", ("future",))
    yield Subscription("unknown did", f"did={STRANGER}", token, "NotFound", ("not found",))
    for label, query, caller in (
        ("nobody", "", None),
        ("nobody, of one", f"did={OWNER}", None),
        ("hostile, of all", "includeCommits=true", HOSTILE),
        ("hostile, of the owner", f"did={OWNER}", HOSTILE),
        ("stranger", f"did={STRANGER}", STRANGER),
        ("a false token", "syncToken=x", None),
        ("an empty token", "syncToken=", None),
        ("a doubled token", f"syncToken={SYNC_TOKEN}&syncToken=x", None),
        ("a cut token", f"syncToken={SYNC_TOKEN[:-1]}", None),
        ("a false bearer", "", "x"),
        ("a DID as token", f"did={OWNER}&syncToken={OWNER}", None),
        ("an undecodable token", "syncToken=%ff", None),
    ):
        error = "InvalidRequest" if label in {"an undecodable token", "a doubled token"} else "AuthRequired"
        yield Subscription(label, query, caller, error, ("auth", "token", "query string", "enrolled"))


def frame_cases() -> Iterator[SocketCase]:
    """What a subscriber must not send."""
    wrong: frozenset[int | None] = frozenset({PROTOCOL_ERROR, None})
    big: frozenset[int | None] = frozenset({TOO_BIG})
    for octet in (0x00, 0x01, 0x0A, 0x16, 0x47, 0x7F, 0x80, 0x83, 0x8B, 0xC1, 0xF1, 0xFF):
        yield SocketCase(f"a stray byte {octet:#04x}", bytes([octet]), wrong)
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield SocketCase(f"opcode {opcode}", frame(opcode, b"x"), wrong)
    for bits in (0x40, 0x20, 0x10, 0x70):
        for opcode in (TEXT, BINARY, PING):
            yield SocketCase(f"reserved bits {bits:#x} with opcode {opcode}", frame(opcode, b"x", bits=bits), wrong)
    for opcode in (TEXT, BINARY, CLOSE, PING, PONG):
        yield SocketCase(f"opcode {opcode} without a mask", frame(opcode, b"\x03\xe8", mask=None), wrong)
        yield SocketCase(f"opcode {opcode}, half of it", frame(opcode, b"hello")[:-2], wrong)
    for opcode in (CLOSE, PING, PONG):
        yield SocketCase(f"control {opcode} of 126 bytes", frame(opcode, b"\x03\xe8" + b"x" * 124), wrong)
        yield SocketCase(f"control {opcode} in fragments", frame(opcode, b"\x03\xe8", final=False), wrong)
    yield SocketCase("a continuation of nothing", frame(CONTINUATION, b"x"), wrong)
    yield SocketCase("a message in a message", frame(TEXT, b"x", final=False) + frame(TEXT, b"y"), wrong)
    yield SocketCase(
        "a message after fragments of another", frame(BINARY, b"x", final=False) + frame(BINARY, b"y", final=False), wrong
    )
    for length in (MAX_MESSAGE + 1, 65_536, 10**6, 2**31, 2**40, 2**63 - 1):
        yield SocketCase(f"a head that announces {length} bytes", head(BINARY, length) + MASK + b"x", big | wrong)
        yield SocketCase(f"a head that announces {length} bytes, and some", head(BINARY, length) + MASK + bytes(4097), big)
    yield SocketCase("a length of 2^63", head(BINARY, 2**63) + MASK + b"x", wrong | big)
    yield SocketCase("a length of 2^64 - 1", head(BINARY, 2**64 - 1) + MASK + b"x", wrong | big)
    yield SocketCase("5 in two bytes", bytes([0x82, 0x80 | 126]) + struct.pack(">H", 5) + MASK + b"hello", wrong)
    yield SocketCase("5 in eight bytes", bytes([0x82, 0x80 | 127]) + struct.pack(">Q", 5) + MASK + b"hello", wrong)
    yield SocketCase("a large message", frame(BINARY, b"x" * 100_000), big)
    yield SocketCase("a large text", frame(TEXT, b"x" * 100_000), big)
    fragments = frame(BINARY, b"x" * 1000, final=False) + frame(CONTINUATION, b"x" * 1000, final=False) * 200
    yield SocketCase("fragments without end", fragments, big)
    yield SocketCase("fragments of nothing, then much", frame(TEXT, b"", final=False) + frame(CONTINUATION, b"x" * 9000), big)
    for place, text in enumerate((b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"a\x80", b"\xe2\x82")):
        yield SocketCase(f"text that is no UTF-8 {place}", frame(TEXT, text), wrong | {INVALID_DATA})
    yield SocketCase("a close of one byte", frame(CLOSE, b"\x03"), wrong)
    for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535):
        yield SocketCase(f"a close with {code}", frame(CLOSE, struct.pack(">H", code)), wrong)
    yield SocketCase("a close whose reason is no UTF-8", frame(CLOSE, b"\x03\xe8\xff"), wrong | {INVALID_DATA})
    yield SocketCase("an HTTP request", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", wrong)
    yield SocketCase("a second upgrade", _upgrade(SUBSCRIBE, {"Connection": "Upgrade", "Upgrade": "websocket"}), wrong)
    yield SocketCase("NULs", bytes(1000), wrong)
    yield SocketCase("0xFF", b"\xff" * 1000, wrong)


def harmless_frames() -> Iterator[tuple[str, bytes]]:
    """What a subscriber may send and nobody heeds."""
    yield "text", frame(TEXT, b'{"cursor": 0, "did": "did:plc:owner"}')
    yield "binary", frame(BINARY, bytes(range(256)))
    yield "nothing", frame(TEXT, b"")
    yield "fragments", frame(TEXT, b"a", final=False) + frame(CONTINUATION, b"b", final=False) + frame(CONTINUATION, b"c")
    yield "a ping between fragments", frame(TEXT, b"a", final=False) + frame(PING, b"x") + frame(CONTINUATION, b"b")
    yield "pongs that nobody asked for", frame(PONG, b"x") * 500
    yield "a flood of pings", frame(PING, b"x" * 125) * 2000
    yield "a flood of messages", frame(TEXT, b"hello") * 2000
    yield "the largest message", frame(BINARY, b"x" * MAX_MESSAGE)


def upgrade(query: str, token: str | None) -> bytes:
    """A proper upgrade to the stream."""
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": KEY, "Sec-WebSocket-Version": "13"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return _upgrade(f"{SUBSCRIBE}?{query}", headers)


def head(opcode: int, length: int, *, final: bool = True, bits: int = 0, masked: bool = True) -> bytes:
    """The head of a frame, with the shortest form of its length."""
    first, flag = (0x80 if final else 0) | bits | opcode, 0x80 if masked else 0
    if length < 126:
        return bytes([first, flag | length])
    if length < 2**16:
        return bytes([first, flag | 126]) + struct.pack(">H", length)
    return bytes([first, flag | 127]) + struct.pack(">Q", length)


def frame(opcode: int, payload: bytes, *, final: bool = True, bits: int = 0, mask: bytes | None = MASK) -> bytes:
    """A frame as a client sends it."""
    start = head(opcode, len(payload), final=final, bits=bits, masked=mask is not None)
    if mask is None:
        return start + payload
    return start + mask + bytes(octet ^ mask[place % 4] for place, octet in enumerate(payload))


class FrameReader:
    """The service's frames, which are neither masked nor fragmented."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""

    def response_head(self) -> bytes:
        """The HTTP answer to the upgrade."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._more():
                return self._buffer
        answer, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return answer

    def frame(self) -> tuple[int, bytes] | None:
        """The next frame: opcode and payload; None at the end of the connection. Raises TimeoutError where neither comes."""
        while True:
            if len(self._buffer) >= 2:
                length, start = self._buffer[1] & 0x7F, 2
                if length >= 126:
                    start = 4 if length == 126 else 10
                    length = int.from_bytes(self._buffer[2:start], "big")
                if len(self._buffer) >= start + length:
                    opcode, payload = self._buffer[0] & 0x0F, self._buffer[start : start + length]
                    self._buffer = self._buffer[start + length :]
                    return opcode, payload
            if not self._more():
                return None

    def _more(self) -> bool:
        try:
            data = self._connection.recv(READ_BYTES)
        except ConnectionResetError:
            return False
        self._buffer += data
        return bool(data)


def _upgrade(target: str, headers: dict[str, str], verb: str = "GET") -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{verb} {target} HTTP/1.1\r\nHost: stratos.test\r\n{lines}\r\n".encode()
