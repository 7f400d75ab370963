"""The publisher as part of `stratos serve`, against a real PDS: what the world sees of an account, and what outages do to it."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import cbor2
import httpx
import pytest
import trio
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from multiformats import multibase

from tests.e2e.network import NETWORK_MARKS, Account, PdsNetwork
from tests.e2e.pds_firehose import WAIT_SECONDS, pds_firehose
from tests.e2e.programs import ADMIN_PASSWORD, Program, running
from tests.e2e.test_enrollment import POST, WRITERS, Browser, Service, figure, post_of, sessions_kept, settings_of

pytestmark = NETWORK_MARKS

SERVICE = "did:web:stratos.test"
ENROLLMENT = "zone.stratos.actor.enrollment"
CREATE, DELETE = "zone.stratos.repo.createRecord", "zone.stratos.repo.deleteRecord"
EDITORS = f"{SERVICE}/editors"


@pytest.fixture(scope="module")
def service(pds_network: PdsNetwork, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for the tests of this module; each has accounts of its own."""
    with running("serve", tmp_path_factory.mktemp("service"), settings_of(pds_network)) as program:
        yield Service(pds_network, program)


@pytest.fixture
def account(pds_network: PdsNetwork) -> Account:
    return pds_network.new_account("published")


def test_the_pds_takes_a_swap_of_null_as_the_word_that_nothing_stands_there(pds_network: PdsNetwork, account: Account) -> None:
    """What stubs rely on, so that none ever takes the place of a record that appeared a moment ago."""

    def put(text: str) -> httpx.Response:
        record = {"$type": "app.bsky.feed.post", "text": text, "createdAt": "2026-05-28T12:00:00.000Z"}
        at = {"repo": account.did, "collection": "app.bsky.feed.post", "rkey": "3aaaaaaaaaaaa"}
        body = {**at, "record": record, "swapRecord": None}
        return pds_network.ask("POST", "com.atproto.repo.putRecord", account=account, json_body=body)

    assert put("first").is_success
    refused = put("second")
    assert (refused.status_code, refused.json()["error"]) == (400, "InvalidSwap")
    standing = pds_network.record(account.did, "app.bsky.feed.post", "3aaaaaaaaaaaa")
    assert standing is not None
    assert standing["text"] == "first"


@asynccontextmanager
async def pds_down(network: PdsNetwork) -> AsyncIterator[Callable[[], None]]:
    """The PDS is down for the block, or until the block calls what it is given to bring it back."""
    down = True

    def bring_back() -> None:
        nonlocal down
        if down:
            network.start_pds()
        down = False

    await trio.to_thread.run_sync(network.stop_pds)
    try:
        yield bring_back
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(bring_back)


async def enroll(service: Service, account: Account) -> Browser:
    """Sign in and consent; what comes of it arrives on the firehose."""
    browser = service.browser(account)
    answer = await trio.to_thread.run_sync(browser.sign_in)
    assert answer.is_success, answer.text
    return browser


async def published(service: Service, account: Account, text: str) -> tuple[str, Mapping[str, object]]:
    """Write a post; where it stands, and its stub as the world got it."""
    async with pds_firehose(service.network, account.did) as firehose:
        created = service.create(account, text).raise_for_status().json()
        path = created["uri"].removeprefix(f"at://{account.did}/")
        stub = (await firehose.until("create", path)).record
    assert stub is not None
    assert stub["source"] == {
        "vary": "authenticated",
        "subject": {"uri": created["uri"], "cid": created["cid"]},
        "service": f"{SERVICE}#atproto_pns",
    }
    return path, stub


def admin(program: Program, method: str, body: Mapping[str, object]) -> None:
    """Call an admin procedure."""
    headers = {"authorization": f"Bearer {ADMIN_PASSWORD}"}
    httpx.post(f"{program.service}/xrpc/zone.stratos.admin.{method}", json=body, headers=headers).raise_for_status()


def status(program: Program) -> dict[str, object]:
    """What the operator is told."""
    url = f"{program.service}/xrpc/zone.stratos.admin.publisherStatus"
    answer: dict[str, object] = httpx.get(url, headers={"authorization": f"Bearer {ADMIN_PASSWORD}"}).raise_for_status().json()
    return answer


def operator(program: Program, *options: str) -> dict[str, object]:
    """What `stratos admin publisher` prints as JSON."""
    command = [sys.executable, "-m", "stratos.cli", "admin", "--service", program.service, "--password", ADMIN_PASSWORD]
    done = subprocess.run([*command, "publisher", "--json", *options], check=True, capture_output=True, text=True, timeout=60)
    printed: dict[str, object] = json.loads(done.stdout)
    return printed


def enrollment_record(network: PdsNetwork, account: Account) -> Mapping[str, object] | None:
    """What anybody reads."""
    return network.record(account.did, ENROLLMENT, SERVICE)


def assert_attested(record: Mapping[str, object], account: Account, service: str) -> None:
    """Check an attestation as somebody else would, who trusts nothing but the service's DID document."""
    document = httpx.get(f"{service}/.well-known/did.json").raise_for_status().json()
    multikeys = [method["publicKeyMultibase"] for method in document["verificationMethod"]]
    attestation, boundaries = record["attestation"], record["boundaries"]
    assert isinstance(attestation, dict)
    assert isinstance(boundaries, list)
    key = attestation["signingKey"].removeprefix("did:key:")
    assert key in multikeys
    point = multibase.decode(key)
    assert point[:2] == b"\xe7\x01", "secp256k1"
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), point[2:])
    signature = base64.b64decode(attestation["sig"]["$bytes"] + "==")
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    payload = {
        "did": account.did,
        "boundaries": sorted(boundary["value"] for boundary in boundaries),
        "signingKey": record["signingKey"],
    }
    digest = hashlib.sha256(cbor2.dumps(payload, canonical=True)).digest()
    public.verify(utils.encode_dss_signature(r, s), digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))


async def test_an_account_that_enrolls_has_an_attested_record_on_its_pds_and_the_world_is_told(
    service: Service, account: Account
) -> None:
    async with pds_firehose(service.network, account.did) as firehose:
        await enroll(service, account)
        told = await firehose.until("create", f"{ENROLLMENT}/{SERVICE}")
        record = enrollment_record(service.network, account)
        assert told.record is not None
        assert record is not None
        assert record["$type"] == ENROLLMENT
        assert record["boundaries"] == told.record["boundaries"] == [{"value": WRITERS}]
        assert record["service"] == service.program.service.replace("127.0.0.1", "localhost")
        assert record["createdAt"] == service.enrollment(account)["enrolledAt"]
        assert_attested(record, account, service.program.service)

        admin(service.program, "setBoundaries", {"did": account.did, "boundaries": ["editors"]})
        await firehose.until("update", f"{ENROLLMENT}/{SERVICE}")
        changed = enrollment_record(service.network, account)
        assert changed is not None
        assert (changed["boundaries"], changed["createdAt"]) == ([{"value": EDITORS}], record["createdAt"])
        assert_attested(changed, account, service.program.service)


async def test_a_post_is_a_stub_to_the_world_and_goes_when_it_is_deleted(service: Service, account: Account) -> None:
    await enroll(service, account)
    path, stub = await published(service, account, "a private text")
    assert "a private text" not in json.dumps(stub)
    assert figure(service.program, "stratos_outgoing_sessions_requests_total") > 0, "by the places that strangers cannot take"
    async with pds_firehose(service.network, account.did) as firehose:
        rkey = path.partition("/")[2]
        service.call(account, "POST", DELETE, repo=account.did, collection=POST, rkey=rkey).raise_for_status()
        await firehose.until("delete", path)
    assert service.network.record(account.did, POST, rkey) is None


async def test_unenrolling_removes_record_and_stubs_and_ends_the_session(service: Service, account: Account) -> None:
    await enroll(service, account)
    path, _ = await published(service, account, "soon gone")
    public = {"$type": POST, "text": "for everybody", "createdAt": "2026-05-28T12:00:00.000Z"}
    body = {"repo": account.did, "collection": POST, "rkey": "3aaaaaaaaaaaa", "record": public}
    service.network.xrpc("POST", "com.atproto.repo.createRecord", account=account, json_body=body)
    async with pds_firehose(service.network, account.did) as firehose:
        admin(service.program, "unenroll", {"did": account.did})
        await firehose.until("delete", path)
        await firehose.until("delete", f"{ENROLLMENT}/{SERVICE}")
    assert service.network.record(account.did, POST, "3aaaaaaaaaaaa") == public
    await eventually(lambda: account.did not in sessions_kept(service.program))


async def test_leaving_removes_the_record_and_coming_back_restores_it(service: Service, account: Account) -> None:
    browser = await enroll(service, account)
    path, _ = await published(service, account, "here to stay")
    async with pds_firehose(service.network, account.did) as firehose:
        assert (await trio.to_thread.run_sync(browser.revoke)).is_success
        await firehose.until("delete", f"{ENROLLMENT}/{SERVICE}")
        await eventually(lambda: account.did not in sessions_kept(service.program))
        await enroll(service, account)
        await firehose.until("create", f"{ENROLLMENT}/{SERVICE}")
    assert service.network.record(account.did, *path.split("/")) is not None


async def test_a_record_under_a_former_key_moves(service: Service, account: Account) -> None:
    url = service.program.service.replace("127.0.0.1", "localhost")
    former = {"$type": ENROLLMENT, "service": f"{url}/", "createdAt": "2024-02-03T04:05:06.789Z"}
    body = {"repo": account.did, "collection": ENROLLMENT, "rkey": "self", "record": former}
    service.network.xrpc("POST", "com.atproto.repo.createRecord", account=account, json_body=body)
    async with pds_firehose(service.network, account.did) as firehose:
        await enroll(service, account)
        await firehose.until("create", f"{ENROLLMENT}/{SERVICE}")
        await firehose.until("delete", f"{ENROLLMENT}/self")
    record = enrollment_record(service.network, account)
    assert record is not None
    assert record["createdAt"] == former["createdAt"]


async def test_a_pds_that_stops_between_consent_and_callback_gets_the_record_when_it_is_back(
    service: Service, account: Account
) -> None:
    browser = service.browser(account)
    back = await trio.to_thread.run_sync(lambda: service.network.person(account).consent(browser.authorize()))
    async with pds_down(service.network):
        assert browser.ask("GET", back).status_code == 503
        assert service.head(account) is None
    assert browser.ask("GET", back).json()["enrolled"] is True
    await eventually(lambda: enrollment_record(service.network, account) is not None)
    record = enrollment_record(service.network, account)
    assert record is not None
    assert_attested(record, account, service.program.service)


async def test_a_pds_that_stops_in_the_middle_and_a_service_that_is_killed_lose_nothing(
    pds_network: PdsNetwork, account: Account, tmp_path: Path
) -> None:
    rkeys = ["3aaaaaaaaaaaa", "3bbbbbbbbbbbb", "3cccccccccccc"]
    with running("serve", tmp_path, settings_of(pds_network)) as program:
        service = Service(pds_network, program)
        await enroll(service, account)
        await published(service, account, "before the outage")
        tokens = [pds_network.service_auth(account, audience=SERVICE, method=CREATE) for _ in rkeys]
        async with pds_down(pds_network) as bring_back:
            for token, rkey in zip(tokens, rkeys, strict=True):
                write_with(program, token, account, rkey)
            admin(program, "setBoundaries", {"did": account.did, "boundaries": ["editors"]})
            await eventually(lambda: has_failed(program))
            program.process.kill()
            program.process.wait()
            public = {"STRATOS_PUBLIC_URL": program.service.replace("127.0.0.1", "localhost")}
            with running("serve", tmp_path, {**settings_of(pds_network), **public}) as successor:
                assert operator(successor)["pending"] == len(rkeys) + 1
                await trio.to_thread.run_sync(bring_back)
                await trio.to_thread.run_sync(partial(operator, successor, "--retry"))
                await eventually(lambda: status(successor)["accounts"] == [])
    for rkey in rkeys:
        assert pds_network.record(account.did, POST, rkey) is not None
    record = enrollment_record(pds_network, account)
    assert record is not None
    assert record["boundaries"] == [{"value": EDITORS}]


def write_with(program: Program, token: str, account: Account, rkey: str) -> None:
    """Write a post with a token that the PDS minted before it went away."""
    body = {"repo": account.did, "collection": POST, "rkey": rkey, "record": post_of(f"in the outage {rkey}")}
    headers = {"authorization": f"Bearer {token}"}
    httpx.post(f"{program.service}/xrpc/{CREATE}", json=body, headers=headers).raise_for_status()


def has_failed(program: Program) -> bool:
    """Whether an attempt has failed, as the operator is told."""
    accounts = status(program)["accounts"]
    return isinstance(accounts, list) and any("lastError" in account for account in accounts)


async def eventually(holds: Callable[[], bool]) -> None:
    """Ask a process of ours again and again until it says so: it has no event for this."""

    def until_it_holds() -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not holds():
            assert time.monotonic() < deadline, "not in time"
            time.sleep(0.1)

    await trio.to_thread.run_sync(until_it_holds)
