"""Hostile records: every field of a post in shapes and sizes that the lexicon or the rules of boundaries refuse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from tests.wire.cases import CID, LONG, OTHER_TYPES, Case, Value, labelled, with_, without
from tests.wire.service import EDITORS, HOSTILE, OWNER, POST, PROBE_PATH, WRITERS, post, request

PROBE_URI: Final = f"at://{OWNER}/{PROBE_PATH}"
DOMAINS: Final = "zone.stratos.boundary.defs#Domains"
REF: Final = {"uri": PROBE_URI, "cid": CID}

BSKY_REF: Final = {"uri": "at://did:plc:x/app.bsky.feed.post/3m2qrrgw22222", "cid": CID}
SELF_LABELS: Final = {"$type": "com.atproto.label.defs#selfLabels"}
LINK: Final = {"$type": "app.bsky.richtext.facet#link", "uri": "no uri"}
NO_DATETIMES: Final = (
    "", "now", "2026", "2026-05-28", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-05-28T25:00:00Z", LONG,
    "2026-05-28T20:26:41", "2026-05-28 20:26:41Z", "2026-05-28T20:26:41.000", "2026-05-28T20:26:41-00:00",
    "2026-05-28T20:26:41+25:00", "02026-05-28T20:26:41Z", "2026-05-28t20:26:41z", "2026-05-28T20:26:41Z\x00",
    "-001-05-28T20:26:41Z", "٢٠٢٦-05-28T20:26:41Z",
)  # fmt: skip


def _facet(start: Value, end: Value, *features: Value) -> Value:
    return [{"index": {"byteStart": start, "byteEnd": end}, "features": list(features)}]


FIELDS: Final[tuple[tuple[str, tuple[Value, ...]], ...]] = (
    ("$type", (None, 0, "", "zone.stratos.feed.like", "app.bsky.feed.post", f"{POST}#main", f"{POST}\x00", [])),
    ("text", OTHER_TYPES["string"]),
    ("text", ("x" * 3001, "é" * 301, "👨‍👩‍👧‍👦" * 301, "a\u0301" * 1600)),
    ("createdAt", OTHER_TYPES["string"]),
    ("createdAt", NO_DATETIMES),
    ("langs", (0, "en", {}, [0], [None], ["en", "de", "fr", "es"], [""], ["!!"], ["en_"], ["a" * 200])),
    ("tags", (0, "x", {}, [0], ["x"] * 9, ["x" * 641], ["é" * 65])),
    ("labels", (0, "x", [], SELF_LABELS, {**SELF_LABELS, "values": 0})),
    ("facets", (0, "x", {}, [0], [{}], [{"index": {}, "features": []}])),
    ("facets", (_facet(-1, 0), _facet(0, "1"), _facet(0, 1, LINK), _facet(0, 1, 0))),
    ("embed", (0, "x", [], {}, {"$type": 0}, {"$type": "app.bsky.embed.images"})),
    ("embed", ({"$type": "app.bsky.embed.images", "images": [{}]}, {"$type": "app.bsky.embed.external", "external": {"uri": 0}})),
    ("embed", ({"$type": "app.bsky.embed.record", "record": BSKY_REF},)),
    ("embed", ({"$type": "app.bsky.embed.recordWithMedia", "record": {"record": BSKY_REF}, "media": {}},)),
    ("reply", (0, "x", [], {}, {"root": REF}, {"parent": REF, "root": 0}, {"parent": {"uri": 0, "cid": CID}, "root": REF})),
    ("reply", ({"parent": {"uri": "x", "cid": CID}, "root": {"uri": "x", "cid": CID}},)),
    (
        "reply",
        ({"parent": REF, "root": REF}, {"parent": {"uri": f"at://{HOSTILE}/{POST}/3m2qrrgw22999", "cid": CID}, "root": REF}),
    ),
    ("boundary", (None, 0, "x", [], {}, {"values": 0}, {"values": None}, {"values": []}, {"values": "x"})),
    ("source", (0, "x", [], {}, {"vary": 0}, {"vary": "authenticated"})),
    ("source", ({"vary": "authenticated", "subject": {}, "service": "x"},)),
)
"""Fields of a post with values that may not stand there; the refusal names the field."""
SAID_OTHERWISE: Final = {"reply": ("cannot reply",), "embed": ("cannot embed",)}

BOUNDARIES: Final[tuple[Value, ...]] = (
    None, 0, "x", WRITERS, [], {}, {"value": None}, {"value": 0}, {"value": ""}, {"value": []}, {"value": "writers"},
    {"value": EDITORS}, {"value": "editors"}, {"value": f"{WRITERS}\x00"}, {"value": f"{WRITERS} "}, {"value": WRITERS.upper()},
    {"value": f"{WRITERS}/../editors"}, {"value": "did:web:stratos.test/"}, {"value": "did:web:stratos.test"},
    {"value": "did:web:stratos.test//writers"}, {"value": "did:web:other.test/writers"},
    {"value": "did:web:stratos.test.evil/writers"},
    {"value": "*"}, {"value": f"did:web:stratos.test/{'x' * 300}"}, {"value": "wrıters"},
)  # fmt: skip
"""Items of `boundary.values` that give the hostile account nothing."""


def record_cases() -> Iterator[Case]:
    """Broken records, each alone in a createRecord; what the rules of boundaries refuse also with `validate: false`."""
    right = post("hostile")
    yield _create("no createdAt", without(right, "createdAt"), "createdAt")
    yield _create("no boundary", without(right, "boundary"), "boundary")
    yield _create("no boundary, unchecked", without(right, "boundary"), "boundary", validate=False)
    for name, values in FIELDS:
        for label, value in labelled(values):
            yield _create(f"{name}: {label}", with_(right, name, value), name, *SAID_OTHERWISE.get(name, ()))
    for label, value in labelled(BOUNDARIES):
        record = with_(right, "boundary", {"$type": DOMAINS, "values": [value]})
        yield _create(f"boundary {label}", record, "boundar", "domain")
        yield _create(f"boundary {label}, unchecked", record, "boundar", "domain", validate=False)
        mixed = with_(right, "boundary", {"$type": DOMAINS, "values": [{"value": WRITERS}, value]})
        yield _create(f"boundary right, then {label}", mixed, "boundar", "domain", validate=False)
    many = with_(right, "boundary", {"$type": DOMAINS, "values": [{"value": WRITERS}] * 11})
    yield _create("eleven boundaries", many, "boundary")
    yield _create("eleven boundaries, unchecked", many, "boundary", validate=False)
    deep: Value = {"$type": "app.bsky.embed.recordWithMedia", "record": {"record": REF}}
    for _ in range(60):
        deep = {"$type": "app.bsky.embed.recordWithMedia", "record": {"record": REF}, "media": deep}
    yield _create("embeds in embeds", with_(right, "embed", deep), "embed", "deep", "nest", "depth")


def collection_cases() -> Iterator[Case]:
    """Collections that are not for clients to write."""
    for collection in (
        "app.bsky.feed.post",
        "com.atproto.repo.strongRef",
        "zone.stratosphere.feed.post",
        "zone.stratos.actor.enrollment",
    ):
        record = {"$type": collection, "text": "x", "createdAt": "2026-05-28T20:26:41.000Z"}
        for validate in (True, False):
            yield _create(f"into {collection}", record, "zone.stratos", collection=collection, validate=validate)


def _create(label: str, record: Value, *names: str, collection: str = POST, validate: bool = True) -> Case:
    body: dict[str, Value] = {"repo": HOSTILE, "collection": collection, "record": record}
    if not validate:
        body["validate"] = False
    sent = request("POST", "/xrpc/zone.stratos.repo.createRecord", HOSTILE, json.dumps(body).encode())
    return Case(f"record {label}{'' if validate else ', unchecked'}", sent, names)
