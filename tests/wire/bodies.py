"""Hostile bodies for every procedure: each field of each method missing, of the wrong type, and in a form that it cannot have."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from tests.crash.processes import ADMIN_PASSWORD
from tests.wire.cases import BAD_TEXTS, CID, OTHER_TYPES, Case, Value, labelled, with_, without
from tests.wire.service import HOSTILE, OWNER, POST, PROBE_RKEY, WRITERS, post, request

REFUSED: Final = frozenset({400, 401})
"""A repository that is another's may be refused as malformed or as not the caller's."""
OWN_NAMES: Final = "zone.stratos.repo"
RKEY: Final = "3m2qrrgw22223"
ENROLLMENT: Final = "zone.stratos.actor.enrollment"


@dataclass(frozen=True, slots=True)
class Procedure:
    """A procedure with a body that it would take. `formats` are the fields' types, `texts` the formats of their texts."""

    nsid: str
    token: str
    valid: Mapping[str, Value]
    required: tuple[str, ...]
    types: Mapping[str, str]
    texts: Mapping[str, str] = field(default_factory=dict)
    null_is_valid: tuple[str, ...] = ()


def _repo(name: str) -> Iterator[Procedure]:
    """A method under both of its names."""
    record = {"record": post("hostile")}
    base: dict[str, Value] = {"repo": HOSTILE, "collection": POST}
    types = {"repo": "string", "collection": "string", "swapCommit": "string"}
    texts = {"repo": "did", "collection": "nsid", "swapCommit": "cid"}
    for prefix in (OWN_NAMES, "com.atproto.repo"):
        nsid = f"{prefix}.{name}"
        if name == "createRecord":
            more = {"rkey": "string", "record": "object", "validate": "boolean"}
            yield Procedure(
                nsid, HOSTILE, base | record, ("repo", "collection", "record"), types | more, texts | {"rkey": "record-key"}
            )
        elif name == "putRecord":
            more = {"rkey": "string", "record": "object", "validate": "boolean", "swapRecord": "string"}
            formats = texts | {"rkey": "record-key", "swapRecord": "cid"}
            valid = base | record | {"rkey": RKEY}
            yield Procedure(nsid, HOSTILE, valid, (*base, "rkey", "record"), types | more, formats, ("swapRecord",))
        elif name == "deleteRecord":
            more = {"rkey": "string", "swapRecord": "string"}
            formats = texts | {"rkey": "record-key", "swapRecord": "cid"}
            yield Procedure(nsid, HOSTILE, base | {"rkey": RKEY}, (*base, "rkey"), types | more, formats)
        else:
            valid = {"repo": HOSTILE, "writes": [{"action": "create", "collection": POST, "record": post("hostile")}]}
            kinds = {"repo": "string", "writes": "array", "validate": "boolean", "swapCommit": "string"}
            yield Procedure(nsid, HOSTILE, valid, ("repo", "writes"), kinds, {"repo": "did", "swapCommit": "cid"})


PROCEDURES: Final = (
    *_repo("createRecord"),
    *_repo("putRecord"),
    *_repo("deleteRecord"),
    *_repo("applyWrites"),
    Procedure("zone.stratos.repo.hydrateRecords", HOSTILE, {"uris": []}, ("uris",), {"uris": "array"}),
    Procedure(
        "zone.stratos.admin.enroll",
        ADMIN_PASSWORD,
        {"did": OWNER},
        ("did",),
        {"did": "string", "boundaries": "array"},
        {"did": "did"},
    ),
    Procedure("zone.stratos.admin.unenroll", ADMIN_PASSWORD, {"did": OWNER}, ("did",), {"did": "string"}, {"did": "did"}),
    *(
        Procedure(
            f"zone.stratos.admin.{name}",
            ADMIN_PASSWORD,
            {"did": OWNER, "boundary": WRITERS},
            ("did", "boundary"),
            {"did": "string", "boundary": "string"},
            {"did": "did"},
        )
        for name in ("addBoundary", "removeBoundary")
    ),
    Procedure(
        "zone.stratos.admin.setBoundaries",
        ADMIN_PASSWORD,
        {"did": OWNER, "boundaries": [WRITERS]},
        ("did", "boundaries"),
        {"did": "string", "boundaries": "array"},
        {"did": "did"},
    ),
)

NOT_JSON: Final[tuple[bytes, ...]] = (
    b"", b" ", b"{", b"}", b'{"repo"', b'{"repo":', b'{"repo":}', b"{'repo': 1}", b"{repo: 1}", b'{"a": 1,}', b'{"a": 1} x',
    b"{} {}",
    b"{}\x00", b"\x00{}", b'{"a": "\x00"}', b'{"a": "\n"}', b'{"a": "\\x41"}', b'{"a": "\\u12"}', b'{"a": "\\ud800"}',
    b'{"a": "\\udc00\\ud800"}', b'{"\\ud800": 1}', b'{"a": "\xff"}', b'{"a": "\xc0\xaf"}', b'{"a": "\xed\xa0\x80"}',
    b'{"a": "\xf5\x80\x80\x80"}', b"\xef\xbb\xbf{}", '{"a": 1}'.encode("utf-16"), '{"a": 1}'.encode("utf-32"), b'{"a": NaN}',
    b'{"a": Infinity}', b'{"a": -Infinity}', b'{"a": 01}', b'{"a": +1}', b'{"a": .5}', b'{"a": 1.}', b'{"a": 1e}', b'{"a": 0x1}',
    b'{"a": 1e999}', b'{"a": -1e999}', b'{"a": ' + b"1" * 5000 + b"}", b"// x\n{}", b"/* x */{}", b"tru", b"nul", b"undefined",
    b"[" * 100_000, b'{"a":' * 100_000, b"[" * 5000 + b"]" * 5000, b'{"a": ' + b"[" * 2000 + b"]" * 2000 + b"}", b"<xml/>",
    b"a=1&b=2",
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00", b"\xa1\x61\x61\x01", b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--",
)  # fmt: skip
NOT_OBJECTS: Final[tuple[bytes, ...]] = (b"null", b"true", b"0", b'"x"', b"[]", b"[{}]", b"1.0", b'["repo"]')
NOT_DATA: Final[tuple[tuple[str, str], ...]] = (
    ("float", '{"hidden": 1.5}'),
    ("tiny", '{"hidden": 1e-320}'),
    ("2^53", '{"hidden": 9007199254740992}'),
    ("-2^53", '{"hidden": -9007199254740992}'),
    ("2^63", '{"hidden": 9223372036854775808}'),
    ("2^64", '{"hidden": 18446744073709551616}'),
    ("1e300", '{"hidden": 1e300}'),
    ("link number", '{"hidden": {"$link": 1}}'),
    ("link text", '{"hidden": {"$link": "x"}}'),
    ("link more", '{"hidden": {"$link": "' + CID + '", "a": 1}}'),
    ("bytes number", '{"hidden": {"$bytes": 1}}'),
    ("bytes text", '{"hidden": {"$bytes": "!"}}'),
    ("bytes more", '{"hidden": {"$bytes": "aaaa", "a": 1}}'),
    ("deep", '{"hidden": ' + "[" * 300 + "]" * 300 + "}"),
    ("deep maps", '{"hidden": ' + '{"a":' * 300 + "1" + "}" * 301),
)
"""JSON that the data model has no place for."""


def field_cases() -> Iterator[Case]:
    """Every field of every procedure."""
    for procedure in PROCEDURES:
        for name in procedure.required:
            yield _case(procedure, f"without {name}", without(procedure.valid, name), name)
        for name, kind in procedure.types.items():
            for label, value in labelled(OTHER_TYPES[kind]):
                if value is None and (name in procedure.null_is_valid or _optional_for_admin(procedure, name)):
                    continue
                yield _case(procedure, f"{name}: {label}", with_(procedure.valid, name, value), name)
        if procedure.nsid.startswith("com."):
            continue  # the same handlers and formats; what is missing or of another type shows that these names are checked too
        for name, text_format in procedure.texts.items():
            for label, value in labelled(BAD_TEXTS[text_format]):
                yield _case(procedure, f"{name}: {label}", with_(procedure.valid, name, value), name)


def shape_cases() -> Iterator[Case]:
    """Bodies that are no JSON, no object, or no data, for three methods that read theirs in different ways."""
    readers = (
        ("zone.stratos.repo.createRecord", HOSTILE),
        ("zone.stratos.repo.hydrateRecords", HOSTILE),
        ("zone.stratos.admin.setBoundaries", ADMIN_PASSWORD),
    )
    for place, body in enumerate(NOT_JSON):
        nsid, token = readers[place % len(readers)]
        yield Case(f"{nsid}: not JSON {place}", _post(nsid, token, body), ("json",))
    for nsid, token in (*readers, ("zone.stratos.enrollment.unenroll", HOSTILE)):
        for body in NOT_OBJECTS:
            yield Case(f"{nsid}: {body.decode()}", _post(nsid, token, body), ("object", "integer"))
    for label, text in NOT_DATA:
        for nsid, token in readers[:2]:
            yield Case(f"{nsid}: {label}", _post(nsid, token, text.encode()), ("hidden", "deep", "depth", "nest"))


def batch_cases() -> Iterator[Case]:
    """applyWrites: items of wrong shapes, in both shapes that there are, and batches that may not be half done."""
    right: dict[str, Value] = {"action": "create", "collection": POST, "record": post("hostile")}
    official: dict[str, Value] = {
        "$type": "com.atproto.repo.applyWrites#create",
        "collection": POST,
        "value": post("hostile"),
    }
    kinds: tuple[Value, ...] = (None, 0, [], {}, True, "", "CREATE", "upsert", "#create", "create\x00")
    types: tuple[Value, ...] = (None, 0, [], "", "#", "#upsert", "create", "com.atproto.repo.applyWrites", "x#create", "##create")
    items: list[tuple[str, Value, tuple[str, ...]]] = [
        *_items("item", (None, 0, "x", [], True, 1.5), lambda value: value, "item"),
        *_items("action", kinds, partial(with_, right, "action"), "action", "write type"),
        *_items("$type", types, partial(with_, official, "$type"), "$type", "write type"),
        *_items("collection", OTHER_TYPES["string"][:5], partial(with_, right, "collection"), "collection"),
        *_items("collection", BAD_TEXTS["nsid"], partial(with_, official, "collection"), "collection", "nsid"),
        *_items("rkey", (0, True, [], {}), partial(with_, right, "rkey"), "rkey"),
        *_items("rkey", BAD_TEXTS["record-key"], partial(with_, official, "rkey"), "rkey", "record key", "record-key"),
        *_items("record", OTHER_TYPES["object"][:5], partial(with_, right, "record"), "record"),
        *_items("value", OTHER_TYPES["object"][:5], partial(with_, official, "value"), "value"),
        ("empty item", {}, ("action",)),
        ("no collection", without(right, "collection"), ("collection",)),
        ("no record", without(right, "record"), ("record",)),
        ("no value", without(official, "value"), ("value",)),
        ("official with record", without(official, "value") | {"record": post("x")}, ("value",)),
        ("update without rkey", with_(right, "action", "update"), ("rkey",)),
        ("delete without rkey", {"action": "delete", "collection": POST}, ("rkey",)),
        ("delete of nothing", {"action": "delete", "collection": POST, "rkey": RKEY}, ("record not found",)),
        ("foreign collection", with_(right, "collection", "app.bsky.feed.post"), ("zone.stratos",)),
        ("enrollment", with_(right, "collection", ENROLLMENT), (ENROLLMENT, "$type")),
    ]
    for label, item, names in items:
        yield Case(f"applyWrites: {label}", _writes(item), (*names, "writes"))
        yield Case(f"applyWrites: right, then {label}", _writes(right, item), (*names, "writes"))
    yield Case("applyWrites: no writes", _writes(), ("writes",))
    yield Case("applyWrites: 201 writes", _writes(*[right] * 201), ("writes",))
    yield Case(
        "applyWrites: 5,000 writes", _writes(*[{"action": "delete", "collection": POST, "rkey": RKEY}] * 5000), ("writes",)
    )
    same = with_(right, "rkey", RKEY)
    yield Case("applyWrites: the same record twice", _writes(same, same), ("twice",))
    overlong = [f"at://{OWNER}/{POST}/{PROBE_RKEY}"] * 101
    yield Case(
        "hydrateRecords: 101 URIs",
        _post("zone.stratos.repo.hydrateRecords", HOSTILE, json.dumps({"uris": overlong}).encode()),
        ("uris",),
    )
    for label, value in labelled((None, 0, True, [], {})):
        body = json.dumps({"uris": [value]}).encode()
        yield Case(f"hydrateRecords: URI {label}", _post("zone.stratos.repo.hydrateRecords", HOSTILE, body), ("uris",))


def duplicate_key_cases() -> Iterator[Case]:
    """One name twice: whichever a reader takes, no second opinion may let something through."""
    record = json.dumps(post("hostile"))
    for label, text, names in (
        (
            "repo",
            f'{{"repo": "{HOSTILE}", "repo": "{OWNER}", "collection": "{POST}", "record": {record}}}',
            ("another user", "repo"),
        ),
        (
            "collection",
            f'{{"repo": "{HOSTILE}", "collection": "{POST}", "collection": "x", "record": {record}}}',
            ("collection",),
        ),
        ("record", f'{{"repo": "{HOSTILE}", "collection": "{POST}", "record": {record}, "record": 0}}', ("record",)),
    ):
        body = text.encode()
        yield Case(f"duplicate {label}", _post("zone.stratos.repo.createRecord", HOSTILE, body), names, REFUSED)


def _case(procedure: Procedure, label: str, body: Mapping[str, Value], names: str) -> Case:
    foreign = ("another user",) if names == "repo" else ()
    statuses = REFUSED if names == "repo" else frozenset({400})
    sent = _post(procedure.nsid, procedure.token, json.dumps(body).encode())
    return Case(f"{procedure.nsid}: {label}", sent, (names, *foreign), statuses)


def _items(
    label: str, values: Sequence[Value], item: Callable[[Value], Value], *names: str
) -> Iterator[tuple[str, Value, tuple[str, ...]]]:
    """An item of a batch for each value, with what the refusal must name."""
    for text, value in labelled(values):
        yield f"{label} {text}", item(value), names


def _optional_for_admin(procedure: Procedure, name: str) -> bool:
    return procedure.nsid.endswith("admin.enroll") and name == "boundaries"


def _writes(*writes: Value) -> bytes:
    body = json.dumps({"repo": HOSTILE, "writes": writes}).encode()
    return _post("zone.stratos.repo.applyWrites", HOSTILE, body)


def _post(nsid: str, token: str, body: bytes) -> bytes:
    return request("POST", f"/xrpc/{nsid}", token, body)
