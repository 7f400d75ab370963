"""The proof: two processes on one PostgreSQL under load, and everything that can go wrong with them, one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import pytest
import trio

from stratos.atproto.syntax import Did
from tests.crash.clients import POST, Subscriber, Writer, actor, domain_of, enroll, post
from tests.crash.http import Refused, ServiceGone, connect
from tests.crash.processes import ADMIN_PASSWORD, DOMAINS
from tests.faults.exports import exported_posts
from tests.faults.house import RECOVERY_SECONDS
from tests.faults.load import AGAIN_SECONDS, CONCURRENT, Following, Persistent, acknowledged_anew, check_unavailable, settle
from tests.faults.own_postgres import OwnPostgres
from tests.faults.pair import Pair, open_pair
from tests.faults.probe import Probe

SEED: Final = 20261127
ACTORS: Final = 64
SHARED_ACTORS: Final = 8
"""So many accounts are written to through both processes at the same time."""
FICKLE_ACTORS: Final = 16
"""So many accounts are given and taken a boundary all the while."""
PAUSE_SECONDS: Final = 0.15
"""Between two calls of a writer: enough of them for a load, few enough for a machine that does something else too."""
FORBIDDEN: Final = "ForbiddenBoundary"
VIEWER: Final = Did("did:plc:viewer")

pytestmark = [pytest.mark.crash, pytest.mark.slow, pytest.mark.timeout(240)]


@dataclass
class Scene:
    """Everybody who takes part. Writers and followers come in pairs: of the first process, then of the second."""

    pair: Pair
    writers: tuple[list[Persistent], list[Persistent]]
    following: list[Following]
    scoped: list[Following]
    probes: list[Probe]

    @classmethod
    def of(cls, pair: Pair) -> Scene:
        """The cast of the proof."""
        everybody: tuple[list[Persistent], list[Persistent]] = ([], [])
        for number in range(ACTORS + SHARED_ACTORS):
            account = number % ACTORS
            where = (number + number // ACTORS) % 2
            writer = Writer(actor(account), number, Random(SEED + number), DOMAINS)
            everybody[where].append(Persistent(writer, frozenset({CONCURRENT, FORBIDDEN}), PAUSE_SECONDS))
        return cls(
            pair,
            everybody,
            [Following(), Following(), Following()],
            [Following(Subscriber(domains=DOMAINS[:1])), Following(Subscriber(domains=DOMAINS[:1]))],
            [Probe(VIEWER, DOMAINS[0], Random(SEED)), Probe(VIEWER, DOMAINS[0], Random(SEED + 1))],
        )

    @property
    def all_writers(self) -> list[Persistent]:
        """Those of both processes."""
        return [*self.writers[0], *self.writers[1]]

    @asynccontextmanager
    async def played(self) -> AsyncIterator[None]:
        """Let everybody act for the block."""
        stop = trio.Event()
        urls = [member.url for member in self.pair.members]
        await enroll(urls[0], *map(actor, range(ACTORS)))
        async with connect(urls[1]) as connection:
            await connection.post("zone.stratos.admin.enroll", ADMIN_PASSWORD, {"did": VIEWER, "boundaries": DOMAINS[:1]})
        everything = [each.writer for each in self.all_writers]
        async with trio.open_nursery() as nursery:
            for place, url in enumerate(urls):
                for each in self.writers[place]:
                    nursery.start_soon(each.write, url, stop)
                nursery.start_soon(self.following[place].follow, url, stop)
                nursery.start_soon(self.scoped[place].follow, url, stop)
                nursery.start_soon(self.probes[place].read, url, everything, stop)
            nursery.start_soon(self._roam, urls, stop)
            nursery.start_soon(self._give_and_take, urls, stop)
            await acknowledged_anew(self.all_writers, within=RECOVERY_SECONDS)
            yield
            stop.set()

    async def _roam(self, urls: list[str], stop: trio.Event) -> None:
        """The third follower takes its cursor from one process to the other after each second."""
        turn = 0
        while not stop.is_set():
            turn += 1
            leave = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.following[2].follow, urls[turn % 2], leave)
                with trio.move_on_after(1):
                    await stop.wait()
                leave.set()

    async def _give_and_take(self, urls: list[str], stop: trio.Event) -> None:
        """Take a boundary from an account at one process and give it back at the other."""
        rng = Random(SEED)
        while not stop.is_set():
            body = {"did": actor(rng.randrange(FICKLE_ACTORS)), "boundary": DOMAINS[1]}
            for action, url in zip(("removeBoundary", "addBoundary"), rng.sample(urls, 2), strict=True):
                await _carry_out(url, f"zone.stratos.admin.{action}", body)


async def _carry_out(url: str, nsid: str, body: object) -> None:
    """Call a method of the operator again and again until it succeeds."""
    while True:
        with suppress(ServiceGone):
            async with connect(url) as connection:
                try:
                    await connection.post(nsid, ADMIN_PASSWORD, body)
                except Refused as refusal:
                    if refusal.error != CONCURRENT:
                        check_unavailable(refusal)
                else:
                    return
        await trio.sleep(AGAIN_SECONDS)


async def disturb(scene: Scene, record: dict[str, float]) -> None:
    """One fault after the other; each is over when every writer of either process has had a call acknowledged."""
    pair = scene.pair
    for place, member in enumerate(pair.members):
        async with trio.open_nursery() as nursery:
            started = trio.current_time()
            await member.kill()

            async def other(place: int = place) -> None:
                others = scene.writers[1 - place]
                record[f"process {place} killed: writes at the other"] = await acknowledged_anew(others, within=RECOVERY_SECONDS)

            nursery.start_soon(other)
            await acknowledged_anew(scene.writers[place], within=RECOVERY_SECONDS)
            record[f"process {place} killed: writes at itself, started again"] = trio.current_time() - started
    started = trio.current_time()
    await pair.postgres.restart("immediate")
    await acknowledged_anew(scene.all_writers, within=RECOVERY_SECONDS)
    record["PostgreSQL restarted: writes at both"] = trio.current_time() - started
    proxy = pair.members[0].proxy
    proxy.stall()
    for each in scene.writers[0]:
        each.refused = trio.Event()
    record["first connection stalled: writes at the other"] = await acknowledged_anew(scene.writers[1], within=RECOVERY_SECONDS)
    with trio.fail_after(RECOVERY_SECONDS):
        for each in scene.writers[0]:
            await each.refused.wait()
    proxy.resume()
    record["stall over: writes at the first"] = await acknowledged_anew(scene.writers[0], within=RECOVERY_SECONDS)
    proxy.cut()
    record["first connection cut: writes at both"] = await acknowledged_anew(scene.all_writers, within=RECOVERY_SECONDS)


async def check_repositories(scene: Scene, keys: dict[str, str]) -> dict[tuple[str, str], str]:
    """Every repository, as either process exports it, is signed, complete, and what its writers know; gives the texts."""
    everything: dict[tuple[str, str], str] = {}
    for member in scene.pair.members:
        async with connect(member.url) as connection:
            for each in scene.all_writers:
                await settle(each.writer, connection)
            for number in range(ACTORS):
                did = actor(number)
                found = await exported_posts(connection, did, keys[did])
                expected: dict[str, str] = {}
                for each in scene.all_writers:
                    if each.writer.did == did:
                        expected |= each.writer.state
                assert found == expected
                everything |= {(did, rkey): text for rkey, text in found.items()}
    return everything


async def say_goodbye(pair: Pair) -> dict[tuple[str, str], str]:
    """The last entry of the log, which every stream gets."""
    async with connect(pair.members[1].url) as connection:
        body = {"repo": VIEWER, "collection": POST, "rkey": "3k2yihxcxkk2y", "record": post("goodbye")}
        await connection.post("zone.stratos.repo.createRecord", VIEWER, body)
    return {(VIEWER, "3k2yihxcxkk2y"): "goodbye"}


async def check_streams(scene: Scene, log: list[tuple[int, bytes]], texts: dict[tuple[str, str], str]) -> None:
    """Every stream had every entry of the log once and in its order; scoped ones lead to exactly what is in their boundary."""
    last = log[-1][0]
    urls = [member.url for member in scene.pair.members]
    for each, url in zip([*scene.following, *scene.scoped], [*urls, urls[0], *urls], strict=True):
        with trio.fail_after(RECOVERY_SECONDS):
            await each.subscriber.follow(url, to=last)
    acknowledged = [ack.commit for each in scene.all_writers for ack in each.writer.acks]
    for each in scene.following:
        assert each.subscriber.frames == log
        each.subscriber.check_order()
        assert len(each.commits()) == len(set(each.commits()))
        assert set(acknowledged) <= set(each.commits())
    visible = {path: text for path, text in texts.items() if domain_of(text) == DOMAINS[0]}
    for each in scene.scoped:
        assert each.folded() == visible


async def test_nothing_that_happens_to_two_processes_loses_doubles_reorders_or_betrays_anything(
    own_postgres: OwnPostgres, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    recovery: dict[str, float] = {}
    async with open_pair(own_postgres, tmp_path) as pair:
        scene = Scene.of(pair)
        async with scene.played():
            await disturb(scene, recovery)
        last = await say_goodbye(pair)
        with own_postgres.connect(pair.database) as session:
            keys: dict[str, str] = dict(session.execute('SELECT did, "signingKeyDid" FROM enrollment').fetchall())
            log = [(seq, frame) for seq, frame in session.execute("SELECT seq, frame FROM log ORDER BY seq")]
        texts = await check_repositories(scene, keys)
        await check_streams(scene, log, texts | last)
    for what, seconds in recovery.items():
        record_property(what, round(seconds, 2))
        print(f"{what}: {seconds:.2f} s")
    writers = scene.all_writers
    print(f"{len(log)} entries, {sum(len(each.writer.acks) for each in writers)} acknowledged,")
    print(f"{sum(len(each.unavailable) for each in writers)} told 503, slowest {max(each.slowest for each in writers):.2f} s")
    for probe in scene.probes:
        assert probe.shown
        assert probe.kept_back
        print(f"probe: {probe.shown} shown, {probe.kept_back} kept back, {probe.unavailable} times 503")
