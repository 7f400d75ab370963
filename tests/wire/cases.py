"""What a hostile case is, and values that are wrong for a field."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

Value = object
"""A JSON value."""

BAD_REQUEST: Final = frozenset({400})
NOT_ALLOWED: Final = frozenset({401})


@dataclass(frozen=True, slots=True)
class Case:
    """Exact bytes to send, the statuses that may come back, and what the message must name: one of these texts, in any case.

    Without `names` the bytes are not HTTP enough for an envelope: then a bare 4xx or a close will do. `half_close` says after
    them that nothing more follows, without which some would be no more than a beginning.
    """

    name: str
    request: bytes
    names: tuple[str, ...] = ()
    statuses: frozenset[int] = BAD_REQUEST
    half_close: bool = False

    def __str__(self) -> str:
        return self.name


BATCH: Final = 50
LONG: Final = "a" * 9000
CID: Final = "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"
OTHER_TYPES: Final[Mapping[str, tuple[Value, ...]]] = {
    "string": (None, 0, True, [], {}, ["x"], 1.5, 2**63),
    "boolean": (None, 0, "true", [], {}),
    "object": (None, 0, "x", [], False, 2.5),
    "array": (None, 0, "x", {}, False),
}
"""JSON values of another type than the field's."""
BAD_TEXTS: Final[Mapping[str, tuple[str, ...]]] = {
    "did": (
        "", "did", "did:", "did:plc", "did:plc:", "did::abc", "DID:plc:abc", "did:PLC:abc", "did:plc:a b", "did:plc:a\x00b",
        "did:web:../../etc/passwd", "did:plc:abc/../../def", "did:plc:abc%", "did:plc:abc:", "did:plc:äbc", "did:plc:abc#key",
        "did:plc:abc?x=1", " did:plc:abc", "did:plc:abc\n", f"did:plc:{LONG}",
    ),
    "nsid": (
        "", ".", "zone", "zone.stratos", "zone..post", ".zone.stratos.post", "zone.stratos.post.", "zone.stratos.feed.1post",
        "zone.stratos.feed.po-st", "zone.stratos.feed.post/x", "zone.stratos.feed.post#main", "zone.stratos.feed.pöst",
        "zone.stratos.feed.po st", "zone.stratos.feed.post\x00", "../../signing_key", "-zone.stratos.feed.post", "*", LONG,
    ),
    "record-key": (
        "", ".", "..", "a/b", "../x", "a b", "a#b", "a?b", "a%2fb", "ä", "a\x00", "a\n", "@", "a" * 513, LONG,
    ),
    "tid": (
        "", "abc", "3m2qrrgw2222", "3m2qrrgw222222", "3m2qrrgw2222!", "3M2QRRGW22222", "0000000000000", "zzzzzzzzzzzzz",
        "3m2q-rrgw-222-22", LONG,
    ),
    "cid": (
        "", "x", "bafy", CID[:-1], f"{CID}a", CID.upper(), f" {CID}", f"{CID}\x00", "z" * 59, LONG,
        "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n",
    ),
    "at-uri": (
        "", "at://", "at:///", "x", "http://stratos.test/x", "at://did:plc:owner/", "at://did:plc:owner//x", "at://did:plc:owner/a/b/c",
        "at://did:plc:owner/zone.stratos.feed.post/", "at://did:plc:owner/../x", "at://did:plc:owner/zone.stratos.feed.post/a b",
        "at://did:plc:owner/zone.stratos.feed.post/a\x00", "AT://did:plc:owner/zone.stratos.feed.post/a", f"at://did:plc:owner/{LONG}",
    ),
    "integer": (
        "", "abc", "-1", "0x10", "1.0", "1e2", "NaN", "Infinity", "9" * 26, " 1", "1 ", "+1", "--1", "1_0", "٣", "1\x00",
        "9" * 5000,
    ),
    "boolean": ("", "yes", "True", "TRUE", "1", "0", "null", " true", "true\x00", "truefalse"),
}  # fmt: skip
"""Texts that a format refuses."""


def without(value: Mapping[str, Value], field: str) -> dict[str, Value]:
    """An object without one of its fields."""
    return {name: item for name, item in value.items() if name != field}


def with_(value: Mapping[str, Value], field: str, item: Value) -> dict[str, Value]:
    """An object with one of its fields replaced."""
    return {**value, field: item}


def labelled(values: Sequence[Value]) -> Iterator[tuple[str, Value]]:
    """Values with a short text for the name of a case."""
    for place, value in enumerate(values):
        text = json.dumps(value)
        yield f"{text[:24]} ({place})", value


Sent = TypeVar("Sent")


def in_batches(tables: Mapping[str, Iterable[Sent]]) -> list[tuple[str, tuple[Sent, ...]]]:
    """The cases of named tables in batches with a name each: thousands of tests would cost more than what they do."""
    return [
        (f"{title}, {start} and on", cases[start : start + BATCH])
        for title, cases in ((title, tuple(table)) for title, table in tables.items())
        for start in range(0, len(cases), BATCH)
    ]


def check_each(batch: Iterable[Sent], check: Callable[[Sent], None]) -> None:
    """Check every case of a batch, and fail with all that fail."""
    failures: list[str] = []
    for case in batch:
        try:
            check(case)
        except (AssertionError, OSError) as failure:
            failures.append(f"{case}: {failure!s:.1500}")
    assert not failures, "\n\n".join(failures)
