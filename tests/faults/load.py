"""Clients that go on over faults: each remembers what was acknowledged, refused and left open, and how long it waited."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Final

import trio
from trio_websocket import HandshakeError

from stratos.atproto.syntax import Did
from tests.crash.clients import Subscriber, Writer, actor, posts_of
from tests.crash.http import Connection, Refused, ServiceGone, connect

AGAIN_SECONDS: Final = 0.05
"""Before a client that was refused, or whose service is gone, tries again."""
UNAVAILABLE: Final = (503, "ServiceUnavailable")
CONCURRENT: Final = "ConcurrentModification"


@dataclass
class Persistent:
    """A writer that after each call whose outcome it does not know reads what stands there, and goes on."""

    writer: Writer
    also_refused: frozenset[str] = frozenset({CONCURRENT})
    """Errors that say that a call was not carried out, and that are no surprise."""
    pause: float = 0.0
    """Seconds between two calls."""
    unavailable: list[Refused] = field(default_factory=list)
    slowest: float = 0.0
    """Seconds that the slowest answer took."""
    acknowledged: trio.Event = field(default_factory=trio.Event)
    refused: trio.Event = field(default_factory=trio.Event)

    async def write(self, url: str, stop: trio.Event) -> None:
        """Write until told to stop."""
        while not stop.is_set():
            with suppress(ServiceGone):
                async with connect(url) as connection:
                    while not stop.is_set():
                        await self.write_once(connection)
                        await trio.sleep(self.pause)
            await trio.sleep(AGAIN_SECONDS)

    async def write_once(self, connection: Connection) -> None:
        """Make one call, or find out what became of the last. Every refusal must be a clear 503."""
        started = trio.current_time()
        try:
            if self.writer.pending is not None:
                await settle(self.writer, connection)
            await self.writer.write(connection)
            self.acknowledged.set()
        except Refused as refusal:
            if refusal.error in self.also_refused:
                self.writer.pending = None
                return
            check_unavailable(refusal)
            self.unavailable.append(refusal)
            self.refused.set()
            await trio.sleep(AGAIN_SECONDS)
        finally:
            self.slowest = max(self.slowest, trio.current_time() - started)


async def acknowledged_anew(writers: Sequence[Persistent], *, within: float) -> float:
    """Wait until each of these has one call more acknowledged; the seconds that it took."""
    started = trio.current_time()
    for each in writers:
        each.acknowledged = trio.Event()
    with trio.fail_after(within):
        for each in writers:
            await each.acknowledged.wait()
    return trio.current_time() - started


def check_unavailable(refusal: Refused) -> None:
    """A clear 503 that says when to come back."""
    assert (refusal.status, refusal.error) == UNAVAILABLE, refusal
    assert int(refusal.retry_after or 0) > 0


async def settle(writer: Writer, connection: Connection) -> None:
    """Read what stands there: what was acknowledged, with all or nothing of the call that was left open."""
    posts = await posts_of(connection, writer.did)
    found = {rkey: text for rkey, (_, text) in posts.items()}
    assert writer.accounts_for(found), (writer.did, writer.number, writer.state, writer.pending, found)
    writer.settle(posts)


@dataclass
class Following:
    """A subscriber of everything that comes back with its cursor whenever its stream ends."""

    subscriber: Subscriber = field(default_factory=Subscriber)
    connections: int = 0

    async def follow(self, url: str, stop: trio.Event) -> None:
        """Follow until told to stop."""
        while not stop.is_set():
            try:
                async with trio.open_nursery() as nursery:
                    self.connections += 1
                    nursery.start_soon(_cancel_once_set, stop, nursery.cancel_scope)
                    await self.subscriber.follow(url)
                    nursery.cancel_scope.cancel()
            except* (OSError, trio.BrokenResourceError, HandshakeError):
                pass
            await trio.sleep(AGAIN_SECONDS)

    async def has_seen(self, commits: frozenset[str], url: str) -> None:
        """Read on until these commits have all arrived."""
        missing = commits - set(self.commits())
        if missing:
            await self.subscriber.follow(url, missing)

    def folded(self) -> dict[tuple[str, str], str]:
        """The texts that the stream leads to, by account and record key; each step must fit what was there."""
        texts: dict[tuple[str, str], str] = {}
        for body in self.subscriber.bodies():
            ops = body.get("ops", [])
            assert isinstance(ops, list)
            for op in ops:
                assert isinstance(op, dict)
                place = str(body["did"]), str(op["path"]).rpartition("/")[2]
                assert (op["action"] == "create") == (place not in texts), (body, op)
                record = op.get("record")
                if op["action"] == "delete":
                    del texts[place]
                else:
                    assert isinstance(record, dict)
                    texts[place] = str(record["text"])
        return texts

    def commits(self) -> list[str]:
        """Every commit that arrived, in order."""
        return [str(body["commit"]) for body in self.subscriber.bodies() if "commit" in body]


@dataclass
class FaultLoad:
    """Writers of an account each, and a subscriber of everything."""

    writers: Sequence[Persistent]
    following: Following = field(default_factory=Following)

    @classmethod
    def of(cls, writers: int, seed: int) -> FaultLoad:
        """This many writers whose choices follow from the seed."""
        return cls([Persistent(Writer(actor(n), n, Random(seed * 1000 + n))) for n in range(writers)])

    @property
    def dids(self) -> list[Did]:
        """The accounts that are written to."""
        return [each.writer.did for each in self.writers]

    @property
    def unavailable(self) -> list[Refused]:
        """Every 503 so far."""
        return [refusal for each in self.writers for refusal in each.unavailable]

    async def all_acknowledged_anew(self, *, within: float) -> float:
        """Wait until each writer has one call more acknowledged; the seconds that it took."""
        return await acknowledged_anew(self.writers, within=within)

    async def all_refused_anew(self, *, within: float) -> float:
        """Wait until each writer has been told once more that the service is unavailable; the seconds that it took."""
        started = trio.current_time()
        for each in self.writers:
            each.refused = trio.Event()
        with trio.fail_after(within):
            for each in self.writers:
                await each.refused.wait()
        return trio.current_time() - started

    async def check(self, url: str) -> None:
        """What was acknowledged is there and arrived once, in order; nothing else is there than what was left open."""
        for each in self.writers:
            async with connect(url) as connection:
                await settle(each.writer, connection)
        acknowledged = [ack.commit for each in self.writers for ack in each.writer.acks]
        with trio.fail_after(30):
            await self.following.has_seen(frozenset(acknowledged), url)
        self.following.subscriber.check_order()
        told = self.following.commits()
        assert len(told) == len(set(told))
        places = {commit: place for place, commit in enumerate(told)}
        for each in self.writers:
            order = [places[ack.commit] for ack in each.writer.acks]
            assert order == sorted(order)


async def _cancel_once_set(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
