"""A process that dies between the steps of a commit: nothing acknowledged is lost, and every store is repaired (I1, I3)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import pytest

from stratos.atproto.dag_cbor import DataModel
from stratos.atproto.syntax import Did
from stratos.core.log_entry import Proposal
from stratos.resources import sql_directory
from stratos.storage.appending import Batch, LoggedCommit
from stratos.storage.ports import StorageFault
from stratos.storage.sql_files import SqlFiles
from stratos.storage.sqlite.actor_database import ActorDatabase, ActorSchema
from stratos.storage.sqlite.actor_paths import actor_directory
from stratos.storage.sqlite.apply import GapBefore, apply_commits
from stratos.storage.sqlite.backend import SqliteBackend
from stratos.storage.sqlite.connection import connect
from tests.storage.builders import POSTS, START, Put, RepoBuilder, did_of, post
from tests.storage.conftest import SqliteStorage
from tests.storage.steps import append, fill, picture, whole_log


class Killed(BaseException):
    """The process ends here: nothing may handle it."""


class DiesBeforeApply(SqliteBackend):
    """Dies between append and apply."""

    def _apply_actor(self, did: Did, commits: Sequence[LoggedCommit]) -> None:
        raise Killed


class DiesBetweenActors(SqliteBackend):
    """Dies after the first actor's apply of a batch."""

    _applied = False

    def _apply_actor(self, did: Did, commits: Sequence[LoggedCommit]) -> None:
        if self._applied:
            raise Killed
        self._applied = True
        super()._apply_actor(did, commits)


class DiesAfterApply(SqliteBackend):
    """Dies when everything is done, before the caller hears of it."""

    def _apply_actor(self, did: Did, commits: Sequence[LoggedCommit]) -> None:
        super()._apply_actor(did, commits)
        raise Killed


class DiesBeforePurge(SqliteBackend):
    """Dies between the unenroll's transaction and the removal of the files."""

    def _destroy_actor(self, did: Did) -> None:
        raise Killed


class DiesInPurge(SqliteBackend):
    """Dies when the files are gone, but it is not yet noted."""

    def _purge_done(self, did: Did) -> None:
        raise Killed


class DiesBeforeAppend(SqliteBackend):
    """Dies before the transaction."""

    def _append(self, batch: Sequence[Proposal], now: datetime) -> Batch:
        raise Killed


def crash(backend: SqliteBackend, *proposals: Proposal) -> None:
    """Commit with a backend that dies of it. The lock goes with the process."""
    with pytest.raises(Killed):
        backend.commit(proposals, now=START)
    backend._lock.release()


def assert_repaired(backend: SqliteBackend, repo: RepoBuilder) -> None:
    held = picture(backend, repo.did)
    assert held is not None
    assert held.root.commit == repo.commit
    assert held.blocks == repo.blocks
    assert held.records == repo.records


@pytest.mark.parametrize("dying", [DiesBeforeApply, DiesBetweenActors, DiesAfterApply])
def test_what_was_appended_is_applied_at_the_next_opening(sqlite_storage: SqliteStorage, dying: type[SqliteBackend]) -> None:
    alice, bob = RepoBuilder(did_of("alice")), RepoBuilder(did_of("bob"))
    append(sqlite_storage.open(), alice.enrolled(), bob.enrolled())
    sqlite_storage.close()
    batch = [
        alice.proposal(alice.create(POSTS, "a", post("one"))),
        bob.proposal(bob.create(POSTS, "b", post("two"))),
        alice.proposal(alice.entry(Put(f"{POSTS}/a", post("three")), Put(f"{POSTS}/c", post("four")))),
    ]
    crash(sqlite_storage.open(dying), *batch)
    backend = sqlite_storage.open()
    assert len(whole_log(backend)) == 7
    assert_repaired(backend, alice)
    assert_repaired(backend, bob)


def test_what_was_not_appended_did_not_happen(sqlite_storage: SqliteStorage) -> None:
    alice = RepoBuilder(did_of("alice"))
    append(sqlite_storage.open(), alice.enrolled())
    sqlite_storage.close()
    future = alice.copy()
    crash(sqlite_storage.open(DiesBeforeAppend), future.proposal(future.create(POSTS, "a", post("one"))))
    backend = sqlite_storage.open()
    assert len(whole_log(backend)) == 2
    assert_repaired(backend, alice)


def test_a_first_commit_is_applied_to_a_store_that_does_not_exist_yet(sqlite_storage: SqliteStorage) -> None:
    alice = RepoBuilder(did_of("alice"))
    crash(sqlite_storage.open(DiesBeforeApply), alice.enrolled())
    assert_repaired(sqlite_storage.open(), alice)


def test_a_new_commit_finds_a_store_that_is_behind_and_repairs_it(sqlite_storage: SqliteStorage) -> None:
    alice = RepoBuilder(did_of("alice"))
    append(sqlite_storage.open(), alice.enrolled())
    sqlite_storage.close()
    crash(sqlite_storage.open(DiesBeforeApply), alice.proposal(alice.create(POSTS, "a", post("one"))))
    backend = sqlite_storage.open()
    fill(backend, alice, alice.create(POSTS, "b", post("two")))
    assert_repaired(backend, alice)
    assert backend.actors.statistics()["caught_up_total"] == 1


def test_applying_twice_is_applying_once(sqlite_storage: SqliteStorage, tmp_path: Path) -> None:
    alice = RepoBuilder(did_of("alice"))
    files = SqlFiles(sql_directory())
    database = ActorDatabase(
        tmp_path, ActorSchema(files.statements("sqlite/actor"), files.migrations("sqlite/actor")), create=True
    )
    commits = [LoggedCommit(n, n, alice.create(POSTS, str(n), post(f"{n}"))) for n in range(1, 4)]
    for some in (commits[:2], commits[:2], commits[1:], commits):
        apply_commits(database, some)
    with pytest.raises(GapBefore):
        apply_commits(database, [LoggedCommit(9, 9, RepoBuilder(alice.did).entry())])
    with database.read() as connection:
        assert connection.execute("SELECT count(*), max(repoRev) FROM stratos_record").fetchall() == [(3, alice.rev)]
    database.close()


def test_redo_makes_the_same_rows_as_apply(sqlite_storage: SqliteStorage, tmp_path: Path) -> None:
    alice = RepoBuilder(did_of("alice"))
    like: dict[str, DataModel] = {
        "$type": "zone.stratos.feed.like",
        "subject": {"uri": f"at://{did_of('bob')}/{POSTS}/a", "cid": "bafy"},
    }
    proposals = [
        alice.enrolled(),
        alice.proposal(alice.entry(Put(f"{POSTS}/a", post("one")), Put("zone.stratos.feed.like/a", like))),
        alice.proposal(alice.entry(Put(f"{POSTS}/a", post("two")), Put("zone.stratos.feed.like/b", like))),
        alice.proposal(alice.delete("zone.stratos.feed.like", "a")),
    ]
    append(sqlite_storage.open(), *proposals)
    applied = rows_of(sqlite_storage, alice.did)
    sqlite_storage.close()
    crashed = SqliteStorage(tmp_path / "crashed")
    crash(crashed.open(DiesBeforeApply), *proposals)
    with crashed.open().actors.open(alice.did) as store:
        assert store is not None
    assert rows_of(crashed, alice.did) == applied
    crashed.close()


def test_more_commits_than_a_page_of_redo_are_caught_up(sqlite_storage: SqliteStorage) -> None:
    alice = RepoBuilder(did_of("alice"))
    proposals = [alice.enrolled(), *(alice.proposal(alice.create(POSTS, str(n), post(f"{n}"))) for n in range(250))]
    crash(sqlite_storage.open(DiesBeforeApply), *proposals)
    assert_repaired(sqlite_storage.open(), alice)


def test_an_export_and_a_checkpoint_repair_first(sqlite_storage: SqliteStorage) -> None:
    alice, bob = RepoBuilder(did_of("alice")), RepoBuilder(did_of("bob"))
    crash(sqlite_storage.open(DiesBeforeApply), alice.enrolled(), bob.enrolled())
    backend = sqlite_storage.open()
    with backend.actors.export(alice.did) as export:
        assert export is not None
        assert export.root.commit == alice.commit
    backend.actors.checkpoint(bob.did)
    assert backend.log.trimmable(before=START.replace(year=2030), limit=9) == [alice.did]


@pytest.mark.parametrize("dying", [DiesBeforePurge, DiesInPurge])
def test_an_interrupted_purge_is_finished_at_the_next_opening(sqlite_storage: SqliteStorage, dying: type[SqliteBackend]) -> None:
    alice = RepoBuilder(did_of("alice"))
    backend = sqlite_storage.open()
    append(backend, alice.enrolled())
    fill(backend, alice, alice.create(POSTS, "a", post("a secret of alice")))
    sqlite_storage.close()
    crash(sqlite_storage.open(dying), alice.proposal(alice.unenroll()))
    sqlite_storage.open()
    assert files_holding(sqlite_storage, b"a secret of alice") == []


@pytest.mark.parametrize("dying", [DiesBeforePurge, DiesInPurge, DiesBeforeApply])
def test_who_enrolled_again_in_the_dying_batch_has_the_new_repository(
    sqlite_storage: SqliteStorage, dying: type[SqliteBackend]
) -> None:
    alice = RepoBuilder(did_of("alice"))
    backend = sqlite_storage.open()
    append(backend, alice.enrolled())
    fill(backend, alice, alice.create(POSTS, "a", post("a secret of alice")))
    sqlite_storage.close()
    again = alice.restarted()
    batch = [alice.proposal(alice.unenroll()), again.enrolled(), again.proposal(again.create(POSTS, "b", post("new")))]
    crash(sqlite_storage.open(dying), *batch)
    backend = sqlite_storage.open()
    assert_repaired(backend, again)
    assert files_holding(sqlite_storage, b"a secret of alice") == []


class FailsToApply(SqliteBackend):
    """Cannot open actors' files for a while."""

    failing = True

    def _apply_actor(self, did: Did, commits: Sequence[LoggedCommit]) -> None:
        blocker = self._actors._directory if self.failing else None
        if blocker is not None:
            blocker.rename(blocker.with_suffix(".away"))
            blocker.write_bytes(b"")
        try:
            super()._apply_actor(did, commits)
        finally:
            if blocker is not None:
                blocker.unlink()
                blocker.with_suffix(".away").rename(blocker)


@pytest.mark.expects_error_log
def test_a_failed_apply_is_no_failed_commit(sqlite_storage: SqliteStorage) -> None:
    alice = RepoBuilder(did_of("alice"))
    backend = sqlite_storage.open(FailsToApply)
    append(backend, alice.enrolled())
    assert backend.actors.statistics()["behind"] == 1
    assert backend.actors.statistics()["apply_failed_total"] == 1
    assert_repaired(backend, alice)
    assert backend.actors.statistics()["behind"] == 0


@pytest.mark.expects_error_log
def test_a_store_that_failed_to_apply_while_it_was_open_catches_up(
    sqlite_storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = RepoBuilder(did_of("alice"))
    backend = sqlite_storage.open()
    append(backend, alice.enrolled())
    with backend.actors.open(alice.did) as store:
        assert store is not None
        with monkeypatch.context() as patch:
            patch.setattr("stratos.storage.sqlite.actor_stores.apply_commits", raising(StorageFault("disk full")))
            fill(backend, alice, alice.create(POSTS, "a", post("one")))
        assert backend.actors.statistics()["behind"] == 1
        with backend.actors.open(alice.did) as again:
            assert again is store
            assert store.root().commit == alice.commit
    fill(backend, alice, alice.create(POSTS, "b", post("two")))
    assert_repaired(backend, alice)


@pytest.mark.expects_error_log
def test_a_purge_that_fails_is_made_good_with_the_next_batch(
    sqlite_storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = RepoBuilder(did_of("alice")), RepoBuilder(did_of("bob"))
    backend = sqlite_storage.open()
    append(backend, alice.enrolled())
    fill(backend, alice, alice.create(POSTS, "a", post("a secret of alice")))
    with monkeypatch.context() as patch:
        patch.setattr("stratos.storage.sqlite.actor_stores.shutil.rmtree", raising(OSError("read-only file system")))
        append(backend, alice.proposal(alice.unenroll()))
    assert picture(backend, alice.did) is None
    assert files_holding(sqlite_storage, b"a secret of alice") != []
    append(backend, bob.enrolled())
    assert files_holding(sqlite_storage, b"a secret of alice") == []


@pytest.mark.expects_error_log
def test_files_of_a_former_repository_go_before_the_new_one_is_opened(
    sqlite_storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = RepoBuilder(did_of("alice"))
    backend = sqlite_storage.open()
    append(backend, alice.enrolled())
    fill(backend, alice, alice.create(POSTS, "a", post("a secret of alice")))
    again = alice.restarted()
    with monkeypatch.context() as patch:
        patch.setattr("stratos.storage.sqlite.actor_stores.shutil.rmtree", raising(OSError("read-only file system")))
        append(backend, alice.proposal(alice.unenroll()), again.enrolled())
        with pytest.raises(StorageFault, match="read-only"), backend.actors.open(alice.did):
            pass
    assert_repaired(backend, again)
    assert files_holding(sqlite_storage, b"a secret of alice") == []


def test_a_failed_append_changes_nothing(sqlite_storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = RepoBuilder(did_of("alice"))
    backend = sqlite_storage.open()
    append(backend, alice.enrolled())
    log = whole_log(backend)
    entry = alice.create(POSTS, "a", post("one"))
    with monkeypatch.context() as patch:
        patch.setattr("stratos.storage.appending.encode_redo", raising(OSError("no space left on device")))
        with pytest.raises(StorageFault, match="no space left"):
            backend.commit([alice.proposal(entry)], now=START)
    assert whole_log(backend) == log
    append(backend, alice.proposal(entry))
    assert_repaired(backend, alice)


def test_a_log_with_a_gap_is_a_fault_not_a_wrong_answer(sqlite_storage: SqliteStorage) -> None:
    alice = RepoBuilder(did_of("alice"))
    append(sqlite_storage.open(), alice.enrolled())
    sqlite_storage.close()
    proposals = [alice.proposal(alice.create(POSTS, str(n), post(f"{n}"))) for n in range(3)]
    crash(sqlite_storage.open(DiesBeforeApply), *proposals)
    backend = sqlite_storage.open()
    with backend._database.write("losing an entry") as connection:
        connection.execute("DELETE FROM log WHERE kind = 2 AND seq = ?", (backend.log.head() - 1,))
    with pytest.raises(StorageFault, match="follows commit"), backend.actors.open(alice.did):
        pass
    assert backend.actors.statistics()["behind"] == 1


def test_a_store_ahead_of_the_log_is_a_fault_not_a_wrong_answer(sqlite_storage: SqliteStorage) -> None:
    alice = RepoBuilder(did_of("alice"))
    append(sqlite_storage.open(), alice.enrolled())
    sqlite_storage.close()
    service = sqlite_storage.directory / "service.sqlite"
    saved = service.read_bytes()
    fill(sqlite_storage.open(), alice, alice.create(POSTS, "a", post("one")))
    sqlite_storage.close()
    service.write_bytes(saved)
    backend = sqlite_storage.open()
    with pytest.raises(StorageFault, match="ahead of the log"), backend.actors.open(alice.did):
        pass


def test_a_damaged_log_entry_is_a_fault(sqlite_storage: SqliteStorage) -> None:
    alice = RepoBuilder(did_of("alice"))
    crash(sqlite_storage.open(DiesBeforeApply), alice.enrolled())
    backend = sqlite_storage.open()
    with backend._database.write("damaging") as connection:
        connection.execute("UPDATE log SET redo = x'00', views = x'00' WHERE kind = 2")
    with pytest.raises(StorageFault, match="damaged"), backend.actors.open(alice.did):
        pass
    with pytest.raises(StorageFault, match="damaged"):
        whole_log(backend)


def rows_of(storage: SqliteStorage, did: Did) -> dict[str, set[tuple[object, ...]]]:
    """Everything in every table of an actor's database."""
    path = actor_directory(storage.directory / "actors", did) / "stratos.sqlite"
    connection = connect(path, "rw", pragmas=())
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    found = {name: set(connection.execute(f"SELECT * FROM {name}")) for name in names}  # noqa: S608 - from the schema
    connection.close()
    assert "stratos_backlink" in found
    return found


def raising(error: Exception) -> Callable[..., None]:
    """A function that always fails."""

    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def files_holding(storage: SqliteStorage, text: bytes) -> list[str]:
    """The files below the data directory that hold these bytes."""
    found = []
    for folder, _, names in os.walk(storage.directory):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                if text in file.read():
                    found.append(path)
    return found
