"""One account at two Stratos services: two records, each with an attestation of its own; leaving one leaves the other alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.e2e.network import NETWORK_MARKS, Account, PdsNetwork
from tests.e2e.pds_firehose import pds_firehose
from tests.e2e.programs import running
from tests.e2e.test_enrollment import CREATE, POST, Service, sessions_kept, settings_of
from tests.e2e.test_publisher import ENROLLMENT, admin, assert_attested, enroll, eventually, status

pytestmark = NETWORK_MARKS

FIRST, SECOND = "did:web:stratos.test", "did:web:second.test"
OURS, COMMON = "3aaaaaaaaaaaa", "3bbbbbbbbbbbb"


@dataclass(frozen=True, slots=True)
class Two:
    """Two services in front of one network."""

    first: Service
    second: Service


@pytest.fixture
def two(pds_network: PdsNetwork, tmp_path: Path) -> Iterator[Two]:
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    settings = settings_of(pds_network, STRATOS_SERVICE_DID=SECOND)
    with running("serve", folders[0], settings_of(pds_network)) as first, running("serve", folders[1], settings) as second:
        yield Two(Service(pds_network, first, FIRST), Service(pds_network, second, SECOND))


def post(service: Service, account: Account, rkey: str) -> Mapping[str, str]:
    """Write a post with a key of one's own choosing; where it stands and what it is."""
    record = {
        "$type": POST,
        "text": f"to {service.did} alone",
        "boundary": {"$type": "zone.stratos.boundary.defs#Domains", "values": [{"value": f"{service.did}/writers"}]},
        "createdAt": "2026-05-28T12:00:00.000Z",
    }
    answer = service.call(account, "POST", CREATE, repo=account.did, collection=POST, rkey=rkey, record=record)
    told: Mapping[str, str] = answer.raise_for_status().json()
    return told


def stub_service(network: PdsNetwork, account: Account, rkey: str) -> object:
    """Which service the stub at a place names; None where there is none."""
    stub = network.record(account.did, POST, rkey)
    source = None if stub is None else stub["source"]
    return source["service"] if isinstance(source, dict) else None


async def test_an_account_enrolls_at_two_services_and_leaving_one_leaves_the_other_alone(
    two: Two, pds_network: PdsNetwork
) -> None:
    account = pds_network.new_account("both")
    async with pds_firehose(pds_network, account.did) as firehose:
        for service in (two.first, two.second):
            await enroll(service, account)
            await firehose.until("create", f"{ENROLLMENT}/{service.did}")
    records = {service.did: pds_network.record(account.did, ENROLLMENT, service.did) for service in (two.first, two.second)}
    for service in (two.first, two.second):
        record = records[service.did]
        assert record is not None
        assert record["boundaries"] == [{"value": f"{service.did}/writers"}]
        assert_attested(record, account, service.program.service)
    first, second = records[FIRST], records[SECOND]
    assert first is not None
    assert second is not None
    assert first["signingKey"] != second["signingKey"], "a repository, and a key, at each"

    # Each has its stubs; and where both have a record under one key, the stub of who came first stands, and the other says so.
    async with pds_firehose(pds_network, account.did) as firehose:
        for service, rkey in ((two.first, COMMON), (two.second, OURS)):
            post(service, account, rkey)
            await firehose.until("create", f"{POST}/{rkey}")
    post(two.second, account, COMMON)
    await eventually(lambda: "left alone" in str(status(two.second.program)["accounts"]))
    assert stub_service(pds_network, account, COMMON) == f"{FIRST}#atproto_pns"

    # Leaving the second takes away what is the second's.
    async with pds_firehose(pds_network, account.did) as firehose:
        left = two.second.call(account, "POST", "zone.stratos.enrollment.unenroll")
        assert left.status_code == httpx.codes.OK, left.text
        await firehose.until("delete", f"{POST}/{OURS}")
        await firehose.until("delete", f"{ENROLLMENT}/{SECOND}")
    await eventually(lambda: sessions_kept(two.second.program) == [])
    assert pds_network.record(account.did, ENROLLMENT, FIRST) == first
    assert stub_service(pds_network, account, COMMON) == f"{FIRST}#atproto_pns"
    assert sessions_kept(two.first.program) == [account.did]

    # And the first goes on: it still may write on the PDS.
    async with pds_firehose(pds_network, account.did) as firehose:
        admin(two.first.program, "setBoundaries", {"did": account.did, "boundaries": ["editors"]})
        await firehose.until("update", f"{ENROLLMENT}/{FIRST}")
