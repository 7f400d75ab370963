"""Reading a repository: getRecord, listRecords, describeRepo. Refusal looks like absence. Source: service spec §1.3.5–7, §6."""

from __future__ import annotations

from typing import Final, cast

import structlog
from structlog.typing import FilteringBoundLogger

from stratos.api.auth import EnrollmentGate
from stratos.api.errors import record_not_found, repo_not_found
from stratos.api.xrpc import Access, Method, Rendered, Reply, Verb, XrpcCall, rendered_list, under_both_names
from stratos.atproto.data_model import Json
from stratos.atproto.syntax import Did, InvalidSyntax, parse_did
from stratos.core.access import may_learn_of
from stratos.engine.identity import Identity, IdentityError
from stratos.engine.record_views import RecordViews
from stratos.engine.store_reads import StoreReads

MAX_PAGE: Final = 100

_log: FilteringBoundLogger = structlog.get_logger(__name__)


class RepoReads:
    """The reading methods; each reads one open store."""

    def __init__(self, reads: StoreReads, gate: EnrollmentGate, views: RecordViews, network: Identity) -> None:
        """`network` resolves the DIDs and handles of the accounts."""
        self._reads = reads
        self._gate = gate
        self._views = views
        self._network = network

    def methods(self) -> dict[str, Method]:
        """The methods by NSID."""
        return under_both_names(
            {
                "getRecord": Method(Verb.GET, Access.OPTIONAL, self.get_record),
                "listRecords": Method(Verb.GET, Access.OPTIONAL, self.list_records),
                "describeRepo": Method(Verb.GET, Access.PUBLIC, self.describe_repo),
            }
        )

    async def get_record(self, call: XrpcCall) -> Reply:
        """One record; RecordNotFound for whatever stands in the way."""
        owner = repo_did(call)
        if owner is None:
            raise record_not_found()
        viewer = await self._gate.towards(await self._gate.viewer(call.credential), owner)
        path = (call.params.text("collection"), call.params.text("rkey"))
        stored = await self._reads.of_actor(owner, lambda store: store.record(*path))
        wanted = call.params.cid("cid")
        if stored is None or (wanted is not None and wanted != stored.cid):
            raise record_not_found()
        view = self._views.view(viewer, owner, stored)
        if view is None:
            raise record_not_found()
        return Rendered(view)

    async def list_records(self, call: XrpcCall) -> Reply:
        """A page of a collection; what the viewer may not read is left out of the page, after it was read."""
        owner = repo_did(call)
        if owner is None:
            return {"records": []}
        viewer = await self._gate.towards(await self._gate.viewer(call.credential), owner)
        limit = max(1, min(MAX_PAGE, call.params.integer("limit", MAX_PAGE)))
        cursor = call.params.optional_text("cursor")
        collection, reverse = call.params.text("collection"), call.params.boolean("reverse", False)
        after = None if cursor is None else cursor.rpartition("/")[2]
        page = await self._reads.of_actor(
            owner, lambda store: store.records(collection, limit=limit, after=after, reverse=reverse)
        )
        if page is None:
            return {"records": []}
        views = [self._views.view(viewer, owner, stored) for stored in page]
        records = [view for view in views if view is not None]
        # The cursor names a record that the viewer may not be able to read.
        goes_on = len(page) == limit and may_learn_of(viewer, owner)
        more: dict[str, Json] = {"cursor": page[-1].rkey} if goes_on else {}
        return rendered_list("records", records, more)

    async def describe_repo(self, call: XrpcCall) -> Reply:
        """Whose repository this is and which collections it has. The DID stands in for a handle that cannot be resolved."""
        owner = repo_did(call)
        if owner is None:
            raise repo_not_found()
        collections = await self._reads.of_actor(owner, lambda store: store.collections())
        if collections is None:
            raise repo_not_found()
        answer: dict[str, Json] = {"handle": owner, "did": owner, "collections": [*collections], "handleIsCorrect": False}
        try:
            document = await self._network.resolve_did(owner)
            answer["didDoc"] = cast("Json", document.raw)
            claimed = document.claimed_handle
            if claimed is not None:
                answer["handle"] = claimed
                answer["handleIsCorrect"] = await self._network.verified_handle(document) is not None
        except IdentityError as error:
            _log.info("identity not resolved", did=owner, error=str(error))
        return answer


def repo_did(call: XrpcCall) -> Did | None:
    """The `repo` parameter where it is a DID; a handle names no repository here."""
    try:
        return parse_did(call.params.text("repo"))
    except InvalidSyntax:
        return None
