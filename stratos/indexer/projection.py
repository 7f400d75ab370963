"""Writing the outcome of a batch: rows and positions in one transaction, a statement per table, never a row at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson
import psycopg
from psycopg.rows import TupleRow

from stratos.atproto.syntax import Did, Tid, format_datetime
from stratos.core.fault_text import describe
from stratos.indexer.appview_db import Connection, is_outage
from stratos.indexer.appview_sql import AppViewQueries
from stratos.indexer.events import CommitEvent, EnrollmentEvent, Event, MalformedEvent
from stratos.indexer.fold import ActorChanges, ActorState, BatchPlan, EnrollmentRow, fold
from stratos.indexer.post_row import PostRow, post_uri


@dataclass(frozen=True, slots=True)
class Applied:
    """What a batch did.

    `blocked`: the actors that were blocked by it, with the reason. `waiting`: whether any actor is to be fetched anew.
    """

    seq: int
    upserts: int
    deletes: int
    purged: int
    commits: int
    duplicates: int
    malformed: int
    blocked: tuple[tuple[Did, str], ...]
    waiting: bool
    reconcile: bool


class ProjectionWriter:
    """Applies batches of one source. Synchronous; each call is part of the caller's transaction."""

    def __init__(self, queries: AppViewQueries, *, source: str, service_url: str) -> None:
        self._queries = queries
        self._source = source
        self._service_url = service_url

    def position(self, connection: Connection, now: datetime) -> tuple[int, int]:
        """The saved position of the source (0 for a new one) and how often a comparison of all actors was wished for.

        Locks both until the end of the transaction.
        """
        return _position(
            connection.execute(self._queries.lock_stream_cursor, {"source": self._source, "now": format_datetime(now)})
        )

    def start_again(self, connection: Connection, now: datetime) -> None:
        """The saved position is not one of this service's log (FutureCursor): begin at 0 and compare every actor."""
        self.position(connection, now)
        connection.execute(self._queries.reset_stream_cursor, {"source": self._source, "now": format_datetime(now)})
        connection.execute(self._queries.distrust_enrollments, {"everybody": True, "dids": []})

    def apply(self, connection: Connection, events: Sequence[Event], now: datetime) -> Applied:
        """Apply events that follow each other in the stream; those at or before the saved position are skipped.

        Changes that the database refuses for what they contain are narrowed down to their actor by savepoints, and that actor is
        blocked. Raises psycopg errors for faults of the database as a whole; then nothing was applied.
        """
        moment = format_datetime(now)
        # What a failing pipeline was to prepare does not exist, but would be taken to.
        connection.prepare_threshold = None
        # Two round trips and the commit, however much there is to write: after each, this thread queues for the interpreter.
        with connection.pipeline():
            position = connection.execute(self._queries.lock_stream_cursor, {"source": self._source, "now": moment})
            states = connection.execute(self._queries.select_actor_states, {"dids": list(_dids(events))})
        plan = fold(events, _states(states), after=_position(position)[0], service_url=self._service_url)
        cursor = {"source": self._source, "seq": plan.seq, "now": moment, "reconcile": int(plan.reconcile)}
        with connection.pipeline():
            connection.execute(self._queries.save_stream_cursor, cursor)
            failed = dict(self._write(connection, plan.actors, moment))
        if plan.reconcile:
            connection.execute(self._queries.distrust_enrollments, {"everybody": True, "dids": []})
        return _applied(plan, failed)

    def _write(self, connection: Connection, actors: Sequence[ActorChanges], moment: str) -> list[tuple[Did, str]]:
        """Write the changes of these actors under a savepoint; returns those that had to be blocked, and why."""
        if not actors:
            return []
        fault = self._try_to_write(connection, actors, moment)
        if fault is None:
            return []
        if len(actors) > 1:
            half = len(actors) // 2
            return self._write(connection, actors[:half], moment) + self._write(connection, actors[half:], moment)
        # What decides access is kept, unless that is what is refused.
        actor, reason = actors[0], describe(fault)
        if self._try_to_write(connection, [actor.blocked_by(reason)], moment) is not None:
            self._write_all(connection, [actor.closed_by(reason)], moment)
        return [(actor.did, reason)]

    def _try_to_write(self, connection: Connection, actors: Sequence[ActorChanges], moment: str) -> psycopg.Error | None:
        """Write all of it or nothing; the error where the data are refused. Raises psycopg errors for faults of the database."""
        try:
            with connection.pipeline():
                connection.execute("SAVEPOINT changes")
                self._write_all(connection, actors, moment)
                connection.execute("RELEASE SAVEPOINT changes")
        except psycopg.Error as error:
            if is_outage(error):
                raise
            connection.execute("ROLLBACK TO SAVEPOINT changes")
            connection.execute("RELEASE SAVEPOINT changes")
            return error
        return None

    def _write_all(self, connection: Connection, actors: Sequence[ActorChanges], moment: str) -> None:
        """Blocks before enrollments and rows: a resync takes the same order, so that the two cannot wait for each other."""
        purged = [actor.did for actor in actors if actor.purge]
        if purged:
            connection.execute(self._queries.purge_actors, {"dids": purged})
        self._write_blocks(connection, actors, moment)
        self._write_enrollments(connection, [actor.enrollment for actor in actors if actor.enrollment is not None], moment)
        distrusted = [actor.did for actor in actors if actor.distrust]
        if distrusted:
            connection.execute(self._queries.distrust_enrollments, {"everybody": False, "dids": distrusted})
        write_posts(
            connection,
            self._queries,
            upserts=[row for actor in actors for row in actor.posts.values() if row is not None],
            deletes=[post_uri(actor.did, rkey) for actor in actors for rkey, row in actor.posts.items() if row is None],
        )
        moved = [actor for actor in actors if actor.moved]
        if moved:
            rows = orjson.dumps([{"did": actor.did, "seq": actor.seq, "rev": actor.rev} for actor in moved]).decode()
            connection.execute(self._queries.upsert_cursors, {"now": moment, "rows": rows})

    def _write_blocks(self, connection: Connection, actors: Sequence[ActorChanges], moment: str) -> None:
        blocks = [(actor.did, actor.block) for actor in actors if actor.block is not None]
        if blocks:
            connection.execute(
                self._queries.block_actors,
                {
                    "now": moment,
                    "did": [did for did, _ in blocks],
                    "seq": [block.seq for _, block in blocks],
                    "rev": [block.rev for _, block in blocks],
                    "error": [None if block.error is None else block.error.replace("\0", "\ufffd") for _, block in blocks],
                },
            )

    def _write_enrollments(self, connection: Connection, rows: Sequence[EnrollmentRow], moment: str) -> None:
        """A service whose clock is ahead cannot make its word last longer: it was given now at the latest."""
        if rows:
            connection.execute(
                self._queries.upsert_enrollments,
                {
                    "did": [row.did for row in rows],
                    "service_url": [row.service_url for row in rows],
                    "enrolled_at": [row.enrolled_at for row in rows],
                    "last_checked": [min(row.last_checked, moment) for row in rows],
                    "boundaries": [json.dumps(row.boundaries, ensure_ascii=False) for row in rows],
                },
            )


def write_posts(connection: Connection, queries: AppViewQueries, *, upserts: Sequence[PostRow], deletes: Sequence[str]) -> None:
    """Write posts with their boundaries, which replace the old ones wholesale, and delete other posts by URI."""
    uris = [row.uri for row in upserts]
    if uris or deletes:
        connection.execute(queries.delete_boundaries, {"uris": [*uris, *deletes]})
    if deletes:
        connection.execute(queries.delete_posts, {"uris": list(deletes)})
    if upserts:
        # One JSON text: its twenty columns as arrays would cost three times as much in adaptation.
        connection.execute(queries.write_posts, {"rows": orjson.dumps(upserts).decode()})


def _position(cursor: psycopg.Cursor[TupleRow]) -> tuple[int, int]:
    row = cursor.fetchone()
    return (row[0], row[1]) if row else (0, 0)


def _states(cursor: psycopg.Cursor[TupleRow]) -> dict[Did, ActorState]:
    return {did: ActorState(seq, None if rev is None else Tid(rev), blocked) for did, seq, rev, blocked in cursor}


def _dids(events: Iterable[Event]) -> set[Did]:
    named = (event.did for event in events if isinstance(event, CommitEvent | EnrollmentEvent | MalformedEvent))
    return {did for did in named if did is not None}


def _applied(plan: BatchPlan, failed: dict[Did, str]) -> Applied:
    written = [row for actor in plan.actors if actor.did not in failed for row in actor.posts.values()]
    upserts = sum(row is not None for row in written)
    blocks = {actor.did: actor.block.error for actor in plan.actors if actor.block is not None and actor.block.error is not None}
    blocked = tuple((blocks | failed).items())
    return Applied(
        seq=plan.seq,
        upserts=upserts,
        deletes=len(written) - upserts,
        purged=sum(actor.purge for actor in plan.actors),
        commits=plan.commits,
        duplicates=plan.duplicates,
        malformed=plan.malformed,
        blocked=blocked,
        waiting=bool(blocked) or any(actor.block is not None for actor in plan.actors),
        reconcile=plan.reconcile,
    )
