"""Batches become rows: the effects of every event, refused changes, replays. On a real PostgreSQL."""

from __future__ import annotations

import random
import string
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from stratos.atproto.syntax import Did
from stratos.core.boundaries import Boundary
from stratos.core.log_entry import Action
from stratos.indexer.appview_db import AppViewDatabase, AppViewDbConfig, DatabaseUnavailable
from stratos.indexer.appview_sql import AppViewSql
from stratos.indexer.events import CommitEvent
from stratos.indexer.projection import ProjectionWriter
from tests.indexer.rows import NOW, apply, blocked, decoded, enrollments, position, posts, revs, rows
from tests.indexer.stratos_model import SERVICE_URL, START, ModelService, boundary, post
from tests.postgres import recorded
from tests.vectors import reference

ANN = Did("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
BOB = Did("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")


def key(number: int) -> str:
    return f"3mgaaaaaaaa{number // 26 % 26:c}{number % 26:c}".translate({n: chr(ord("a") + n) for n in range(26)})


@pytest.fixture
def service() -> ModelService:
    """Two accounts in two boundaries."""
    service = ModelService()
    service.enroll(ANN, "writers")
    service.enroll(BOB, "writers", "editors")
    return service


def incompressible(length: int) -> str:
    """Text that PostgreSQL cannot squeeze into an index entry."""
    return "".join(random.Random(1).choices(string.ascii_letters + string.digits, k=length))


def test_posts_boundaries_enrollments_and_positions_are_written(appview_db: AppViewDatabase, service: ModelService) -> None:
    service.write(
        ANN, (Action.CREATE, key(1), post("one", "writers")), (Action.CREATE, key(2), post("two", "writers", "editors"))
    )
    applied = apply(appview_db, service.frames())
    assert posts(appview_db) == service.posts()
    assert enrollments(appview_db) == service.boundaries()
    assert revs(appview_db) == service.revs()
    assert position(appview_db) == service.head == applied.seq
    assert (applied.upserts, applied.commits, applied.blocked) == (2, 3, ())


def test_an_update_replaces_all_but_creation_time(appview_db: AppViewDatabase, service: ModelService) -> None:
    service.create(ANN, key(1), post("one", "writers", created_at="2026-02-01T00:00:00.000Z", langs=["en"], tags=["x"]))
    apply(appview_db, service.frames())
    before = position(appview_db)
    service.update(ANN, key(1), post("two", "editors", created_at="2026-02-20T00:00:00.000Z"))
    apply(appview_db, service.frames(before))
    assert posts(appview_db) == service.posts()
    assert rows(appview_db, 'SELECT text, langs, tags, "createdAt", "sortAt" FROM stratos_post') == [
        ("two", None, None, "2026-02-01T00:00:00.000Z", "2026-02-01T00:00:00.000Z")
    ]


def test_a_revoked_boundary_disappears_with_the_update(appview_db: AppViewDatabase, service: ModelService) -> None:
    service.create(ANN, key(1), post("one", "writers", "editors"))
    apply(appview_db, service.frames())
    before = position(appview_db)
    service.update(ANN, key(1), post("one", "editors"))
    apply(appview_db, service.frames(before))
    assert rows(appview_db, "SELECT boundary FROM stratos_post_boundary") == [(boundary("editors"),)]


def test_a_delete_removes_post_and_boundaries(appview_db: AppViewDatabase, service: ModelService) -> None:
    service.create(ANN, key(1), post("one", "writers"))
    apply(appview_db, service.frames())
    before = position(appview_db)
    service.delete(ANN, key(1))
    apply(appview_db, service.frames(before))
    assert posts(appview_db) == {}
    assert rows(appview_db, "SELECT * FROM stratos_post_boundary") == []


def test_a_post_dated_in_the_future_sorts_by_when_it_was_indexed(appview_db: AppViewDatabase, service: ModelService) -> None:
    service.create(ANN, key(1), post("one", "writers", created_at="2099-01-01T00:00:00.000Z"))
    apply(appview_db, service.frames())
    assert rows(appview_db, 'SELECT "sortAt" = "indexedAt" FROM stratos_post') == [(True,)]
    assert rows(appview_db, 'SELECT b."sortAt" = p."indexedAt" FROM stratos_post_boundary b JOIN stratos_post p USING (uri)') == [
        (True,)
    ]


def test_a_boundary_change_of_an_actor_replaces_its_list(appview_db: AppViewDatabase, service: ModelService) -> None:
    apply(appview_db, service.frames())
    before = position(appview_db)
    first = rows(appview_db, 'SELECT did, "enrolledAt" FROM stratos_enrollment ORDER BY did')
    service.enroll(BOB, "editors")
    apply(appview_db, service.frames(before))
    assert enrollments(appview_db)[BOB] == {boundary("editors")}
    assert rows(appview_db, 'SELECT did, "enrolledAt" FROM stratos_enrollment ORDER BY did') == first
    assert blocked(appview_db) == {}


def test_unenroll_deletes_everything_of_the_actor_and_nothing_of_others(
    appview_db: AppViewDatabase, service: ModelService
) -> None:
    service.create(ANN, key(1), post("one", "writers"))
    service.create(BOB, key(1), post("two", "writers"))
    apply(appview_db, service.frames())
    before = position(appview_db)
    service.unenroll(ANN)
    apply(appview_db, service.frames(before))
    assert posts(appview_db) == service.posts() != {}
    assert enrollments(appview_db) == service.boundaries()
    assert revs(appview_db) == service.revs()
    for_ann = rows(appview_db, "SELECT creator FROM stratos_post_boundary")
    assert for_ann == [(BOB,)]


def test_an_actor_that_comes_back_starts_from_nothing(appview_db: AppViewDatabase, service: ModelService) -> None:
    service.create(ANN, key(1), post("one", "writers"))
    service.unenroll(ANN)
    service.enroll(ANN, "writers")
    service.create(ANN, key(2), post("two", "writers"))
    apply(appview_db, service.frames())
    assert posts(appview_db) == service.posts()
    assert blocked(appview_db) == {}


def test_applying_a_batch_twice_changes_nothing(appview_db: AppViewDatabase, service: ModelService) -> None:
    service.create(ANN, key(1), post("one", "writers"))
    apply(appview_db, service.frames())
    everything = rows(appview_db, "SELECT * FROM stratos_post")
    again = apply(appview_db, service.frames(), NOW + timedelta(hours=1))
    assert (again.upserts, again.duplicates) == (0, len(service.frames()))
    assert rows(appview_db, "SELECT * FROM stratos_post") == everything


def test_the_position_moves_only_with_the_rows(appview_db: AppViewDatabase, service: ModelService) -> None:
    writer = ProjectionWriter(appview_db.queries, source=SERVICE_URL, service_url=SERVICE_URL)
    with pytest.raises(ZeroDivisionError), appview_db.transaction() as connection:  # noqa: PT012 - the fault comes inside it
        writer.apply(connection, decoded(service.frames()), NOW)
        raise ZeroDivisionError
    assert position(appview_db) == 0
    assert enrollments(appview_db) == {}


def test_other_collections_only_move_positions(appview_db: AppViewDatabase, service: ModelService) -> None:
    service.write(ANN, (Action.CREATE, "app.test.thing/self", {"$type": "app.test.thing"}))
    apply(appview_db, service.frames())
    assert posts(appview_db) == {}
    assert revs(appview_db) == service.revs()


def test_a_gap_blocks_one_actor_and_the_others_go_on(appview_db: AppViewDatabase, service: ModelService) -> None:
    service.create(ANN, key(1), post("one", "writers"))
    service.create(ANN, key(2), post("lost", "writers"), log=False)
    service.create(ANN, key(3), post("three", "writers"))
    service.create(BOB, key(1), post("two", "writers"))
    applied = apply(appview_db, service.frames())
    assert [did for did, _ in applied.blocked] == [ANN]
    assert applied.waiting
    assert "gap" in blocked(appview_db)[ANN]
    assert {text for _, text, _ in posts(appview_db).values()} == {"one", "two"}
    assert revs(appview_db)[BOB] == service.revs()[BOB]
    assert revs(appview_db)[ANN] != service.revs()[ANN]
    assert position(appview_db) == service.head


def test_what_passes_a_blocked_actor_by_is_noted(appview_db: AppViewDatabase, service: ModelService) -> None:
    service.create(ANN, key(1), post("lost", "writers"), log=False)
    service.create(ANN, key(2), post("two", "writers"))
    apply(appview_db, service.frames())
    before = position(appview_db)
    service.create(ANN, key(3), post("three", "writers"))
    service.enroll(ANN, "editors")
    apply(appview_db, service.frames(before))
    assert rows(appview_db, "SELECT did, seq, rev FROM stratos_blocked_actor") == [(ANN, service.head, service.revs()[ANN])]
    assert enrollments(appview_db)[ANN] == {boundary("editors")}


def test_a_change_that_postgres_refuses_blocks_its_actor_only(appview_db: AppViewDatabase, service: ModelService) -> None:
    others = [Did(f"did:plc:{letter * 24}") for letter in "cdefgh"]
    for did in others:
        service.enroll(did, "writers")
        service.create(did, key(1), post(f"of {did}", "writers"))
    expected = service.posts()
    service.create(ANN, key(1), post("too big for an index", incompressible(3_000)))
    applied = apply(appview_db, service.frames())
    assert [did for did, _ in applied.blocked] == [ANN]
    assert "ProgramLimitExceeded" in blocked(appview_db)[ANN]
    assert posts(appview_db) == expected
    assert enrollments(appview_db) == service.boundaries()
    assert position(appview_db) == service.head


def test_unenroll_frees_a_blocked_actor(appview_db: AppViewDatabase, service: ModelService) -> None:
    service.create(ANN, key(1), post("x", incompressible(3_000)))
    apply(appview_db, service.frames())
    before = position(appview_db)
    service.unenroll(ANN)
    apply(appview_db, service.frames(before))
    assert blocked(appview_db) == {}
    assert ANN not in enrollments(appview_db)


def test_an_enrollment_that_postgres_refuses_is_distrusted(appview_db: AppViewDatabase, service: ModelService) -> None:
    apply(appview_db, service.frames())
    before = position(appview_db)
    repo = service.repos[ANN]
    service.enroll(ANN, "editors")
    frame = service.frames(before)[0]
    service.log[-1] = (service.head, frame.replace(SERVICE_URL.encode(), b"http://strat\0s.test"))
    assert repo.enrollment.boundaries == (boundary("editors"),)
    applied = apply(appview_db, service.frames(before))
    assert [did for did, _ in applied.blocked] == [ANN]
    assert rows(appview_db, "SELECT did FROM stratos_enrollment WHERE \"lastChecked\" = ''") == [(ANN,)]


def test_nul_characters_do_not_stop_the_projector(appview_db: AppViewDatabase, service: ModelService) -> None:
    service.create(ANN, key(1), post("a\0b", "writers", tags=["\0"], embed={"\0": "\0"}))
    applied = apply(appview_db, service.frames())
    assert applied.blocked == ()
    assert rows(appview_db, "SELECT text FROM stratos_post") == [("a\ufffdb",)]


def test_broken_frames_ask_for_a_comparison_and_distrust_every_enrollment(
    appview_db: AppViewDatabase, service: ModelService
) -> None:
    applied = apply(appview_db, [*service.frames(), b"\xff"])
    assert (applied.reconcile, applied.malformed) == (True, 1)
    assert rows(appview_db, 'SELECT "reconcileWanted" FROM stratos_stream_cursor') == [(1,)]
    assert set(rows(appview_db, 'SELECT "lastChecked" FROM stratos_enrollment')) == {("",)}


def test_a_fault_of_the_schema_is_not_blamed_on_actors(appview_db: AppViewDatabase, service: ModelService) -> None:
    with appview_db.transaction() as connection:
        connection.execute("DROP TABLE stratos_enrollment")
    writer = ProjectionWriter(appview_db.queries, source=SERVICE_URL, service_url=SERVICE_URL)
    with pytest.raises(Exception, match="stratos_enrollment") as caught, appview_db.transaction() as connection:
        writer.apply(connection, decoded(service.frames()), NOW)
    assert isinstance(caught.value.__cause__, psycopg.errors.UndefinedTable)
    assert blocked(appview_db) == {}


def test_a_post_that_is_deleted_and_created_again_in_one_batch_is_a_new_one(
    appview_db: AppViewDatabase, service: ModelService
) -> None:
    service.create(ANN, key(1), post("old", "writers", created_at="2026-02-01T00:00:00.000Z"))
    apply(appview_db, service.frames())
    before = position(appview_db)
    service.delete(ANN, key(1))
    service.create(ANN, key(1), post("new", "writers", created_at="2026-02-02T00:00:00.000Z"))
    apply(appview_db, service.frames(before))
    assert rows(appview_db, 'SELECT text, "createdAt" FROM stratos_post') == [("new", "2026-02-02T00:00:00.000Z")]


def test_the_word_of_a_service_whose_clock_is_ahead_lasts_no_longer(appview_db: AppViewDatabase, service: ModelService) -> None:
    apply(appview_db, service.frames(), START - timedelta(days=1))
    assert set(rows(appview_db, 'SELECT "lastChecked" FROM stratos_enrollment')) == {("2026-02-28T00:00:00.000Z",)}


def test_a_batch_that_cannot_finish_is_not_blamed_on_the_actor_that_it_stopped_at(
    appview_db_config: AppViewDbConfig, appview_sql: AppViewSql, appview_db: AppViewDatabase, service: ModelService
) -> None:
    service.create(ANN, key(1), post("one", "writers"))
    apply(appview_db, service.frames())
    before = position(appview_db)
    service.update(ANN, key(1), post("two", "writers"))
    hasty = AppViewDatabase(replace(appview_db_config, statement_timeout=0.3), appview_sql)
    hasty.open()
    try:
        with appview_db.transaction() as holder:
            holder.execute("SELECT FROM stratos_post FOR UPDATE")
            with pytest.raises(DatabaseUnavailable):
                apply(hasty, service.frames(before))
        assert blocked(appview_db) == {}
        assert position(appview_db) == before
        apply(hasty, service.frames(before))
        assert posts(appview_db) == service.posts()
    finally:
        hasty.close()


def test_recorded_frames_of_the_reference_become_its_posts(appview_db: AppViewDatabase) -> None:
    frames = recorded(reference("frames-all-cursor0.lp.bin"))
    for start in range(0, len(frames), 7):
        apply(appview_db, frames[start : start + 7])
    expected: dict[str, str] = {}
    for event in decoded(frames):
        for change in event.changes if isinstance(event, CommitEvent) else ():
            if change.record is None:
                del expected[change.rkey]
            else:
                expected[change.rkey] = str(change.record["text"]).replace("\0", "\ufffd")
    assert set(rows(appview_db, "SELECT rkey, text FROM stratos_post")) == set(expected.items())
    assert len(expected) == 52
    ((seq, rev),) = rows(appview_db, "SELECT seq, rev FROM stratos_sync_cursor")
    assert (seq, rev) == (57, "3n2wgil2n4w2e")
    assert {str(value) for (value,) in rows(appview_db, "SELECT DISTINCT boundary FROM stratos_post_boundary")} == {
        Boundary("did:web:stratos.test/engineering"),
        Boundary("did:web:stratos.test/leadership"),
    }
