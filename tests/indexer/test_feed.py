"""Feed queries on a real PostgreSQL: what is shown, in which order, page by page, and by which plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import LiteralString

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stratos.atproto.dag_cbor import DataModel
from stratos.atproto.syntax import Did
from stratos.core.access import Viewer
from stratos.core.boundaries import OWNER_ONLY, Boundary
from stratos.indexer.appview_db import AppViewDatabase, Connection
from stratos.indexer.feed import FeedPage, FeedPosition, FeedPost, FeedRequest, Feeds, InvalidFeedCursor
from stratos.indexer.post_row import PostRow, post_row, post_uri
from stratos.indexer.projection import write_posts
from tests.indexer.stratos_model import boundary, post

AUTHORS = [Did(f"did:plc:{letter * 24}") for letter in "abc"]
STRANGER = Did("did:plc:zzzzzzzzzzzzzzzzzzzzzzzz")
NAMES = ["one", "two", "three", "four"]
FIRST = FeedPosition.parse(None)


def viewer(did: Did, *names: str) -> Viewer:
    return Viewer(did, frozenset(boundary(name) for name in names), enrolled=True)


def time(second: int) -> str:
    return f"2026-01-01T00:{second // 60:02d}:{second % 60:02d}.000Z"


def row(author: Did, rkey: str, names: Sequence[str], second: int = 0, **fields: DataModel) -> PostRow:
    record = {**post(f"{rkey} of {author}", *names, created_at=time(second)), **fields}
    return post_row(
        author, rkey, "bafyreidsbsbz43vebnjpkcx5bvmihznlqcjmaoxvc3f6ymbypu4iyzckpi", record, "2026-06-01T00:00:00.000Z"
    )


def store(database: AppViewDatabase, *rows: PostRow) -> None:
    with database.transaction() as connection:
        write_posts(connection, database.queries, upserts=rows, deletes=[])


@dataclass
class Reader:
    """Reads whole feeds, a page at a time."""

    database: AppViewDatabase

    def pages(self, page: Callable[[Connection, FeedRequest], FeedPage], request: FeedRequest) -> list[list[str]]:
        """The URIs of every page."""
        found: list[list[str]] = []
        while True:
            with self.database.transaction() as connection:
                read = page(connection, request)
            found.append([shown.uri for shown in read.posts])
            if read.following is None:
                return found
            request = replace(request, position=FeedPosition.parse(str(read.following)))

    def timeline(self, reader: Viewer, limit: int = 50, name: str | None = None) -> list[str]:
        """The whole timeline."""
        feeds = Feeds(self.database.queries)
        request = FeedRequest(limit, FIRST, None if name is None else boundary(name))
        return list(chain(*self.pages(lambda connection, asked: feeds.timeline(connection, reader, asked), request)))

    def author_feed(self, reader: Viewer, author: Did, limit: int = 50, name: str | None = None) -> list[str]:
        """A whole author feed."""
        feeds = Feeds(self.database.queries)
        request = FeedRequest(limit, FIRST, None if name is None else boundary(name))
        return list(chain(*self.pages(lambda connection, asked: feeds.author_feed(connection, reader, asked, author), request)))

    def post(self, uri: str) -> FeedPost | None:
        """One post."""
        with self.database.transaction() as connection:
            return Feeds(self.database.queries).post(connection, uri)


@pytest.fixture
def reader(appview_db: AppViewDatabase) -> Reader:
    """Reads the test's database."""
    return Reader(appview_db)


_posts = st.lists(
    st.tuples(
        st.sampled_from(AUTHORS),
        st.lists(st.sampled_from(NAMES), max_size=3, unique=True),
        st.integers(0, 5),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(_posts, st.sets(st.sampled_from(NAMES)), st.sampled_from([None, *NAMES]), st.integers(1, 7))
def test_every_page_together_is_what_a_filter_over_all_posts_gives(
    appview_db: AppViewDatabase, made: list[tuple[Did, list[str], int]], held: set[str], narrowed: str | None, limit: int
) -> None:
    with appview_db.transaction() as connection:
        connection.execute("TRUNCATE stratos_post, stratos_post_boundary")
    posts = [row(author, f"r{number}", names, second) for number, (author, names, second) in enumerate(made)]
    store(appview_db, *posts)
    newest_first = sorted(posts, key=lambda stored: (stored.created_at, stored.uri), reverse=True)
    looked_for = held if narrowed is None else held & {narrowed}
    wanted = {boundary(name) for name in looked_for}
    reader, me = Reader(appview_db), viewer(AUTHORS[0], *held)
    assert reader.timeline(me, limit, narrowed) == [stored.uri for stored in newest_first if wanted & {*stored.boundaries}]
    assert reader.author_feed(me, AUTHORS[1], limit, narrowed) == [
        stored.uri for stored in newest_first if stored.creator == AUTHORS[1] and wanted & {*stored.boundaries}
    ]
    own = [stored for stored in newest_first if stored.creator == AUTHORS[0]]
    assert reader.author_feed(me, AUTHORS[0], limit, narrowed) == [
        stored.uri for stored in own if narrowed is None or boundary(narrowed) in stored.boundaries
    ]


def test_pages_are_full_but_for_the_last(appview_db: AppViewDatabase, reader: Reader) -> None:
    store(appview_db, *(row(AUTHORS[0], f"r{number}", ["one", "two"], number) for number in range(7)))
    feeds = Feeds(appview_db.queries)
    pages = reader.pages(
        lambda connection, asked: feeds.timeline(connection, viewer(STRANGER, "one", "two"), asked), FeedRequest(3, FIRST)
    )
    assert [len(page) for page in pages] == [3, 3, 1]


def test_a_viewer_who_is_not_enrolled_sees_nothing_whatever_the_statement_finds(
    appview_db: AppViewDatabase, reader: Reader
) -> None:
    store(appview_db, row(AUTHORS[0], "r1", ["one"]))
    left = Viewer(STRANGER, frozenset({boundary("one")}), enrolled=False)
    assert reader.timeline(left) == reader.author_feed(left, AUTHORS[0]) == []
    stored = reader.post(post_uri(AUTHORS[0], "r1"))
    assert stored is not None
    assert not stored.visible_to(left)


def test_a_post_without_boundaries_is_its_authors_alone(appview_db: AppViewDatabase, reader: Reader) -> None:
    store(appview_db, row(AUTHORS[0], "r1", []))
    stored = reader.post(post_uri(AUTHORS[0], "r1"))
    assert stored is not None
    assert not stored.visible_to(viewer(STRANGER, *NAMES))
    assert stored.visible_to(viewer(AUTHORS[0]))
    assert reader.timeline(viewer(STRANGER, *NAMES)) == []
    assert reader.author_feed(viewer(AUTHORS[0]), AUTHORS[0]) == [stored.uri]


def test_a_boundary_that_is_not_understood_opens_the_post_to_nobody(appview_db: AppViewDatabase, reader: Reader) -> None:
    store(appview_db, row(AUTHORS[0], "r1", [], boundary="everybody"))
    stored = reader.post(post_uri(AUTHORS[0], "r1"))
    assert stored is not None
    assert stored.boundaries == [OWNER_ONLY]
    sly = Viewer(STRANGER, frozenset({OWNER_ONLY}), enrolled=True)
    assert not stored.visible_to(sly)
    assert reader.timeline(sly) == reader.author_feed(sly, AUTHORS[0]) == []
    shown = stored.as_json()["post"]
    assert isinstance(shown, dict)
    assert isinstance(shown["record"], dict)
    assert "boundary" not in shown["record"]


def test_an_unknown_post_is_none(reader: Reader) -> None:
    assert reader.post("at://did:plc:nobody/zone.stratos.feed.post/x") is None


def test_the_view_has_every_field_and_all_boundaries(appview_db: AppViewDatabase, reader: Reader) -> None:
    parent: DataModel = {"uri": "at://p", "cid": "cp"}
    root: DataModel = {"uri": "at://r", "cid": "cr"}
    store(
        appview_db,
        row(
            AUTHORS[0],
            "r1",
            ["two", "one"],
            reply={"root": root, "parent": parent},
            embed={"$type": "x", "alt": "picture"},
            facets=[{"index": 1}],
            langs=["en", "de"],
            tags=["a,b", "c"],
        ),
    )
    with appview_db.transaction() as connection:
        connection.execute("INSERT INTO actor (did, handle) VALUES (%s, 'rei.test')", (AUTHORS[0],))
    stored = reader.post(post_uri(AUTHORS[0], "r1"))
    assert stored is not None
    assert stored.as_json() == {
        "post": {
            "uri": post_uri(AUTHORS[0], "r1"),
            "cid": "bafyreidsbsbz43vebnjpkcx5bvmihznlqcjmaoxvc3f6ymbypu4iyzckpi",
            "author": {"did": AUTHORS[0], "handle": "rei.test"},
            "indexedAt": "2026-06-01T00:00:00.000Z",
            "record": {
                "$type": "zone.stratos.feed.post",
                "text": f"r1 of {AUTHORS[0]}",
                "createdAt": time(0),
                "reply": {"root": root, "parent": parent},
                "boundary": {
                    "$type": "zone.stratos.boundary.defs#Domains",
                    "values": [{"value": boundary("one")}, {"value": boundary("two")}],
                },
                "facets": [{"index": 1}],
                "embed": {"$type": "x", "alt": "picture"},
                "langs": ["en", "de"],
                "tags": ["a,b", "c"],
            },
        }
    }
    orjson.dumps(stored.as_json())


def test_a_plain_post_has_no_empty_fields_and_its_did_for_a_handle(appview_db: AppViewDatabase, reader: Reader) -> None:
    store(appview_db, row(AUTHORS[0], "r1", ["one"]))
    stored = reader.post(post_uri(AUTHORS[0], "r1"))
    assert stored is not None
    shown = stored.as_json()["post"]
    assert isinstance(shown, dict)
    assert shown["author"] == {"did": AUTHORS[0], "handle": AUTHORS[0]}
    assert isinstance(shown["record"], dict)
    assert shown["record"].keys() == {"$type", "text", "createdAt", "boundary"}


def test_rows_of_another_program_are_shown_too(appview_db: AppViewDatabase, reader: Reader) -> None:
    with appview_db.transaction() as connection:
        connection.execute(
            'INSERT INTO stratos_post (uri, creator, "replyRoot", "replyRootCid", tags) VALUES (%s, %s, %s, %s, %s)',
            ("at://x/zone.stratos.feed.post/1", AUTHORS[0], "at://r", "cr", "[a,b"),
        )
    stored = reader.post("at://x/zone.stratos.feed.post/1")
    assert stored is not None
    shown = stored.as_json()["post"]
    assert isinstance(shown, dict)
    assert isinstance(shown["record"], dict)
    assert shown["record"]["tags"] == ["[a", "b"]
    assert shown["record"]["reply"] == {"root": {"uri": "at://r", "cid": "cr"}, "parent": {"uri": "at://r", "cid": "cr"}}


@pytest.mark.parametrize("cursor", ["", "x", "!!!!", "AAAA", "bm9zcGFjZQ", "AGEgYg", "é", "\ud800", "a" * 5])
def test_a_cursor_that_was_never_given_out_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidFeedCursor):
        FeedPosition.parse(cursor)


def test_a_cursor_says_nothing_but_its_position() -> None:
    position = FeedPosition(time(1), "at://did:plc:a/zone.stratos.feed.post/b")
    assert FeedPosition.parse(str(position)) == position


PLAN_FILL: LiteralString = """
INSERT INTO stratos_post (uri, cid, rkey, creator, "createdAt", "indexedAt")
SELECT 'at://did:plc:' || n %% 200 || '/zone.stratos.feed.post/' || n, 'c', n::text, 'did:plc:' || n %% 200,
    to_char(timestamp '2026-01-01' + n * interval '1 second', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), '2026-06-01T00:00:00.000Z'
FROM generate_series(1, %(posts)s) AS n
"""
PLAN_FILL_BOUNDARIES: LiteralString = """
INSERT INTO stratos_post_boundary (uri, boundary, creator, "sortAt")
SELECT uri, 'did:web:stratos.test/' || (rkey::bigint * 7919) %% 20, creator, "sortAt" FROM stratos_post
"""


def test_no_feed_scans_a_table_and_no_page_reads_more_rows_than_it_needs(appview_db: AppViewDatabase) -> None:
    posts = 40_000
    with appview_db.transaction() as connection:
        connection.execute(PLAN_FILL, {"posts": posts})
        connection.execute(PLAN_FILL_BOUNDARIES, {})
        connection.execute("ANALYZE stratos_post")
        connection.execute("ANALYZE stratos_post_boundary")
    queries = appview_db.queries
    page = {"sort_at": "2026-01-01T03:00:00.000Z", "uri": "z", "limit": 51}
    held = [Boundary(f"did:web:stratos.test/{number}") for number in (1, 2, 3)]
    cases: list[tuple[LiteralString, dict[str, object]]] = [
        (queries.timeline, {**page, "boundaries": held}),
        (queries.author_feed, {**page, "boundaries": held, "creator": "did:plc:7"}),
        (queries.own_feed, {**page, "boundaries": [], "creator": "did:plc:7"}),
        (queries.post, {"uri": "at://did:plc:7/zone.stratos.feed.post/7"}),
    ]
    explain: LiteralString = "EXPLAIN (ANALYZE, FORMAT JSON) "
    for statement, parameters in cases:
        with appview_db.transaction() as connection:
            found = connection.execute(explain + statement, parameters).fetchone()
        assert found is not None
        nodes = _nodes(found[0][0]["Plan"])
        scanned = [node for node in nodes if str(node.get("Relation Name", "")).startswith("stratos_post")]
        assert scanned
        assert all(node["Node Type"] != "Seq Scan" for node in scanned), statement
        read = sum((float(str(node["Actual Rows"])) * float(str(node["Actual Loops"]))) for node in scanned)
        assert read <= 51 * (len(held) + 2), statement


def _nodes(plan: dict[str, object]) -> list[dict[str, object]]:
    """A plan's nodes, all levels."""
    inner = plan.get("Plans", [])
    assert isinstance(inner, list)
    return [plan, *(node for child in inner for node in _nodes(child))]
