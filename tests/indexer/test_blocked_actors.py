"""Writing what was fetched of a blocked actor, while the stream goes on."""

from __future__ import annotations

from datetime import timedelta

import pytest

from stratos.atproto.car import read_car
from stratos.atproto.syntax import Did, Tid, format_datetime
from stratos.core.log_entry import Action
from stratos.indexer.appview_db import AppViewDatabase
from stratos.indexer.blocked_actors import BlockedActor, BlockedActors, Mending
from stratos.indexer.repo_snapshot import Snapshot, read_snapshot
from stratos.indexer.service_client import RepoBlocks
from tests.indexer.rows import NOW, apply, blocked, enrollments, position, posts, revs, rows
from tests.indexer.stratos_model import SERVICE_URL, ModelService, post

ANN = Did("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
ONE, TWO, THREE = (f"3mgaaaaaaaaa{letter}" for letter in "abc")


@pytest.fixture
def service() -> ModelService:
    """An account whose second commit is lost."""
    service = ModelService()
    service.enroll(ANN, "writers")
    service.create(ANN, ONE, post("lost", "writers"), log=False)
    service.create(ANN, TWO, post("two", "writers"))
    return service


def due(database: AppViewDatabase) -> BlockedActor:
    with database.transaction() as connection:
        (actor,) = BlockedActors(database.queries, service_url=SERVICE_URL).due(connection, NOW, busy=(), limit=5)
    return actor


def snapshot(service: ModelService) -> Snapshot:
    repo = service.repos[ANN]
    car = read_car(repo.car())
    return read_snapshot(ANN, RepoBlocks(car.roots[0], car.blocks), repo.keys, format_datetime(NOW))


def mend(database: AppViewDatabase, actor: BlockedActor, fetched: Snapshot) -> Mending:
    with database.transaction() as connection:
        return BlockedActors(database.queries, service_url=SERVICE_URL).mend(
            connection, actor, fetched, "2026-01-01T00:00:00.000Z", NOW
        )


def purge(database: AppViewDatabase, actor: BlockedActor) -> Mending:
    with database.transaction() as connection:
        return BlockedActors(database.queries, service_url=SERVICE_URL).purge(connection, actor)


def test_a_mended_actor_shows_the_snapshot_and_the_stream_goes_on_from_its_rev(
    appview_db: AppViewDatabase, service: ModelService
) -> None:
    apply(appview_db, service.frames())
    assert mend(appview_db, due(appview_db), snapshot(service)) is Mending.MENDED
    assert blocked(appview_db) == {}
    assert posts(appview_db) == service.posts()
    assert revs(appview_db) == service.revs()
    before = position(appview_db)
    service.create(ANN, THREE, post("three", "writers"))
    apply(appview_db, service.frames(before))
    assert posts(appview_db) == service.posts()
    assert blocked(appview_db) == {}


def test_commits_that_a_snapshot_is_ahead_of_are_skipped(appview_db: AppViewDatabase, service: ModelService) -> None:
    apply(appview_db, service.frames())
    before = position(appview_db)
    service.create(ANN, THREE, post("three", "writers"))
    service.delete(ANN, TWO)
    mend(appview_db, due(appview_db), snapshot(service))
    applied = apply(appview_db, service.frames(before))
    assert (applied.commits, applied.duplicates) == (0, 2)
    assert posts(appview_db) == service.posts()


def test_a_snapshot_older_than_a_commit_that_passed_by_is_not_written(appview_db: AppViewDatabase, service: ModelService) -> None:
    apply(appview_db, service.frames())
    actor, old = due(appview_db), snapshot(service)
    before = position(appview_db)
    service.create(ANN, THREE, post("three", "writers"))
    apply(appview_db, service.frames(before))
    assert mend(appview_db, actor, old) is Mending.OVERTAKEN
    assert posts(appview_db) == {}
    assert mend(appview_db, due(appview_db), snapshot(service)) is Mending.MENDED
    assert posts(appview_db) == service.posts()


def test_a_fetch_begun_before_an_unenroll_writes_nothing(appview_db: AppViewDatabase, service: ModelService) -> None:
    apply(appview_db, service.frames())
    actor, old = due(appview_db), snapshot(service)
    before = position(appview_db)
    service.unenroll(ANN)
    apply(appview_db, service.frames(before))
    assert mend(appview_db, actor, old) is Mending.SUPERSEDED
    assert posts(appview_db) == {}
    assert enrollments(appview_db) == {}


def test_a_fetch_is_not_taken_for_that_of_a_later_block(appview_db: AppViewDatabase, service: ModelService) -> None:
    apply(appview_db, service.frames())
    actor = due(appview_db)
    before = position(appview_db)
    service.unenroll(ANN)
    service.enroll(ANN, "writers")
    service.create(ANN, ONE, post("lost again", "writers"), log=False)
    service.create(ANN, TWO, post("again", "writers"))
    apply(appview_db, service.frames(before))
    assert due(appview_db).id != actor.id
    gone = Snapshot(ANN, Tid("3zzzzzzzzzzzz"), ())
    assert mend(appview_db, actor, gone) is Mending.SUPERSEDED
    assert purge(appview_db, actor) is Mending.SUPERSEDED
    assert blocked(appview_db).keys() == {ANN}


def test_a_fetch_begun_before_a_comparison_is_void(appview_db: AppViewDatabase, service: ModelService) -> None:
    apply(appview_db, service.frames())
    actor, old = due(appview_db), snapshot(service)
    service.unenroll(ANN)
    with appview_db.transaction() as connection:
        connection.execute(appview_db.queries.block_differing_actors, {"source": SERVICE_URL, "now": format_datetime(NOW)})
    assert mend(appview_db, actor, old) is Mending.SUPERSEDED
    assert purge(appview_db, due(appview_db)) is Mending.MENDED
    assert posts(appview_db) == {}


def test_an_actor_is_not_purged_when_the_stream_has_spoken_of_it_since(
    appview_db: AppViewDatabase, service: ModelService
) -> None:
    apply(appview_db, service.frames())
    actor = due(appview_db)
    before = position(appview_db)
    service.enroll(ANN, "editors")
    apply(appview_db, service.frames(before))
    assert purge(appview_db, actor) is Mending.OVERTAKEN
    assert enrollments(appview_db) == service.boundaries()
    assert purge(appview_db, due(appview_db)) is Mending.MENDED
    assert enrollments(appview_db) == revs(appview_db) == blocked(appview_db) == {}


def test_posts_that_stay_keep_when_they_were_indexed(appview_db: AppViewDatabase) -> None:
    service = ModelService()
    service.enroll(ANN, "writers")
    service.write(ANN, (Action.CREATE, ONE, post("stays", "writers")), (Action.CREATE, TWO, post("goes", "writers")))
    apply(appview_db, service.frames())
    indexed = rows(appview_db, "SELECT \"indexedAt\" FROM stratos_post WHERE text = 'stays'")
    before = position(appview_db)
    service.write(ANN, (Action.DELETE, TWO, None), (Action.CREATE, THREE, post("new", "writers")), log=False)
    service.write(ANN)
    apply(appview_db, service.frames(before))
    mend(appview_db, due(appview_db), snapshot(service))
    assert posts(appview_db) == service.posts()
    assert rows(appview_db, "SELECT \"indexedAt\" FROM stratos_post WHERE text = 'stays'") == indexed
    assert rows(appview_db, "SELECT \"indexedAt\" FROM stratos_post WHERE text = 'new'") == [(format_datetime(NOW),)]


def test_an_unknown_enrollment_is_adopted_without_granting_anything(appview_db: AppViewDatabase) -> None:
    service = ModelService()
    service.enroll(ANN, "writers")
    service.trim()
    service.create(ANN, ONE, post("one", "writers"))
    apply(appview_db, service.frames())
    mend(appview_db, due(appview_db), snapshot(service))
    assert enrollments(appview_db) == {ANN: None}
    assert rows(appview_db, 'SELECT "enrolledAt", "serviceUrl" FROM stratos_enrollment') == [
        ("2026-01-01T00:00:00.000Z", SERVICE_URL)
    ]


def test_a_failed_attempt_is_due_again_only_later(appview_db: AppViewDatabase, service: ModelService) -> None:
    apply(appview_db, service.frames())
    actors = BlockedActors(appview_db.queries, service_url=SERVICE_URL)
    actor = due(appview_db)
    with appview_db.transaction() as connection:
        actors.postpone(connection, actor, error="no\0 answer", until=NOW + timedelta(minutes=1))
        assert actors.due(connection, NOW, busy=(), limit=5) == []
        (again,) = actors.due(connection, NOW + timedelta(minutes=1), busy=(), limit=5)
        assert (again.attempts, again.id) == (1, actor.id)
        assert actors.due(connection, NOW + timedelta(minutes=1), busy=[ANN], limit=5) == []
        assert actors.summary(connection, alarm_attempts=1).alarming == 1
    assert blocked(appview_db) == {ANN: "no\ufffd answer"}
