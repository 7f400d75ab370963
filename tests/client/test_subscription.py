"""Following a stream: order, resuming, what ends it, and what a consumer that is slow, fails or leaves does to it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from urllib.parse import parse_qs, urlsplit

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from stratos.atproto.frames import encode_error, encode_info
from stratos.client import (
    BackoffPolicy,
    BearerToken,
    CommitEvent,
    ConsumerTooSlow,
    EnrollmentEvent,
    FutureCursor,
    Gap,
    MalformedEvent,
    NoAnswer,
    OutdatedCursor,
    StreamEvent,
    StreamLimits,
    Subscription,
    SubscriptionConfig,
    SubscriptionRefused,
    XrpcFailure,
    subscribe,
)
from tests.client.builders import ALICE, BOB
from tests.indexer.stratos_model import SYNC_TOKEN, ModelService, post

URL = "http://stratos.test"
TOKEN = BearerToken(SYNC_TOKEN)
QUICK = SubscriptionConfig(backoff=BackoffPolicy(initial=0.5, longest=4.0))


@pytest.fixture
def service() -> ModelService:
    """Two accounts with some posts."""
    service = ModelService()
    for did in (ALICE, BOB):
        service.enroll(did, "writers")
    for number in range(20):
        service.create((ALICE, BOB)[number % 2], f"3mgaaaaaaa{chr(97 + number)}aa", post(f"{number}", "writers"))
    return service


@dataclass
class Scripted:
    """A server whose connections bring these frames, one list each, and then close; the last one stays open."""

    connections: list[list[bytes]]
    asked: list[tuple[str, str]] = field(default_factory=list)

    @asynccontextmanager
    async def connect(self, url: str, headers: Sequence[tuple[str, str]]) -> AsyncIterator[ScriptedSocket]:
        self.asked.append((url, dict(headers)["Authorization"]))
        number = len(self.asked) - 1
        yield ScriptedSocket(self.connections[min(number, len(self.connections) - 1)], number >= len(self.connections) - 1)

    def cursors(self) -> list[int]:
        return [int(parse_qs(urlsplit(url).query)["cursor"][0]) for url, _ in self.asked]


class ScriptedSocket:
    """One connection."""

    def __init__(self, frames: list[bytes], stays: bool) -> None:
        self._frames = list(frames)
        self._stays = stays

    async def get_message(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if self._frames:
            return self._frames.pop(0)
        if self._stays:
            await trio.sleep_forever()
        raise OSError("the connection is gone")

    async def ping(self, payload: bytes | None = None) -> None:
        await trio.lowlevel.checkpoint()


def following(
    server: Scripted | ModelService, cursor: int = 0, config: SubscriptionConfig = QUICK
) -> AbstractAsyncContextManager[Subscription]:
    return subscribe(URL, TOKEN, cursor=cursor, rng=random.Random(1), config=config, connect=server.connect)


async def taken(stream: Subscription, count: int) -> list[StreamEvent]:
    """That many events, however they come in batches."""
    events: list[StreamEvent] = []
    while len(events) < count:
        batch = await anext(stream)
        assert batch.events
        events += batch.events
    assert len(events) == count
    return events


async def gathered(server: Scripted | ModelService, count: int, cursor: int = 0) -> list[StreamEvent]:
    """That many events of a stream of its own."""
    async with following(server, cursor) as stream:
        return await taken(stream, count)


def seqs(events: Sequence[StreamEvent]) -> list[int]:
    return [event.seq for event in events if isinstance(event, CommitEvent | EnrollmentEvent) and event.seq is not None]


async def test_every_event_arrives_once_in_order_with_the_cursor_of_the_batch(service: ModelService) -> None:
    async with following(service) as stream:
        events: list[StreamEvent] = []
        while len(events) < len(service.log):
            batch = await anext(stream)
            events += batch.events
            assert batch.cursor == seqs(events)[-1] == stream.cursor
    assert seqs(events) == [seq for seq, _ in service.log]


async def test_a_cursor_is_exclusive(service: ModelService) -> None:
    middle = service.log[10][0]
    assert seqs(await gathered(service, len(service.log) - 11, middle)) == [seq for seq, _ in service.log[11:]]


async def test_what_is_asked_for_is_in_the_query_and_the_credential_in_a_header() -> None:
    async def query(**options: object) -> dict[str, list[str]]:
        server = Scripted([[encode_info("OutdatedCursor", "x")]])
        async with subscribe(URL, TOKEN, cursor=5, rng=random.Random(1), connect=server.connect, **options) as stream:  # type: ignore[arg-type] # options by name
            await anext(stream)
        ((url, authorization),) = server.asked
        assert authorization == f"Bearer {SYNC_TOKEN}"
        assert url.startswith("ws://stratos.test/xrpc/zone.stratos.sync.subscribeRecords?")
        assert SYNC_TOKEN not in url
        return parse_qs(urlsplit(url).query)

    assert await query() == {"includeCommits": ["true"], "cursor": ["5"]}
    assert await query(include_commits=False) == {"cursor": ["5"]}
    assert await query(did=ALICE, domains=["a/b", "c&d"]) == {"did": [ALICE], "domain": ["a/b", "c&d"], "cursor": ["5"]}


async def test_a_lost_connection_is_replaced_from_the_last_batch_on(service: ModelService, autojump_clock: MockClock) -> None:
    frames = service.frames()
    server = Scripted([frames[:5], [], frames[3:9], frames[9:]])
    events = await gathered(server, len(frames))
    assert seqs(events) == [seq for seq, _ in service.log], "what a server repeats is not handed over again"
    fifth, ninth = service.log[4][0], service.log[8][0]
    assert server.cursors() == [0, fifth, fifth, ninth]


async def test_waiting_between_connections_grows_and_starts_anew_after_progress(
    service: ModelService, autojump_clock: MockClock
) -> None:
    server = Scripted([[], [], [], service.frames()[:1], []])
    times: list[float] = []

    @asynccontextmanager
    async def connect(url: str, headers: Sequence[tuple[str, str]]) -> AsyncIterator[ScriptedSocket]:
        times.append(trio.current_time())
        async with server.connect(url, headers) as socket:
            yield socket

    async with subscribe(URL, TOKEN, cursor=0, rng=random.Random(1), config=QUICK, connect=connect) as stream:
        await anext(stream)
        await trio.sleep(5)
    waits = [later - earlier for earlier, later in pairwise(times)]
    for wait, full in zip(waits, (0.5, 1.0, 2.0, 0.5), strict=True):
        assert full / 2 <= wait <= full + 0.01


async def test_an_outdated_cursor_is_an_event_and_the_stream_goes_on(service: ModelService) -> None:
    server = Scripted([[encode_info("OutdatedCursor", "some events may be missed"), *service.frames()]])
    events = await gathered(server, 1 + len(service.log))
    assert events[0] == OutdatedCursor("some events may be missed")
    assert seqs(events)[0] == service.log[0][0]


async def test_a_future_cursor_ends_the_stream_with_its_own_error() -> None:
    server = Scripted([[encode_error("FutureCursor", "Cursor is in the future")]])
    async with following(server, 99) as stream:
        for _ in range(2):
            with pytest.raises(FutureCursor, match="Cursor is in the future"):
                await anext(stream)
    assert len(server.asked) == 1


@pytest.mark.parametrize("name", ["AuthRequired", "AuthenticationRequired", "InvalidRequest", "NotFound"])
async def test_a_refusal_ends_the_stream_and_what_came_before_is_handed_over(service: ModelService, name: str) -> None:
    server = Scripted([[*service.frames()[:2], encode_error(name, "no")]])
    async with following(server) as stream:
        await taken(stream, 2)
        with pytest.raises(SubscriptionRefused) as caught:
            await anext(stream)
    assert (caught.value.name, caught.value.message) == (name, "no")


async def test_a_service_that_cannot_tell_whether_we_may_subscribe_is_asked_again(
    service: ModelService, autojump_clock: MockClock
) -> None:
    server = Scripted([[encode_error("ServiceUnavailable", "who you are")], service.frames()])
    async with following(server) as stream:
        assert seqs(await taken(stream, len(service.log))) == [seq for seq, _ in service.log]
    assert len(server.asked) == 2


async def test_a_consumer_that_was_too_slow_is_told_and_goes_on(service: ModelService, autojump_clock: MockClock) -> None:
    frames = service.frames()
    server = Scripted([[*frames[:4], encode_error("ConsumerTooSlow", "too slow")], frames[4:]])
    async with following(server) as stream:
        events = await taken(stream, 4)
        told = await anext(stream)
        assert (told.events, told.cursor) == ((ConsumerTooSlow("too slow"),), service.log[3][0])
        events += await taken(stream, len(frames) - 4)
        assert stream.statistics()["too_slow_total"] == 1
    assert seqs(events) == [seq for seq, _ in service.log]


async def test_a_gap_stands_before_the_commit_behind_it(service: ModelService) -> None:
    service.create(ALICE, "3mgbaaaaaaaaa", post("lost", "writers"), log=False)
    service.create(ALICE, "3mgbaaaaaaaba", post("seen", "writers"))
    events = await gathered(service, len(service.log) + 1)
    gap, commit = events[-2:]
    assert isinstance(gap, Gap)
    assert isinstance(commit, CommitEvent)
    assert (gap.did, gap.since, gap.seq) == (ALICE, commit.since, commit.seq)
    assert [event for event in events if isinstance(event, Gap)] == [gap]


async def test_a_record_that_is_not_what_its_cid_says_is_malformed_and_its_place_is_passed(service: ModelService) -> None:
    frames = service.frames()
    broken = frames[-1].replace(b"19", b"91")
    assert broken != frames[-1]
    server = Scripted([[*frames[:-1], broken]])
    events = await gathered(server, len(frames))
    assert isinstance(events[-1], MalformedEvent)
    assert (events[-1].did, events[-1].seq) == (BOB, service.log[-1][0])


async def test_a_batch_that_was_not_taken_is_not_passed_when_the_connection_breaks(
    service: ModelService, autojump_clock: MockClock
) -> None:
    frames = service.frames()

    class Breaking(Scripted):
        @asynccontextmanager
        async def connect(self, url: str, headers: Sequence[tuple[str, str]]) -> AsyncIterator[ScriptedSocket]:
            async with super().connect(url, headers) as socket, trio.open_nursery() as nursery:
                if len(self.asked) == 1:
                    nursery.start_soon(self.collapse)
                yield socket
                nursery.cancel_scope.cancel()

        async def collapse(self) -> None:
            await trio.sleep(1)
            raise RuntimeError("a bug of a library")

    server = Breaking([[*frames, b"\xff"], frames])
    config = SubscriptionConfig(limits=StreamLimits(batch_frames=1), backoff=QUICK.backoff)
    async with following(server, config=config) as stream:
        events = list((await anext(stream)).events)
        first = stream.cursor
        await trio.sleep(10)  # virtual: by now the first connection broke, and the commit in hand was never taken
        events += await taken(stream, len(frames) - len(events))
    assert seqs(events) == [seq for seq, _ in service.log]
    assert server.cursors() == [0, first]


async def test_a_slow_consumer_stops_the_reading_within_the_bounds(service: ModelService, autojump_clock: MockClock) -> None:
    limits = StreamLimits(inbox_frames=5, batch_frames=3)
    async with following(service, config=SubscriptionConfig(limits=limits)) as stream:
        await trio.sleep(5)
        held = stream.statistics()
        assert (held["pending_frames"], held["pending_frames_limit"]) == (5, 5)
        events: list[StreamEvent] = []
        while len(events) < len(service.log):
            batch = await anext(stream)
            assert len(batch.events) <= 3
            events += batch.events
        assert stream.connected
        assert stream.statistics()["events_total"] == len(service.log)
    assert seqs(events) == [seq for seq, _ in service.log]


async def test_an_error_of_the_consumer_comes_out_as_it_is(service: ModelService) -> None:
    async def consume() -> None:
        async with following(service) as stream:
            async for _ in stream:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await consume()


async def test_leaving_the_block_ends_the_connection(service: ModelService) -> None:
    async with following(service) as stream:
        await anext(stream)
        assert stream.connected
    assert not stream.connected


async def test_cancelling_a_wait_loses_no_batch(service: ModelService, autojump_clock: MockClock) -> None:
    async with following(service, service.head) as stream:
        with trio.move_on_after(1) as scope:
            await anext(stream)
        assert scope.cancelled_caught
        service.write(ALICE)
        assert seqs((await anext(stream)).events) == [service.head]


async def test_cancelling_the_block_ends_it(service: ModelService, autojump_clock: MockClock) -> None:
    with trio.move_on_after(1) as scope:
        async with following(Scripted([[]])) as stream:
            await anext(stream)
    assert scope.cancelled_caught


class Minting:
    """Credentials that number their tokens, or fail first."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.minted: list[tuple[str, bool]] = []

    async def authorization(self, nsid: str, *, once: bool) -> str:
        await trio.lowlevel.checkpoint()
        if self.failures:
            raise self.failures.pop(0)
        self.minted.append((nsid, once))
        return f"Bearer token-{len(self.minted)}"


async def test_every_connection_has_a_token_of_its_own(service: ModelService, autojump_clock: MockClock) -> None:
    credentials, frames = Minting(), service.frames()
    server = Scripted([frames[:2], frames[2:]])
    async with subscribe(URL, credentials, cursor=0, rng=random.Random(1), connect=server.connect) as stream:
        await taken(stream, len(frames))
    assert [authorization for _, authorization in server.asked] == ["Bearer token-1", "Bearer token-2"]
    assert credentials.minted == [("zone.stratos.sync.subscribeRecords", True)] * 2


async def test_a_pds_that_is_away_delays_and_one_that_refuses_ends_the_stream(
    service: ModelService, autojump_clock: MockClock
) -> None:
    server = Scripted([service.frames()])
    away = Minting(NoAnswer("down"), XrpcFailure(503, "Busy", ""))
    async with subscribe(URL, away, cursor=0, rng=random.Random(1), connect=server.connect) as stream:
        assert (await anext(stream)).events
    refusing = Minting(XrpcFailure(401, "ExpiredToken", "sign in"))
    async with subscribe(URL, refusing, cursor=0, rng=random.Random(1), connect=server.connect) as stream:
        with pytest.raises(XrpcFailure, match="ExpiredToken"):
            await anext(stream)
