"""PDSes that are away, slow, overloaded or unwilling: nothing is lost, and nobody else waits."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from itertools import pairwise
from typing import Literal

import orjson
import pytest
import trio
from trio.testing import MockClock

from stratos.atproto.syntax import Did, Nsid
from stratos.engine.oauth import OAuthClient, PdsAnswer
from stratos.engine.publisher import PublisherLimits
from stratos.engine.publisher.turn import ALARM_AFTER, ITEM_SECONDS, RETRY_BACKOFF
from stratos.engine.publisher.work import ENROLLMENT_PAGES
from stratos.storage.ports import StorageFault
from tests.conftest import ErrorLog
from tests.engine.builders import KAORUKO, POST, REI, SAKURA
from tests.engine.conftest import ON_SQLITE
from tests.engine.oauth.authorization_server import json_answer
from tests.engine.publisher.house import ENROLLMENT_PATH, SERVICE_URL, House, Signed
from tests.engine.publisher.pds_model import DirectClient

RKEY, OTHER_RKEY = "3aaaaaaaaaaaa", "3bbbbbbbbbbbb"
STUB, OTHER_STUB = f"{POST}/{RKEY}", f"{POST}/{OTHER_RKEY}"
FAST, SLOW = "https://fast.test", "https://slow.test"
HOUR = 3600.0

pytestmark = ON_SQLITE


def dids(name: str, count: int) -> list[Did]:
    """So many accounts."""
    return [Did(f"did:plc:{name}{number}") for number in range(count)]


async def enrolled(house: House, oauth: Signed) -> None:
    """Rei is signed in and enrolled; nothing is published yet."""
    await oauth.sign_in(REI)
    await house.enroll(REI)


async def test_an_outage_of_an_hour_loses_nothing(house: House, oauth: Signed, autojump_clock: MockClock) -> None:
    await enrolled(house, oauth)
    await house.write(REI, RKEY)
    publisher = house.publisher(oauth.client)
    oauth.network.outage = "away"
    async with house.running(publisher):
        await trio.sleep(HOUR)
        assert oauth.network.model.paths(REI) == []
        assert publisher.statistics()["pending"] == 2
        assert publisher.statistics()["oldest_age_seconds"] >= HOUR - 20
        oauth.network.outage = None
        await trio.sleep(HOUR)
        assert oauth.network.model.paths(REI) == [ENROLLMENT_PATH, STUB]
        assert publisher.statistics()["pending"] == 0


async def test_attempts_grow_rarer_with_every_failure_up_to_a_limit(
    house: House, oauth: Signed, autojump_clock: MockClock
) -> None:
    await enrolled(house, oauth)
    oauth.network.outage = "away"
    async with house.running(house.publisher(oauth.client)):
        await trio.sleep(HOUR)
    attempts = oauth.network.attempts
    delays = [(later - earlier).total_seconds() for earlier, later in pairwise(attempts)]
    full = [min(RETRY_BACKOFF.initial * 2**number, RETRY_BACKOFF.longest) for number in range(len(delays))]
    assert len(delays) >= 8
    assert all(most / 2 - 1 <= delay <= most + 1 for delay, most in zip(delays, full, strict=True))
    assert len(set(delays)) == len(delays), "chance spreads the attempts"


async def test_a_restart_goes_on_waiting_where_it_was(house: House, oauth: Signed, autojump_clock: MockClock) -> None:
    await enrolled(house, oauth)
    oauth.network.outage = "away"
    await house.settle(oauth.client, HOUR)
    before = len(oauth.network.attempts)
    for _ in range(10):
        await house.settle(oauth.client, 1.0)
    assert len(oauth.network.attempts) == before


async def test_a_pds_that_says_how_long_to_wait_is_left_alone_so_long(
    house: House, oauth: Signed, autojump_clock: MockClock
) -> None:
    await enrolled(house, oauth)
    oauth.network.outage = json_answer(429, {"error": "RateLimitExceeded"}, {"retry-after": "900"})
    async with house.running(house.publisher(oauth.client)):
        await trio.sleep(800)
        assert len(oauth.network.attempts) == 1
        oauth.network.outage = None
        await trio.sleep(200)
    assert oauth.network.model.paths(REI) == [ENROLLMENT_PATH]


@pytest.mark.parametrize("status", [401, 404, 500, 503])
async def test_what_may_pass_is_tried_again(house: House, oauth: Signed, autojump_clock: MockClock, status: int) -> None:
    await enrolled(house, oauth)
    oauth.network.model.refuses[ENROLLMENT_PATH] = (status, "SomethingElse")
    await house.settle(oauth.client, 20)
    oauth.network.model.refuses.clear()
    await house.settle(oauth.client)
    assert oauth.network.model.paths(REI) == [ENROLLMENT_PATH]


async def test_a_deactivated_account_is_tried_again(house: House, oauth: Signed, autojump_clock: MockClock) -> None:
    await enrolled(house, oauth)
    oauth.network.model.refuses[ENROLLMENT_PATH] = (400, "RepoDeactivated")
    await house.settle(oauth.client, 20)
    oauth.network.model.refuses.clear()
    await house.settle(oauth.client)
    assert oauth.network.model.paths(REI) == [ENROLLMENT_PATH]


async def test_what_a_pds_refuses_for_good_is_visible_and_holds_up_nothing(
    house: House, oauth: Signed, autojump_clock: MockClock
) -> None:
    await enrolled(house, oauth)
    await house.write(REI, RKEY)
    await house.write(REI, OTHER_RKEY)
    oauth.network.model.refuses[STUB] = (400, "InvalidRecord")
    publisher = house.publisher(oauth.client)
    async with house.running(publisher):
        await trio.sleep(HOUR)
        assert oauth.network.model.paths(REI) == [ENROLLMENT_PATH, OTHER_STUB]
        [work] = await publisher.pending(after=None, limit=10)
        assert [(item.path, item.reason) for item in work.blocked] == [(STUB, "400 InvalidRecord: not here")]
        figures = publisher.statistics()
        assert (figures["blocked"], figures["pending"], figures["refusals_total"]) == (1, 0, 1)
        oauth.network.model.refuses.clear()
        assert await publisher.retry(REI) == 1
        await trio.sleep(1)
        assert oauth.network.model.paths(REI) == [ENROLLMENT_PATH, STUB, OTHER_STUB]


async def test_a_new_version_of_a_refused_record_is_tried(house: House, oauth: Signed, autojump_clock: MockClock) -> None:
    await enrolled(house, oauth)
    await house.write(REI, RKEY)
    oauth.network.model.refuses[STUB] = (400, "InvalidRecord")
    await house.settle(oauth.client)
    oauth.network.model.refuses.clear()
    await house.write(REI, RKEY, "better")
    await house.settle(oauth.client)
    assert oauth.network.model.paths(REI) == [ENROLLMENT_PATH, STUB]


async def test_what_fails_again_and_again_does_not_hold_up_the_account_s_other_records(
    house: House, oauth: Signed, autojump_clock: MockClock
) -> None:
    await enrolled(house, oauth)
    await house.write(REI, RKEY)
    await house.write(REI, OTHER_RKEY)
    oauth.network.model.refuses[STUB] = (500, "InternalServerError")
    await house.settle(oauth.client)
    assert oauth.network.model.paths(REI) == [ENROLLMENT_PATH, OTHER_STUB]


async def test_the_operator_can_have_it_tried_at_once(house: House, oauth: Signed, autojump_clock: MockClock) -> None:
    await enrolled(house, oauth)
    publisher = house.publisher(oauth.client)
    oauth.network.outage = "away"
    async with house.running(publisher):
        await trio.sleep(HOUR)
        oauth.network.outage = None
        assert await publisher.retry(None) == 1
        await trio.sleep(1)
    assert oauth.network.model.paths(REI) == [ENROLLMENT_PATH]


@pytest.mark.expects_error_log
async def test_work_that_fails_for_long_raises_an_alarm_and_is_not_given_up(
    house: House, oauth: Signed, autojump_clock: MockClock, error_log: ErrorLog
) -> None:
    await enrolled(house, oauth)
    oauth.network.outage = "away"
    publisher = house.publisher(oauth.client, limits=PublisherLimits(poll_interval=600, count_interval=600))
    async with house.running(publisher):
        while len(oauth.network.attempts) < ALARM_AFTER - 1:
            assert error_log.lines == []
            await trio.sleep(60)
        await trio.sleep(2 * HOUR)
        assert len(error_log.lines) == 1
        assert "publishing postponed" in error_log.lines[0]
        assert publisher.statistics()["failing_accounts"] == 1
        await trio.sleep(72 * HOUR)
        oauth.network.outage = None
        await trio.sleep(6 * HOUR)
    assert oauth.network.model.paths(REI) == [ENROLLMENT_PATH]


@pytest.mark.expects_error_log
async def test_a_fault_of_ours_with_one_account_leaves_the_others_served(
    house: House, oauth: Signed, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for did in (REI, SAKURA):
        await oauth.sign_in(did)
        await house.enroll(did)
    ask = OAuthClient.request

    async def faulty(client: OAuthClient, did: Did, *rest: object, **more: object) -> object:
        if did == REI:
            raise KeyError("a fault")
        return await ask(client, did, *rest, **more)  # type: ignore[arg-type]  # as it came

    with monkeypatch.context() as patched:
        patched.setattr(OAuthClient, "request", faulty)
        await house.settle(oauth.client, 30)
    assert oauth.network.model.paths(SAKURA) == [ENROLLMENT_PATH]
    assert oauth.network.model.paths(REI) == []
    await house.settle(oauth.client)
    assert oauth.network.model.paths(REI) == [ENROLLMENT_PATH]


async def test_a_pds_that_answers_nobody_delays_no_other(house: House, autojump_clock: MockClock) -> None:
    many, few = dids("a", 40), dids("b", 10)
    client = DirectClient({**dict.fromkeys(many, SLOW), **dict.fromkeys(few, FAST)})
    client.slow[SLOW] = 9.0
    for did in (*many, *few):
        await house.enroll(did)
    async with house.running(house.publisher(client)):
        await trio.sleep(8)
        assert all(client.models[FAST].paths(did) == [ENROLLMENT_PATH] for did in few)
        client.slow[SLOW] = 0.01
        await trio.sleep(HOUR)
    assert all(client.models[SLOW].paths(did) == [ENROLLMENT_PATH] for did in many)
    assert client.most[SLOW] <= PublisherLimits().accounts_per_pds


async def test_pdses_that_drip_hold_no_place_for_longer_than_a_turn(house: House, autojump_clock: MockClock) -> None:
    """Slow, but never so slow that a request times out: as many accounts as are served at once, each with much to do."""
    hostile = dids("a", PublisherLimits().accounts)
    client = DirectClient({**{did: f"https://drips{number}.test" for number, did in enumerate(hostile)}, REI: FAST})
    for did in hostile:
        await house.enroll(did)
        for number in range(20):
            await house.write(did, f"3aaaaaaaaaa{'ab'[number // 10]}{'abcdefghij'[number % 10]}")
        client.slow[client.pds[did]] = 7.9
    async with house.running(house.publisher(client)):
        await trio.sleep(30)
        await house.enroll(REI)
        await trio.sleep(65)
        assert client.models[FAST].paths(REI) == [ENROLLMENT_PATH]


async def test_a_pds_that_lists_without_end_is_left_in_the_end_and_fills_no_memory(
    house: House, autojump_clock: MockClock
) -> None:
    client = EndlessPds({REI: SLOW})
    await house.enroll(REI)
    await house.settle(client)
    assert client.models[SLOW].paths(REI) == [ENROLLMENT_PATH], "written, whatever else stands there"
    assert client.pages == ENROLLMENT_PAGES
    client.slow[SLOW] = 7.9
    await house.unenroll(REI)
    async with house.running(house.publisher(client)):
        await trio.sleep(ITEM_SECONDS + 10)
        [work] = house.backend.outbox.page(after=None, limit=1, blocked=0)
        assert work.last_error == f"not done within {ITEM_SECONDS:g} s"


class EndlessPds(DirectClient):
    """Whose lists have one more page, always, of records that claim to be ours."""

    pages = 0

    async def request(
        self,
        did: Did,
        method: Literal["GET", "POST"],
        nsid: Nsid,
        *,
        params: Mapping[str, str] | None = None,
        json: Mapping[str, object] | None = None,
        max_bytes: int = 0,
    ) -> PdsAnswer:
        answer = await super().request(did, method, nsid, params=params, json=json, max_bytes=max_bytes)
        if nsid != "com.atproto.repo.listRecords":
            return answer
        self.pages += 1
        forged = {"uri": f"at://x/y/{self.pages}", "cid": "bafy", "value": {"service": SERVICE_URL}}
        return PdsAnswer(200, orjson.dumps({"records": [forged], "cursor": str(self.pages)}))


async def test_a_clock_that_goes_back_lets_no_more_of_a_pds_be_served_at_once(house: House, autojump_clock: MockClock) -> None:
    accounts = dids("a", 6)
    client = DirectClient(dict.fromkeys(accounts, SLOW))
    for did in accounts:
        await house.enroll(did)
    await house.settle(client)
    client.most.clear()
    client.slow[SLOW] = 5.0
    publisher = house.publisher(client)
    async with house.running(publisher):
        for did in accounts[3:]:
            await publisher.refresh(did)
        await trio.sleep(1)
        house.clock.advance(timedelta(minutes=-1))
        for did in accounts[:3]:
            await publisher.refresh(did)
        await trio.sleep(120)
    assert client.most[SLOW] == PublisherLimits().accounts_per_pds


async def test_an_account_with_much_to_do_delays_no_other_of_its_pds(house: House, autojump_clock: MockClock) -> None:
    client = DirectClient(dict.fromkeys((REI, SAKURA, KAORUKO), FAST))
    await house.enroll(REI)
    for number in range(60):
        await house.write(REI, f"3aaaaaaaaaa{'abcdefghijkl'[number // 10]}{'abcdefghij'[number % 10]}")
    await house.settle(None)
    for did in (SAKURA, KAORUKO):
        await house.enroll(did)
    client.slow[FAST] = 0.5  # of which a stub needs two
    async with house.running(house.publisher(client, limits=PublisherLimits(accounts=1))):
        await trio.sleep(58)
        assert [len(client.models[FAST].paths(did)) for did in (SAKURA, KAORUKO)] == [1, 1]
        assert len(client.models[FAST].paths(REI)) < 61
        await trio.sleep(200)
    assert len(client.models[FAST].paths(REI)) == 61


async def test_one_thing_of_an_account_is_under_way_and_no_more_accounts_than_the_limit(
    house: House, autojump_clock: MockClock
) -> None:
    accounts = dids("a", 12)
    client = DirectClient({did: f"https://pds{number % 6}.test" for number, did in enumerate(accounts)})
    for did in accounts:
        await house.enroll(did)
        await house.write(did, RKEY)
    async with house.running(house.publisher(client, limits=PublisherLimits(accounts=4))):
        async with trio.open_nursery() as nursery:
            for did in accounts:
                nursery.start_soon(house.write, did, OTHER_RKEY)
        await trio.sleep(60)
    assert all(client.most[did] == 1 for did in accounts)
    assert client.most["all"] == 4
    assert all(len(client.models[client.pds[did]].paths(did)) == 3 for did in accounts)


async def test_a_store_that_fails_pauses_the_publisher_and_loses_nothing(
    house: House, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = DirectClient({REI: FAST})
    await house.enroll(REI)
    publisher = house.publisher(client)
    async with house.running(publisher):
        with monkeypatch.context() as patched:
            patched.setattr(type(house.backend.outbox), "done", fails)
            await trio.sleep(20)
            assert publisher.statistics()["store_faults_total"] >= 2
        await trio.sleep(20)
    assert house.backend.outbox.page(after=None, limit=1, blocked=0) == []
    assert client.models[FAST].paths(REI) == [ENROLLMENT_PATH]


def fails(*_: object) -> None:
    raise StorageFault("disk full")


async def test_without_an_oauth_client_work_is_only_written_down(house: House, autojump_clock: MockClock) -> None:
    await house.enroll(REI)
    await house.write(REI, RKEY)
    publisher = await house.settle(None)
    assert publisher.statistics()["pending"] == 2
    await house.settle(client := DirectClient({REI: FAST}))
    assert client.models[FAST].paths(REI) == [ENROLLMENT_PATH, STUB]


async def test_the_cursor_follows_the_log_to_its_head(house: House, autojump_clock: MockClock) -> None:
    await house.enroll(REI)
    for number in range(20):
        await house.write(REI, RKEY, f"version {number}")
    publisher = await house.settle(None)
    assert publisher.statistics()["cursor"] == house.engine.service.log.head
