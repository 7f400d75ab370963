"""Viewers and their boundaries, no older than a bound. Source: indexer spec §3.1; design I9.

The stream keeps `stratos_enrollment` up to date; a row that nobody vouched for within the bound is asked for anew at the service.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import trio

from stratos.atproto.syntax import Did, InvalidSyntax, format_datetime, parse_datetime
from stratos.core.access import Viewer
from stratos.core.boundaries import Boundary
from stratos.indexer.appview_db import AppViewDatabase, Connection
from stratos.indexer.service_client import ServiceClient, ServiceFault

MAX_LOOKUPS: Final = 8
"""Questions to the service at once."""


class BoundariesUnknown(Exception):
    """The viewer's boundaries are too old and the service cannot be asked: nobody is let in on a guess."""


@dataclass(frozen=True, slots=True)
class _Row:
    boundaries: str | None
    last_checked: str


class ViewerDirectory:
    """Knows what a DID may see; one question to the service per DID at a time."""

    def __init__(
        self,
        database: AppViewDatabase,
        services: tuple[ServiceClient, ...],
        *,
        max_staleness: timedelta,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._services = services
        self._max_staleness = max_staleness
        self._clock = clock
        self._asking: dict[Did, trio.Event] = {}
        self._room = trio.CapacityLimiter(MAX_LOOKUPS)
        self._lookups = self._failures = 0

    def fresh_viewer(self, connection: Connection, did: Did) -> Viewer | None:
        """The viewer from a row that is fresh enough; None where the service has to be asked. For a worker thread."""
        row = self._row(connection, did)
        if row is None or row.boundaries is None or not self._is_fresh(row.last_checked):
            return None
        return _viewer(did, json.loads(row.boundaries))

    async def ask(self, did: Did) -> Viewer:
        """Ask the services and remember the answer. Raises BoundariesUnknown, DatabaseUnavailable.

        A call that finds another one asking for the same DID waits for it and then takes the fresh row.
        """
        under_way = self._asking.get(did)
        if under_way is not None:
            await under_way.wait()
            viewer = await self._database.run(lambda connection: self.fresh_viewer(connection, did))
            if viewer is not None:
                return viewer
        done = self._asking[did] = trio.Event()
        try:
            async with self._room:
                return await self._ask(did)
        finally:
            done.set()
            if self._asking.get(did) is done:
                del self._asking[did]

    def statistics(self) -> Mapping[str, int]:
        """Gauges and counters: questions under way and their limit, asked, failed."""
        return {
            "asking": len(self._asking),
            "asking_limit": MAX_LOOKUPS,
            "lookups_total": self._lookups,
            "failures_total": self._failures,
        }

    async def _ask(self, did: Did) -> Viewer:
        row = await self._database.run(lambda connection: self._row(connection, did))
        held: set[str] = set()
        known_by: str | None = None
        for service in self._services:
            self._lookups += 1
            try:
                boundaries = await service.boundaries(did)
            except ServiceFault as fault:
                self._failures += 1
                raise BoundariesUnknown(f"{service.url} cannot be asked for the boundaries of {did}") from fault
            if boundaries is not None:
                held.update(boundaries)
                known_by = known_by or service.url
        if known_by is None and row is None:
            return Viewer(did, frozenset(), enrolled=False)
        text = json.dumps(sorted(held))
        await self._database.run(lambda connection: self._remember(connection, did, row, text, known_by))
        return _viewer(did, sorted(held)) if known_by is not None else Viewer(did, frozenset(), enrolled=False)

    def _row(self, connection: Connection, did: Did) -> _Row | None:
        found = connection.execute(self._database.queries.select_enrollment, {"did": did}).fetchone()
        return None if found is None else _Row(*found)

    def _remember(self, connection: Connection, did: Did, row: _Row | None, boundaries: str, known_by: str | None) -> None:
        """Store the answer, unless the stream has said something since the question was asked."""
        now = format_datetime(self._clock())
        if row is None:
            parameters = {"did": did, "service_url": known_by, "now": now, "boundaries": boundaries}
            connection.execute(self._database.queries.enroll_by_lookup, parameters)
            return
        connection.execute(
            self._database.queries.refresh_enrollment,
            {
                "did": did,
                "now": now,
                "boundaries": boundaries,
                "seen": row.last_checked,
                "seen_boundaries": row.boundaries,
            },
        )

    def _is_fresh(self, last_checked: str) -> bool:
        try:
            return self._clock() - parse_datetime(last_checked) <= self._max_staleness
        except InvalidSyntax:
            return False


def _viewer(did: Did, boundaries: list[str]) -> Viewer:
    return Viewer(did, frozenset(map(Boundary, boundaries)), enrolled=True)
