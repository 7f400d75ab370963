"""An account's repository on its PDS, as far as the publisher uses it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol

from stratos.atproto.data_model import Json
from stratos.atproto.syntax import Did, Nsid
from stratos.engine.oauth import PdsAnswer, PdsUnavailable

PAGE_RECORDS: Final = 50
PAGE_BYTES: Final = 4 * 1024 * 1024
"""Bound of an answer with so many records: a PDS takes no request above 1 MB, and most records are far smaller."""
MAX_PAGES: Final = 10_000
"""Pages of one collection that are read in one go, so that a PDS which lists without end holds nobody for ever."""
RECORD_BYTES: Final = 1_500_000
REASON_CHARACTERS: Final = 300

_PUT, _GET, _DELETE = (Nsid(f"com.atproto.repo.{verb}Record") for verb in ("put", "get", "delete"))
_LIST: Final = Nsid("com.atproto.repo.listRecords")
_FINAL_STATUSES: Final = frozenset({400, 403, 413, 415, 422})
"""With these a PDS says that the same request will never do."""
_PASSING_ERRORS: Final = frozenset(
    {
        "AccountDeactivated",
        "AccountSuspended",
        "AccountTakedown",
        "ConcurrentWrites",
        "InvalidSwap",
        "RateLimitExceeded",
        "RepoDeactivated",
        "RepoSuspended",
        "RepoTakendown",
    }
)
"""Errors that may end without our doing, whatever their status."""


class RefusedByPds(Exception):
    """The PDS will not do this, however often it is asked, or must not be asked; the message is for an operator's eyes."""


class PdsClient(Protocol):
    """Acts on accounts' PDSes in their names; `OAuthClient` is one."""

    async def request(
        self,
        did: Did,
        method: Literal["GET", "POST"],
        nsid: Nsid,
        *,
        params: Mapping[str, str] | None = None,
        json: Mapping[str, object] | None = None,
        max_bytes: int = RECORD_BYTES,
    ) -> PdsAnswer:
        """Call a method of the account's PDS. Raises SessionGone, PdsUnavailable."""
        ...

    async def pds_of(self, did: Did) -> str | None:
        """The PDS that the account's session is for; None without a session."""
        ...

    async def revoke(self, did: Did, *, before: datetime | None = None) -> bool:
        """End the account's session if it was given before that moment."""
        ...


@dataclass(frozen=True, slots=True)
class PublicRecord:
    """A record on a PDS, as it says: nothing in it is checked."""

    rkey: str
    cid: str
    value: Mapping[str, object]


class PdsRepo:
    """Reads and writes of one account. Every method raises SessionGone, PdsUnavailable, RefusedByPds; all may be done again."""

    def __init__(self, client: PdsClient, did: Did) -> None:
        self._client = client
        self._did = did

    async def put(self, collection: str, rkey: str, record: Json) -> None:
        """Write a record, whatever stands there."""
        body = {"repo": self._did, "collection": collection, "rkey": rkey, "record": record}
        _checked(await self._client.request(self._did, "POST", _PUT, json=body))

    async def put_over(self, collection: str, rkey: str, record: Json, standing: PublicRecord | None) -> None:
        """Write a record in the place of `standing`, or of nothing; PdsUnavailable where by now something else stands there."""
        body = {"repo": self._did, "collection": collection, "rkey": rkey, "record": record}
        swap = {"swapRecord": None if standing is None else standing.cid}
        _checked(await self._client.request(self._did, "POST", _PUT, json={**body, **swap}))

    async def get(self, collection: str, rkey: str) -> PublicRecord | None:
        """One record; None where there is none."""
        at = {"repo": self._did, "collection": collection, "rkey": rkey}
        answer = await self._client.request(self._did, "GET", _GET, params=at, max_bytes=RECORD_BYTES)
        if answer.error == "RecordNotFound":
            return None
        body = _checked(answer)
        return _record(rkey, body)

    async def delete(self, collection: str, record: PublicRecord) -> None:
        """Delete a record if it still is this one; PdsUnavailable where it has changed, so that it is looked at again."""
        body = {"repo": self._did, "collection": collection, "rkey": record.rkey, "swapRecord": record.cid}
        _checked(await self._client.request(self._did, "POST", _DELETE, json=body))

    async def for_each(
        self, collection: str, visit: Callable[[PublicRecord], Awaitable[None]], *, max_pages: int = MAX_PAGES
    ) -> bool:
        """Show the records of a collection, which the visitor may delete; False where there are more pages than that."""
        cursor: str | None = None
        for _ in range(max_pages):
            records, cursor = await self._page(collection, cursor)
            for record in records:
                await visit(record)
            if cursor is None:
                return True
        return False

    async def _page(self, collection: str, cursor: str | None) -> tuple[list[PublicRecord], str | None]:
        params = {"repo": self._did, "collection": collection, "limit": str(PAGE_RECORDS)}
        if cursor is not None:
            params["cursor"] = cursor
        body = _checked(await self._client.request(self._did, "GET", _LIST, params=params, max_bytes=PAGE_BYTES))
        listed, following = body.get("records"), body.get("cursor")
        if not isinstance(listed, list):
            raise PdsUnavailable("the PDS lists no records")
        records = [_record(_rkey_of(item), item) for item in listed if isinstance(item, dict)]
        return records, following if isinstance(following, str) and following and records else None


def _checked(answer: PdsAnswer) -> Mapping[str, object]:
    """The body of a yes. Raises RefusedByPds where asking again does not help, else PdsUnavailable."""
    if answer.ok:
        return answer.json
    said = answer.json.get("message")
    reason = f"{answer.status} {answer.error or ''}: {said if isinstance(said, str) else ''}"[:REASON_CHARACTERS]
    if answer.status in _FINAL_STATUSES and answer.error not in _PASSING_ERRORS:
        raise RefusedByPds(reason)
    raise PdsUnavailable(f"the PDS answers {reason}")


def _record(rkey: str, body: Mapping[str, object]) -> PublicRecord:
    match body:
        case {"cid": str(cid), "value": dict(value)}:
            return PublicRecord(rkey, cid, value)
    raise PdsUnavailable("the PDS gives a record without CID or value")


def _rkey_of(item: Mapping[str, object]) -> str:
    uri = item.get("uri")
    return uri.rpartition("/")[2] if isinstance(uri, str) else ""
