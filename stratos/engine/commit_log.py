"""The commit log's writer: one task, one thread hop per batch, one fsync per batch (design §3)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import zip_longest

import structlog
import trio

from stratos.atproto.syntax import Did
from stratos.core.log_codec import purges
from stratos.core.log_entry import LoggedEntry, Proposal
from stratos.engine.log_tail import LogTail
from stratos.engine.store_reads import StoreReads
from stratos.storage.ports import Appended, AppendOutcome, Backend, OutcomeUnknown, StorageFault

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LogLimits:
    """Bounds of the log's memory: proposals waiting, proposals per batch, recent frames kept, and a page of others' entries."""

    queue: int = 1_000
    batch: int = 256
    tail_entries: int = 10_000
    tail_bytes: int = 16 * 1024 * 1024
    page_entries: int = 250
    page_bytes: int = 1024 * 1024


@dataclass(eq=False, slots=True)
class _Waiting:
    """A proposal and its answer: an outcome, or a fault where there is one that says more than that nothing was written."""

    proposal: Proposal
    answered: trio.Event = field(default_factory=trio.Event)
    outcome: AppendOutcome | None = None
    unknown: OutcomeUnknown | None = None


class CommitLog:
    """Appends proposals in one total order and tells waiters how far it has come."""

    def __init__(
        self,
        backend: Backend,
        *,
        reads: StoreReads,
        clock: Callable[[], datetime],
        limits: LogLimits,
        purged: Callable[[Did], None] = lambda _: None,
    ) -> None:
        """`purged` is told of each account that was unenrolled, before whoever asked for it is answered."""
        self._backend = backend
        self._reads = reads
        self._clock = clock
        self._purged = purged
        self._limits = limits
        self._send, self._receive = trio.open_memory_channel[_Waiting](limits.queue)
        self._thread = trio.CapacityLimiter(1)
        self._head = backend.log.head()
        self._tail = LogTail(floor=self._head, max_entries=limits.tail_entries, max_bytes=limits.tail_bytes)
        self._moved = trio.Event()
        self._showing = trio.Lock()
        self._accepting = True
        self._batches = self._proposals = self._purges = 0
        self._commit_seconds = 0.0

    @property
    def head(self) -> int:
        """The last `seq` that subscribers may see."""
        return self._head

    async def append(self, proposal: Proposal) -> AppendOutcome:
        """Append a proposal and wait until it is durable and applied.

        Raises StorageFault when it was not appended, OutcomeUnknown when nobody can tell now. Cancellation is held back until
        the answer is known, so that the caller's actor lock covers the whole append; waiting for room in the queue is bounded by
        the writer's pace.
        """
        if not self._accepting:
            raise StorageFault("the commit log is not running")
        waiting = _Waiting(proposal)
        with trio.CancelScope(shield=True):
            await self._send.send(waiting)
            await waiting.answered.wait()
        if waiting.unknown is not None:
            raise OutcomeUnknown(str(waiting.unknown)) from waiting.unknown
        if waiting.outcome is None:
            raise StorageFault("the commit log could not append; nothing was written")
        return waiting.outcome

    @property
    def purges(self) -> int:
        """How many unenrollments were shown: whoever holds entries that were read before the last one reads them again (I7)."""
        return self._purges

    def tail_after(self, cursor: int, limit: int) -> list[LoggedEntry] | None:
        """Recent entries after the cursor from memory; None when the cursor lies further back."""
        return self._tail.after(cursor, limit)

    async def wait_beyond(self, cursor: int) -> None:
        """Return once the head is past the cursor; no wake-up is lost between two calls."""
        while self._head <= cursor:
            await self._moved.wait()

    async def catch_up(self) -> None:
        """Show what other processes have appended since. Raises StorageFault."""
        async with self._showing:
            while await self._show_page():
                pass

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Append waiting proposals until cancelled.

        Each proposal is answered only after its entry is durable. Cancellation between batches loses nothing; a batch already
        handed to the store is always answered. What is still queued then is answered with a fault.
        """
        self._accepting = True
        task_status.started()
        try:
            while True:
                batch = [await self._receive.receive()]
                self._drain_into(batch, self._limits.batch)
                await self._commit(batch)
        finally:
            self._accepting = False
            self._answer_leftovers()

    def statistics(self) -> Mapping[str, float]:
        """Gauges and counters: head, queue, batches, proposals, seconds spent committing, and the tail's."""
        channel = self._receive.statistics()
        return {
            "head": self._head,
            "queue": channel.current_buffer_used,
            "queue_limit": self._limits.queue,
            "batches_total": self._batches,
            "proposals_total": self._proposals,
            "commit_seconds_total": self._commit_seconds,
            **{f"tail_{name}": value for name, value in self._tail.statistics().items()},
        }

    def _drain_into(self, batch: list[_Waiting], limit: int) -> None:
        while len(batch) < limit:
            try:
                batch.append(self._receive.receive_nowait())
            except trio.WouldBlock:
                return

    async def _commit(self, batch: Sequence[_Waiting]) -> None:
        proposals = [waiting.proposal for waiting in batch]
        outcomes: list[AppendOutcome] = []
        unknown: OutcomeUnknown | None = None
        started = time.perf_counter()
        try:
            with trio.CancelScope(shield=True):
                outcomes = await trio.to_thread.run_sync(self._commit_in_thread, proposals, limiter=self._thread)
            self._batches += 1
            self._proposals += len(batch)
            self._commit_seconds += time.perf_counter() - started
            await self._publish(outcomes)
        except StorageFault as fault:
            unknown = fault if isinstance(fault, OutcomeUnknown) else None
            log.error("commit batch failed", proposals=len(batch), error=str(fault))
        finally:
            # Whatever happened, nobody who handed over a proposal waits for ever.
            for waiting, outcome in zip_longest(batch, outcomes):
                waiting.outcome, waiting.unknown = outcome, unknown
                waiting.answered.set()

    def _commit_in_thread(self, proposals: Sequence[Proposal]) -> list[AppendOutcome]:
        return self._backend.commit(proposals, now=self._clock())

    async def _publish(self, outcomes: Sequence[AppendOutcome]) -> None:
        """Show a batch, after what other processes appended before it. Where that cannot be read, `catch_up` shows both later."""
        appended = [outcome for outcome in outcomes if isinstance(outcome, Appended)]
        if not appended:
            return
        logged = [entry for outcome in appended for entry in outcome.entries]
        async with self._showing:
            if await self._shown_up_to(appended[0].after):
                self._show(logged)

    async def _shown_up_to(self, seq: int) -> bool:
        """Show the entries up to `seq`; False where they cannot be read now."""
        try:
            while self._head < seq and await self._show_page():
                pass
        except StorageFault as fault:
            log.warning("entries of other processes cannot be read yet", after=self._head, error=str(fault))
            return False
        return True

    async def _show_page(self) -> bool:
        """Read and show what comes next in the log; whether there was anything."""
        page = await self._reads(
            partial(self._backend.log.after, self._head, limit=self._limits.page_entries, max_bytes=self._limits.page_bytes)
        )
        self._show(page)
        return bool(page)

    def _show(self, entries: Sequence[LoggedEntry]) -> None:
        """Let subscribers see entries that follow upon the head; what they have seen already is left out."""
        new = [entry for entry in entries if entry.seq > self._head]
        if not new:
            return
        self._tail.extend(new)
        for entry in new:
            if purges(entry):
                self._purges += 1
                self._tail.forget(entry.did, before=entry.seq)
                self._purged(entry.did)
        self._head = new[-1].seq
        moved, self._moved = self._moved, trio.Event()
        moved.set()

    def _answer_leftovers(self) -> None:
        while True:
            try:
                self._receive.receive_nowait().answered.set()
            except trio.WouldBlock:
                return
