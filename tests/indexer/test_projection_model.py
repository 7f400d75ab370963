"""Whatever is delivered, repeated, lost, crashed and fetched in between: in the end the rows show what the service holds."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from stratos.atproto.car import read_car
from stratos.atproto.frames import encode_info
from stratos.atproto.syntax import Did, format_datetime
from stratos.core.log_entry import Action
from stratos.indexer.appview_db import AppViewDatabase, Connection
from stratos.indexer.blocked_actors import BlockedActor, BlockedActors, Mending
from stratos.indexer.projection import ProjectionWriter
from stratos.indexer.repo_snapshot import Snapshot, read_snapshot
from stratos.indexer.service_client import RepoBlocks
from tests.indexer.rows import NOW, SOURCE, apply, blocked, decoded, enrollments, position, posts, revs
from tests.indexer.stratos_model import SERVICE_URL, ModelService, post

DIDS = [Did(f"did:plc:{letter * 24}") for letter in "abc"]
RKEYS = [f"3mgaaaaaaaaa{letter}" for letter in "abc"]
BOUNDARIES = ["writers", "editors"]
TABLES = (
    "stratos_post, stratos_post_boundary, stratos_enrollment, stratos_sync_cursor, stratos_stream_cursor, stratos_blocked_actor"
)


class Crash(Exception):
    """The process dies before the transaction commits."""


@dataclass
class World:
    """The service, the AppView's database, and a consumer between them that can fail in every way."""

    database: AppViewDatabase
    service: ModelService = field(default_factory=ModelService)
    fetched: list[tuple[BlockedActor, Snapshot | None]] = field(default_factory=list)
    unseen: bool = False

    def change(self, who: int, what: str, rkey: str, names: list[str], logged: bool) -> None:
        """Something happens at the service, as far as it can."""
        did = DIDS[who]
        repo = self.service.repos.get(did)
        if repo is None or what == "enroll":
            self.service.enroll(did, *names)
            return
        if what == "unenroll":
            self.service.unenroll(did)
            return
        self.unseen |= not logged
        standing = f"zone.stratos.feed.post/{rkey}" in repo.records
        if what == "delete" and standing:
            self.service.write(did, (Action.DELETE, rkey, None), log=logged)
        elif what != "delete":
            action = Action.UPDATE if standing else Action.CREATE
            self.service.write(did, (action, rkey, post(f"{self.service.now}", *names)), log=logged)

    def pending(self) -> list[bytes]:
        """What the stream would send from the saved position."""
        after = position(self.database)
        notice = [encode_info("OutdatedCursor", "")] if after < self.service.trimmed_to else []
        return notice + self.service.frames(after)

    def deliver(self, most: int) -> None:
        """A batch arrives."""
        frames = self.pending()[:most]
        if frames:
            apply(self.database, frames)

    def repeat(self, back: int) -> None:
        """Events that were applied before arrive once more, together with new ones."""
        frames = self.service.frames()
        seen = len([1 for seq, _ in self.service.log if seq <= position(self.database)])
        if self.service.trimmed_to <= position(self.database):
            apply(self.database, frames[max(0, seen - back) : seen + 1])

    def crash(self, most: int) -> None:
        """A batch is applied, but the process dies before the commit."""
        writer = ProjectionWriter(self.database.queries, source=SOURCE, service_url=SERVICE_URL)
        with suppress(Crash), self.database.transaction() as connection:
            writer.apply(connection, decoded(self.pending()[:most]), NOW)
            raise Crash

    def fetch(self) -> None:
        """Blocked actors are fetched, but not yet written."""
        actors = BlockedActors(self.database.queries, service_url=SERVICE_URL)
        with self.database.transaction() as connection:
            due = actors.due(connection, NOW, busy=(), limit=10)
        self.fetched += [(actor, self._snapshot(actor.did)) for actor in due]

    def write_fetched(self) -> list[Mending]:
        """What was fetched, perhaps long ago, is written."""
        actors = BlockedActors(self.database.queries, service_url=SERVICE_URL)
        outcomes: list[Mending] = []
        for actor, snapshot in self.fetched:
            with self.database.transaction() as connection:
                if snapshot is None:
                    outcomes.append(actors.purge(connection, actor))
                else:
                    outcomes.append(actors.mend(connection, actor, snapshot, format_datetime(NOW), NOW))
        self.fetched = []
        return outcomes

    def compare(self) -> None:
        """The service's list of repositories is compared."""
        parameters = {"source": SOURCE, "now": format_datetime(NOW)}
        listed = self.service.revs()
        with self.database.transaction() as connection:
            self._note(connection, list(listed), list(listed.values()))
            connection.execute(self.database.queries.block_differing_actors, parameters)
            connection.execute(self.database.queries.forget_listed_actors, parameters)

    def settle(self) -> None:
        """The faults end; everything outstanding is done."""
        self.deliver(1_000)
        if self.unseen:
            # Nobody can know of events that never came; the stream says OutdatedCursor, and a comparison follows.
            self.compare()
        for _ in range(5):
            self.fetch()
            self.write_fetched()

    def _snapshot(self, did: Did) -> Snapshot | None:
        repo = self.service.repos.get(did)
        if repo is None:
            return None
        car = read_car(repo.car())
        return read_snapshot(did, RepoBlocks(car.roots[0], car.blocks), repo.keys, format_datetime(NOW))

    def _note(self, connection: Connection, dids: Sequence[str], listed: Sequence[str]) -> None:
        connection.execute(self.database.queries.note_listed_actors, {"source": SOURCE, "did": list(dids), "rev": list(listed)})


_changes = st.tuples(
    st.just("change"),
    st.integers(0, len(DIDS) - 1),
    st.sampled_from(["write", "write", "write", "delete", "enroll", "unenroll"]),
    st.sampled_from(RKEYS),
    st.lists(st.sampled_from(BOUNDARIES), max_size=2, unique=True),
    st.sampled_from([True, True, False]),
)
_steps = st.one_of(
    _changes,
    _changes,
    st.tuples(st.just("deliver"), st.integers(1, 6)),
    st.tuples(st.sampled_from(["repeat", "crash"]), st.integers(1, 6)),
    st.tuples(st.just("gap"), st.integers(0, len(DIDS) - 1), st.sampled_from(RKEYS)),
    st.tuples(st.sampled_from(["fetch", "write"])),
    st.tuples(st.sampled_from(["fetch", "write"])),
    st.tuples(st.sampled_from(["fetch", "write", "trim"])),
)


def _do(world: World, step: tuple[object, ...]) -> None:
    match step:
        case ("change", int(who), str(what), str(rkey), list(names), bool(logged)):
            world.change(who, what, rkey, names, logged)
        case ("deliver", int(most)):
            world.deliver(most)
        case ("repeat", int(back)):
            world.repeat(back)
        case ("crash", int(most)):
            world.crash(most)
        case ("gap", int(who), str(rkey)):
            world.change(who, "write", rkey, BOUNDARIES, False)
            world.change(who, "write", RKEYS[0], BOUNDARIES, True)
            world.deliver(1_000)
        case ("fetch",):
            world.fetch()
        case ("write",):
            for outcome in world.write_fetched():
                event(outcome.value)
        case ("trim",):
            world.unseen |= bool(world.pending())
            world.service.trim()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(_steps, min_size=5, max_size=60))
def test_rows_converge_to_what_the_service_holds(appview_db: AppViewDatabase, steps: list[tuple[object, ...]]) -> None:
    with appview_db.transaction() as connection:
        connection.execute(f"TRUNCATE {TABLES}")
    world = World(appview_db)
    for did in DIDS:
        world.service.enroll(did, *BOUNDARIES)
    world.deliver(10)
    for step in steps:
        _do(world, step)
    if blocked(appview_db):
        event("blocked before settling")
    world.settle()
    assert blocked(appview_db) == {}
    assert posts(appview_db) == world.service.posts()
    assert revs(appview_db) == world.service.revs()
    shown = enrollments(appview_db)
    assert shown.keys() == world.service.boundaries().keys()
    assert all(held is None or held == world.service.boundaries()[Did(did)] for did, held in shown.items())
