"""A publisher that dies at any moment: the next one does what was not noted as done, and what was done comes out the same."""

from __future__ import annotations

from itertools import count

import trio
from trio.testing import MockClock

from stratos.atproto.syntax import Did
from stratos.storage.outbox_port import PUBLISHER
from tests.engine.builders import EDITORS, POST, REI
from tests.engine.publisher.house import ENROLLMENT_PATH, House
from tests.engine.publisher.pds_model import DirectClient

PDS = "https://pds.test"
RKEY, OTHER_RKEY = "3aaaaaaaaaaaa", "3bbbbbbbbbbbb"
STUB, OTHER_STUB = f"{POST}/{RKEY}", f"{POST}/{OTHER_RKEY}"


async def died_at(house: House, client: DirectClient, step: int) -> bool:
    """Let a publisher run that dies before or after the effect of a request, counted by `step`; False where none came so far."""
    steps = count()
    with trio.CancelScope() as life:

        async def interrupt() -> None:
            if next(steps) == step:
                life.cancel()
                await trio.sleep_forever()

        client.interrupt = interrupt
        async with house.running(house.publisher(client)):
            await trio.sleep(30)
    client.interrupt = None
    return life.cancelled_caught


async def test_a_death_before_or_after_any_request_changes_nothing_in_the_end(house: House, autojump_clock: MockClock) -> None:
    for step in count():
        did = Did(f"did:plc:step{step}")
        client = DirectClient({did: PDS})
        model = client.models[PDS]
        await house.enroll(did)
        await house.write(did, RKEY)
        await house.write(did, OTHER_RKEY)
        died = await died_at(house, client, step)
        await house.settle(client, 30)
        assert model.paths(did) == [ENROLLMENT_PATH, STUB, OTHER_STUB]

        await house.write(did, RKEY, "second version")
        await house.remove(did, OTHER_RKEY)
        await house.engine.service.enrollment.set_boundaries(did, [EDITORS])
        died |= await died_at(house, client, step)
        await house.settle(client, 30)
        assert model.paths(did) == [ENROLLMENT_PATH, STUB]
        assert model.records[did, ENROLLMENT_PATH]["boundaries"] == [{"value": EDITORS}]

        await house.unenroll(did)
        died |= await died_at(house, client, step)
        await house.settle(client, 30)
        assert model.paths(did) == []
        assert did not in client.pds, "its session has ended"
        assert house.backend.outbox.page(after=None, limit=1, blocked=0) == []
        if not died:
            assert step > 6
            return


async def test_what_was_done_and_not_noted_is_done_again_and_comes_out_the_same(house: House, autojump_clock: MockClock) -> None:
    client = DirectClient({REI: PDS})
    await house.enroll(REI)
    done_but_not_noted = 3  # before and after the list of enrollment records, before and after the put
    assert await died_at(house, client, done_but_not_noted)
    first = dict(client.models[PDS].records)
    assert list(first) == [(REI, ENROLLMENT_PATH)]
    await house.settle(client, 30)
    assert client.models[PDS].writes == [f"put {ENROLLMENT_PATH}", f"put {ENROLLMENT_PATH}"]
    assert client.models[PDS].records == first


async def test_a_death_between_two_looks_at_the_log_skips_no_entry(house: House, autojump_clock: MockClock) -> None:
    client = DirectClient({REI: PDS})
    await house.enroll(REI)
    await house.settle(client, 1)
    cursor = house.backend.cursors.get(PUBLISHER)
    await house.write(REI, RKEY)
    await house.settle(client, 0)
    await house.write(REI, OTHER_RKEY)
    await house.settle(client, 1)
    assert client.models[PDS].paths(REI) == [ENROLLMENT_PATH, STUB, OTHER_STUB]
    assert cursor is not None
    assert house.backend.cursors.get(PUBLISHER) == house.engine.service.log.head > cursor
