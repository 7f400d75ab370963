"""The AppView's methods: `zone.stratos.feed.*`. Source: indexer spec §3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from stratos.api.auth import Credential, User
from stratos.api.errors import BAD_REQUEST, UNAUTHORIZED, XrpcError, invalid_request, unavailable
from stratos.api.xrpc import Access, Method, Reply, Verb, XrpcCall
from stratos.atproto.data_model import Json
from stratos.core.access import Viewer
from stratos.core.boundaries import Boundary
from stratos.indexer.appview_db import AppViewDatabase, Connection, DatabaseUnavailable
from stratos.indexer.feed import MAX_PAGE, FeedPage, FeedPosition, FeedPost, FeedRequest, Feeds, InvalidFeedCursor
from stratos.indexer.viewers import BoundariesUnknown, ViewerDirectory

T = TypeVar("T")


class AnyUser:
    """Lets every proven account in; what it sees is decided by its boundaries."""

    async def require_user(self, credential: Credential) -> User:
        """The calling user. Raises XrpcError 401 AuthRequired."""
        if not isinstance(credential, User):
            raise XrpcError(UNAUTHORIZED, "AuthRequired", "Authentication required")
        return credential


class FeedMethods:
    """Answers feed queries for the calling user."""

    def __init__(self, database: AppViewDatabase, viewers: ViewerDirectory, *, hide_boundary_mismatch: bool) -> None:
        self._database = database
        self._viewers = viewers
        self._feeds = Feeds(database.queries)
        self._hide_boundary_mismatch = hide_boundary_mismatch

    def methods(self) -> Mapping[str, Method]:
        """The methods by NSID."""
        return {
            "zone.stratos.feed.getTimeline": Method(Verb.GET, Access.USER, self.get_timeline),
            "zone.stratos.feed.getAuthorFeed": Method(Verb.GET, Access.USER, self.get_author_feed),
            "zone.stratos.feed.getPost": Method(Verb.GET, Access.USER, self.get_post),
        }

    async def get_timeline(self, call: XrpcCall) -> Reply:
        """Posts within the viewer's boundaries."""
        request = _page_request(call)
        return _feed(await self._read(call, lambda connection, viewer: self._feeds.timeline(connection, viewer, request)))

    async def get_author_feed(self, call: XrpcCall) -> Reply:
        """Posts of one account within the viewer's boundaries."""
        request = _page_request(call)
        did = call.params.did("actor")
        return _feed(await self._read(call, lambda connection, viewer: self._feeds.author_feed(connection, viewer, request, did)))

    async def get_post(self, call: XrpcCall) -> Reply:
        """One post."""
        uri = call.params.text("uri")

        def find(connection: Connection, viewer: Viewer) -> tuple[FeedPost | None, bool]:
            post = self._feeds.post(connection, uri)
            return post, post is not None and post.visible_to(viewer)

        post, visible = await self._read(call, find)
        if post is None or (not visible and self._hide_boundary_mismatch):
            raise XrpcError(BAD_REQUEST, "PostNotFound", "Post not found")
        if not visible:
            raise XrpcError(BAD_REQUEST, "BoundaryMismatch", "Post is in none of the viewer's boundaries")
        return {"post": post.as_json()}

    async def _read(self, call: XrpcCall, query: Callable[[Connection, Viewer], T]) -> T:
        """Run a query as the calling viewer: one hop where the viewer's row is fresh. Raises XrpcError 503."""

        def as_fresh_viewer(connection: Connection) -> tuple[T] | None:
            viewer = self._viewers.fresh_viewer(connection, call.user)
            return None if viewer is None else (query(connection, viewer),)

        try:
            answer = await self._database.run(as_fresh_viewer)
            if answer is not None:
                return answer[0]
            viewer = await self._viewers.ask(call.user)
            return await self._database.run(lambda connection: query(connection, viewer))
        except (DatabaseUnavailable, BoundariesUnknown) as error:
            raise unavailable() from error


def _page_request(call: XrpcCall) -> FeedRequest:
    boundary = call.params.optional_text("boundary")
    try:
        position = FeedPosition.parse(call.params.optional_text("cursor"))
    except InvalidFeedCursor as error:
        raise invalid_request(str(error)) from None
    limit = min(call.params.integer("limit", 50), MAX_PAGE)
    return FeedRequest(limit, position, None if boundary is None else Boundary(boundary))


def _feed(page: FeedPage) -> Reply:
    feed: list[Json] = [post.as_json() for post in page.posts]
    return {"feed": feed} if page.following is None else {"feed": feed, "cursor": str(page.following)}
