"""The client library against `stratos serve`, a real PDS and a real PLC directory: enrolled by OAuth, nothing made up."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trio

from stratos.atproto.dag_cbor import DataModel
from stratos.atproto.keys import SigningKey
from stratos.client import (
    AtUri,
    BearerToken,
    Boundary,
    CommitEvent,
    Did,
    EnrollmentEvent,
    HttpxFetch,
    NotProxied,
    Record,
    ServiceTokens,
    StratosClient,
    StratosEnrollment,
    Subscription,
    SubscriptionRefused,
    VerificationFailed,
    VerificationLevel,
    XrpcFailure,
    XrpcHost,
    discover_enrollment,
    discover_enrollments,
    fetch_and_verify_record,
    find_enrollment_by_service,
    get_enrollment_by_service_did,
    resolve_service_signing_key,
    resolve_user_signing_key,
    service_did_to_rkey,
    subscribe,
    verify_attestation,
    verify_stub,
)
from tests.e2e.network import NETWORK_MARKS, Account, PdsNetwork
from tests.e2e.pds_firehose import pds_firehose
from tests.e2e.programs import SYNC_TOKEN, free_ports, running
from tests.e2e.test_enrollment import POST, Browser, Service, settings_of

pytestmark = NETWORK_MARKS

ROOT = Path(__file__).parents[2]
ENROLLMENT = "zone.stratos.actor.enrollment"
WAIT_SECONDS = 30.0


@pytest.fixture(scope="module")
def service(pds_network: PdsNetwork, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose did:web can be resolved, by the PDS and by us: it is that of localhost and its port."""
    (port,) = free_ports(1)
    did = f"did:web:localhost%3A{port}"
    settings = settings_of(pds_network, STRATOS_SERVICE_DID=did)
    with running("serve", tmp_path_factory.mktemp("service"), settings, service_port=port) as program:
        yield Service(pds_network, program, did)


@dataclass
class Member:
    """An account that is enrolled, with what its app has: a session at its PDS."""

    service: Service
    account: Account
    http: httpx.AsyncClient
    access: BearerToken

    @property
    def did(self) -> Did:
        return Did(self.account.did)

    @property
    def service_did(self) -> Did:
        return Did(self.service.did)

    @property
    def pds_url(self) -> str:
        return self.service.network.pds_url

    @property
    def writers(self) -> Boundary:
        return Boundary(f"{self.service.did}/writers")

    def pds(self) -> XrpcHost:
        """The account's PDS, signed in."""
        return XrpcHost(self.pds_url, HttpxFetch(self.http), credentials=self.access)

    def tokens(self) -> ServiceTokens:
        """Tokens for the service."""
        return ServiceTokens(self.pds(), self.service_did, clock=time.time)

    def direct(self) -> StratosClient:
        """The service at its own address."""
        return StratosClient.direct(self.service.program.service, HttpxFetch(self.http), self.tokens())

    def through_pds(self) -> StratosClient:
        """The service by way of the PDS."""
        return StratosClient.through_pds(self.pds_url, HttpxFetch(self.http), self.service_did, credentials=self.access)

    def host(self, tokens: ServiceTokens) -> XrpcHost:
        """The service's methods."""
        return XrpcHost(self.service.program.service, HttpxFetch(self.http), credentials=tokens)

    async def enrollment(self) -> StratosEnrollment:
        """As the PDS tells it."""
        found = await get_enrollment_by_service_did(self.did, self.pds_url, self.service_did)
        assert found is not None
        return found

    def post(self, text: str) -> Record:
        values: list[DataModel] = [{"value": self.writers}]
        boundary: DataModel = {"$type": "zone.stratos.boundary.defs#Domains", "values": values}
        return {"$type": POST, "text": text, "boundary": boundary, "createdAt": "2026-05-28T12:00:00.000Z"}


@asynccontextmanager
async def enrolled(service: Service, name: str) -> AsyncIterator[Member]:
    """A new account that has enrolled by signing in at its PDS, its enrollment record published."""
    network = service.network
    account = await trio.to_thread.run_sync(network.new_account, name)
    async with pds_firehose(network, account.did) as firehose:
        browser = Browser(network, account, service.program.service)
        answer = await trio.to_thread.run_sync(browser.sign_in)
        assert answer.is_success, answer.text
        await firehose.until("create", f"{ENROLLMENT}/{service_did_to_rkey(Did(service.did))}")
    async with httpx.AsyncClient() as http:
        body = {"identifier": account.handle, "password": account.password}
        session = await XrpcHost(network.pds_url, HttpxFetch(http)).procedure("com.atproto.server.createSession", body)
        yield Member(service, account, http, BearerToken(str(session["accessJwt"])))


async def test_an_enrollment_is_found_from_the_pds_and_its_attestation_holds(service: Service) -> None:
    async with enrolled(service, "found") as member:
        enrollment = await member.enrollment()
        assert enrollment == await discover_enrollment(member.did, member.pds_url)
        listed = await discover_enrollments(member.did, member.pds())
        assert find_enrollment_by_service(listed, enrollment.service + "/") == enrollment
        assert (enrollment.boundaries, enrollment.rkey) == ((member.writers,), service_did_to_rkey(member.service_did))
        key = await resolve_service_signing_key(member.service_did, allow_localhost=True)
        verify_attestation(member.did, enrollment, key)
        with pytest.raises(VerificationFailed):
            verify_attestation(member.did, enrollment, SigningKey.generate_secp256k1().verifying_key)
        status = await member.direct().enrollment_status(member.did)
        assert (status.active, status.boundaries, status.attestation) == (True, (member.writers,), enrollment.attestation)
        assert status.signing_key == enrollment.signing_key


@pytest.mark.parametrize("way", ["direct", "through_pds"])
async def test_records_are_written_and_read_directly_and_through_the_pds(service: Service, way: str) -> None:
    async with enrolled(service, "writer") as member, enrolled(service, "reader") as reader:
        stratos = member.direct() if way == "direct" else member.through_pds()
        other = reader.through_pds() if way == "direct" else reader.direct()
        path = f"{POST}/3mgaaaaaaaa2c"
        async with pds_firehose(service.network, member.account.did) as firehose:
            written = await stratos.create_record(member.did, POST, member.post("hello"), rkey="3mgaaaaaaaa2c")
            stub = (await firehose.until("create", path)).record
        assert stub is not None
        assert "text" not in stub, "what is public is a stub"
        verify_stub(stub, uri=written.uri, cid=written.cid, service=member.service_did)
        view = await other.get_record(member.did, POST, "3mgaaaaaaaa2c", cid=written.cid)
        assert view.value["text"] == "hello"
        assert view.is_intact()
        assert (await other.list_records(member.did, POST)).records == (view,)
        assert (await other.hydrate_records([written.uri])).records == (view,)
        assert (await other.hydrate_record(written.uri)).cid == written.cid
        assert (await other.describe_repo(member.did)).handle == member.account.handle
        replaced = await stratos.put_record(member.did, POST, "3mgaaaaaaaa2c", member.post("hullo"), swap_record=written.cid)
        with pytest.raises(XrpcFailure) as refused:
            await stratos.put_record(member.did, POST, "3mgaaaaaaaa2c", member.post("late"), swap_record=written.cid)
        assert refused.value.name == "InvalidSwap"
        with pytest.raises(XrpcFailure, match="already exists"):
            await stratos.create_record(member.did, POST, member.post("again"), rkey="3mgaaaaaaaa2c")
        gone = await stratos.delete_record(member.did, POST, "3mgaaaaaaaa2c", swap_commit=replaced.commit.cid)
        assert gone.rev > replaced.commit.rev > written.commit.rev
        with pytest.raises(XrpcFailure, match="RecordNotFound"):
            await other.get_record(member.did, POST, "3mgaaaaaaaa2c")


async def test_the_pds_answers_official_names_itself_so_the_library_never_sends_them_through_it(service: Service) -> None:
    async with enrolled(service, "careful") as member:
        proxied = XrpcHost(
            member.pds_url, HttpxFetch(member.http), credentials=member.access, proxy=f"{member.service_did}#stratos"
        )
        body = {"repo": member.did, "collection": POST, "record": member.post("public by mistake")}
        with pytest.raises(NotProxied):
            await proxied.procedure("com.atproto.repo.createRecord", body)
        listed = await member.pds().query("com.atproto.repo.listRecords", {"repo": member.did, "collection": POST})
        assert listed["records"] == []


async def test_a_record_is_verified_with_the_reader_s_credentials_and_hidden_from_others(service: Service) -> None:
    async with enrolled(service, "author") as author, enrolled(service, "reader") as reader:
        written = await author.direct().create_record(author.did, POST, author.post("prove it"))
        rkey = str(written.uri.rkey)
        user_key = await resolve_user_signing_key(author.pds_url, author.did, author.service_did)
        assert user_key is not None
        host = reader.host(reader.tokens())
        verified = await fetch_and_verify_record(host, author.did, POST, rkey, user_signing_key=user_key)
        assert (verified.level, verified.cid) == (VerificationLevel.USER_SIGNATURE, written.cid)
        assert (verified.commit, verified.rev) == (written.commit.cid, written.commit.rev)
        assert verified.record == author.post("prove it")
        with pytest.raises(XrpcFailure, match="failed to fetch record proof: 400 RecordNotFound"):
            await fetch_and_verify_record(service.program.service, author.did, POST, rkey, user_signing_key=user_key)
        service_key = await resolve_service_signing_key(author.service_did, allow_localhost=True)
        with pytest.raises(VerificationFailed, match="not signed"):
            await fetch_and_verify_record(host, author.did, POST, rkey, service_signing_key=service_key)


async def test_an_owner_follows_its_own_commits_with_tokens_of_its_pds_and_nobody_else_s(service: Service) -> None:
    async with enrolled(service, "owner") as owner, enrolled(service, "curious") as curious:
        url = service.program.service
        written = await owner.direct().create_record(owner.did, POST, owner.post("mine"))
        async with subscribe(url, owner.tokens(), cursor=0, did=owner.did, rng=random.Random(1)) as stream:
            with trio.fail_after(WAIT_SECONDS):
                seen = [event async for event in commits_until(stream, str(written.commit.cid))]
        assert seen[0].since is None
        assert seen[-1].changes[0].cid == written.cid
        async with subscribe(url, curious.tokens(), cursor=0, did=owner.did, rng=random.Random(1)) as stream:
            with pytest.raises(SubscriptionRefused) as refused:
                await anext(stream)
        assert refused.value.name == "AuthRequired"
        async with subscribe(url, BearerToken(SYNC_TOKEN), cursor=0, rng=random.Random(1)) as stream:
            with trio.fail_after(WAIT_SECONDS):
                batch = await anext(stream)
        assert isinstance(batch.events[0], EnrollmentEvent)


async def commits_until(stream: Subscription, commit: str) -> AsyncIterator[CommitEvent]:
    """The commits of a stream up to this one."""
    async for batch in stream:
        for event in batch.events:
            if isinstance(event, CommitEvent):
                yield event
                if str(event.commit) == commit:
                    return


async def run_example(name: str, member: Member, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an example as its page says, with the account's password."""
    command = [sys.executable, str(ROOT / "examples" / name), member.pds_url, member.account.handle, *arguments]
    environment = {**os.environ, "PDS_PASSWORD": member.account.password}
    return await trio.to_thread.run_sync(
        lambda: subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    )


async def test_verify_record_prints_every_check_and_its_verdict(service: Service) -> None:
    async with enrolled(service, "verified") as member, enrolled(service, "stranger") as stranger:
        rkey = "3mgaaaaaaaa2c"
        async with pds_firehose(service.network, member.account.did) as firehose:
            written = await member.direct().create_record(member.did, POST, member.post("from outside"), rkey=rkey)
            await firehose.until("create", f"{POST}/{rkey}")
        done = await run_example("verify_record.py", member, str(written.uri), "--development")
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("  ok  ") == 7
        assert "FAILED" not in done.stdout
        assert "level: user-signature" in done.stdout
        assert done.stdout.rstrip().endswith(f"Verified: {written.cid}")
        assert member.account.password not in done.stdout + done.stderr
        other = await run_example("verify_record.py", stranger, str(written.uri), "--development")
        assert (other.returncode, other.stdout.count("FAILED")) == (1, 1)
        absent = AtUri.parse(f"at://{member.did}/{POST}/3mgaaaaaaaa3z")
        missing = await run_example("verify_record.py", member, str(absent), "--development")
        assert missing.returncode == 1
        assert "FAILED  the account's PDS has a stub" in missing.stdout


@pytest.mark.parametrize("options", [[], ["--through-pds"]])
async def test_the_tour_of_the_library_runs(service: Service, options: list[str]) -> None:
    async with enrolled(service, "tourist") as member:
        done = await run_example("client_tour.py", member, service.did, "--development", *options)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "refused: 400 RecordNotFound (Record not found), again in None s" in done.stdout
        assert f"seen at://{member.did}/{POST}/" in done.stdout
