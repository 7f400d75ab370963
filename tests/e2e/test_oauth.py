"""The OAuth client against a real PDS: its own sign-in and consent, tokens, nonces, outages and revocation."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from urllib.parse import parse_qsl, urlsplit

import orjson
import pytest
import trio
from joserfc.jwk import ECKey

from stratos.atproto.syntax import Did, Nsid
from stratos.engine.actor_locks import ActorLocks
from stratos.engine.identity import OutgoingPolicy, open_identity
from stratos.engine.oauth import (
    AuthorizationFailed,
    ClientSettings,
    Completed,
    Failure,
    OAuthClient,
    PdsUnavailable,
    Registration,
    SessionGone,
)
from stratos.engine.oauth.ports import ExclusiveUse
from stratos.engine.oauth.sealed import Session
from tests.e2e.network import NETWORK_MARKS, Account, PdsNetwork
from tests.engine.oauth.memory import MemoryStore, Seal, WallClock

ENROLLMENT = "zone.stratos.actor.enrollment"
CLIENT_ORIGIN = "https://client.internal"
RKEY = "did:web:stratos.test"
PUT, GET, DELETE = (Nsid(f"com.atproto.repo.{name}Record") for name in ("put", "get", "delete"))
LOOPBACK = ClientSettings(public_url="http://localhost:3100", name="Stratos under test", allow_loopback=True)

pytestmark = NETWORK_MARKS


@dataclass
class Setting:
    """A client in front of the network, and what it stands on."""

    network: PdsNetwork
    client: OAuthClient
    store: MemoryStore
    seal: Seal
    clock: WallClock

    async def authorize(self, account: Account) -> Completed:
        """The whole way, with a person who agrees."""
        begun = await self.client.begin(account.handle)
        query = await self.consent(account, begun.url)
        return await self.client.complete(query, browser=begun.browser)

    async def consent(self, account: Account, url: str) -> Mapping[str, str]:
        """What the browser brings back from a person who agrees."""
        return query_of(await trio.to_thread.run_sync(self.network.person(account).consent, url))

    def session(self, did: Did) -> Session:
        """The session as it is stored."""
        return Session.decode(self.seal.open(self.store.sessions[did], f"oauth-session:{did}"))

    def age_access_token(self, did: Did) -> Session:
        """Make the stored session one whose access token has half a minute left."""
        session = self.session(did)
        tokens = replace(session.tokens, expires_at=self.clock() + timedelta(seconds=30))
        return self._keep(replace(session, tokens=tokens))

    def change_tokens(self, did: Did, *, access: str) -> Session:
        """Put another access token into the stored session."""
        session = self.session(did)
        return self._keep(replace(session, tokens=replace(session.tokens, access=access)))

    def _keep(self, session: Session) -> Session:
        self.store.sessions[session.did] = self.seal.seal(session.encode(), f"oauth-session:{session.did}")
        return session

    async def put_enrollment(self, did: Did) -> None:
        """Write an enrollment record in the account's name; fails the test where the PDS refuses."""
        answer = await self.client.request(did, "POST", PUT, json=put_body(did))
        assert answer.ok, answer.body


def put_body(did: str) -> Mapping[str, object]:
    record = {"$type": ENROLLMENT, "service": "https://stratos.test", "createdAt": "2026-05-28T12:00:00.000Z"}
    return {"repo": did, "collection": ENROLLMENT, "rkey": RKEY, "record": record}


def query_of(url: str) -> Mapping[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


@asynccontextmanager
async def client_of(
    network: PdsNetwork,
    settings: ClientSettings = LOOPBACK,
    *,
    exclusive: ExclusiveUse | None = None,
    beside: Setting | None = None,
) -> AsyncIterator[Setting]:
    """A client with connections of its own; with `beside` upon that one's store."""
    policy = OutgoingPolicy(allow_private=True)
    async with open_identity(
        plc_url=network.plc_url, policy=policy, user_agent="test", clock=trio.current_time, handle_services=[network.pds_url]
    ) as identity:
        store, seal = (MemoryStore(), Seal()) if beside is None else (beside.store, beside.seal)
        clock = WallClock(real=True)
        client = OAuthClient(
            Registration.of(settings),
            identity=identity.resolver,
            http=identity.http,
            store=store,
            sealer=seal,
            clock=clock,
            random_bytes=os.urandom,
            exclusive=exclusive,
        )
        yield Setting(network, client, store, seal, clock)


@asynccontextmanager
async def pds_down(network: PdsNetwork) -> AsyncIterator[None]:
    """The PDS is down for the block."""
    await trio.to_thread.run_sync(network.stop_pds)
    try:
        yield
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(network.start_pds)


@pytest.fixture
async def setting(pds_network: PdsNetwork) -> AsyncIterator[Setting]:
    async with client_of(pds_network) as setting:
        yield setting


@pytest.fixture
def account(pds_network: PdsNetwork) -> Account:
    return pds_network.new_account()


async def test_who_consents_gives_us_a_session_of_that_account(setting: Setting, account: Account) -> None:
    completed = await setting.authorize(account)
    assert (completed.did, completed.pds, completed.same_browser) == (account.did, setting.network.pds_url, True)
    assert set(completed.scope.split()) == {"atproto", f"repo:{ENROLLMENT}", "repo:zone.stratos.feed.post"}


async def test_a_did_in_place_of_a_handle_begins_as_well(setting: Setting, account: Account) -> None:
    begun = await setting.client.begin(account.did, return_to="https://app.test/done")
    completed = await setting.client.complete(await setting.consent(account, begun.url))
    assert completed.did == account.did
    assert completed.return_to == "https://app.test/done"
    assert not completed.same_browser


async def test_the_enrollment_record_is_written_read_and_deleted_in_the_account_s_name(
    setting: Setting, account: Account
) -> None:
    did = (await setting.authorize(account)).did
    await setting.put_enrollment(did)
    at = {"repo": did, "collection": ENROLLMENT, "rkey": RKEY}
    read = await setting.client.request(did, "GET", GET, params=at)
    assert read.ok
    assert read.json["value"] == put_body(did)["record"]
    assert setting.network.record(did, ENROLLMENT, RKEY) == put_body(did)["record"]
    assert (await setting.client.request(did, "POST", DELETE, json=at)).ok
    assert (await setting.client.request(did, "GET", GET, params=at)).error == "RecordNotFound"
    assert setting.network.record(did, ENROLLMENT, RKEY) is None


async def test_what_was_not_asked_for_is_refused_by_the_pds_and_leaves_the_session_usable(
    setting: Setting, account: Account
) -> None:
    did = (await setting.authorize(account)).did
    body = {"repo": did, "collection": "app.bsky.feed.post", "record": {"$type": "app.bsky.feed.post", "text": "not ours"}}
    refused = await setting.client.request(did, "POST", Nsid("com.atproto.repo.createRecord"), json=body)
    assert (refused.status, refused.ok) == (403, False)
    await setting.put_enrollment(did)


async def test_an_unknown_handle_is_told_before_anything_begins(setting: Setting) -> None:
    with pytest.raises(AuthorizationFailed) as refusal:
        await setting.client.begin("nobody-at-all.test")
    assert refusal.value.failure is Failure.IDENTITY_UNRESOLVED
    assert setting.store.count_states() == 0


async def test_a_person_who_refuses_gives_us_nothing(setting: Setting, account: Account) -> None:
    begun = await setting.client.begin(account.handle)
    back = await trio.to_thread.run_sync(setting.network.person(account).deny, begun.url)
    with pytest.raises(AuthorizationFailed) as refusal:
        await setting.client.complete(query_of(back))
    assert refusal.value.failure is Failure.DENIED
    assert not await setting.client.has_session(Did(account.did))


async def test_somebody_else_who_signs_in_gives_us_nothing(setting: Setting, account: Account) -> None:
    other = setting.network.new_account()
    begun = await setting.client.begin(account.did)
    query = await setting.consent(other, begun.url)
    with pytest.raises(AuthorizationFailed) as refusal:
        await setting.client.complete(query)
    assert refusal.value.failure is Failure.SUBJECT_MISMATCH
    assert setting.store.sessions == {}


async def test_a_state_expires_after_an_hour(setting: Setting, account: Account) -> None:
    begun = await setting.client.begin(account.handle)
    query = await setting.consent(account, begun.url)
    setting.clock.advance(timedelta(hours=1))
    with pytest.raises(AuthorizationFailed) as refusal:
        await setting.client.complete(query)
    assert refusal.value.failure is Failure.STATE_UNKNOWN


async def test_the_same_answer_twice_is_refused_and_harms_nothing(setting: Setting, account: Account) -> None:
    begun = await setting.client.begin(account.handle)
    query = await setting.consent(account, begun.url)
    did = (await setting.client.complete(query)).did
    with pytest.raises(AuthorizationFailed) as refusal:
        await setting.client.complete(query)
    assert refusal.value.failure is Failure.STATE_UNKNOWN
    await setting.put_enrollment(did)


async def test_a_pds_restarted_between_the_request_and_the_callback_does_not_matter(setting: Setting, account: Account) -> None:
    begun = await setting.client.begin(account.handle)
    await trio.to_thread.run_sync(setting.network.restart_pds)
    query = await setting.consent(account, begun.url)
    await trio.to_thread.run_sync(setting.network.restart_pds)
    completed = await setting.client.complete(query)
    await setting.put_enrollment(completed.did)


async def test_a_pds_that_is_down_at_the_callback_can_be_tried_again_when_it_is_back(setting: Setting, account: Account) -> None:
    begun = await setting.client.begin(account.handle)
    query = await setting.consent(account, begun.url)
    async with pds_down(setting.network):
        with pytest.raises(PdsUnavailable):
            await setting.client.complete(query)
    await setting.put_enrollment((await setting.client.complete(query)).did)


async def test_an_access_token_near_its_end_is_renewed_before_it_is_used(setting: Setting, account: Account) -> None:
    did = (await setting.authorize(account)).did
    before = setting.age_access_token(did)
    await setting.put_enrollment(did)
    after = setting.session(did)
    assert before.tokens.access != after.tokens.access
    assert before.tokens.refresh != after.tokens.refresh
    assert after.tokens.expires_at - setting.clock() > timedelta(minutes=50)


async def test_an_access_token_that_the_pds_no_longer_takes_is_renewed(setting: Setting, account: Account) -> None:
    did = (await setting.authorize(account)).did
    spent = setting.age_access_token(did).tokens.access
    await setting.put_enrollment(did)
    setting.change_tokens(did, access=spent)
    await setting.put_enrollment(did)
    assert setting.client.statistics()["refreshes_total"] == 2


async def test_concurrent_requests_with_an_old_token_renew_it_once_and_leave_the_session_usable(
    setting: Setting, account: Account
) -> None:
    did = (await setting.authorize(account)).did
    setting.age_access_token(did)
    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(setting.put_enrollment, did)
    assert setting.client.statistics()["refreshes_total"] == 1
    setting.age_access_token(did)
    await setting.put_enrollment(did)


async def test_concurrent_requests_with_a_token_that_is_no_longer_taken_leave_the_session_usable(
    setting: Setting, account: Account
) -> None:
    did = (await setting.authorize(account)).did
    spent = setting.age_access_token(did).tokens.access
    await setting.put_enrollment(did)
    setting.change_tokens(did, access=spent)
    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(setting.put_enrollment, did)
    assert setting.client.statistics()["refreshes_total"] == 2
    setting.age_access_token(did)
    await setting.put_enrollment(did)


async def test_two_processes_upon_one_store_share_a_session_when_they_share_the_lock(
    pds_network: PdsNetwork, account: Account
) -> None:
    locks = ActorLocks()
    async with (
        client_of(pds_network, exclusive=locks.hold) as first,
        client_of(pds_network, exclusive=locks.hold, beside=first) as second,
    ):
        did = (await first.authorize(account)).did
        first.age_access_token(did)
        async with trio.open_nursery() as nursery:
            for each in (first, second):
                nursery.start_soon(each.put_enrollment, did)
        assert sum(each.client.statistics()["refreshes_total"] for each in (first, second)) == 1
        second.age_access_token(did)
        await first.put_enrollment(did)


async def test_a_pds_that_is_down_during_a_refresh_costs_nothing_but_time(setting: Setting, account: Account) -> None:
    did = (await setting.authorize(account)).did
    before = setting.age_access_token(did)
    async with pds_down(setting.network):
        for _ in range(2):
            with pytest.raises(PdsUnavailable):
                await setting.put_enrollment(did)
        assert setting.session(did).tokens == before.tokens
    await setting.put_enrollment(did)
    await trio.to_thread.run_sync(setting.network.restart_pds)
    setting.age_access_token(did)
    await setting.put_enrollment(did)


async def test_a_revoked_session_is_gone_here_and_at_the_pds(setting: Setting, account: Account) -> None:
    did = (await setting.authorize(account)).did
    kept_by_a_thief = setting.store.sessions[did]
    assert await setting.client.revoke(did)
    with pytest.raises(SessionGone):
        await setting.put_enrollment(did)
    setting.store.sessions[did] = kept_by_a_thief
    with pytest.raises(SessionGone):
        await setting.put_enrollment(did)
    assert setting.store.sessions == {}


async def test_a_session_can_be_revoked_here_while_the_pds_is_down(setting: Setting, account: Account) -> None:
    did = (await setting.authorize(account)).did
    async with pds_down(setting.network):
        assert not await setting.client.revoke(did)
    assert not await setting.client.has_session(did)
    assert not await setting.client.revoke(did)


async def test_a_new_sign_in_replaces_the_former_session_and_ends_it_at_the_pds(setting: Setting, account: Account) -> None:
    did = (await setting.authorize(account)).did
    former = setting.store.sessions[did]
    await setting.authorize(account)
    current = setting.store.sessions[did]
    await setting.put_enrollment(did)
    setting.store.sessions[did] = former
    with pytest.raises(SessionGone):
        await setting.put_enrollment(did)
    setting.store.sessions[did] = current
    await setting.put_enrollment(did)


async def test_a_confidential_client_proves_itself_with_its_published_key(pds_network: PdsNetwork, account: Account) -> None:
    key = ECKey.generate_key("P-256", private=True).as_pem(private=True).decode()
    settings = ClientSettings(public_url=CLIENT_ORIGIN, name="Stratos under test", private_key=key)
    document = Registration.of(settings).document
    port = pds_network.service_ports[CLIENT_ORIGIN]
    async with trio.open_nursery() as nursery, client_of(pds_network, settings) as setting:
        await nursery.start(partial(serve_document, document, port))
        completed = await setting.authorize(account)
        setting.age_access_token(completed.did)
        await setting.put_enrollment(completed.did)
        assert await setting.client.revoke(completed.did)
        nursery.cancel_scope.cancel()


async def serve_document(
    document: Mapping[str, object], port: int, *, task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED
) -> None:
    """A web server that knows one answer."""
    body = orjson.dumps(dict(document))
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"

    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(head.encode() + body)
        await stream.aclose()

    await trio.serve_tcp(answer, port, host="127.0.0.1", task_status=task_status)
