"""Feed queries: one indexed statement each; the statement narrows, the access predicate decides. Source: indexer spec §3."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from stratos.atproto.data_model import Json
from stratos.atproto.syntax import Did
from stratos.core.access import Viewer, may_read
from stratos.core.boundaries import OWNER_ONLY, Boundary
from stratos.indexer.appview_db import Connection
from stratos.indexer.appview_sql import AppViewQueries
from stratos.indexer.events import POST_COLLECTION

MAX_PAGE: Final = 100
_NEWEST: Final = "\U0010ffff"
"""Sorts after every datetime text: where the first page begins."""


class InvalidFeedCursor(ValueError):
    """The cursor is not one of ours."""


@dataclass(frozen=True, slots=True)
class FeedPosition:
    """The last post of a page: the next one begins after it, ordered by `sortAt`, then URI, both descending."""

    sort_at: str
    uri: str

    @classmethod
    def parse(cls, cursor: str | None) -> FeedPosition:
        """Read a cursor; None is the beginning. Raises InvalidFeedCursor."""
        if cursor is None:
            return cls(_NEWEST, "")
        try:
            sort_at, uri = urlsafe_b64decode(cursor.encode() + b"==").decode().split(" ", 1)
        except ValueError as error:
            raise InvalidFeedCursor("cursor: not one that this service gave out") from error
        if "\0" in sort_at + uri:
            raise InvalidFeedCursor("cursor: not one that this service gave out")
        return cls(sort_at, uri)

    def __str__(self) -> str:
        return urlsafe_b64encode(f"{self.sort_at} {self.uri}".encode()).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class FeedPost:
    """One post as the statements return it, in their order of columns."""

    uri: str
    cid: str
    creator: Did
    handle: str | None
    text: str
    reply_root: str | None
    reply_root_cid: str | None
    reply_parent: str | None
    reply_parent_cid: str | None
    embed: str | None
    facets: str | None
    langs: str | None
    tags: str | None
    created_at: str
    indexed_at: str
    sort_at: str
    boundaries: list[Boundary]

    def visible_to(self, viewer: Viewer) -> bool:
        """Whether the viewer may see the post; one without boundaries is its author's alone here (indexer spec §3.4)."""
        return may_read(viewer, self.creator, self.boundaries or [OWNER_ONLY])

    def as_json(self) -> dict[str, Json]:
        """A `FeedViewPost` (indexer spec §3.5)."""
        record: dict[str, Json] = {"$type": POST_COLLECTION, "text": self.text, "createdAt": self.created_at}
        if self.reply_root is not None:
            root = {"uri": self.reply_root, "cid": self.reply_root_cid or ""}
            parent = {"uri": self.reply_parent, "cid": self.reply_parent_cid or ""} if self.reply_parent is not None else root
            record["reply"] = {"root": {**root}, "parent": {**parent}}
        named: list[Json] = [{"value": boundary} for boundary in self.boundaries if boundary != OWNER_ONLY]
        if named:
            record["boundary"] = {"$type": "zone.stratos.boundary.defs#Domains", "values": named}
        for name, stored in (("facets", self.facets), ("embed", self.embed)):
            if stored is not None:
                record[name] = json.loads(stored)
        if self.tags is not None:
            record["tags"] = _tags(self.tags)
        if self.langs is not None:
            record["langs"] = list(self.langs.split(","))
        author: dict[str, Json] = {"did": self.creator, "handle": self.handle or self.creator}
        post: dict[str, Json] = {"uri": self.uri, "cid": self.cid, "author": author, "record": record}
        return {"post": {**post, "indexedAt": self.indexed_at}}


@dataclass(frozen=True, slots=True)
class FeedPage:
    """Visible posts, newest first, and where the next page begins; None at the end."""

    posts: tuple[FeedPost, ...]
    following: FeedPosition | None


@dataclass(frozen=True, slots=True)
class FeedRequest:
    """A page that is asked for: `limit` posts after `position`, of `boundary` only where it is given."""

    limit: int
    position: FeedPosition
    boundary: Boundary | None = None


class Feeds:
    """The three queries, for a worker thread with a connection in a transaction."""

    def __init__(self, queries: AppViewQueries) -> None:
        self._queries = queries

    def timeline(self, connection: Connection, viewer: Viewer, request: FeedRequest) -> FeedPage:
        """Posts of everybody that share a boundary with the viewer."""
        return self._page(connection, self._queries.timeline, viewer, request, {})

    def author_feed(self, connection: Connection, viewer: Viewer, request: FeedRequest, actor: Did) -> FeedPage:
        """Posts of one account that share a boundary with the viewer; one's own all."""
        statement = self._queries.author_feed
        if viewer.did == actor and request.boundary is None:
            statement = self._queries.own_feed
        return self._page(connection, statement, viewer, request, {"creator": actor})

    def post(self, connection: Connection, uri: str) -> FeedPost | None:
        """One post, whoever may see it: the caller asks `visible_to`."""
        row = connection.execute(self._queries.post, {"uri": uri}).fetchone()
        return None if row is None else FeedPost(*row)

    def _page(
        self, connection: Connection, statement: str, viewer: Viewer, request: FeedRequest, more: dict[str, str]
    ) -> FeedPage:
        parameters = {
            "boundaries": _wanted(viewer, request, more.get("creator")),
            "sort_at": request.position.sort_at,
            "uri": request.position.uri,
            "limit": request.limit + 1,
            **more,
        }
        rows = connection.execute(statement.encode(), parameters).fetchall()
        found: Sequence[FeedPost] = [FeedPost(*row) for row in rows[: request.limit]]
        following = FeedPosition(found[-1].sort_at, found[-1].uri) if len(rows) > request.limit else None
        return FeedPage(tuple(post for post in found if post.visible_to(viewer)), following)


def _wanted(viewer: Viewer, request: FeedRequest, creator: str | None) -> list[Boundary]:
    """The boundaries to look under: the viewer's, narrowed to the one asked for, which in one's own feed may be any."""
    if request.boundary is None:
        return sorted(viewer.boundaries)
    return [request.boundary] if request.boundary in viewer.boundaries or creator == viewer.did else []


def _tags(stored: str) -> list[Json]:
    """A JSON array, or, where another program wrote the row, values joined by commas (indexer spec §2.1)."""
    try:
        tags = json.loads(stored)
    except json.JSONDecodeError:
        tags = None
    return tags if isinstance(tags, list) else [*stored.split(",")]
