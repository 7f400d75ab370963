"""Viewers and their boundaries, no older than a bound. Source: indexer spec §3.1; design I9.

The stream keeps `stratos_enrollment` up to date; a row that nobody vouched for within the bound is asked for anew at the service.
Where the service cannot be asked, nobody is let in on a guess.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog
import trio

from stratos.atproto.syntax import Did, InvalidSyntax, format_datetime, parse_datetime
from stratos.core.access import Viewer
from stratos.core.boundaries import OWNER_ONLY, Boundary
from stratos.indexer.appview_db import AppViewDatabase, Connection
from stratos.indexer.service_client import ServiceClient, ServiceFault

MAX_LOOKUPS: Final = 8
"""Questions to the service at once."""
MAX_WAITING: Final = 256
"""DIDs that are being asked for or wait for their turn; one more is turned away."""
STRANGER_SECONDS: Final = 5.0
"""How long it is remembered that a DID is not enrolled; the stream's row, once it comes, counts at once."""
MAX_STRANGERS: Final = 10_000

_log = structlog.get_logger(__name__)


class BoundariesUnknown(Exception):
    """The viewer's boundaries are too old and the service cannot be asked: nobody is let in on a guess."""


@dataclass(frozen=True, slots=True)
class _Row:
    boundaries: str | None
    last_checked: str


@dataclass(slots=True)
class _Question:
    """A question that is under way. When it is done it has an answer or a fault; neither where its asker was cancelled."""

    done: trio.Event = field(default_factory=trio.Event)
    answer: Viewer | None = None
    fault: Exception | None = None


class ViewerDirectory:
    """Knows what a DID may see; one question to the services per DID at a time, whose outcome all who wait for it share."""

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
        self._questions: dict[Did, _Question] = {}
        self._strangers: OrderedDict[Did, datetime] = OrderedDict()
        self._room = trio.CapacityLimiter(MAX_LOOKUPS)
        self._lookups = self._failures = self._rejected = 0

    def fresh_viewer(self, connection: Connection, did: Did) -> Viewer | None:
        """The viewer from a row that is fresh enough; None where the service has to be asked. For a worker thread."""
        row = self._row(connection, did)
        if row is None or row.boundaries is None or not self._is_fresh(row.last_checked):
            return None
        return _viewer(did, json.loads(row.boundaries))

    async def ask(self, did: Did) -> Viewer:
        """Ask the services and note the answer in the DID's row. Raises BoundariesUnknown, DatabaseUnavailable.

        Cancellation passes the question on to the next who waits for it.
        """
        until = self._strangers.get(did)
        if until is not None and self._clock() < until:
            return _stranger(did)
        while (question := self._questions.get(did)) is not None:
            await question.done.wait()
            if question.fault is not None:
                raise BoundariesUnknown(f"{did} could not be looked up") from question.fault
            if question.answer is not None:
                return question.answer
        if len(self._questions) >= MAX_WAITING:
            self._rejected += 1
            raise BoundariesUnknown("too many viewers are being looked up")
        question = self._questions[did] = _Question()
        try:
            async with self._room:
                question.answer = await self._ask(did)
            return question.answer
        except Exception as error:
            question.fault = error
            raise
        finally:
            del self._questions[did]
            question.done.set()

    def statistics(self) -> Mapping[str, int]:
        """Gauges and counters: questions under way and strangers remembered, with limits; asked, failed, turned away."""
        return {
            "asking": len(self._questions),
            "asking_limit": MAX_WAITING,
            "strangers": len(self._strangers),
            "strangers_limit": MAX_STRANGERS,
            "lookups_total": self._lookups,
            "failures_total": self._failures,
            "rejected_total": self._rejected,
        }

    async def _ask(self, did: Did) -> Viewer:
        row = await self._database.run(lambda connection: self._row(connection, did))
        held = await self._held(did)
        if row is None:
            # Not stored: such a row could outlive an unenroll that is on its way through the stream (I7, I9).
            if held is None:
                self._remember_stranger(did)
                return _stranger(did)
            return _viewer(did, held)
        if held is None:
            return _stranger(did)
        return await self._database.run(partial(self._refresh, did, row, held, self._clock()))

    async def _held(self, did: Did) -> set[str] | None:
        """What the services say together; None where the DID is enrolled with none of them."""
        held: set[str] | None = None
        for service in self._services:
            self._lookups += 1
            try:
                boundaries = await service.boundaries(did)
            except ServiceFault as fault:
                self._failures += 1
                _log.warning("a viewer's boundaries are unknown", did=did, service=service.url, error=str(fault))
                raise BoundariesUnknown(f"{service.url} cannot be asked for the boundaries of {did}") from fault
            if boundaries is not None:
                held = {*(held or ()), *boundaries}
        return held

    def _refresh(self, did: Did, asked_with: _Row, held: set[str], now: datetime, connection: Connection) -> Viewer:
        """Store the answer, unless the stream has spoken since the question: then what both allow is allowed."""
        written = connection.execute(
            self._database.queries.refresh_enrollment,
            {
                "did": did,
                "now": format_datetime(now),
                "boundaries": json.dumps(sorted(held), ensure_ascii=False),
                "seen": asked_with.last_checked,
                "seen_boundaries": asked_with.boundaries,
            },
        ).rowcount
        if written:
            return _viewer(did, held)
        row = self._row(connection, did)
        if row is None:
            return _stranger(did)
        return _viewer(did, held & set(json.loads(row.boundaries or "[]")))

    def _row(self, connection: Connection, did: Did) -> _Row | None:
        found = connection.execute(self._database.queries.select_enrollment, {"did": did}).fetchone()
        return None if found is None else _Row(*found)

    def _is_fresh(self, last_checked: str) -> bool:
        try:
            return self._clock() - parse_datetime(last_checked) <= self._max_staleness
        except InvalidSyntax:
            return False

    def _remember_stranger(self, did: Did) -> None:
        self._strangers[did] = self._clock() + timedelta(seconds=STRANGER_SECONDS)
        self._strangers.move_to_end(did)
        while len(self._strangers) > MAX_STRANGERS:
            self._strangers.popitem(last=False)


def _viewer(did: Did, boundaries: Iterable[str]) -> Viewer:
    return Viewer(did, frozenset(map(Boundary, boundaries)) - {OWNER_ONLY}, enrolled=True)


def _stranger(did: Did) -> Viewer:
    return Viewer(did, frozenset(), enrolled=False)
