"""Hydration: from a stub's AT-URI to the full record. Source: service spec §1.3.11–12, §6.3; design §5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import trio

from stratos.api.auth import EnrollmentGate
from stratos.api.errors import invalid_request, record_not_found
from stratos.api.xrpc import Access, Method, Rendered, Reply, Verb, XrpcCall, rendered_list
from stratos.atproto.data_model import Json
from stratos.atproto.syntax import AtUri, Did, InvalidSyntax, parse_did
from stratos.core.access import Viewer, may_learn_of
from stratos.engine.record_views import RecordViews
from stratos.engine.store_reads import StoreReads
from stratos.storage.ports import RecordPath

MAX_URIS: Final = 100
OWNERS_PER_TURN: Final = 8
"""Stores read at once, between two turns of other tasks: below a millisecond on SQLite."""


class Hydration:
    """Says `blocked` only to enrolled viewers; to everybody else what they may not read is not there."""

    def __init__(self, reads: StoreReads, gate: EnrollmentGate, views: RecordViews) -> None:
        self._reads = reads
        self._gate = gate
        self._views = views

    def methods(self) -> dict[str, Method]:
        """The methods by NSID."""
        return {
            "zone.stratos.repo.hydrateRecord": Method(Verb.GET, Access.OPTIONAL, self.hydrate_record),
            "zone.stratos.repo.hydrateRecords": Method(Verb.POST, Access.OPTIONAL, self.hydrate_records),
        }

    async def hydrate_record(self, call: XrpcCall) -> Reply:
        """One record by its URI."""
        located = _located(call.params.text("uri"))
        if located is None:
            raise invalid_request("Invalid AT-URI", "HydrationError")
        wanted = call.params.cid("cid")
        owner, path = located
        viewer = await self._gate.towards(await self._gate.viewer(call.credential), owner)
        stored = await self._reads.of_actor(owner, lambda store: store.record(*path))
        if stored is None or (wanted is not None and wanted != stored.cid):
            raise record_not_found()
        view = self._views.view(viewer, owner, stored)
        if view is not None:
            return Rendered(view)
        if may_learn_of(viewer, owner):
            raise invalid_request("Record blocked due to boundary restrictions", "RecordBlocked")
        raise record_not_found()

    async def hydrate_records(self, call: XrpcCall) -> Reply:
        """Up to 100 records: grouped by owner in order of first appearance, within an owner in the order asked.

        Each owner is one query of one store, a few owners are read at once; other tasks get their turn after these.
        """
        uris = call.input.items("uris")
        if uris is None:
            raise invalid_request("URIs array required", "InvalidInput")
        if len(uris) > MAX_URIS:
            raise invalid_request(f"Maximum of {MAX_URIS} URIs per request", "TooManyUris")
        viewer = await self._gate.viewer(call.credential)
        answer = _Answer()
        by_owner: dict[Did, list[tuple[str, RecordPath]]] = {}
        for uri in map(str, uris):
            located = _located(uri)
            if located is None:
                answer.not_found.append(uri)
            else:
                by_owner.setdefault(located[0], []).append((uri, located[1]))
        owners = list(by_owner)
        for start in range(0, len(owners), OWNERS_PER_TURN):
            await self._hydrate(viewer, {owner: by_owner[owner] for owner in owners[start : start + OWNERS_PER_TURN]}, answer)
            await trio.lowlevel.checkpoint()
        return rendered_list("records", answer.records, {"notFound": answer.not_found, "blocked": answer.blocked})

    async def _hydrate(self, viewer: Viewer, by_owner: Mapping[Did, Sequence[tuple[str, RecordPath]]], answer: _Answer) -> None:
        viewers = {owner: await self._gate.towards(viewer, owner) for owner in by_owner}
        records = await self._reads.records_at({owner: [path for _, path in asked] for owner, asked in by_owner.items()})
        for owner, asked in by_owner.items():
            found = records.get(owner, {})
            for uri, path in asked:
                stored = found.get(path)
                view = None if stored is None else self._views.view(viewers[owner], owner, stored)
                if view is not None:
                    answer.records.append(view)
                elif stored is not None and may_learn_of(viewers[owner], owner):
                    answer.blocked.append(uri)
                else:
                    answer.not_found.append(uri)


class _Answer:
    """The three lists of an answer while they are filled."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.not_found: list[Json] = []
        self.blocked: list[Json] = []


def _located(text: str) -> tuple[Did, RecordPath] | None:
    """The owner and the path of a record's URI; None for what is not one, or names its owner by handle."""
    try:
        uri = AtUri.parse(text)
        owner = parse_did(uri.authority)
    except InvalidSyntax:
        return None
    if uri.collection is None or uri.rkey is None:
        return None
    return owner, (uri.collection, uri.rkey)
