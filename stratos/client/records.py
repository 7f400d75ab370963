"""Reading and writing private records in an account's name. Source: spec service.md §1.3, §10; design §5.

Only our own method names are used. A PDS answers `com.atproto.repo.*` itself, also where it is asked to pass the call on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from stratos.atproto.cid import Cid
from stratos.atproto.data_model import Json, to_json
from stratos.atproto.did_document import STRATOS_FRAGMENT
from stratos.atproto.syntax import AtUri, Did
from stratos.client.answers import (
    Answer,
    AppliedWrites,
    CommitMeta,
    EnrollmentStatus,
    HydratedRecords,
    Record,
    RecordPage,
    RecordView,
    RepoDescription,
    Written,
)
from stratos.client.http import Fetch
from stratos.client.signing_keys import STATUS
from stratos.client.xrpc import Credentials, Params, XrpcHost

REPO: Final = "zone.stratos.repo."
MAX_HYDRATED_URIS: Final = 100
MAX_WRITES: Final = 200

Swap: TypeAlias = Cid | Literal["absent"] | None
"""What must stand at a record's place for a write to happen: a CID, nothing, or (None) whatever does."""


@dataclass(frozen=True, slots=True)
class Create:
    """A new record in a batch; without `rkey` the service chooses one."""

    collection: str
    record: Record
    rkey: str | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """A record in a batch that is put where one stands, or where none does."""

    collection: str
    rkey: str
    record: Record


@dataclass(frozen=True, slots=True)
class Delete:
    """A record in a batch that must stand there, and goes."""

    collection: str
    rkey: str


WriteOp: TypeAlias = Create | Update | Delete


class StratosClient:
    """One account at one service.

    Every method raises XrpcFailure where the service refuses (with `retry_after` where trying again helps), NoAnswer where
    nothing usable comes back. After a NoAnswer to a write, as after its cancellation, nobody knows whether it happened: read
    before you write again. Records are in the data model: `Cid` for links, `bytes` for byte strings.
    """

    def __init__(self, host: XrpcHost) -> None:
        """Take the service, or the account's PDS as a proxy for it; `direct` and `through_pds` make these."""
        self._host = host

    @classmethod
    def direct(cls, service_url: str, fetch: Fetch, credentials: Credentials | None = None) -> StratosClient:
        """Call the service at its own address, with `ServiceTokens` as credentials, or a `fetch` that signs by itself."""
        return cls(XrpcHost(service_url, fetch, credentials=credentials))

    @classmethod
    def through_pds(
        cls, pds_url: str, fetch: Fetch, service: Did, *, credentials: Credentials | None = None, fragment: str = STRATOS_FRAGMENT
    ) -> StratosClient:
        """Call the service through the account's PDS, which mints the tokens; `fetch` or `credentials` is signed in there."""
        return cls(XrpcHost(pds_url, fetch, credentials=credentials, proxy=f"{service}#{fragment}"))

    async def create_record(
        self, repo: Did, collection: str, record: Record, *, rkey: str | None = None, swap_commit: Cid | None = None
    ) -> Written:
        """Create a record; one that stands at `rkey` already is an InvalidRequest. Without `rkey` the service chooses one."""
        body = {"repo": repo, "collection": collection, "rkey": rkey, "record": to_json(record), "swapCommit": _link(swap_commit)}
        return (await self._write("createRecord", body)).written()

    async def put_record(
        self,
        repo: Did,
        collection: str,
        rkey: str,
        record: Record,
        *,
        swap_record: Swap = None,
        swap_commit: Cid | None = None,
    ) -> Written:
        """Create or replace a record. With `swap_record` or `swap_commit` only if that still stands; else InvalidSwap."""
        body = {"repo": repo, "collection": collection, "rkey": rkey, "record": to_json(record), "swapCommit": _link(swap_commit)}
        return (await self._write("putRecord", body, swap_record)).written()

    async def delete_record(
        self, repo: Did, collection: str, rkey: str, *, swap_record: Cid | None = None, swap_commit: Cid | None = None
    ) -> CommitMeta:
        """Delete a record; one that is not there is deleted all the same."""
        body = {"repo": repo, "collection": collection, "rkey": rkey, "swapCommit": _link(swap_commit)}
        return (await self._write("deleteRecord", body, swap_record)).commit()

    async def apply_writes(self, repo: Did, writes: Sequence[WriteOp], *, swap_commit: Cid | None = None) -> AppliedWrites:
        """Apply up to 200 writes in one commit, all or nothing. Raises ValueError for more, or none."""
        if not 0 < len(writes) <= MAX_WRITES:
            raise ValueError(f"a batch has between 1 and {MAX_WRITES} writes, not {len(writes)}")
        ops: list[Json] = [_write_op(write) for write in writes]
        body: dict[str, Json] = {"repo": repo, "writes": ops, "swapCommit": _link(swap_commit)}
        return (await self._write("applyWrites", body)).applied()

    async def get_record(self, repo: Did, collection: str, rkey: str, *, cid: Cid | None = None) -> RecordView:
        """One record. RecordNotFound for whatever stands in the way: its absence, another `cid`, or that it is not for us."""
        params = {"repo": repo, "collection": collection, "rkey": rkey, "cid": _link(cid)}
        return (await self._read("getRecord", params)).record()

    async def list_records(
        self, repo: Did, collection: str, *, limit: int = 50, cursor: str | None = None, reverse: bool = False
    ) -> RecordPage:
        """A page of those records of a collection that are for us, newest first, with `reverse` oldest first."""
        params: Params = {"repo": repo, "collection": collection, "limit": limit, "cursor": cursor, "reverse": reverse}
        return (await self._read("listRecords", params)).page()

    async def describe_repo(self, repo: Did) -> RepoDescription:
        """Whose repository it is, and which collections it has."""
        return (await self._read("describeRepo", {"repo": repo})).description()

    async def hydrate_record(self, uri: AtUri, *, cid: Cid | None = None) -> RecordView:
        """The record behind a stub; RecordBlocked where it is there, but not for us."""
        return (await self._read("hydrateRecord", {"uri": str(uri), "cid": _link(cid)})).record()

    async def hydrate_records(self, uris: Sequence[AtUri]) -> HydratedRecords:
        """The records behind up to 100 stubs. Raises ValueError for more."""
        if len(uris) > MAX_HYDRATED_URIS:
            raise ValueError(f"at most {MAX_HYDRATED_URIS} URIs at once, not {len(uris)}")
        return (await self._write("hydrateRecords", {"uris": [str(uri) for uri in uris]})).hydrated()

    async def enrollment_status(self, did: Did) -> EnrollmentStatus:
        """How an account stands with the service at this moment."""
        return Answer(STATUS, await self._host.query(STATUS, {"did": did})).status()

    async def _read(self, name: str, params: Params) -> Answer:
        return Answer(REPO + name, await self._host.query(REPO + name, params))

    async def _write(self, name: str, body: Mapping[str, Json], swap_record: Swap = None) -> Answer:
        sent: dict[str, Json] = {key: value for key, value in body.items() if value is not None}
        if swap_record is not None:
            sent["swapRecord"] = None if swap_record == "absent" else str(swap_record)
        return Answer(REPO + name, await self._host.procedure(REPO + name, sent))


def _write_op(write: WriteOp) -> dict[str, Json]:
    match write:
        case Create(collection, record, rkey):
            place: dict[str, Json] = {"collection": collection} if rkey is None else {"collection": collection, "rkey": rkey}
            return {"$type": f"{REPO}applyWrites#create", **place, "value": to_json(record)}
        case Update(collection, rkey, record):
            return {"$type": f"{REPO}applyWrites#update", "collection": collection, "rkey": rkey, "value": to_json(record)}
        case Delete(collection, rkey):
            return {"$type": f"{REPO}applyWrites#delete", "collection": collection, "rkey": rkey}


def _link(cid: Cid | None) -> str | None:
    return None if cid is None else str(cid)
