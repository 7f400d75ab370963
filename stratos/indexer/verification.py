"""Verifying an actor's rows against its repository, while the service is written to and the indexer goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

import trio

from stratos.atproto.syntax import Did, Tid, format_datetime
from stratos.indexer.actor_rows import ActorRows, Difference, Kind, compare, read_rows
from stratos.indexer.appview_db import AppViewDatabase
from stratos.indexer.repo_snapshot import InvalidSnapshot, Snapshot, read_snapshot
from stratos.indexer.service_client import ServiceClient, ServiceFault


@dataclass(frozen=True, slots=True)
class Patience:
    """How long differences are put down to what is under way. Durations are seconds.

    `attempts`: how often a repository is fetched at most; `catch_up`: how long rows may be behind what was fetched, or blocked;
    `hurried`: the same once somebody's have been for so long; `poll`: time between two looks at the rows; `pause`: time before
    what may pass is asked for again.
    """

    attempts: int = 5
    catch_up: float = 10.0
    hurried: float = 1.0
    poll: float = 0.05
    pause: float = 0.5


DEFAULT_PATIENCE: Final = Patience()


@dataclass(frozen=True, slots=True)
class _Fetched:
    snapshot: Snapshot
    boundaries: tuple[str, ...]


class Verifier:
    """Compares actors one by one. Writes nothing."""

    def __init__(
        self,
        database: AppViewDatabase,
        service: ServiceClient,
        *,
        clock: Callable[[], datetime],
        patience: Patience = DEFAULT_PATIENCE,
    ) -> None:
        self._database = database
        self._service = service
        self._clock = clock
        self._patience = patience
        self._catch_up = patience.catch_up

    async def verify(self, did: Did) -> Sequence[Difference]:
        """How the actor's rows differ from its repository at the same rev; empty where they agree.

        Posts are compared at one rev, so that a difference is one. What the stream may still carry (a change of boundaries, a
        departure) is looked at again after a pause. Raises DatabaseUnavailable.
        """
        found: Sequence[Difference] = ()
        seen: Tid | None = None
        for attempt in range(self._patience.attempts):
            if attempt:
                await trio.sleep(self._patience.pause)
            try:
                found, seen = await self._attempt(did, seen)
            except ServiceFault as fault:
                found = [Difference(did, Kind.UNVERIFIED, None, str(fault))]
            except InvalidSnapshot as fault:
                # The key of a commit may have come after the answer that named the keys; a fault of the repository stays.
                found = [Difference(did, Kind.REPOSITORY, None, str(fault))]
            if not found or not any(_may_pass(difference) for difference in found):
                break
        return found

    async def _attempt(self, did: Did, seen: Tid | None) -> tuple[Sequence[Difference], Tid | None]:
        """The differences, and the rev that the rows showed; `seen` is that of an earlier attempt."""
        fetched = await self._fetch(did)
        if fetched is None:
            rows = await self._rows(did)
            gone = Difference(did, Kind.SURPLUS, None, "the service does not have this account")
            return [] if rows.nothing else [gone], rows.rev
        rev = fetched.snapshot.rev
        rows = await self._rows_at(did, rev)
        if rows.blocked is None and rows.rev == rev:
            return compare(rows, fetched.snapshot, fetched.boundaries), rows.rev
        return [_not_compared(rows, rev, seen)], rows.rev

    async def _fetch(self, did: Did) -> _Fetched | None:
        """The repository, checked; None where the service has no such account. Raises ServiceFault, InvalidSnapshot."""
        repo = await self._service.repo(did)
        status = await self._service.status(did)
        boundaries = await self._service.boundaries(did)
        if repo is None or status is None or boundaries is None:
            return None
        read = partial(read_snapshot, did, repo, status.signing_keys, format_datetime(self._clock()))
        return _Fetched(await trio.to_thread.run_sync(read), boundaries)

    async def _rows_at(self, did: Did, rev: Tid) -> ActorRows:
        """The rows as soon as they show this rev or a later one; as they stand when that takes too long."""
        rows = await self._rows(did)
        with trio.move_on_after(self._catch_up) as waiting:
            while rows.blocked is not None or rows.rev is None or rows.rev < rev:
                await trio.sleep(self._patience.poll)
                rows = await self._rows(did)
        if waiting.cancelled_caught:
            self._catch_up = self._patience.hurried
        return rows

    async def _rows(self, did: Did) -> ActorRows:
        return await self._database.run(lambda connection: read_rows(connection, self._database.queries, did))


def _not_compared(rows: ActorRows, rev: Tid, seen: Tid | None) -> Difference:
    """Why rows are not at the rev that was fetched after they had shown `seen`."""
    if rows.blocked is not None:
        return Difference(rows.did, Kind.BLOCKED, None, rows.blocked)
    if rows.rev is None or rows.rev < rev:
        return Difference(rows.did, Kind.BEHIND, None, f"rows show {rows.rev or 'nothing'}, the service {rev}")
    if seen is not None and rev < seen:
        return Difference(rows.did, Kind.AHEAD, None, f"rows show {rows.rev}, which the service has not reached: {rev}")
    return Difference(rows.did, Kind.UNVERIFIED, None, f"changes faster than it can be compared; last at {rows.rev}")


def _may_pass(difference: Difference) -> bool:
    """Whether asking again may show that nothing is wrong. What was behind has been waited for already."""
    match difference.kind:
        case Kind.UNVERIFIED | Kind.ENROLLMENT | Kind.REPOSITORY:
            return True
        case Kind.SURPLUS:
            return difference.uri is None
        case _:
            return False
