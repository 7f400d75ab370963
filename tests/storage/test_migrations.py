"""Stores of an older version: migrated when they are used, or all at once; those of a newer one are refused."""

from __future__ import annotations

import shutil
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from stratos.atproto.syntax import Did
from stratos.resources import sql_directory
from stratos.storage.migrate_actors import migrate_actors
from stratos.storage.ports import HeadMoved, SchemaCounts, StorageFault
from stratos.storage.postgres.actor_schema import schema_name
from stratos.storage.sql_files import SqlFiles
from stratos.storage.sqlite.actor_paths import actor_directory
from tests.storage.builders import POSTS, START, RepoBuilder, did_of, post
from tests.storage.conftest import SHIPPED, PostgresStorage, SqliteStorage, Storage
from tests.storage.steps import append, fill, picture

SOONER_THAN_A_BATCH = 4.0
"""Seconds; a batch waits for locks for five here, and must not do so because of a migration."""
NAMES = ("alice", "bob", "carol", "dave")
ADDED = {
    "sqlite": "ALTER TABLE stratos_record ADD COLUMN note TEXT;\nCREATE TABLE later (x TEXT);\n",
    "postgres": "ALTER TABLE {actor}.stratos_record ADD COLUMN note TEXT;\nCREATE TABLE {actor}.later (x TEXT);\n",
}


def newer_sql(folder: Path, **actor: str) -> SqlFiles:
    """The SQL files of a later version, which has one migration of actors' stores more."""
    shutil.copytree(sql_directory(), folder)
    for dialect, script in (ADDED | actor).items():
        number = len(SHIPPED.migrations(f"{dialect}/actor")) + 1
        (folder / dialect / "actor" / f"{number:04}_later.sql").write_text(script)
    return SqlFiles(folder)


def make_unmigratable(storage: Storage, did: Did) -> None:
    """Put into an actor's store what the later version wants to make."""
    if isinstance(storage, SqliteStorage):
        path = actor_directory(storage.directory / "actors", did) / "stratos.sqlite"
        with closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE later (x TEXT)")
    elif isinstance(storage, PostgresStorage):
        with psycopg.connect(storage.url, autocommit=True) as server:
            server.execute(f"CREATE TABLE {schema_name(did)}.later (x TEXT)".encode())


@pytest.fixture
def later(tmp_path: Path) -> SqlFiles:
    return newer_sql(tmp_path / "later")


@pytest.fixture
def repos(storage: Storage) -> list[RepoBuilder]:
    """Repositories that the shipped version wrote, in storage that is closed."""
    repos = [RepoBuilder(did_of(name)) for name in NAMES]
    backend = storage.open()
    append(backend, *(repo.enrolled() for repo in repos))
    for repo in repos:
        fill(backend, repo, repo.create(POSTS, "a", post(f"of {repo.did}")))
    storage.close()
    return repos


def test_a_store_is_migrated_when_it_is_used_and_no_other(storage: Storage, repos: list[RepoBuilder], later: SqlFiles) -> None:
    backend = storage.open(sql=later)
    assert backend.actors.schemas() == SchemaCounts(outdated=4, newer=0)
    held = picture(backend, repos[1].did)
    assert held is not None
    assert held.blocks == repos[1].blocks
    assert backend.actors.outdated(after=None, limit=9) == [repo.did for repo in (repos[0], *repos[2:])]
    fill(backend, repos[1], repos[1].create(POSTS, "b", post("upon the new schema")))
    with backend.actors.export(repos[2].did) as export:
        assert export is not None
    assert backend.actors.schemas() == SchemaCounts(outdated=2, newer=0)


def test_all_are_migrated_at_once_and_keep_what_they_hold(storage: Storage, repos: list[RepoBuilder], later: SqlFiles) -> None:
    backend = storage.open(sql=later)
    steps: list[int] = []
    outcome = migrate_actors(backend.actors, progress=steps.append)
    assert (outcome.done, outcome.failed, steps) == (4, {}, [1, 2, 3, 4])
    assert backend.actors.schemas() == SchemaCounts(outdated=0, newer=0)
    assert migrate_actors(backend.actors, progress=steps.append).done == 0
    for repo in repos:
        held = picture(backend, repo.did)
        assert held is not None
        assert held.blocks == repo.blocks


def test_outdated_stores_are_listed_by_pages(storage: Storage, repos: list[RepoBuilder], later: SqlFiles) -> None:
    backend = storage.open(sql=later)
    first = backend.actors.outdated(after=None, limit=3)
    assert first == [repo.did for repo in repos[:3]]
    assert backend.actors.outdated(after=first[-1], limit=3) == [repos[3].did]
    assert not backend.actors.migrate(did_of("nobody"))
    assert backend.actors.migrate(repos[0].did)
    assert not backend.actors.migrate(repos[0].did)


def test_a_store_of_a_newer_version_is_refused_with_the_reason(
    storage: Storage, repos: list[RepoBuilder], later: SqlFiles
) -> None:
    newer = storage.open(sql=later)
    newer.actors.migrate(repos[0].did)
    storage.close()
    backend = storage.open()
    assert backend.actors.schemas() == SchemaCounts(outdated=0, newer=1)
    with pytest.raises(StorageFault, match=r"version 2, but .* up to 1: it was written by a newer version of Stratos"):
        picture(backend, repos[0].did)
    assert picture(backend, repos[1].did) is not None


def test_a_store_that_cannot_be_migrated_keeps_its_schema_and_no_other_from_it(
    storage: Storage, repos: list[RepoBuilder], later: SqlFiles
) -> None:
    make_unmigratable(storage, repos[1].did)
    backend = storage.open(sql=later)
    outcome = migrate_actors(backend.actors, progress=lambda _: None)
    assert outcome.done == 3
    assert list(outcome.failed) == [repos[1].did]
    assert "later" in outcome.failed[repos[1].did]
    assert backend.actors.outdated(after=None, limit=9) == [repos[1].did]


def test_a_failed_migration_tells_table_server_fields_and_where_we_are(postgres_storage: PostgresStorage, tmp_path: Path) -> None:
    repo = RepoBuilder(did_of("alice"))
    append(postgres_storage.open(), repo.enrolled())
    broken = newer_sql(tmp_path / "sql", postgres="ALTER TABLE {actor}.stratos_record ADD COLUMN cid TEXT;\n")
    with pytest.raises(StorageFault) as failure:
        postgres_storage.open(sql=broken).actors.migrate(repo.did)
    said = str(failure.value)
    assert f"migrating the schema of {repo.did} to version 2 (later) failed: table=" in said
    for part in ("stratos_record", "severity=ERROR", "code=42701", 'message=column "cid" of relation', "database=stratos_test_"):
        assert part in said
    assert "user=" in said
    assert "hasSchemaCreate=true" in said


def test_a_failed_migration_of_the_service_tells_the_same_and_changes_nothing(
    postgres_storage: PostgresStorage, tmp_path: Path
) -> None:
    postgres_storage.open()
    broken = newer_sql(tmp_path / "sql")
    number = len(SHIPPED.migrations("postgres/service")) + 1
    script = "CREATE TABLE fresh (x TEXT);\nALTER TABLE enrollment ADD COLUMN did TEXT;\n"
    (tmp_path / "sql" / "postgres" / "service" / f"{number:04}_broken.sql").write_text(script)
    with pytest.raises(StorageFault, match=r"\(broken\) failed: table=enrollment, severity=ERROR, code=42701.*database="):
        postgres_storage.open(sql=broken)
    postgres_storage.open()


def test_a_service_of_a_newer_version_is_refused_with_the_reason(storage: Storage, tmp_path: Path) -> None:
    newer_sql(tmp_path / "sql")
    for dialect in ("sqlite", "postgres"):
        number = len(SHIPPED.migrations(f"{dialect}/service")) + 1
        (tmp_path / "sql" / dialect / "service" / f"{number:04}_more.sql").write_text("CREATE TABLE more (x TEXT);\n")
    storage.open(sql=SqlFiles(tmp_path / "sql"))
    storage.close()
    with pytest.raises(StorageFault, match="it was written by a newer version of Stratos"):
        storage.open()


def test_a_batch_of_a_process_of_another_version_leaves_the_schema_alone(
    postgres_storage: PostgresStorage, later: SqlFiles
) -> None:
    repo = RepoBuilder(did_of("alice"))
    old = postgres_storage.open()
    append(old, repo.enrolled())
    new = postgres_storage.open(sql=later)
    unheard = repo.copy()
    assert new.commit([unheard.proposal(unheard.create(POSTS, "a", post("one")))], now=START) == [HeadMoved(repo.did)]
    assert new.actors.schemas().outdated == 1
    assert picture(new, repo.did) is not None
    fill(new, repo, repo.create(POSTS, "a", post("one")))
    unheard = repo.copy()
    assert old.commit([unheard.proposal(unheard.create(POSTS, "b", post("two")))], now=START) == [HeadMoved(repo.did)]
    fill(new, repo, repo.create(POSTS, "b", post("two")))


def test_a_migration_does_not_wait_for_an_export_for_ever(postgres_storage: PostgresStorage, tmp_path: Path) -> None:
    later = newer_sql(tmp_path / "sql", postgres="ALTER TABLE {actor}.stratos_repo_block ADD COLUMN note TEXT;\n")
    repo = RepoBuilder(did_of("alice"))
    old = postgres_storage.open()
    append(old, repo.enrolled())
    with old.actors.export(repo.did) as export:
        assert export is not None
        assert next(export.pages(None)) != []
        new = postgres_storage.open(sql=later)
        begun = time.monotonic()
        with pytest.raises(StorageFault, match=r"code=55P03, message=canceling statement due to lock timeout"):
            new.actors.migrate(repo.did)
        assert time.monotonic() - begun < SOONER_THAN_A_BATCH
    assert new.actors.migrate(repo.did)


def test_a_pool_of_one_connection_is_enough_to_migrate_what_is_used(postgres_storage: PostgresStorage, later: SqlFiles) -> None:
    alice, bob = RepoBuilder(did_of("alice")), RepoBuilder(did_of("bob"))
    append(postgres_storage.open(), alice.enrolled(), bob.enrolled())
    backend = postgres_storage.open(sql=later, pool_size=1)
    with backend.actors.open(alice.did) as store:
        assert store is not None
        with store.snapshot():
            assert store.root().commit == alice.commit
    assert backend.actors.outdated(after=None, limit=9) == [bob.did]
    with backend.actors.export(bob.did) as export:
        assert export is not None
        assert next(export.pages(None)) != []
    fill(backend, bob, bob.create(POSTS, "a", post("one")))
    assert backend.actors.outdated(after=None, limit=9) == []
    assert backend.actors.statistics()["postgres_connections"] == 1


def test_a_schema_that_somebody_else_is_migrating_is_left_to_them(postgres_storage: PostgresStorage, later: SqlFiles) -> None:
    repo = RepoBuilder(did_of("alice"))
    append(postgres_storage.open(), repo.enrolled())
    backend = postgres_storage.open(sql=later)
    with psycopg.connect(postgres_storage.url) as rival, psycopg.connect(postgres_storage.url, autocommit=True) as watcher:
        rival.execute("UPDATE actor_schema SET version = 2 WHERE did = %s", (repo.did,))
        rival.execute(f"CREATE TABLE {schema_name(repo.did)}.later (x TEXT)".encode())
        with ThreadPoolExecutor(1) as thread:
            migrating = thread.submit(backend.actors.migrate, repo.did)
            while watcher.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() == (0,):
                assert not migrating.done()
            rival.commit()
            assert not migrating.result()


def test_writes_go_on_while_all_are_migrated(postgres_storage: PostgresStorage, later: SqlFiles) -> None:
    repos = [RepoBuilder(did_of(f"{letter}writer")) for letter in "abcdefgh"]
    append(postgres_storage.open(), *(repo.enrolled() for repo in repos))
    service, command = postgres_storage.open(sql=later), postgres_storage.open(sql=later)
    written: list[int] = []

    def write() -> None:
        """As the repository writer does: what is left out is planned again, upon the opened store."""
        for number in range(5):
            for repo in reversed(repos):
                proposal = repo.proposal(repo.create(POSTS, str(number), post("meanwhile")))
                while isinstance(service.commit([proposal], now=START)[0], HeadMoved):
                    with service.actors.open(repo.did) as store:
                        assert store is not None
                written.append(number)

    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(write)
        outcome = migrate_actors(command.actors, progress=lambda _: None)
        writing.result()
    assert (outcome.failed, len(written)) == ({}, 40)
    assert service.actors.schemas() == SchemaCounts(outdated=0, newer=0)
    for repo in repos:
        held = picture(service, repo.did)
        assert held is not None
        assert held.records == repo.records
