"""The publisher's tasks: from the log into the outbox, and from the outbox to the PDSes."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

import structlog
import trio

from stratos.atproto.syntax import Did
from stratos.core.attestation import Attestation
from stratos.core.enrollment import Enrollment
from stratos.engine.commit_log import CommitLog
from stratos.engine.oauth.ports import StoreThread
from stratos.engine.oauth.vault import OneThread
from stratos.engine.publisher.marks import SESSION, enrollment_path, marks_of
from stratos.engine.publisher.pds_repo import PdsClient
from stratos.engine.publisher.turn import ALARM_AFTER, Turns
from stratos.engine.publisher.work import PdsWork, PublishedIdentity
from stratos.engine.store_reads import StoreReads
from stratos.storage.outbox_port import PUBLISHER, AccountWork, DueAccount, Mark, OutboxCounts
from stratos.storage.ports import Backend, StorageFault

BLOCKED_SHOWN: Final = 20
"""Blocked items that `pending` lists of one account."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PublisherLimits:
    """Bounds. Durations are seconds.

    At most `accounts` are served at the same time, `accounts_per_pds` on one PDS: one that is slow or down keeps nobody else
    waiting. `follow_interval` is between two looks at the log, so that many commits are one transaction here; `poll_interval` the
    longest time between two looks at the outbox, which other processes may write to; `store_pause` after the store has failed.
    """

    accounts: int = 16
    accounts_per_pds: int = 2
    page_entries: int = 250
    page_bytes: int = 1024 * 1024
    marks_at_once: int = 500
    follow_interval: float = 0.2
    poll_interval: float = 5.0
    count_interval: float = 10.0
    store_pause: float = 5.0


class Publisher:
    """Keeps enrollment records and stubs on accounts' PDSes as the log says they should be."""

    def __init__(
        self,
        service: PublishedIdentity,
        client: PdsClient | None,
        *,
        backend: Backend,
        commit_log: CommitLog,
        reads: StoreReads,
        attest: Callable[[Enrollment], Attestation],
        clock: Callable[[], datetime],
        rng: random.Random,
        stubs: bool,
        thread: StoreThread | None = None,
        limits: PublisherLimits | None = None,
    ) -> None:
        """Without a `client` work is only written down. `attest` makes an account's attestation; `thread` calls the outbox."""
        self._service = service
        self._client = client
        self._backend = backend
        self._log = commit_log
        self._reads = reads
        self._attest = attest
        self._clock = clock
        self._rng = rng
        self._stubs = stubs
        self._thread = thread or OneThread()
        self._limits = limits or PublisherLimits()
        self._path = enrollment_path(service.did)
        self._busy: dict[Did, str] = {}
        self._stir = trio.Event()
        self._counts = OutboxCounts(0, 0, 0, 0, None)
        self._cursor = self._store_faults = 0
        self._work: PdsWork | None = None
        self._turns: Turns | None = None
        if client is not None:
            self._work = PdsWork(service, client, enrollments=backend.enrollments, reads=reads, attest=attest)
            self._turns = Turns(
                backend.outbox,
                client,
                self._work,
                thread=self._thread,
                enrollment_path=self._path,
                clock=clock,
                rng=rng,
            )

    async def refresh(self, did: Did) -> None:
        """Have an account's enrollment record written again, now that there is a session; durable when this returns.

        Raises StorageFault.
        """
        await self._mark([did], self._path)

    async def dismiss(self, did: Did) -> bool:
        """Whether something is left to do for an account that has signed in and is not enrolled: with its new session, which ends
        after it. Where nothing is, the session is the caller's to end. Raises StorageFault.
        """
        if not await self._thread(partial(self._backend.outbox.items, did, first=None, last=None, limit=1)):
            return False
        await self._mark([did], SESSION)
        return True

    async def refresh_all(self) -> int:
        """As `refresh`, for every enrolled account; how many they are. Raises StorageFault."""
        refreshed = 0
        after: Did | None = None
        while True:
            limit = self._limits.marks_at_once
            page = await self._reads(partial(self._backend.enrollments.page, after=after, limit=limit, active_only=True))
            await self._mark([enrollment.did for enrollment in page], self._path)
            refreshed += len(page)
            if len(page) < limit:
                return refreshed
            after = page[-1].did

    async def retry(self, did: Did | None) -> int:
        """Try again now what is blocked, parked or postponed, of one account or all; how many have work. Raises StorageFault."""
        hurried = await self._thread(partial(self._backend.outbox.hurry, did, self._clock()))
        self._notify()
        return hurried

    async def pending(self, *, after: Did | None, limit: int) -> list[AccountWork]:
        """Accounts with work in the order of their DIDs, exclusive of `after`. Raises StorageFault."""
        return await self._thread(partial(self._backend.outbox.page, after=after, limit=limit, blocked=BLOCKED_SHOWN))

    async def counts(self) -> OutboxCounts:
        """How much there is to do at this moment. Raises StorageFault."""
        self._counts = await self._thread(partial(self._backend.outbox.counts, ALARM_AFTER))
        return self._counts

    async def run(self, *, task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED) -> None:
        """Publish until cancelled, at any point; whatever was under way is done again by the next run.

        Only one run of all processes should go on at a time. A failing store pauses it, and nothing is lost.
        """
        task_status.started()
        while True:
            try:
                await self._run()
            except* StorageFault as group:
                self._store_faults += 1
                log.warning("the publisher pauses: its store fails", error=str(group.exceptions[0]))
            await trio.sleep(self._limits.store_pause)

    def statistics(self) -> Mapping[str, float]:
        """Gauges, those of the outbox up to some seconds old, and counters."""
        oldest = self._counts.oldest
        return {
            "pending": self._counts.pending,
            "parked": self._counts.parked,
            "blocked": self._counts.blocked,
            "failing_accounts": self._counts.failing,
            "oldest_age_seconds": 0.0 if oldest is None else max(0.0, (self._clock() - oldest).total_seconds()),
            "cursor": self._cursor,
            "accounts_in_turn": len(self._busy),
            "accounts_in_turn_limit": self._limits.accounts,
            "store_faults_total": self._store_faults,
            **({} if self._work is None else self._work.statistics()),
            **({} if self._turns is None else self._turns.statistics()),
        }

    async def _run(self) -> None:
        await self._thread(partial(self._backend.outbox.unpark_all, self._clock()))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow)
            nursery.start_soon(self._count)
            if self._turns is not None:
                nursery.start_soon(self._dispatch, self._turns)

    async def _follow(self) -> None:
        """Mark what the log says, page by page; at the very first start everybody enrolled, whatever the log still has."""
        cursor = await self._thread(partial(self._backend.cursors.get, PUBLISHER))
        if cursor is None:
            await self.refresh_all()
        self._cursor = cursor or 0
        limits = self._limits
        while True:
            page = await self._reads(
                partial(self._backend.log.after, self._cursor, limit=limits.page_entries, max_bytes=limits.page_bytes)
            )
            if page:
                marks = marks_of(page, service=self._service.did, stubs=self._stubs)
                await self._thread(partial(self._backend.outbox.advance, page[-1].seq, marks, now=self._clock()))
                self._cursor = page[-1].seq
                self._notify()
            else:
                await self._log.wait_beyond(self._cursor)
            await trio.sleep(limits.follow_interval)

    async def _dispatch(self, turns: Turns) -> None:
        """Serve who is due, each account by one task at a time."""
        limits, outbox = self._limits, self._backend.outbox
        async with trio.open_nursery() as nursery:
            while True:
                stirred, busy, now = self._stir, self._busy.copy(), self._clock()
                due = await self._thread(partial(outbox.due, now, limit=limits.accounts, per_pds=limits.accounts_per_pds))
                for account in due:
                    if account.did not in busy and self._has_room(account.pds):
                        self._busy[account.did] = account.pds
                        nursery.start_soon(self._turn, turns, account)
                following = await self._thread(partial(outbox.next_due, now))
                wait = limits.poll_interval
                if following is not None:
                    wait = min(wait, max(0.0, (following - self._clock()).total_seconds()))
                with trio.move_on_after(wait):
                    await stirred.wait()

    def _has_room(self, pds: str) -> bool:
        here = sum(busy == pds for busy in self._busy.values())
        return len(self._busy) < self._limits.accounts and here < self._limits.accounts_per_pds

    async def _turn(self, turns: Turns, account: DueAccount) -> None:
        try:
            await turns.serve(account)
        finally:
            del self._busy[account.did]
            self._notify()

    async def _count(self) -> None:
        while True:
            await self.counts()
            await trio.sleep(self._limits.count_interval)

    async def _mark(self, dids: list[Did], path: str) -> None:
        now = self._clock()
        marks = [Mark(did, path, now, wake=True) for did in dids]
        await self._thread(partial(self._backend.outbox.mark, marks, now=now))
        self._notify()

    def _notify(self) -> None:
        """The outbox, or who is busy, has changed."""
        stirred, self._stir = self._stir, trio.Event()
        stirred.set()
