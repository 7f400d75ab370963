"""The table of actors that must be fetched anew: what is due, and what an attempt comes to. Synchronous, one transaction each.

A row is made by the projector (a gap, a refused change) or by the comparison with the service's list. While it stands, the
projector notes in it what passes the actor by; it goes when the actor's rows show all of that. Whoever mends an actor holds the
row's lock while writing, and gives up when the row is not the one it set out with.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Final

from stratos.atproto.syntax import Did, Tid, format_datetime
from stratos.indexer.appview_db import Connection
from stratos.indexer.appview_sql import AppViewQueries
from stratos.indexer.post_row import own_uris
from stratos.indexer.projection import write_posts
from stratos.indexer.repo_snapshot import Snapshot

ROWS_PER_STATEMENT: Final = 2_000
ASKED_FOR: Final = "an operator asked for it"


@dataclass(frozen=True, slots=True)
class BlockedActor:
    """An actor to fetch, as the table had it when the attempt began. `id` tells this block from later ones of the same actor."""

    did: Did
    id: int
    seq: int
    attempts: int


@dataclass(frozen=True, slots=True)
class BlockedReport:
    """What an operator is told of a blocked actor; the times are datetime texts."""

    did: Did
    since: str
    attempts: int
    next_attempt: str
    reason: str


@dataclass(frozen=True, slots=True)
class BlockedSummary:
    """How many actors are blocked, and how many of them after so many failed attempts that somebody should look."""

    blocked: int
    alarming: int


class Mending(Enum):
    """What an attempt came to."""

    MENDED = "mended"
    OVERTAKEN = "overtaken"
    """More has passed the actor by than was fetched: fetch again."""
    SUPERSEDED = "superseded"
    """The block is gone or another one: nothing was written."""


class BlockedActors:
    """Statements on blocked actors; each method is part of the caller's transaction."""

    def __init__(self, queries: AppViewQueries, *, service_url: str) -> None:
        self._queries = queries
        self._service_url = service_url

    def due(self, connection: Connection, now: datetime, *, busy: Collection[Did], limit: int) -> list[BlockedActor]:
        """Actors whose next attempt is due, longest waiting first, without those that are being fetched already."""
        rows = connection.execute(
            self._queries.select_due_actors, {"now": format_datetime(now), "busy": list(busy), "limit": limit}
        ).fetchall()
        return [BlockedActor(Did(did), number, seq, attempts) for did, number, seq, attempts in rows]

    def summary(self, connection: Connection, *, alarm_attempts: int) -> BlockedSummary:
        """Counts for health and metrics."""
        row = connection.execute(self._queries.select_blocked_summary, {"alarm": alarm_attempts}).fetchone()
        return BlockedSummary(row[0], row[1]) if row else BlockedSummary(0, 0)

    def report(self, connection: Connection) -> list[BlockedReport]:
        """Every blocked actor, the one that waits the longest first."""
        rows = connection.execute(self._queries.select_blocked_actors).fetchall()
        return [BlockedReport(Did(did), *others) for did, *others in rows]

    def ask_for(self, connection: Connection, dids: Collection[Did], now: datetime) -> list[BlockedActor]:
        """Have these actors fetched anew, whatever their rows show, and their boundaries asked for before the next use.

        The caller holds the lock of the stream's position (`ProjectionWriter.position`), as everybody does who blocks actors.
        """
        named = {"dids": sorted(dids), "error": ASKED_FOR, "now": format_datetime(now)}
        rows = connection.execute(self._queries.block_named_actors, named).fetchall()
        connection.execute(self._queries.distrust_enrollments, {"everybody": False, "dids": sorted(dids)})
        return [BlockedActor(Did(did), number, seq, attempts) for did, number, seq, attempts in rows]

    def mend(self, connection: Connection, actor: BlockedActor, snapshot: Snapshot, enrolled_at: str, now: datetime) -> Mending:
        """Replace all rows of the actor by the snapshot's and let the stream go on from its rev.

        A snapshot older than a commit that has passed by is not written. Posts that are here already keep when they were indexed
        and created. An enrollment that is missing here is noted with boundaries unknown.
        """
        standing = self._lock(connection, actor)
        if standing is None:
            return Mending.SUPERSEDED
        seq, rev = standing
        if rev is not None and snapshot.rev < rev:
            return Mending.OVERTAKEN
        self._replace_posts(connection, snapshot)
        moment = format_datetime(now)
        connection.execute(self._queries.save_resynced_actor, {"did": actor.did, "seq": seq, "rev": snapshot.rev, "now": moment})
        connection.execute(
            self._queries.adopt_enrollment,
            {"did": actor.did, "service_url": self._service_url, "enrolled_at": enrolled_at},
        )
        connection.execute(self._queries.unblock_actor, {"did": actor.did, "id": actor.id})
        return Mending.MENDED

    def purge(self, connection: Connection, actor: BlockedActor) -> Mending:
        """Delete everything of an actor that the service no longer has, unless the stream has said something new of it since."""
        standing = self._lock(connection, actor)
        if standing is None:
            return Mending.SUPERSEDED
        if standing[0] != actor.seq:
            return Mending.OVERTAKEN
        connection.execute(self._queries.purge_actors, {"dids": [actor.did]})
        return Mending.MENDED

    def postpone(self, connection: Connection, actor: BlockedActor, *, error: str, until: datetime) -> None:
        """Note a failed attempt and when the next is due."""
        connection.execute(
            self._queries.postpone_blocked_actor,
            {
                "did": actor.did,
                "id": actor.id,
                "error": error.replace("\0", "\ufffd"),
                "next_attempt": format_datetime(until),
            },
        )

    def _lock(self, connection: Connection, actor: BlockedActor) -> tuple[int, Tid | None] | None:
        row = connection.execute(self._queries.lock_blocked_actor, {"did": actor.did, "id": actor.id}).fetchone()
        return None if row is None else (row[0], None if row[1] is None else Tid(row[1]))

    def _replace_posts(self, connection: Connection, snapshot: Snapshot) -> None:
        """What is the actor's by only one of creator and URI is damaged, and written anew or deleted."""
        rows = connection.execute(self._queries.select_post_cids, own_uris(snapshot.did)).fetchall()
        standing = {uri: (cid, indexed_at) for uri, creator, cid, indexed_at in rows if creator == snapshot.did}
        posts = [
            replace(post, indexed_at=standing[post.uri][1])
            if post.uri in standing and standing[post.uri][0] == post.cid
            else post
            for post in snapshot.posts
        ]
        kept = standing.keys() & {post.uri for post in posts}
        gone = sorted({row[0] for row in rows} - kept)
        connection.execute(self._queries.delete_actor_boundaries, own_uris(snapshot.did))
        write_posts(connection, self._queries, upserts=[], deletes=gone)
        for start in range(0, len(posts), ROWS_PER_STATEMENT):
            write_posts(connection, self._queries, upserts=posts[start : start + ROWS_PER_STATEMENT], deletes=[])
