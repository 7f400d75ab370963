"""Planning a commit: from an actor's head and the wanted writes to a signed commit, without writing anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stratos.atproto import dag_cbor
from stratos.atproto.cid import Cid
from stratos.atproto.commit import SignedCommit, sign_commit
from stratos.atproto.keys import SigningKey
from stratos.atproto.lexicon import LexiconError, Lexicons
from stratos.atproto.mst import InvalidMst, Mst
from stratos.atproto.syntax import Did, Tid, record_path
from stratos.core.boundaries import OWNER_ONLY, Boundary, record_boundaries
from stratos.core.enrollment import Enrollment
from stratos.core.log_entry import Action, CommitEntry, RecordOp
from stratos.core.outcomes import Reason, Refusal
from stratos.core.record_rules import Parent, RecordRules
from stratos.engine.writes import Delete, Put, Unset, Write, WriteResult
from stratos.storage.ports import ActorStore, StorageFault


@dataclass(frozen=True, slots=True)
class Plan:
    """A commit that is ready to append, and what its caller will be told."""

    entry: CommitEntry
    results: tuple[WriteResult | None, ...]


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """One call: its writes are one commit, all or nothing. Every Create carries its rkey by now."""

    enrollment: Enrollment
    writes: Sequence[Write]
    parents: Sequence[Parent]
    swap_commit: Cid | None
    validate: bool


class Planner:
    """Checks writes by lexicon and rules and builds the commit."""

    def __init__(self, lexicons: Lexicons, rules: RecordRules, next_rev: Callable[[Tid], Tid]) -> None:
        self._lexicons = lexicons
        self._rules = rules
        self._next_rev = next_rev

    def plan(self, store: ActorStore, request: WriteRequest, key: SigningKey) -> Plan | Refusal:
        """Plan all writes upon the store's head; the first refusal ends it. Pure apart from block reads."""
        root = store.root()
        if request.swap_commit is not None and request.swap_commit != root.commit:
            return Refusal(Reason.INVALID_SWAP, f"Commit was at {root.commit}")
        did = request.enrollment.did
        tree = Mst.open(_tree_root(store, root.commit), store, store.nodes())
        ops: list[RecordOp] = []
        results: list[WriteResult | None] = []
        for write, parent in zip(request.writes, request.parents, strict=True):
            op = self._operation(store, tree, write, parent, request)
            if isinstance(op, Refusal):
                return op
            ops.append(op)
            results.append(None if op.cid is None else WriteResult(f"at://{did}/{op.path}", op.cid))
        change = tree.change()
        rev = self._next_rev(root.rev)
        commit = sign_commit(did, rev, change.root, key)
        store.nodes().put(commit.cid, change.root)
        entry = CommitEntry(
            did=did,
            rev=rev,
            since=root.rev,
            commit=commit.cid,
            prev_commit=root.commit,
            ops=tuple(ops),
            blocks=(*change.created, (commit.cid, commit.block)),
            removed=(*change.removed, root.commit),
            signing_key=key.did_key,
        )
        return Plan(entry, tuple(results))

    def _operation(self, store: ActorStore, tree: Mst, write: Write, parent: Parent, request: WriteRequest) -> RecordOp | Refusal:
        path = record_path(write.collection, write.rkey or "")
        try:
            standing = tree.get(path)
        except InvalidMst as error:
            return Refusal(Reason.INVALID_REQUEST, f"rkey: {error}")
        if isinstance(write, Delete):
            return self._delete(store, tree, write, path, standing)
        if isinstance(write, Put):
            if not isinstance(write.swap_record, Unset) and write.swap_record != standing:
                return Refusal(Reason.INVALID_SWAP, f"Record was at {standing}")
        elif standing is not None:
            return Refusal(Reason.INVALID_REQUEST, f"Record already exists: {path}")
        checked = self._checked_record(write.collection, write.record, parent, request)
        if isinstance(checked, Refusal):
            return checked
        block, after = checked
        cid = Cid.of_dag_cbor(block)
        before = None if standing is None else _boundaries_at(store, standing)
        tree.put(path, cid)
        action = Action.CREATE if standing is None else Action.UPDATE
        return RecordOp(action, path, cid, block, prev=standing, before=before, after=after)

    def _delete(self, store: ActorStore, tree: Mst, write: Delete, path: str, standing: Cid | None) -> RecordOp | Refusal:
        if not isinstance(write.swap_record, Unset) and write.swap_record != standing:
            return Refusal(Reason.INVALID_SWAP, f"Record was at {standing}")
        if standing is None:
            if write.must_exist:
                return Refusal(Reason.RECORD_NOT_FOUND, "Record not found")
            return RecordOp(Action.DELETE, path, cid=None, record=None, prev=None, before=None, after=None)
        before = _boundaries_at(store, standing)
        tree.delete(path)
        return RecordOp(Action.DELETE, path, cid=None, record=None, prev=standing, before=before, after=None)

    def _checked_record(
        self, collection: str, record: dict[str, dag_cbor.DataModel], parent: Parent, request: WriteRequest
    ) -> tuple[bytes, tuple[Boundary, ...]] | Refusal:
        """The record's block and boundaries, once every rule holds. `validate=false` skips the lexicon alone."""
        typed = self._rules.typed_record(collection, record)
        if isinstance(typed, Refusal):
            return typed
        refusal = self._rules.check(collection, typed, parent)
        if refusal is not None:
            return refusal
        if request.validate:
            try:
                self._lexicons.check_record(collection, typed)
            except LexiconError as error:
                return Refusal(Reason.INVALID_RECORD, str(error))
        boundaries = record_boundaries(typed)
        refusal = self._rules.authorize(boundaries, request.enrollment.boundaries)
        if refusal is not None:
            return refusal
        try:
            return dag_cbor.encode(typed), boundaries
        except dag_cbor.InvalidDagCbor as error:
            return Refusal(Reason.INVALID_RECORD, f"record: {error}")


class MissingFromStore(StorageFault):
    """The head refers to what is not there: another process has replaced that head since it was read, or the store is damaged."""


def first_commit(did: Did, rev: Tid, key: SigningKey) -> CommitEntry:
    """The empty commit with which a repository begins."""
    tree = Mst.empty()
    change = tree.change()
    commit = sign_commit(did, rev, change.root, key)
    return CommitEntry(
        did=did,
        rev=rev,
        since=None,
        commit=commit.cid,
        prev_commit=None,
        ops=(),
        blocks=(*change.created, (commit.cid, commit.block)),
        removed=(),
        signing_key=key.did_key,
    )


def signed_anew(store: ActorStore, did: Did, key: SigningKey, next_rev: Callable[[Tid], Tid]) -> CommitEntry:
    """A commit upon the head that changes nothing but who signs. Raises MissingFromStore."""
    root = store.root()
    commit = sign_commit(did, next_rev(root.rev), _tree_root(store, root.commit), key)
    return CommitEntry(
        did=did,
        rev=commit.rev,
        since=root.rev,
        commit=commit.cid,
        prev_commit=root.commit,
        ops=(),
        blocks=((commit.cid, commit.block),),
        removed=(root.commit,),
        signing_key=key.did_key,
    )


def _tree_root(store: ActorStore, commit: Cid) -> Cid:
    """The root of a commit's tree; what was planned here a moment ago is in the cache, under the commit's CID."""
    known = store.nodes().get(commit)
    if isinstance(known, Cid):
        return known
    block = store.block(commit)
    if block is None:
        raise MissingFromStore(f"the head commit {commit} is not in its actor store")
    return SignedCommit.decode(block).data


def block_boundaries(block: bytes) -> tuple[Boundary, ...]:
    """The boundaries of a record block from our own store; what is not a record is nobody's but its owner's."""
    record = dag_cbor.decode_own(block)
    return record_boundaries(record) if isinstance(record, dict) else (OWNER_ONLY,)


def _boundaries_at(store: ActorStore, cid: Cid) -> tuple[Boundary, ...]:
    block = store.block(cid)
    if block is None:
        raise MissingFromStore(f"the record block {cid} is not in its actor store")
    return block_boundaries(block)
