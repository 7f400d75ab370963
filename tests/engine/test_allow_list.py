"""The external allow list: when it is read, what outages do to it, and the set that it is shared as. Service spec §4.1."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from stratos.atproto.syntax import Did
from stratos.engine.allow_list import (
    LOAD_SECONDS,
    MAX_LIST_BYTES,
    REFRESH_SECONDS,
    RETRY_SECONDS,
    AllowList,
    ListFault,
    read_list,
)
from stratos.engine.identity import Answer, OutgoingError, Unreachable
from tests.engine.builders import KAORUKO, REI, SAKURA

URL = "https://lists.test/allowed.txt"


class Web:
    """Gives one answer until it is told another; remembers when it was asked."""

    def __init__(self, *dids: Did) -> None:
        self.asked: list[float] = []
        self.fault: OutgoingError | None = None
        self.status = 200
        self.say(*dids)

    def say(self, *dids: Did) -> None:
        self.body = "".join(f"{did}\n" for did in dids).encode()

    async def request(self, method: str, url: str, *, max_bytes: int | None = None, total_timeout: float | None = None) -> Answer:
        assert (method, url, max_bytes, total_timeout) == ("GET", URL, MAX_LIST_BYTES, LOAD_SECONDS)
        self.asked.append(trio.current_time())
        if self.fault is not None:
            raise self.fault
        return Answer(self.status, {}, self.body, url)


class Shared:
    """A shared set; a fault of it is one of every use."""

    def __init__(self, *dids: Did) -> None:
        self.dids: set[Did] = set(dids)
        self.fault: ListFault | None = None
        self.asked: list[Did] = []

    async def replace(self, dids: Collection[Did]) -> None:
        if self.fault is not None:
            raise self.fault
        self.dids = set(dids)

    async def contains(self, did: Did) -> bool:
        self.asked.append(did)
        if self.fault is not None:
            raise self.fault
        return did in self.dids


async def members(listed: AllowList) -> list[Did]:
    """Which of the known accounts are on the list."""
    return [did for did in (REI, SAKURA, KAORUKO) if await listed.contains(did)]


def test_a_list_is_trimmed_lines_that_begin_like_a_did() -> None:
    body = b"# people\r\n  did:plc:rei  \r\n\r\nsakura.test\ndid:plc:sakura\nsee did:plc:kaoruko"
    assert read_list(body) == {REI, SAKURA}
    assert read_list(b"") == frozenset()
    with pytest.raises(ListFault):
        read_list(b"did:plc:\xff")


async def test_the_list_is_there_when_the_service_starts_and_follows_every_ten_minutes(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    web = Web(REI)
    listed = AllowList(url=URL, http=web)
    await nursery.start(listed.run)
    assert await members(listed) == [REI]
    web.say(SAKURA, KAORUKO)
    await trio.sleep(REFRESH_SECONDS - 1)
    assert await members(listed) == [REI]
    await trio.sleep(2)
    assert await members(listed) == [SAKURA, KAORUKO]
    assert web.asked[1] - web.asked[0] == REFRESH_SECONDS
    assert listed.statistics()["accounts"] == 2


@pytest.mark.parametrize("outage", ["fault", "status", "text"])
async def test_an_outage_keeps_the_last_list_and_is_tried_again_soon(
    nursery: trio.Nursery, autojump_clock: MockClock, outage: str
) -> None:
    web = Web(REI)
    listed = AllowList(url=URL, http=web)
    await nursery.start(listed.run)
    if outage == "fault":
        web.fault = Unreachable("no answer")
    elif outage == "status":
        web.status, web.body = 404, b"did:plc:sakura"
    else:
        web.body = b"\xff\xfe"
    await trio.sleep(REFRESH_SECONDS + 1)
    assert await members(listed) == [REI]
    assert listed.statistics()["failures_total"] == 1
    web.fault, web.status = None, 200
    web.say(SAKURA)
    await trio.sleep(RETRY_SECONDS)
    assert await members(listed) == [SAKURA]


async def test_until_the_list_could_be_read_nobody_is_on_it(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    web = Web(REI)
    web.fault = Unreachable("no answer")
    listed = AllowList(url=URL, http=web)
    await nursery.start(listed.run)
    assert await members(listed) == []
    web.fault = None
    await trio.sleep(RETRY_SECONDS + 1)
    assert await members(listed) == [REI]


async def test_what_was_read_is_written_to_the_shared_set_but_an_empty_list_is_not(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    web, shared = Web(REI), Shared(KAORUKO)
    listed = AllowList(url=URL, http=web, shared=shared)
    await nursery.start(listed.run)
    assert shared.dids == {REI}
    web.say()
    await trio.sleep(REFRESH_SECONDS + 1)
    assert shared.dids == {REI}


async def test_the_shared_set_is_asked_for_whoever_is_not_in_memory_only(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    web, shared = Web(REI), Shared(KAORUKO)
    listed = AllowList(url=URL, http=web, shared=shared)
    await nursery.start(listed.run)
    shared.dids.add(SAKURA)
    assert await members(listed) == [REI, SAKURA]
    assert shared.asked == [SAKURA, KAORUKO]


async def test_a_shared_set_that_is_away_holds_nobody_and_costs_the_list_nothing(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    web, shared = Web(REI), Shared(SAKURA)
    shared.fault = ListFault("no answer")
    listed = AllowList(url=URL, http=web, shared=shared)
    await nursery.start(listed.run)
    assert await members(listed) == [REI]
    assert listed.statistics()["shared_failures_total"] == 3


async def test_without_an_address_the_list_is_the_shared_set(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    listed = AllowList(shared=Shared(SAKURA))
    await nursery.start(partial(listed.run))
    await wait_all_tasks_blocked()
    assert await members(listed) == [SAKURA]
