"""An account that leaves, or leaves and comes back, before or after any request in its name: its PDS ends up as it should be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count

import pytest
import trio
from trio.testing import MockClock

from stratos.atproto.syntax import Did
from stratos.core.enrollment_record import parse_enrollment_record
from tests.engine.builders import EDITORS, POST, WRITERS
from tests.engine.publisher.house import ENROLLMENT_PATH, House
from tests.engine.publisher.pds_model import DirectClient

PDS = "https://pds.test"
RKEY, OTHER_RKEY = "3aaaaaaaaaaaa", "3bbbbbbbbbbbb"
MOST_LOOKS = 20_000
Change = Callable[[House, Did], Awaitable[None]]


async def leaves(house: House, did: Did) -> None:
    await house.unenroll(did)


async def leaves_for_a_while(house: House, did: Did) -> None:
    await house.revoke(did)


async def leaves_and_comes_back(house: House, did: Did) -> None:
    await house.unenroll(did)
    await house.enroll(did, WRITERS, EDITORS)


async def leaves_comes_back_and_leaves(house: House, did: Did) -> None:
    await leaves_and_comes_back(house, did)
    await house.write(did, OTHER_RKEY)
    await house.unenroll(did)


STUBS = [f"{POST}/{RKEY}", f"{POST}/{OTHER_RKEY}"]


async def publish_with(house: House, client: DirectClient, did: Did, change: Callable[[], Awaitable[None]], at_step: int) -> bool:
    """Let a publisher run until there is nothing to do, with a change at one step of it; False where it has not so many steps."""
    steps, began, ended = count(), trio.Event(), trio.Event()

    async def interrupt() -> None:
        if next(steps) == at_step:
            began.set()
            with trio.CancelScope(shield=True):  # somebody else's doing, wherever the publisher is
                await change()
            ended.set()

    client.interrupt = interrupt
    async with house.running(house.publisher(client)) as publisher:
        # The log's writer is a real thread, and to the virtual clock waiting for it is idleness: so not for a fixed time.
        for _ in range(MOST_LOOKS):
            await trio.sleep(30)
            followed = publisher.statistics()["cursor"] == house.engine.service.log.head
            is_done = house.backend.outbox.page(after=None, limit=1, blocked=0) == []
            if followed and is_done and began.is_set() == ended.is_set():
                return ended.is_set()
    raise AssertionError(
        f"never done: {house.backend.outbox.page(after=None, limit=1, blocked=5)}, {house.engine.service.log.head=}"
    )


@pytest.mark.parametrize(
    ("change", "left", "keeps_session"),
    [
        (leaves, [], False),
        (leaves_for_a_while, STUBS, False),
        (leaves_and_comes_back, [ENROLLMENT_PATH], True),
        (leaves_comes_back_and_leaves, [], False),
    ],
)
async def test_a_departure_at_any_moment_of_publishing_leaves_what_it_should(
    house: House, autojump_clock: MockClock, change: Change, left: list[str], keeps_session: bool
) -> None:
    for step in count():
        did = Did(f"did:plc:step{step}")
        client = DirectClient({did: PDS})
        await house.enroll(did)
        await house.write(did, RKEY)
        await house.write(did, OTHER_RKEY)
        reached = await publish_with(house, client, did, partial(change, house, did), step)
        if not reached:
            assert step > 6, "every step of publishing was tried"
            return
        assert client.models[PDS].paths(did) == sorted(left), f"at step {step}"
        assert (did in client.pds) is keeps_session, f"at step {step}"
        record = client.models[PDS].records.get((did, ENROLLMENT_PATH))
        if record is not None:
            enrollment, published = house.backend.enrollments.get(did), parse_enrollment_record(record)
            assert enrollment is not None
            assert published is not None
            assert (published.signing_key, published.boundaries) == (enrollment.signing_key, enrollment.boundaries)
