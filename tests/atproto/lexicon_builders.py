"""Builders for the lexicon tests: posts and their parts, small lexicons, and the verdict upon a value."""

from __future__ import annotations

from stratos.atproto.cid import Cid
from stratos.atproto.dag_cbor import DataModel
from stratos.atproto.lexicon import LexiconError, Lexicons
from stratos.resources import lexicon_directory

POST = "zone.stratos.feed.post"
FAMILY = "👨‍👩‍👧"
LINK = Cid.of_raw(b"some blob")
OURS = Lexicons.load(lexicon_directory())

Json = dict[str, object]

STRONG_REF: DataModel = {"uri": "at://did:plc:abc/zone.stratos.feed.post/3jzfcijpj2z2a", "cid": str(LINK)}


def post(**members: DataModel) -> dict[str, DataModel]:
    return {"$type": POST, "createdAt": "2026-05-28T20:26:41.000Z", **members}


def boundary(*values: str) -> DataModel:
    return {"$type": "zone.stratos.boundary.defs#Domains", "values": [{"value": value} for value in values]}


def image(size: int = 1_000_000, mime_type: str = "image/png") -> dict[str, DataModel]:
    return {"alt": "", "image": {"$type": "blob", "ref": LINK, "mimeType": mime_type, "size": size}}


def lexicon_of(main: Json, nsid: str = "com.example.thing", **others: Json) -> Json:
    return {"lexicon": 1, "id": nsid, "defs": {"main": main, **others}}


def record_of(required: list[str] | None = None, **properties: Json) -> Lexicons:
    """One lexicon, `com.example.thing`, whose record has these properties."""
    body: Json = {"type": "object", "properties": properties, "required": required or []}
    return Lexicons.from_documents([lexicon_of({"type": "record", "key": "any", "record": body})])


def record_with(**properties: Json) -> Json:
    return lexicon_of({"type": "record", "key": "any", "record": {"type": "object", "properties": properties}})


def verdict(lexicons: Lexicons, **members: DataModel) -> str:
    """`ok`, or why `com.example.thing` with these members is refused."""
    try:
        lexicons.check_record("com.example.thing", {"$type": "com.example.thing", **members})
    except LexiconError as error:
        return str(error)
    return "ok"
