"""Reading the AppView's tables back in tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import LiteralString

from stratos.atproto.frames import ErrorFrame
from stratos.indexer.appview_db import AppViewDatabase
from stratos.indexer.events import Event, decode_event
from stratos.indexer.projection import Applied, ProjectionWriter
from tests.indexer.stratos_model import SERVICE_URL

SOURCE = SERVICE_URL
NOW = datetime(2026, 3, 2, tzinfo=UTC)


def rows(database: AppViewDatabase, query: LiteralString) -> list[tuple[object, ...]]:
    """All rows of a query."""
    with database.transaction() as connection:
        return connection.execute(query).fetchall()


def posts(database: AppViewDatabase) -> dict[str, tuple[str, str, tuple[str, ...]]]:
    """cid, text and boundaries by URI, as `ModelService.posts` gives them."""
    with database.transaction() as connection:
        found = connection.execute(
            "SELECT uri, cid, text, ARRAY(SELECT boundary FROM stratos_post_boundary b WHERE b.uri = p.uri ORDER BY 1)"
            " FROM stratos_post p"
        ).fetchall()
        orphans = connection.execute(
            "SELECT uri FROM stratos_post_boundary b WHERE NOT EXISTS (SELECT FROM stratos_post p WHERE"
            ' p.uri = b.uri AND p.creator = b.creator AND p."sortAt" = b."sortAt")'
        ).fetchall()
    assert orphans == []
    return {uri: (cid, text, tuple(boundaries)) for uri, cid, text, boundaries in found}


def enrollments(database: AppViewDatabase) -> dict[str, set[str] | None]:
    """Boundaries by DID; None where the service must be asked before they may be used."""
    query: LiteralString = "SELECT did, CASE WHEN \"lastChecked\" > '' THEN boundaries END FROM stratos_enrollment"
    found = rows(database, query)
    return {str(did): None if text is None else set(json.loads(str(text))) for did, text in found}


def revs(database: AppViewDatabase) -> dict[str, object]:
    """The rev that each actor's rows show."""
    return {str(did): rev for did, rev in rows(database, "SELECT did, rev FROM stratos_sync_cursor")}


def blocked(database: AppViewDatabase) -> dict[str, str]:
    """Why actors are blocked."""
    return {str(did): str(error) for did, error in rows(database, "SELECT did, error FROM stratos_blocked_actor")}


def position(database: AppViewDatabase) -> int:
    """The saved position of the stream."""
    found = rows(database, "SELECT seq FROM stratos_stream_cursor")
    return int(str(found[0][0])) if found else 0


def decoded(frames: Sequence[bytes]) -> list[Event]:
    """The events of frames."""
    events = [decode_event(frame) for frame in frames]
    return [event for event in events if event is not None and not isinstance(event, ErrorFrame)]


def apply(database: AppViewDatabase, frames: Sequence[bytes], now: datetime = NOW) -> Applied:
    """Apply a batch of frames in one transaction."""
    writer = ProjectionWriter(database.queries, source=SOURCE, service_url=SERVICE_URL)
    with database.transaction() as connection:
        return writer.apply(connection, decoded(frames), now)
