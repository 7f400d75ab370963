"""What the AppView's tables hold of one actor, and how it differs from the actor's repository. Private contents are not told."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import Final

from stratos.atproto.syntax import Did, Tid
from stratos.indexer.appview_db import Connection
from stratos.indexer.appview_sql import AppViewQueries
from stratos.indexer.post_row import PostRow, own_uris
from stratos.indexer.repo_snapshot import Snapshot

COMPARED: Final = (
    "cid", "rkey", "creator", "text", "reply_root", "reply_root_cid", "reply_parent", "reply_parent_cid",
    "embed", "facets", "langs", "labels", "tags",
)  # fmt: skip
"""Columns that follow from the record, in the order of `select_actor_posts.sql`; when it was indexed and first created do not."""
_JSON: Final = frozenset({"embed", "facets", "labels", "tags"})
_expected = attrgetter(*COMPARED)


class Kind(StrEnum):
    """In what way rows differ."""

    BLOCKED = "blocked"
    BEHIND = "behind"
    AHEAD = "ahead"
    MISSING = "missing"
    SURPLUS = "surplus"
    DIFFERENT = "different"
    BOUNDARIES = "boundaries"
    ENROLLMENT = "enrollment"
    REPOSITORY = "repository"
    """The service's own answer is not what its owner signed."""
    UNVERIFIED = "unverified"
    """No answer, or the account changes faster than it can be compared."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference; `uri` where it is about one post. `detail` names columns, CIDs and boundaries, never a text."""

    did: Did
    kind: Kind
    uri: str | None
    detail: str


@dataclass(frozen=True, slots=True)
class StoredPost:
    """A row of `stratos_post`: the values of COMPARED, its boundaries, and whether what these repeat of the post is askew."""

    uri: str
    values: tuple[str | None, ...]
    boundaries: tuple[str, ...]
    askew: bool


@dataclass(frozen=True, slots=True)
class ActorRows:
    """Everything of an actor at one moment.

    `blocked` is the reason where the actor is blocked. `boundaries` are the account's own; None where nobody vouches for them.
    `stray` are URIs that have boundaries but no post.
    """

    did: Did
    rev: Tid | None
    blocked: str | None
    enrolled: bool
    boundaries: tuple[str, ...] | None
    posts: tuple[StoredPost, ...]
    stray: tuple[str, ...]

    @property
    def nothing(self) -> bool:
        """Whether the tables know nothing of the actor."""
        return self.rev is None and not self.enrolled and not self.posts and not self.stray


def read_rows(connection: Connection, queries: AppViewQueries, did: Did) -> ActorRows:
    """Read an actor's rows as they stood at one moment; the first statement of its transaction."""
    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    standing = connection.execute(queries.select_actor_standing, {"did": did}).fetchone() or (None, None, False, None)
    rev, blocked, enrolled, boundaries = standing
    posts = connection.execute(queries.select_actor_posts, own_uris(did)).fetchall()
    stray = connection.execute(queries.select_stray_boundaries, own_uris(did)).fetchall()
    return ActorRows(
        did=did,
        rev=None if rev is None else Tid(rev),
        blocked=blocked,
        enrolled=enrolled,
        boundaries=_boundaries(boundaries),
        posts=tuple(StoredPost(uri, tuple(values), tuple(held), askew) for uri, *values, held, askew in posts),
        stray=tuple(uri for (uri,) in stray),
    )


def compare(rows: ActorRows, snapshot: Snapshot, boundaries: Sequence[str]) -> list[Difference]:
    """How an actor's rows differ from its repository at the same rev, and from the `boundaries` that the service says it has."""
    stored = {post.uri: post for post in rows.posts}
    held = {post.uri: post for post in snapshot.posts}
    found = [Difference(rows.did, Kind.MISSING, uri, f"cid {held[uri].cid}") for uri in sorted(held.keys() - stored.keys())]
    found += [
        Difference(rows.did, Kind.SURPLUS, uri, f"cid {stored[uri].values[0]}") for uri in sorted(stored.keys() - held.keys())
    ]
    for uri in sorted(held.keys() & stored.keys()):
        found += _of_post(rows.did, stored[uri], held[uri])
    found += [Difference(rows.did, Kind.BOUNDARIES, uri, "boundaries without a post") for uri in rows.stray if uri not in held]
    found += _of_enrollment(rows, boundaries)
    return found


def _of_post(did: Did, stored: StoredPost, held: PostRow) -> Iterator[Difference]:
    expected: tuple[str | None, ...] = _expected(held)
    columns = [
        name
        for name, ours, theirs in zip(COMPARED, stored.values, expected, strict=True)
        if ours != theirs and not (name in _JSON and _same_json(ours, theirs))
    ]
    if columns:
        yield Difference(did, Kind.DIFFERENT, stored.uri, ", ".join(columns))
    if set(stored.boundaries) != set(held.boundaries):
        detail = f"rows have {_listed(stored.boundaries)}, the record {_listed(held.boundaries)}"
        yield Difference(did, Kind.BOUNDARIES, stored.uri, detail)
    if stored.askew:
        yield Difference(did, Kind.BOUNDARIES, stored.uri, "its boundaries' rows name another creator or time")


def _of_enrollment(rows: ActorRows, boundaries: Sequence[str]) -> Iterator[Difference]:
    if not rows.enrolled:
        yield Difference(rows.did, Kind.ENROLLMENT, None, "no enrollment")
    elif rows.boundaries is not None and set(rows.boundaries) != set(boundaries):
        detail = f"rows have {_listed(rows.boundaries)}, the service {_listed(boundaries)}"
        yield Difference(rows.did, Kind.ENROLLMENT, None, detail)


def _boundaries(text: str | None) -> tuple[str, ...] | None:
    """What is no list of texts is told as it stands: it grants nothing, and differs from everything."""
    if text is None:
        return None
    try:
        values = json.loads(text)
    except ValueError:
        return (text,)
    return tuple(map(str, values)) if isinstance(values, list) else (text,)


def _same_json(one: str | None, other: str | None) -> bool:
    if one is None or other is None:
        return False
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


def _listed(boundaries: Sequence[str]) -> str:
    return ", ".join(sorted(boundaries)) or "none"
