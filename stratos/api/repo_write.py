"""Writing records: four faces of one write path. Source: service spec §1.3.1–3, §5.4; design §5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stratos.api.errors import invalid_request, not_authenticated, refused
from stratos.api.fields import Fields
from stratos.api.xrpc import Access, Method, Reply, Verb, XrpcCall, under_both_names
from stratos.atproto.cid import Cid
from stratos.atproto.data_model import Json
from stratos.atproto.syntax import Did
from stratos.core.outcomes import Refusal
from stratos.engine.repository import RepositoryWriter
from stratos.engine.writes import Committed, Create, Delete, Put, Unset, Write, WriteResult

_ITEM_LEXICONS: Final = ("com.atproto.repo.applyWrites", "zone.stratos.repo.applyWrites", "")


class RepoWrites:
    """The writing methods; the body is checked by lexicon before a handler sees it."""

    def __init__(self, writer: RepositoryWriter) -> None:
        self._writer = writer
        self._records = self._deletes = 0

    def methods(self) -> dict[str, Method]:
        """The methods by NSID."""
        return under_both_names(
            {
                "createRecord": Method(Verb.POST, Access.USER, self.create_record),
                "putRecord": Method(Verb.POST, Access.USER, self.put_record),
                "deleteRecord": Method(Verb.POST, Access.USER, self.delete_record),
                "applyWrites": Method(Verb.POST, Access.USER, self.apply_writes),
            }
        )

    def statistics(self) -> Mapping[str, int]:
        """Counters since the start: records created or replaced, and deletes."""
        return {"records_total": self._records, "deletes_total": self._deletes}

    async def create_record(self, call: XrpcCall) -> Reply:
        """Create one record; an rkey that is taken is refused."""
        actor = _own_repo(call, "Cannot create record for another user")
        write = Create(call.input.text("collection"), call.input.optional_text("rkey"), call.input.record("record"))
        return _recorded(await self._commit(call, actor, [write]))

    async def put_record(self, call: XrpcCall) -> Reply:
        """Create or replace one record."""
        actor = _own_repo(call, "Cannot update record for another user")
        write = Put(call.input.text("collection"), call.input.text("rkey"), call.input.record("record"), _swap_record(call))
        return _recorded(await self._commit(call, actor, [write]))

    async def delete_record(self, call: XrpcCall) -> Reply:
        """Delete one record; one that is not there is deleted all the same."""
        actor = _own_repo(call, "Cannot delete record for another user")
        write = Delete(call.input.text("collection"), call.input.text("rkey"), _swap_record(call))
        return {"commit": _commit_meta(await self._commit(call, actor, [write]))}

    async def apply_writes(self, call: XrpcCall) -> Reply:
        """Apply several writes in one commit, all or nothing."""
        actor = _own_repo(call, "Cannot write to another user's repo")
        writes = [_item(item) for item in call.input.items("writes") or []]
        committed = await self._commit(call, actor, writes)
        results: list[Json] = [{} if result is None else _result(result) for result in committed.results]
        return {"results": results, "commit": _commit_meta(committed)}

    async def _commit(self, call: XrpcCall, actor: Did, writes: list[Write]) -> Committed:
        outcome = await self._writer.write(
            actor, writes, swap_commit=call.input.cid("swapCommit"), validate=call.input.boolean("validate", True)
        )
        if isinstance(outcome, Refusal):
            raise refused(outcome)
        written = sum(result is not None for result in outcome.results)
        self._records += written
        self._deletes += len(outcome.results) - written
        return outcome


def _own_repo(call: XrpcCall, otherwise: str) -> Did:
    """The caller's DID, which must be the repository that is written to; handles are not resolved."""
    if call.input.text("repo") != call.user:
        raise not_authenticated(otherwise)
    return call.user


def _swap_record(call: XrpcCall) -> Cid | Unset | None:
    return call.input.cid("swapRecord") if call.input.has("swapRecord") else Unset.UNSET


def _item(item: object) -> Write:
    """A write of a batch: the official shape, told by `$type` (`#create` for short), or `action` with `record`."""
    if not isinstance(item, dict):
        raise invalid_request("writes: every item must be an object")
    fields = Fields(item)
    official = fields.has("$type")
    kind = fields.text("$type" if official else "action")
    lexicon, mark, name = kind.rpartition("#")
    action = kind if not official else name if mark and lexicon in _ITEM_LEXICONS else None
    content = "value" if official else "record"
    collection = fields.text("collection")
    rkey = fields.optional_text("rkey")
    match action:
        case "create":
            return Create(collection, rkey, fields.record(content))
        case "update" | "delete" if rkey is None:
            raise invalid_request(f"rkey is required for {action}")
        case "update":
            return Put(collection, fields.text("rkey"), fields.record(content))
        case "delete":
            return Delete(collection, fields.text("rkey"), must_exist=True)
    raise invalid_request(f"Unknown write type: {kind}")


def _recorded(committed: Committed) -> Reply:
    """The answer to a single write."""
    written = committed.results[0]
    if written is None:
        raise TypeError("a create or put was answered like a delete")
    return {**_result(written), "commit": _commit_meta(committed)}


def _result(result: WriteResult) -> dict[str, Json]:
    return {"uri": result.uri, "cid": str(result.cid)}


def _commit_meta(committed: Committed) -> dict[str, Json]:
    return {"cid": str(committed.commit), "rev": committed.rev}
