"""Hostile HTTP: heads, lengths, encodings and chunks that do not add up, and bytes that are no HTTP at all."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Final

from tests.wire.cases import Case
from tests.wire.service import HOSTILE, POST, post, request

CREATE: Final = "/xrpc/zone.stratos.repo.createRecord"
GET: Final = "/xrpc/zone.stratos.server.listDomains"
BODY: Final = json.dumps({"repo": HOSTILE, "collection": POST, "record": post("hostile")}).encode()
"""A body that would be taken, so that whoever reads past a fault has to write something."""
TOO_LARGE: Final = frozenset({413})
UNSUPPORTED: Final = frozenset({415})
MEDIUM: Final = 2 * 1024 * 1024


def encoding_cases() -> Iterator[Case]:
    """What the headers say of the body."""
    for stated in (
        "text/plain", "text/json", "application/xml", "application/cbor", "application/vnd.ipld.car",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded", "*/*", "application/*", "json", "application/jsonp", "application/json-patch+json",
        "application/json, text/plain", "application", "/", ";", "application/json\\", '"application/json"', "x" * 4000,
    ):  # fmt: skip
        yield Case(f"Content-Type {stated[:40]}", _create({"Content-Type": stated}), ("content-type",))
    yield Case("Content-Type empty", _create({"Content-Type": ""}), ("content-type",))
    yield Case("no Content-Type", _raw("POST", CREATE, f"Content-Length: {len(BODY)}", body=BODY), ("content-type",))
    for coding in ("gzip", "deflate", "br", "zstd", "compress", "gzip, gzip", "identity, gzip", "GZIP", "x-gzip", "nonsense"):
        body = gzip.compress(BODY)
        sent = request("POST", CREATE, HOSTILE, body, {"Content-Encoding": coding})
        yield Case(f"Content-Encoding {coding}", sent, ("content-encoding",), UNSUPPORTED)
    yield Case("gzip that is not said to be", request("POST", CREATE, HOSTILE, gzip.compress(BODY)), ("json",))
    yield Case("body on a query", _raw("GET", GET, "Content-Length: 2", "Content-Type: application/json", body=b"{}"), ("body",))
    yield Case("chunked body on a query", _raw("GET", GET, "Transfer-Encoding: chunked", body=b"2\r\n{}\r\n0\r\n\r\n"), ("body",))
    yield Case("no body on a procedure", _raw("POST", CREATE, "Content-Type: application/json"), ("body",))


def size_cases() -> Iterator[Case]:
    """Bodies, heads and lines that are too large."""
    for size in (MEDIUM + 1, MEDIUM * 2, 2**31, 2**53, 2**63):
        head = _raw("POST", CREATE, "Content-Type: application/json", f"Content-Length: {size}")
        yield Case(f"Content-Length {size}", head, ("too large",), TOO_LARGE)
    spaces = b" " * (MEDIUM + 1)
    yield Case("a body over the limit", request("POST", CREATE, HOSTILE, BODY[:-1] + spaces + b"}"), ("too large",), TOO_LARGE)
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    chunks = _chunked(chunk * 40)
    yield Case("chunks over the limit", chunks, ("too large",), TOO_LARGE)
    for label, line in (
        ("one long header", f"X-Long: {'x' * 100_000}"),
        ("many headers", "\r\n".join(f"X-{number}: {'x' * 100}" for number in range(1000))),
        ("a long cookie", f"Cookie: {'a=b; ' * 20_000}"),
        ("a long header name", f"{'X' * 100_000}: x"),
    ):
        yield Case(label, _raw("GET", GET, line), statuses=frozenset({431}))
    yield Case("a long target", _raw("GET", f"{GET}?{'x' * 100_000}"), statuses=frozenset({431}))
    yield Case("a head without end", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000, statuses=frozenset({431}))


def length_cases() -> Iterator[Case]:
    """Lengths and framings that contradict each other, as in request smuggling."""
    smuggled = b"GET /xrpc/zone.stratos.server.listDomains HTTP/1.1\r\nHost: x\r\n\r\n"
    json_type = "Content-Type: application/json"
    for stated in ("-1", "+5", "0x10", "1.0", "1e1", "ten", "5 5", "5,6", "5;", "٣", "1_0", "", "9" * 30, "9" * 30 + "x"):
        yield Case(f"Content-Length {stated!r}", _raw("POST", CREATE, json_type, f"Content-Length: {stated}", body=BODY))
    for lines in (
        ("Content-Length: 5", f"Content-Length: {len(BODY)}"),
        (f"Content-Length: {len(BODY)}", "Content-Length: 0"),
        (f"Content-Length: {len(BODY)}, 0",),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked, chunked",),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding: identity",),
        ("Transfer-Encoding: gzip, chunked",),
        ("Transfer-Encoding: gzip",),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding: chunked;x=1",),
        ("Transfer-Encoding : chunked",),
        ("Transfer-Encoding:\x0bchunked",),
        ("Transfer-Encoding: \x00chunked",),
        ("Transfer-Encoding",),
    ):
        yield Case(f"{' + '.join(lines)}"[:70], _raw("POST", CREATE, json_type, *lines, body=BODY + smuggled))
    whole = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
    for length in (0, 1, len(BODY), len(whole), len(whole + smuggled), 10**9):
        both = ("Transfer-Encoding: chunked", f"Content-Length: {length}")
        for lines in (both, both[::-1]):
            sent = _raw("POST", CREATE, json_type, *lines, body=whole + smuggled)
            yield Case(f"{' + '.join(lines)}", sent)
    for label, chunks in (
        ("no number", b"zz\r\n" + BODY),
        ("negative", b"-1\r\n" + BODY),
        ("a sign", b"+5\r\nhello\r\n0\r\n\r\n"),
        ("0x", b"0x5\r\nhello\r\n0\r\n\r\n"),
        ("huge", b"ffffffffffffffffffff\r\n" + BODY),
        ("huger", b"f" * 5000 + b"\r\n" + BODY),
        ("no size", b"\r\n" + BODY),
        ("too short", b"2\r\nhello\r\n0\r\n\r\n"),
        ("without line ends", b"5hello0"),
        ("NUL", b"\x005\r\nhello\r\n0\r\n\r\n"),
        ("a long extension", b"5;" + b"x" * 40_000 + b"\r\nhello\r\n0\r\n\r\n"),
        ("no end", b"5\r\nhello\r\n"),
        ("half a chunk", b"5\r\nhe"),
        ("trailers without end", b"0\r\n" + b"X: y\r\n" * 20_000),
        ("a broken trailer", b"0\r\nno colon\r\n\r\n"),
    ):
        yield Case(f"chunks: {label}", _chunked(chunks), statuses=frozenset({400, 413, 431}), half_close=True)
    cut = _raw("POST", CREATE, json_type, f"Content-Length: {len(BODY) + 1}", body=BODY)
    yield Case("a body that ends early", cut, half_close=True)
    yield Case("no byte of a body", _raw("POST", CREATE, json_type, "Content-Length: 10"), half_close=True)


def head_cases() -> Iterator[Case]:
    """Request heads that break the grammar."""
    for line in (
        "GET", "GET /", "GET / HTTP", "GET / HTTP/1", "GET / HTTP/11", "GET / HTTP/1.1 x",
        "GET / FTP/1.1", "GET / http/1.1", "GET  / HTTP/1.1", "GET\t/ HTTP/1.1", " GET / HTTP/1.1", "GET / /x HTTP/1.1",
        "G\x00T / HTTP/1.1",
        "GET /\x00 HTTP/1.1", "GET /\x7f HTTP/1.1", "GET /ä HTTP/1.1", "G@T / HTTP/1.1", "{} / HTTP/1.1",
        "\x16\x03\x01 / HTTP/1.1",
        "GET / HTTP/1.1\x00", ":", "", "PRI * HTTP/2.0", "HELO stratos.test", "USER anonymous", "\x00", "( ) { :; }; / HTTP/1.1",
    ):  # fmt: skip
        sent = f"{line}\r\nHost: x\r\n\r\n".encode("latin-1")
        yield Case(f"line {line!r}"[:60], sent, statuses=frozenset({400, 404}), half_close=True)
    for header in (
        "no colon", ": no name", "X Y: space in name", " folded: first", "X:y\x00z", "X\x00: y", "X: a\rb", "X: \x08", "Ä: y",
        "X[]: y",
        "Host: a\r\nHost: b", "X: y\r\n Host: folded", "(X): y", "X\t: y", "X : y", "\x7f: y", "Host: a\x00b",
    ):  # fmt: skip
        sent = f"GET {GET} HTTP/1.1\r\n{header}\r\n\r\n".encode("latin-1")
        yield Case(f"header {header!r}"[:60], sent)
    yield Case("no Host", f"GET {GET} HTTP/1.1\r\n\r\n".encode())
    for label, data in (
        ("TLS", bytes.fromhex("16030100c8010000c40303") + bytes(200)),
        ("SSH", b"SSH-2.0-OpenSSH_9.0\r\n"),
        ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)),
        ("NULs", bytes(1000)),
        ("0xFF", b"\xff" * 1000),
        ("line ends", b"\r\n" * 500),
        ("bare CRs", b"GET / HTTP/1.1\rHost: x\r\r"),
        ("a CAR", bytes.fromhex("3aa265726f6f747381d82a58250001711220") + bytes(40)),
        ("JSON", BODY),
        ("PROXY", b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("nothing", b""),
        ("one byte", b"G"),
        ("half a head", b"GET / HTTP/1.1\r\nHost: x"),
        ("redis", b"*1\r\n$4\r\nINFO\r\n"),
        ("postgres", bytes.fromhex("0000000804d2162f")),
        ("RTSP", b"OPTIONS rtsp://x/ RTSP/1.0\r\nCSeq: 1\r\n\r\n"),
    ):
        yield Case(f"bytes: {label}", data, statuses=frozenset({400, 404}), half_close=True)


def _create(headers: dict[str, str]) -> bytes:
    return request("POST", CREATE, HOSTILE, BODY, headers)


def _chunked(chunks: bytes) -> bytes:
    return _raw("POST", CREATE, "Content-Type: application/json", "Transfer-Encoding: chunked", body=chunks)


def _raw(verb: str, target: str, *lines: str, body: bytes = b"") -> bytes:
    head = "\r\n".join([f"{verb} {target} HTTP/1.1", "Host: stratos.test", f"Authorization: Bearer {HOSTILE}", *lines])
    return head.encode() + b"\r\n\r\n" + body
