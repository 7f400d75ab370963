"""Proofs and exports: com.atproto.sync.getRecord, zone.stratos.sync.getRepo and listRepos.

Source: service spec §1.3.8–9; design §4.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Final

import trio
from trio import to_thread

from stratos.api.auth import EnrollmentGate, ServiceCaller, User
from stratos.api.credentials import AppView
from stratos.api.errors import busy, invalid_request, not_authenticated, record_not_found, repo_not_found
from stratos.api.xrpc import Access, Bytes, Method, Reply, SendChunk, Streamed, Verb, XrpcCall
from stratos.atproto.car import encode_block, encode_header
from stratos.atproto.cid import Cid
from stratos.atproto.commit import SignedCommit
from stratos.atproto.data_model import Json
from stratos.atproto.mst import MissingBlock, Mst
from stratos.atproto.syntax import Did, InvalidSyntax, Tid, parse_did, record_path
from stratos.core.access import Viewer
from stratos.engine.record_views import RecordViews
from stratos.engine.store_reads import StoreReads
from stratos.storage.ports import ActorStore, Backend, StorageFault

CAR: Final = "application/vnd.ipld.car"
BUSY_RETRY_SECONDS: Final = 5


class Sync:
    """The sync methods. An export runs in a thread of its own kind, in slices; at most `max_exports` are under way."""

    def __init__(
        self, backend: Backend, reads: StoreReads, gate: EnrollmentGate, views: RecordViews, *, max_exports: int
    ) -> None:
        self._backend = backend
        self._reads = reads
        self._gate = gate
        self._views = views
        self._max_exports = max_exports
        self._exports = 0
        self._exports_total = 0
        self._export_thread = trio.CapacityLimiter(1)

    def methods(self) -> dict[str, Method]:
        """The methods by NSID."""
        return {
            "com.atproto.sync.getRecord": Method(Verb.GET, Access.OPTIONAL, self.get_record),
            "zone.stratos.sync.getRepo": Method(Verb.GET, Access.IDENTIFIED, self.get_repo),
            "zone.stratos.sync.listRepos": Method(Verb.GET, Access.IDENTIFIED, self.list_repos),
        }

    def statistics(self) -> dict[str, int]:
        """Exports under way, their limit, and all since the start."""
        return {"exports": self._exports, "exports_limit": self._max_exports, "exports_total": self._exports_total}

    async def get_record(self, call: XrpcCall) -> Reply:
        """A record with the proof that it is in the signed repository; visible to whom the record is."""
        owner = call.params.did("did")
        viewer = await self._gate.towards(await self._gate.viewer(call.credential), owner)
        path = (call.params.text("collection"), call.params.text("rkey"))
        proof = await self._reads.of_actor(owner, lambda store: _proof(store, self._views, viewer, owner, path))
        if proof is None:
            raise repo_not_found()
        return Bytes(CAR, proof)

    async def get_repo(self, call: XrpcCall) -> Reply:
        """All that is reachable from the head, as a CAR stream; for the owner and for trusted services."""
        owner = call.params.did("did")
        caller = call.credential
        if not isinstance(caller, ServiceCaller) and not (isinstance(caller, User) and caller.did == owner):
            raise not_authenticated("Service auth or owner authentication required")
        if isinstance(caller, AppView) and caller.domains is not None:
            raise not_authenticated("An export has all boundaries, more than this service may see")
        since = call.params.optional_text("since")
        return Streamed(CAR, partial(self._export, owner, None if since is None else Tid(since)))

    async def list_repos(self, call: XrpcCall) -> Reply:
        """Every repository with its head, in DID order; for trusted services."""
        caller = call.credential
        if not isinstance(caller, ServiceCaller):
            raise not_authenticated("Service auth required")
        if isinstance(caller, AppView) and caller.domains is not None:
            raise not_authenticated("The heads tell of writes in all boundaries, more than this service may see")
        limit = call.params.integer("limit", 0)
        cursor = call.params.optional_text("cursor")
        try:
            after = None if cursor is None else parse_did(cursor)
        except InvalidSyntax as error:
            raise invalid_request(f"cursor: {error}") from None
        heads = await self._reads(lambda: self._backend.log.repo_heads(after=after, limit=limit))
        repos: list[Json] = [
            {"did": head.did, "head": str(head.commit), "rev": head.rev, "active": head.active} for head in heads
        ]
        return {"repos": repos, "cursor": heads[-1].did} if len(heads) == limit else {"repos": repos}

    async def _export(self, owner: Did, since: Tid | None, send: SendChunk) -> None:
        if self._exports >= self._max_exports:
            raise busy("Too many repository exports are under way", BUSY_RETRY_SECONDS)
        self._exports += 1
        self._exports_total += 1
        slices = self._slices(owner, since)
        try:
            while (chunk := await to_thread.run_sync(next, slices, None, limiter=self._export_thread)) is not None:
                await send(chunk)
        finally:
            self._exports -= 1
            with trio.CancelScope(shield=True):
                await to_thread.run_sync(slices.close, limiter=self._export_thread)

    def _slices(self, owner: Did, since: Tid | None) -> Generator[bytes, None, None]:
        """The CAR file in slices; runs in the export thread, one slice a hop."""
        with self._backend.actors.export(owner) as export:
            if export is None:
                raise repo_not_found()
            yield encode_header(export.root.commit)
            for page in export.pages(since):
                yield b"".join(encode_block(cid, block) for cid, block in page)


def _proof(store: ActorStore, views: RecordViews, viewer: Viewer, owner: Did, path: tuple[str, str]) -> bytes:
    """A CAR of the commit, the nodes on the record's path, and the record, all of one moment.

    Raises XrpcError RecordNotFound, and StorageFault where the blocks that are stored do not make a proof.
    """
    key = record_path(*path)
    with store.snapshot():
        stored = store.record(*path)
        if stored is None or views.view(viewer, owner, stored) is None:
            raise record_not_found()
        root = store.root()
        try:
            commit = store.block(root.commit)
            if commit is None:
                raise MissingBlock(root.commit)
            tree = Mst.open(SignedCommit.decode(commit).data, store, store.nodes())
            proof = dict(tree.proof(key)) if tree.get(key) == stored.cid else None
        except MissingBlock as missing:
            raise StorageFault(f"{key} of {owner} cannot be proven: {missing}") from missing
    if proof is None:
        raise StorageFault(f"{key} of {owner} is not {stored.cid} in commit {root.commit}")
    blocks: dict[Cid, bytes] = {root.commit: commit, **proof, stored.cid: stored.block}
    return encode_header(root.commit) + b"".join(encode_block(cid, block) for cid, block in blocks.items())
