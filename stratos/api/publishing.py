"""The operator's view of the publisher: what is still to be written on accounts' PDSes, and why not."""

from __future__ import annotations

from typing import Final

from stratos.api.errors import NOT_FOUND, XrpcError
from stratos.api.fields import Fields
from stratos.api.xrpc import Access, Method, Reply, Verb, XrpcCall
from stratos.atproto.data_model import Json
from stratos.atproto.syntax import Did, format_datetime
from stratos.core.outcomes import Reason
from stratos.engine.publisher import Publisher
from stratos.engine.store_reads import StoreReads
from stratos.storage.outbox_port import AccountWork
from stratos.storage.ports import Enrollments

_PREFIX: Final = "zone.stratos.admin"


class PublishingMethods:
    """Shows the outbox, and moves what is stuck."""

    def __init__(self, publisher: Publisher, enrollments: Enrollments, reads: StoreReads) -> None:
        self._publisher = publisher
        self._enrollments = enrollments
        self._reads = reads

    def methods(self) -> dict[str, Method]:
        """The methods by NSID."""
        return {
            f"{_PREFIX}.publisherStatus": Method(Verb.GET, Access.ADMIN, self.status),
            f"{_PREFIX}.publisherRetry": Method(Verb.POST, Access.ADMIN, self.retry),
            f"{_PREFIX}.publisherRefresh": Method(Verb.POST, Access.ADMIN, self.refresh),
        }

    async def status(self, call: XrpcCall) -> Reply:
        """How much is to be done, and a page of the accounts with work, in DID order."""
        limit = call.params.integer("limit", 0)
        cursor = call.params.optional_text("cursor")
        after = None if cursor is None else Did(cursor)
        counts = await self._publisher.counts()
        page = await self._publisher.pending(after=after, limit=limit)
        answer: dict[str, Json] = {
            "pending": counts.pending,
            "parked": counts.parked,
            "blocked": counts.blocked,
            "failingAccounts": counts.failing,
            "accounts": [_account(work) for work in page],
        }
        if counts.oldest is not None:
            answer["oldest"] = format_datetime(counts.oldest)
        return {**answer, "cursor": page[-1].did} if len(page) == limit else answer

    async def retry(self, call: XrpcCall) -> Reply:
        """Try again now what is blocked, parked or postponed, of one account or of all."""
        return {"accounts": await self._publisher.retry(_did(call.input))}

    async def refresh(self, call: XrpcCall) -> Reply:
        """Write the enrollment record of one account, or of all, again."""
        did = _did(call.input)
        if did is None:
            return {"accounts": await self._publisher.refresh_all()}
        enrollment = await self._reads(lambda: self._enrollments.current(did))
        if enrollment is None:
            raise XrpcError(NOT_FOUND, Reason.NOT_FOUND, f"user {did} is not enrolled")
        await self._publisher.refresh(did)
        return {"accounts": 1}


def _did(fields: Fields) -> Did | None:
    return fields.did("did") if fields.has("did") else None


def _account(work: AccountWork) -> Json:
    blocked: list[Json] = [{"path": item.path, "reason": item.reason} for item in work.blocked]
    optional = {
        "pds": work.pds or None,
        "parked": work.parked,
        "lastError": work.last_error,
        "due": None if work.due is None else format_datetime(work.due),
    }
    return {
        "did": work.did,
        "items": work.items,
        "failures": work.failures,
        "since": format_datetime(work.since),
        "blocked": blocked,
        **{name: text for name, text in optional.items() if text is not None},
    }
