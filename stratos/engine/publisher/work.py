"""What is done on an account's PDS, decided from the state of things at that moment. All of it may be done twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import structlog

from stratos.atproto.dag_cbor import decode_own
from stratos.atproto.data_model import to_json
from stratos.atproto.syntax import AtUri, Did, InvalidSyntax, Nsid, Rkey, format_datetime, parse_datetime
from stratos.core.attestation import Attestation
from stratos.core.enrollment import Enrollment
from stratos.core.enrollment_record import enrollment_record, service_did_to_rkey
from stratos.core.record_rules import ENROLLMENT
from stratos.core.stubs import parse_source, stub_record
from stratos.engine.publisher.marks import SESSION, STUB_COLLECTIONS, SWEEP, enrollment_path
from stratos.engine.publisher.pds_repo import MAX_PAGES, PAGE_RECORDS, PdsClient, PdsRepo, PublicRecord, RefusedByPds
from stratos.engine.store_reads import StoreReads
from stratos.storage.outbox_port import WorkItem
from stratos.storage.ports import ActorStore, Enrollments, StoredRecord

ENROLLMENT_PAGES: Final = 4
"""Pages of enrollment records among which those under former keys are looked for: nobody uses so many services."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PublishedIdentity:
    """What records on a PDS say about this service."""

    did: Did
    fragment: str
    public_url: str


class PdsWork:
    """Brings one path of one account's PDS to what it should be."""

    def __init__(
        self,
        service: PublishedIdentity,
        client: PdsClient,
        *,
        enrollments: Enrollments,
        reads: StoreReads,
        attest: Callable[[Enrollment], Attestation],
    ) -> None:
        self._service = service
        self._client = client
        self._enrollments = enrollments
        self._reads = reads
        self._attest = attest
        self._enrollment_path = enrollment_path(service.did)
        self._puts = self._deletes = self._sessions_ended = 0

    async def enrollment(self, did: Did) -> Enrollment | None:
        """The account's enrollment at this moment."""
        return await self._reads(partial(self._enrollments.current, did))

    async def do(self, item: WorkItem) -> None:
        """Do what is to be done at an item's path. Raises SessionGone, PdsUnavailable, RefusedByPds, StorageFault."""
        repo = PdsRepo(self._client, item.did)
        if item.path == self._enrollment_path:
            await self._enrollment(repo, item.did)
        elif item.path == SWEEP:
            await self._sweep(repo, item.did)
        elif item.path == SESSION:
            await self._end_session(item)
        else:
            await self._stub(repo, item)

    def statistics(self) -> Mapping[str, int]:
        """Counters: records written and deleted, sessions ended."""
        return {"puts_total": self._puts, "deletes_total": self._deletes, "sessions_ended_total": self._sessions_ended}

    async def _enrollment(self, repo: PdsRepo, did: Did) -> None:
        """An active enrollment has its record; of any other nothing is left."""
        enrollment = await self.enrollment(did)
        if enrollment is not None and enrollment.active:
            await self._put_enrollment(repo, enrollment)
            return
        rkey = service_did_to_rkey(self._service.did)
        standing = await repo.get(ENROLLMENT, rkey)
        if standing is not None:
            await self._delete(repo, ENROLLMENT, standing)
        for former in await self._enrollment_records(repo):
            await self._delete(repo, ENROLLMENT, former)

    async def _put_enrollment(self, repo: PdsRepo, enrollment: Enrollment) -> None:
        """Write the enrollment record, and delete those of ours under keys of former times once it stands (spec §4.9.2)."""
        rkey = service_did_to_rkey(self._service.did)
        ours = await self._enrollment_records(repo)
        record = enrollment_record(
            service_url=self._service.public_url,
            boundaries=enrollment.boundaries,
            signing_key=enrollment.signing_key,
            attestation=self._attest(enrollment),
            created_at=_created_at(ours, rkey) or enrollment.enrolled_at,
        )
        await repo.put(ENROLLMENT, rkey, to_json(record))
        self._puts += 1
        for former in ours:
            if former.rkey != rkey:
                await self._delete(repo, ENROLLMENT, former)

    async def _end_session(self, item: WorkItem) -> None:
        """End the session of an account that is not enrolled (any more).

        One of a later sign-in stays: whoever signs in again is about to enroll, or will be turned away by others.
        """
        enrollment = await self.enrollment(item.did)
        if enrollment is None or not enrollment.active:
            await self._client.revoke(item.did, before=item.marked)
            self._sessions_ended += 1
            log.info("the session of an account that has left is ended", did=item.did)

    async def _enrollment_records(self, repo: PdsRepo) -> list[PublicRecord]:
        """The enrollment records that speak of this service: by its key, or by our URL under another key.

        Only the first pages, and of each record only when it was created: what is listed is the PDS's choice, and kept in memory.
        """
        rkey = service_did_to_rkey(self._service.did)
        found: list[PublicRecord] = []

        async def look(record: PublicRecord) -> None:
            if record.rkey == rkey or self._names_us(record):
                created_at = record.value.get("createdAt")
                kept = {"createdAt": created_at} if _is_datetime(created_at) else {}
                found.append(replace(record, value=kept))

        await repo.for_each(ENROLLMENT, look, max_pages=ENROLLMENT_PAGES)
        return found

    def _names_us(self, record: PublicRecord) -> bool:
        service = record.value.get("service")
        return isinstance(service, str) and service.removesuffix("/") == self._service.public_url.removesuffix("/")

    async def _stub(self, repo: PdsRepo, item: WorkItem) -> None:
        """A stub stands where a record is here, and none where there is no record. Anything else there is not ours to touch."""
        collection, _, rkey = item.path.partition("/")
        standing = await repo.get(collection, rkey)
        is_ours = standing is None or self._is_ours(standing)
        stored = await self._stored(item.did, collection, rkey)
        if stored is None:
            if standing is not None and is_ours:
                await self._delete(repo, collection, standing)
            return
        if not is_ours:
            raise RefusedByPds("a record that is not a stub of this service stands there, and is left alone")
        record = decode_own(stored.block)
        stub = stub_record(
            AtUri(item.did, Nsid(collection), Rkey(rkey)),
            stored.cid,
            record if isinstance(record, dict) else {},
            service=self._service.did,
            fragment=self._service.fragment,
            now=format_datetime(item.marked),
        )
        await repo.put_over(collection, rkey, to_json(stub), standing)
        self._puts += 1

    async def _sweep(self, repo: PdsRepo, did: Did) -> None:
        """Delete the stubs that point to this service and have no record here."""
        for collection in sorted(STUB_COLLECTIONS):

            async def look(record: PublicRecord, collection: str = collection) -> None:
                if self._is_ours(record) and await self._stored(did, collection, record.rkey) is None:
                    await self._delete(repo, collection, record)

            if not await repo.for_each(collection, look):
                raise RefusedByPds(f"{collection} has no end: more than {MAX_PAGES * PAGE_RECORDS} records are listed")

    def _is_ours(self, record: PublicRecord) -> bool:
        source = parse_source(record.value)
        return source is not None and source.service == self._service.did

    async def _stored(self, did: Did, collection: str, rkey: str) -> StoredRecord | None:
        def read(store: ActorStore) -> StoredRecord | None:
            return store.record(collection, rkey)

        return await self._reads.of_actor(did, read)

    async def _delete(self, repo: PdsRepo, collection: str, record: PublicRecord) -> None:
        await repo.delete(collection, record)
        self._deletes += 1


def _created_at(records: list[PublicRecord], rkey: str) -> str | None:
    """When the account enrolled first, by what stands under the right key, else by a record under a former one."""
    for record in sorted(records, key=lambda record: record.rkey != rkey):
        created_at = record.value.get("createdAt")
        if isinstance(created_at, str):
            return created_at
    return None


def _is_datetime(value: object) -> bool:
    try:
        parse_datetime(value if isinstance(value, str) else "")
    except InvalidSyntax:
        return False
    return True
