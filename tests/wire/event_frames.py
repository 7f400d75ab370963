"""Hostile event frames: what a broken or malicious service could send to the indexer in place of its stream."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from stratos.atproto.cid import Cid
from stratos.atproto.dag_cbor import DataModel, encode
from stratos.atproto.frames import encode_message
from tests.wire.cars import ACTOR, REV
from tests.wire.service import POST

SEED: Final = 7
TIME: Final = "2026-05-28T20:26:41.000Z"
RECORD: Final[dict[str, DataModel]] = {"$type": POST, "text": "x", "createdAt": TIME}
OP: Final[dict[str, DataModel]] = {
    "action": "create",
    "path": f"{POST}/{REV}",
    "cid": Cid.of_dag_cbor(encode(RECORD)),
    "record": RECORD,
}
COMMIT: Final[dict[str, DataModel]] = {
    "seq": 1,
    "did": ACTOR,
    "time": TIME,
    "rev": REV,
    "since": None,
    "commit": Cid.of_dag_cbor(b"\xa0"),
    "ops": [OP],
}
ENROLLMENT: Final[dict[str, DataModel]] = {
    "seq": 2,
    "did": ACTOR,
    "time": TIME,
    "action": "enroll",
    "service": "https://stratos.test",
    "boundaries": ["did:web:stratos.test/writers"],
}
NOT_TEXT: Final[tuple[DataModel, ...]] = (None, 0, True, b"x", [], {}, Cid.of_raw(b""))
HEADER: Final = encode({"op": 1, "t": "#commit"})


@dataclass(frozen=True, slots=True)
class HostileFrame:
    """A message that must be recognised as malformed."""

    name: str
    frame: bytes

    def __str__(self) -> str:
        return self.name


def whole_frames() -> tuple[bytes, bytes]:
    """A proper commit and a proper enrollment."""
    return _commit(COMMIT), encode_message("#enrollment", encode(ENROLLMENT))


def malformed_frames() -> Iterator[HostileFrame]:
    """Frames that are cut, and frames that lack what an event cannot do without."""
    for label, whole in zip(("commit", "enrollment"), whole_frames(), strict=True):
        for at in range(0 if label == "commit" else 4, len(whole), 4):
            yield HostileFrame(f"{label} cut at {at}", whole[:at])
        yield HostileFrame(f"{label} and a byte", whole + b"\x00")
        yield HostileFrame(f"{label} twice", whole + whole)
        yield HostileFrame(f"NUL and {label}", b"\x00" + whole)
    body = encode(COMMIT)
    for label, header in (
        ("null", b"\xf6"),
        ("a list", b"\x80"),
        ("no op", encode({"t": "#commit"})),
        ("op text", encode({"op": "1", "t": "#commit"})),
        ("op true", encode({"op": True, "t": "#commit"})),
        ("no t", encode({"op": 1})),
        ("t null", encode({"op": 1, "t": None})),
        ("t a number", encode({"op": 1, "t": 1})),
        ("an indefinite map", b"\xbfaoa\xff"),
        ("a float", b"\xa2bop\xf9\x3c\x00at\x67#commit"),
        ("a doubled key", b"\xa2bop\x01bop\x01"),
        ("100,000 lists", b"\x81" * 100_000),
    ):
        yield HostileFrame(f"header: {label}", header + body)
    for label, content in (
        ("null", b"\xf6"),
        ("a list", b"\x80"),
        ("text", encode("x")),
        ("nothing", b""),
        ("no CBOR", b"\xff"),
        ("100,000 lists", b"\x81" * 100_000 + b"\xf6"),
        ("a length of 2^60", b"\xbb\x10" + bytes(7)),
    ):
        yield HostileFrame(f"body: {label}", HEADER + content)
    yield from _wrong_fields()


def flipped_frames() -> Iterator[bytes]:
    """Frames with single bits turned over: they may still say something, but must never be a surprise."""
    rng = random.Random(SEED)
    for whole in whole_frames():
        for at in range(len(whole)):
            yield whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :]


def _wrong_fields() -> Iterator[HostileFrame]:
    for name in ("seq", "did", "time", "ops"):
        yield HostileFrame(f"commit without {name}", _commit({key: value for key, value in COMMIT.items() if key != name}))
    for name in ("did", "time"):
        yield from _both(name, NOT_TEXT)
    yield from _both("did", ("", "x", "did:", "did:plc:", "did:plc:a b", "did:plc:../..", "a" * 5000))
    yield from _both("time", ("", "now", "2026", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00.000Z", "9999999999"))
    for name in ("rev", "since"):
        yield from _in_commit(name, ("x", "2026", "3m2qrrgw2222!"))
    yield from _in_commit("seq", (None, "1", -1, True, b"\x01", []))
    yield from _in_commit("ops", (None, 0, "x", {}, b"", [None], [0], ["x"], [[]], [{}]))
    yield from _in_op(
        "path", (*NOT_TEXT, "", "/", "x", POST, f"{POST}/", f"{POST}/a b", f"{POST}/..", f"{POST}/a/b", "no nsid/x")
    )
    yield from _in_op("action", (*NOT_TEXT, "", "CREATE", "upsert"))
    yield from _in_op("record", (0, "x", b"x", [], True))
    yield from _in_op("cid", (0, b"x", [], {}, True))
    yield from _in_enrollment("boundaries", (None, 0, "x", {}, b""))


def _both(name: str, values: Sequence[DataModel]) -> Iterator[HostileFrame]:
    yield from _in_commit(name, values)
    yield from _in_enrollment(name, values)


def _in_commit(name: str, values: Sequence[DataModel]) -> Iterator[HostileFrame]:
    for value in values:
        yield HostileFrame(f"commit {name} {value!r:.20}", _commit({**COMMIT, name: value}))


def _in_enrollment(name: str, values: Sequence[DataModel]) -> Iterator[HostileFrame]:
    for value in values:
        yield HostileFrame(f"enrollment {name} {value!r:.20}", _enrollment({**ENROLLMENT, name: value}))


def _in_op(name: str, values: Sequence[DataModel]) -> Iterator[HostileFrame]:
    for value in values:
        yield HostileFrame(f"operation {name} {value!r:.20}", _commit({**COMMIT, "ops": [{**OP, name: value}]}))


def _commit(body: Mapping[str, DataModel]) -> bytes:
    return encode_message("#commit", encode(dict(body)))


def _enrollment(body: Mapping[str, DataModel]) -> bytes:
    return encode_message("#enrollment", encode(dict(body)))
