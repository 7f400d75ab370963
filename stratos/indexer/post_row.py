"""A post as the AppView's tables hold it. Source: spec indexer.md §2.1 and §2.2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import orjson

from stratos.atproto.dag_cbor import DataModel
from stratos.atproto.data_model import to_json
from stratos.atproto.syntax import Did, InvalidSyntax
from stratos.core.boundaries import OWNER_ONLY, Boundary, record_boundaries
from stratos.indexer.events import POST_COLLECTION, Record, normal_datetime

_NUL: Final = "\0"
_REPLACEMENT: Final = "\ufffd"


@dataclass(frozen=True, slots=True)
class PostRow:
    """One row of `stratos_post` (without the generated `sortAt`) and its rows of `stratos_post_boundary`.

    The field names are those of `write_posts.sql`. `fresh`: where the post stands already, its creation time is replaced too.
    """

    uri: str
    cid: str
    rkey: str
    creator: Did
    text: str
    reply_root: str | None
    reply_root_cid: str | None
    reply_parent: str | None
    reply_parent_cid: str | None
    embed: str | None
    facets: str | None
    langs: str | None
    labels: str | None
    tags: str | None
    created_at: str
    indexed_at: str
    boundaries: tuple[Boundary, ...]
    fresh: bool


def post_uri(creator: Did, rkey: str) -> str:
    """The AT-URI of a post."""
    return f"at://{creator}/{POST_COLLECTION}/{rkey}"


def own_uris(did: Did) -> dict[str, str]:
    """Parameters of statements on everything of an actor: the DID, and the range of its URIs, whose end is not in it."""
    return {"did": did, "first_uri": f"at://{did}/", "end_uri": f"at://{did}0"}


def post_row(creator: Did, rkey: str, cid: str, record: Record, indexed_at: str, *, fresh: bool = False) -> PostRow:
    """The rows of a post record; never raises, whatever the record holds.

    `indexed_at` is a normalised datetime text; it also stands in for a `createdAt` that is absent or not a datetime. PostgreSQL's
    text cannot hold NUL: in text it becomes U+FFFD, in JSON it stays as an escape, and a boundary that has one is nobody's.
    """
    reply = record.get("reply")
    root, root_cid = _strong_ref(reply, "root")
    parent, parent_cid = _strong_ref(reply, "parent")
    return PostRow(
        uri=post_uri(creator, rkey),
        cid=_clean(cid),
        rkey=rkey,
        creator=creator,
        text=_text_or_empty(record.get("text")),
        reply_root=root,
        reply_root_cid=root_cid,
        reply_parent=parent,
        reply_parent_cid=parent_cid,
        embed=_json(record.get("embed")),
        facets=_json(record.get("facets")),
        langs=_langs(record.get("langs")),
        labels=_json(record.get("labels")),
        tags=_tags(record.get("tags")),
        created_at=_created_at(record.get("createdAt"), indexed_at),
        indexed_at=indexed_at,
        boundaries=_boundaries(record),
        fresh=fresh,
    )


def _boundaries(record: Record) -> tuple[Boundary, ...]:
    named = record_boundaries(record)
    if not any(_NUL in boundary for boundary in named):
        return named
    return tuple(boundary for boundary in named if _NUL not in boundary) or (OWNER_ONLY,)


def _created_at(value: DataModel, indexed_at: str) -> str:
    if not isinstance(value, str):
        return indexed_at
    try:
        return normal_datetime(value)
    except InvalidSyntax:
        return indexed_at


def _strong_ref(reply: DataModel, name: str) -> tuple[str | None, str | None]:
    ref = reply.get(name) if isinstance(reply, dict) else None
    if not isinstance(ref, dict):
        return None, None
    return _text_or_none(ref.get("uri")), _text_or_none(ref.get("cid"))


def _langs(value: DataModel) -> str | None:
    if not isinstance(value, list):
        return None
    return ",".join(_clean(item) for item in value if isinstance(item, str)) or None


def _tags(value: DataModel) -> str | None:
    """A JSON array: a tag may contain a comma, so joining would not survive."""
    if not isinstance(value, list):
        return None
    tags = [item for item in value if isinstance(item, str)]
    return orjson.dumps(tags).decode() if tags else None


def _json(value: DataModel) -> str | None:
    return None if value is None else orjson.dumps(to_json(value)).decode()


def _text_or_empty(value: DataModel) -> str:
    return _clean(value) if isinstance(value, str) else ""


def _text_or_none(value: DataModel) -> str | None:
    return _clean(value) if isinstance(value, str) else None


def _clean(text: str) -> str:
    return text.replace(_NUL, _REPLACEMENT) if _NUL in text else text
