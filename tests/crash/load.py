"""Several writers and subscribers against one home, and what must hold for all of them afterwards."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

from stratos.atproto.syntax import Did
from tests.crash.autopsy import Autopsy
from tests.crash.clients import Subscriber, Writer, actor, enroll, posts_of
from tests.crash.http import connect
from tests.crash.processes import Home, Running


@dataclass
class Load:
    """Writers (two of them share the first account), a subscriber of everything and one of the first account alone."""

    writers: list[Writer]
    everything: Subscriber = field(default_factory=Subscriber)
    first: Subscriber = field(default_factory=lambda: Subscriber(did=actor(0)))

    @classmethod
    def of(cls, writers: int, seed: int) -> Load:
        """This many writers whose choices follow from the seed."""
        return cls([Writer(actor(max(0, number - 1)), number, random.Random(seed * 1000 + number)) for number in range(writers)])

    @property
    def dids(self) -> list[Did]:
        """The accounts that are written to."""
        return sorted({writer.did for writer in self.writers})

    async def enroll(self, service: Running) -> None:
        """Enroll everybody."""
        await enroll(service.url, *self.dids)

    async def run_until_death(self, service: Running) -> None:
        """Write and read until the service is gone."""
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for subscriber in (self.everything, self.first):
                    await nursery.start(subscriber.follow, service.url)
                for writer in self.writers:
                    nursery.start_soon(writer.write_until_death, service.url)

    async def check_acknowledged(self, service: Running) -> None:
        """I1, and all or nothing: what owners read is what was acknowledged, with all or nothing of what was under way."""
        for did in self.dids:
            async with connect(service.url) as connection:
                posts = await posts_of(connection, did)
            found = {rkey: text for rkey, (_, text) in posts.items()}
            writers = [writer for writer in self.writers if writer.did == did]
            assert all(any(writer.owns(rkey) for writer in writers) for rkey in found)
            for writer in writers:
                assert writer.accounts_for(found), (writer.did, writer.state, writer.pending, found)
                for rkey, cid in writer.cids.items():
                    if found.get(rkey, "") == writer.state.get(rkey):
                        assert posts[rkey][0] == cid
                writer.settle(posts)

    async def write_on(self, service: Running) -> None:
        """Everybody writes once more, and the subscribers go on from their cursors until they have seen it."""
        acks = [await writer.write_once(service.url) for writer in self.writers]
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.everything.follow, service.url, frozenset(ack.commit for ack in acks))
                mine = frozenset(ack.commit for ack in acks if ack.did == self.first.did)
                nursery.start_soon(self.first.follow, service.url, mine)

    def check_log(self, autopsy: Autopsy, *, gone: Sequence[Did] = ()) -> None:
        """I1, I2, I6: the log has every acknowledged commit in order, and the subscribers got every entry once, in order.

        Of accounts that are `gone` nothing is left to compare.
        """
        autopsy.check_order()
        for writer in self.writers:
            logged = [str(row.body["commit"]) for row in autopsy.commits(writer.did)]
            if writer.did not in gone:
                assert [ack.commit for ack in writer.acks] == [commit for commit in logged if commit in _commits(writer)]
        log = [(row.seq, row.frame) for row in autopsy.rows if row.did not in gone]
        told = [(seq, frame) for seq, frame in self.everything.frames if _did_of(autopsy, seq) not in gone]
        assert [seq for seq, _ in told] == [seq for seq, _ in log]
        assert told == log
        seqs = [seq for seq, _ in self.everything.frames]
        assert seqs == sorted(set(seqs))
        assert self.everything.notices == []
        if self.first.did is not None and self.first.did not in gone:
            assert self.first.frames == [(row.seq, row.frame) for row in autopsy.commits(self.first.did)]
            assert self.first.notices == []


async def recover(home: Home, load: Load, scratch: Path) -> Autopsy:
    """After a death: look at what it left, start the normal service, check I1 to I3 and I6, and go on with everything."""
    Autopsy.of_a_copy(home.data, scratch).check_stores(may_lag=True)
    async with home.service() as service:
        await load.check_acknowledged(service)
        await load.write_on(service)
        assert await service.stop() == 0
    autopsy = Autopsy.of(home.data)
    autopsy.check_stores(may_lag=False)
    load.check_log(autopsy)
    assert home.logged_errors() == []
    return autopsy


def _commits(writer: Writer) -> set[str]:
    return {ack.commit for ack in writer.acks}


def _did_of(autopsy: Autopsy, seq: int) -> Did | None:
    return next((row.did for row in autopsy.rows if row.seq == seq), None)
