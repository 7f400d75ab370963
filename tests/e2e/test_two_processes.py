"""Two processes of one service upon one PostgreSQL: a sign-in, a session and a nonce of the one are the other's too."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import trio

from stratos.atproto.syntax import Did
from stratos.engine.account_locks import AccountLocks
from stratos.engine.actor_locks import ActorLocks
from stratos.engine.identity import OutgoingPolicy, open_identity
from stratos.engine.oauth import OAuthClient, Registration
from stratos.engine.oauth.dpop import DpopKey
from stratos.engine.oauth.vault import OneThread, Vault
from stratos.engine.store_reads import StoreReads
from stratos.resources import sql_directory
from stratos.storage.postgres.backend import PostgresBackend
from stratos.storage.postgres.config import PostgresConfig
from stratos.storage.sql_files import SqlFiles
from tests.e2e.network import NETWORK_MARKS, Account, PdsNetwork
from tests.e2e.programs import Program, free_ports, running
from tests.e2e.test_enrollment import Browser, Service, settings_of
from tests.e2e.test_oauth import LOOPBACK, PUT, put_body, query_of
from tests.e2e.test_publisher import assert_attested, enrollment_record, eventually
from tests.engine.oauth.memory import Seal

pytestmark = NETWORK_MARKS

STATUS = "/oauth/status"


@pytest.fixture
def account(pds_network: PdsNetwork) -> Account:
    return pds_network.new_account("anywhere")


@pytest.fixture
def two(pds_network: PdsNetwork, postgres_database: str, tmp_path: Path) -> Iterator[tuple[Program, Program]]:
    """Two processes behind one address, as a balancer would see them, with the secrets that such processes share."""
    ports = free_ports(2)
    shared = settings_of(
        pds_network,
        STORAGE_BACKEND="postgres",
        STRATOS_POSTGRES_URL=postgres_database,
        STRATOS_PUBLIC_URL=f"http://localhost:{ports[0]}",
        STRATOS_SIGNING_KEY_HEX="11" * 32,
        STRATOS_MASTER_KEY="22" * 32,
        STRATOS_DPOP_NONCE_SECRET="33" * 32,
    )
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    with (
        running("serve", folders[0], shared, service_port=ports[0]) as first,
        running("serve", folders[1], shared, service_port=ports[1]) as second,
    ):
        yield first, second


async def test_a_browser_may_begin_at_one_process_come_back_to_another_and_be_known_to_both(
    two: tuple[Program, Program], pds_network: PdsNetwork, account: Account
) -> None:
    first, second = two
    browser = Browser(pds_network, account, first.service)
    back = await trio.to_thread.run_sync(lambda: pds_network.person(account).consent(browser.authorize()))
    browser.service = second.service
    assert browser.ask("GET", back).json()["enrolled"] is True
    assert browser.ask("GET", back).json()["error"] == "CallbackError", "good once"
    token = browser.status()["csrfToken"]
    browser.service = first.service
    assert browser.ask("GET", back).json()["error"] == "CallbackError", "at either"
    assert (browser.status()["enrolled"], browser.status()["csrfToken"]) == (True, token)
    await eventually(lambda: enrollment_record(pds_network, account) is not None)
    record = enrollment_record(pds_network, account)
    assert record is not None
    for program in two:
        assert_attested(record, account, program.service)
    for program in two:
        created = Service(pds_network, program).create(account, f"at {program.port}")
        assert created.status_code == 200, created.text
    left = browser.ask("POST", "/oauth/revoke", **{"x-csrf-token": str(token)})
    assert left.json()["revoked"] is True
    browser.service = second.service
    await eventually(lambda: Service(pds_network, second).create(account, "too late").status_code == 400)
    await eventually(lambda: enrollment_record(pds_network, account) is None)


async def test_a_nonce_of_one_process_is_good_at_the_other(two: tuple[Program, Program], account: Account) -> None:
    first, second = two
    key, url = DpopKey.generate(), f"http://localhost:{first.port}{STATUS}"

    def ask(program: Program, nonce: str | None) -> httpx.Response:
        proof = key.proof("GET", url, jti=os.urandom(8).hex(), issued_at=datetime.now(UTC), nonce=nonce, token="no.token")
        return httpx.get(f"{program.service}{STATUS}", headers={"authorization": "DPoP no.token", "dpop": proof})

    demanded = await trio.to_thread.run_sync(ask, first, None)
    assert "use_dpop_nonce" in demanded.headers["www-authenticate"]
    for program in (second, first):
        answer = await trio.to_thread.run_sync(ask, program, demanded.headers["dpop-nonce"])
        assert (answer.status_code, "use_dpop_nonce" in answer.headers.get("www-authenticate", "")) == (401, False)
    forged = await trio.to_thread.run_sync(ask, second, "A" * 43)
    assert "use_dpop_nonce" in forged.headers["www-authenticate"]


@dataclass
class Process:
    """The OAuth client of one process, as the composition root puts it together, with connections and locks of its own."""

    client: OAuthClient
    vault: Vault

    async def age_access_token(self, did: Did) -> None:
        """Make the stored session one whose access token has half a minute left."""
        session = await self.vault.session(did)
        assert session is not None
        soon = datetime.now(UTC) + timedelta(seconds=30)
        await self.vault.keep_session(replace(session, tokens=replace(session.tokens, expires_at=soon)), datetime.now(UTC))

    async def write(self, did: Did) -> None:
        """Write on the PDS in the account's name; fails the test where the PDS refuses."""
        answer = await self.client.request(did, "POST", PUT, json=put_body(did))
        assert answer.ok, answer.body


@asynccontextmanager
async def process(network: PdsNetwork, database: str, seal: Seal, name: str) -> AsyncIterator[Process]:
    backend = PostgresBackend.open(
        PostgresConfig(database, pool_size=4, answer_timeout=20, application_name=name),
        sql=SqlFiles(sql_directory()),
        max_open_actors=4,
        nodes_per_store=64,
        writer=name,
        now=datetime.now(UTC),
    )
    policy = OutgoingPolicy(allow_private=True)
    try:
        async with open_identity(plc_url=network.plc_url, policy=policy, user_agent="test", clock=trio.current_time) as identity:
            reads = StoreReads(backend.actors, 4)
            client = OAuthClient(
                Registration.of(LOOPBACK),
                identity=identity.resolver,
                http=identity.http,
                store=backend.oauth,
                sealer=seal,
                clock=lambda: datetime.now(UTC),
                random_bytes=os.urandom,
                exclusive=AccountLocks("oauth", ActorLocks(), backend=backend, reads=reads).hold,
            )
            yield Process(client, Vault(backend.oauth, seal, OneThread()))
    finally:
        backend.close()


async def test_processes_that_refresh_one_session_at_once_leave_it_usable_for_all(
    pds_network: PdsNetwork, postgres_database: str, account: Account
) -> None:
    seal = Seal()
    async with AsyncExitStack() as stack:
        processes = [
            await stack.enter_async_context(process(pds_network, postgres_database, seal, name))
            for name in ("one", "two", "three")
        ]
        begun = await processes[0].client.begin(account.did)
        back = await trio.to_thread.run_sync(pds_network.person(account).consent, begun.url)
        did = (await processes[1].client.complete(query_of(back), browser=begun.browser)).did
        for turn in (1, 2, 3):
            await processes[2].age_access_token(did)
            async with trio.open_nursery() as nursery:
                for each in processes:
                    for _ in range(2):
                        nursery.start_soon(each.write, did)
            assert sum(each.client.statistics()["refreshes_total"] for each in processes) == turn, "one each time"
        await processes[0].client.revoke(did)
        assert not await processes[2].client.has_session(did)
