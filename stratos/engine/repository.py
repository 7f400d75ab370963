"""The repository writer: the one path by which records change (design §3, service spec §5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from stratos.atproto.cid import Cid
from stratos.atproto.dag_cbor import DataModel
from stratos.atproto.lexicon import LexiconError, Lexicons
from stratos.atproto.mst import MissingBlock
from stratos.atproto.syntax import AtUri, Did, InvalidSyntax, parse_did, parse_nsid, parse_rkey, record_path
from stratos.atproto.tid import TidClock
from stratos.core.access import Viewer, may_read, viewer_towards
from stratos.core.boundaries import record_boundaries
from stratos.core.enrollment import Enrollment
from stratos.core.log_entry import Proposal
from stratos.core.outcomes import Reason, Refusal
from stratos.core.record_rules import NO_PARENT, PARENT_UNSEEN, Parent, ParentOf, RecordRules
from stratos.engine.actor_locks import ActorLocks
from stratos.engine.commit_log import CommitLog
from stratos.engine.keyring import Keyring
from stratos.engine.planner import MissingFromStore, Plan, Planner, WriteRequest, block_boundaries
from stratos.engine.rate_limit import WriteLimiter
from stratos.engine.store_reads import StoreReads
from stratos.engine.writes import Committed, Create, Delete, Write
from stratos.storage.ports import Appended, Backend, StorageFault

PRIVATE_NAMESPACE: Final = "zone.stratos."
MAX_WRITES: Final = 200
BULK_WRITES: Final = 32
"""From this many writes on, planning leaves the event loop for the bulk thread."""
PLAN_ATTEMPTS: Final = 20
"""Another process that writes to the same account may be faster, each time with about even chances."""


@dataclass(frozen=True, slots=True)
class WriterParts:
    """What the writer stands on."""

    backend: Backend
    reads: StoreReads
    log: CommitLog
    locks: ActorLocks
    keyring: Keyring
    lexicons: Lexicons
    rules: RecordRules
    tids: TidClock
    limiter: WriteLimiter
    bulk_thread: trio.CapacityLimiter


class RepositoryWriter:
    """Plans, appends and answers writes: one call, one commit, one log entry, all or nothing."""

    def __init__(self, parts: WriterParts) -> None:
        self._parts = parts
        self._planner = Planner(parts.lexicons, parts.rules, parts.tids.next)
        self._committed = self._refused = self._replanned = 0

    async def write(
        self, actor: Did, writes: Sequence[Write], *, swap_commit: Cid | None = None, validate: bool = True
    ) -> Committed | Refusal:
        """Apply writes to the actor's repository; `record` values are in the data model already.

        Returns a Refusal for whatever the caller did wrong and for exhausted credits; the credits of a refused call are
        returned. Raises StorageFault when the store could not do its work; nothing was written then. Cancellation is held back
        while an append is under way.
        """
        limited = self._parts.limiter.reserve(actor, len(writes))
        if limited is not None:
            return self._refuse(limited)
        outcome: Committed | Refusal | None = None
        try:
            outcome = await self._write(actor, writes, swap_commit, validate)
        finally:
            if not isinstance(outcome, Committed):
                self._parts.limiter.give_back(actor, len(writes))
        if isinstance(outcome, Refusal):
            return self._refuse(outcome)
        self._committed += 1
        return outcome

    def statistics(self) -> Mapping[str, int]:
        """Counters: commits, refusals, plans made again; gauges: batches that wait for the bulk thread, and the actor locks'."""
        return {
            "committed_total": self._committed,
            "refused_total": self._refused,
            "replanned_total": self._replanned,
            "bulk_waiting": self._parts.bulk_thread.statistics().tasks_waiting,
            **{f"locks_{name}": value for name, value in self._parts.locks.statistics().items()},
        }

    async def _write(self, actor: Did, writes: Sequence[Write], swap_commit: Cid | None, validate: bool) -> Committed | Refusal:
        located = self._located(writes, validate)
        if isinstance(located, Refusal):
            return located
        async with self._parts.locks.hold(actor):
            for attempt in range(PLAN_ATTEMPTS):
                if attempt:
                    # What is remembered of the account, its key above all, may be as old as the head that has moved.
                    await self._parts.reads(partial(self._parts.backend.enrollments.current, actor))
                try:
                    plan = await self._plan(actor, located, swap_commit, validate)
                except MissingFromStore:
                    if attempt == PLAN_ATTEMPTS - 1:
                        raise
                    self._replanned += 1
                    continue
                if isinstance(plan, Refusal):
                    return plan
                outcome = await self._parts.log.append(Proposal(actor, (plan.entry,)))
                if isinstance(outcome, Appended):
                    return Committed(plan.entry.commit, plan.entry.rev, plan.results)
                self._replanned += 1
        return Refusal(Reason.CONCURRENT_MODIFICATION, "Concurrent modification detected, please retry", retry_after=1)

    async def _plan(self, actor: Did, writes: Sequence[Write], swap_commit: Cid | None, validate: bool) -> Plan | Refusal:
        plan = partial(self._plan_now, actor, writes, swap_commit, validate)
        if len(writes) < BULK_WRITES:
            return await self._parts.reads(plan)
        return await trio.to_thread.run_sync(plan, limiter=self._parts.bulk_thread)

    def _plan_now(self, actor: Did, writes: Sequence[Write], swap_commit: Cid | None, validate: bool) -> Plan | Refusal:
        backend = self._parts.backend
        enrollment = backend.enrollments.get(actor)
        if enrollment is None or not enrollment.active:
            return Refusal(Reason.NOT_ENROLLED, "User is not enrolled in this Stratos service")
        sealed = backend.enrollments.sealed_key(enrollment.did)
        if sealed is None:
            raise StorageFault(f"{enrollment.did} is enrolled but has no signing key")
        siblings = _records_by_uri(enrollment.did, writes)
        parents = [self._parent(enrollment, write, siblings) for write in writes]
        request = WriteRequest(enrollment, writes, parents, swap_commit, validate)
        with backend.actors.open(enrollment.did) as store:
            if store is None:
                return Refusal(Reason.REPO_NOT_FOUND, "Could not find repo")
            key = self._parts.keyring.open(enrollment.did, sealed)
            try:
                return self._planner.plan(store, request, key)
            except MissingBlock as missing:
                raise MissingFromStore(f"the tree of {enrollment.did} cannot be read: {missing}") from missing

    def _located(self, writes: Sequence[Write], validate: bool) -> Sequence[Write] | Refusal:
        """The writes with their collection and rkey checked, and a TID where a create named none."""
        if not writes:
            return Refusal(Reason.INVALID_REQUEST, "writes is required")
        if len(writes) > MAX_WRITES:
            return Refusal(Reason.INVALID_REQUEST, f"writes: at most {MAX_WRITES} are allowed in one call")
        located: list[Write] = []
        paths: set[str] = set()
        for write in writes:
            if isinstance(write, Create) and write.rkey is None:
                write = Create(write.collection, self._parts.tids.next(), write.record)
            try:
                collection = parse_nsid(write.collection)
                rkey = parse_rkey(write.rkey or "")
            except InvalidSyntax as error:
                return Refusal(Reason.INVALID_REQUEST, str(error))
            if not write.collection.startswith(PRIVATE_NAMESPACE):
                return Refusal(Reason.INVALID_COLLECTION, "Only zone.stratos.* collections are supported")
            if validate and not isinstance(write, Delete):
                try:
                    self._parts.lexicons.check_record_key(write.collection, rkey)
                except LexiconError as error:
                    return Refusal(Reason.INVALID_REQUEST, str(error))
            path = record_path(collection, rkey)
            if path in paths:
                return Refusal(Reason.INVALID_REQUEST, f"writes: {path} is written twice in one call")
            paths.add(path)
            located.append(write)
        return located

    def _parent(self, author: Enrollment, write: Write, siblings: Mapping[str, dict[str, DataModel]]) -> Parent:
        """What is known of the record that a write replies to; one that its author cannot read counts as unseen.

        `siblings` are the records written by the same call, by URI: a thread may be posted as one batch.
        """
        uri = None if isinstance(write, Delete) else _parent_uri(write.record)
        if uri is None or uri.collection is None or uri.rkey is None:
            return NO_PARENT
        if str(uri) in siblings:
            return ParentOf(record_boundaries(siblings[str(uri)]))
        try:
            owner = parse_did(uri.authority)
        except InvalidSyntax:
            return PARENT_UNSEEN
        with self._parts.backend.actors.open(owner) as store:
            parent = None if store is None else store.record(uri.collection, uri.rkey)
        if parent is None:
            return PARENT_UNSEEN
        boundaries = block_boundaries(parent.block)
        standing = self._parts.backend.enrollments.get(owner)
        viewer = Viewer(author.did, frozenset(author.boundaries), enrolled=author.active)
        viewer = viewer_towards(viewer, owner, owner_active=standing is not None and standing.active)
        return ParentOf(boundaries) if may_read(viewer, owner, boundaries) else PARENT_UNSEEN

    def _refuse(self, refusal: Refusal) -> Refusal:
        self._refused += 1
        return refusal


def _records_by_uri(did: Did, writes: Sequence[Write]) -> dict[str, dict[str, DataModel]]:
    return {f"at://{did}/{write.collection}/{write.rkey}": write.record for write in writes if not isinstance(write, Delete)}


def _parent_uri(record: Mapping[str, DataModel]) -> AtUri | None:
    reply = record.get("reply")
    parent = reply.get("parent") if isinstance(reply, dict) else None
    uri = parent.get("uri") if isinstance(parent, dict) else None
    if not isinstance(uri, str):
        return None
    try:
        return AtUri.parse(uri)
    except InvalidSyntax:
        return None
