"""The files of the SQLite backend: where they are, who may open them, and that nothing erased stays in them."""

from __future__ import annotations

import os
import random
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from stratos.atproto.syntax import Did, InvalidSyntax
from stratos.resources import sql_directory
from stratos.storage.ports import DataDirectoryInUse, StorageFault
from stratos.storage.sql_files import Migration, SqlFiles
from stratos.storage.sqlite.actor_paths import actor_directory
from stratos.storage.sqlite.backend import SqliteBackend
from stratos.storage.sqlite.connection import connect
from stratos.storage.sqlite.migrations import is_outdated, migrate
from tests.storage.builders import POSTS, START, WRITERS, RepoBuilder, did_of, post
from tests.storage.conftest import SqliteStorage
from tests.storage.steps import append, fill, picture
from tests.storage.test_sqlite_crash import files_holding

ALICE = did_of("alice")


def test_an_actor_lies_below_the_hash_of_its_did() -> None:
    assert actor_directory(Path("/data/actors"), Did("did:plc:ewvi7nxzyoun6zhxrhs64oiz")) == Path(
        "/data/actors/09/did:plc:ewvi7nxzyoun6zhxrhs64oiz"
    )


def test_a_long_did_is_stored_under_its_hash(sqlite_storage: SqliteStorage) -> None:
    repo = RepoBuilder(Did(f"did:web:{'a' * 300}.example.com"))
    backend = sqlite_storage.open()
    append(backend, repo.enrolled())
    held = picture(backend, repo.did)
    assert held is not None
    assert held.root.commit == repo.commit


@pytest.mark.parametrize(
    "did", ["did:web:..", "did:web:a..b", "did:plc:a/b", "did:plc:a\\b", "../etc", "/etc/passwd", "", "did:plc:a\0b", "did:plc:é"]
)
def test_what_is_no_did_never_becomes_a_path(did: str) -> None:
    with pytest.raises(InvalidSyntax):
        actor_directory(Path("/data/actors"), Did(did))


def test_files_are_where_the_specification_says(sqlite_storage: SqliteStorage) -> None:
    append(sqlite_storage.open(), RepoBuilder(ALICE).enrolled())
    assert (sqlite_storage.directory / "service.sqlite").is_file()
    assert (actor_directory(sqlite_storage.directory / "actors", ALICE) / "stratos.sqlite").is_file()


def test_nobody_but_the_service_s_user_may_read_what_it_keeps(sqlite_storage: SqliteStorage) -> None:
    directory = sqlite_storage.directory
    before = os.umask(0)
    try:
        repo = RepoBuilder(ALICE)
        append(sqlite_storage.open(), repo.enrolled())
        (directory / "service.sqlite").chmod(0o644)  # as earlier versions left it
        (directory / "actors").chmod(0o755)
        sqlite_storage.close()
        fill(sqlite_storage.open(), repo, repo.create(POSTS, "a", post("one")))
    finally:
        os.umask(before)
    kept = {path.name: path.stat().st_mode & 0o077 for path in directory.iterdir()}
    assert kept == dict.fromkeys(("actors", "lock", "service.sqlite", "service.sqlite-shm", "service.sqlite-wal"), 0)


def test_an_enrollment_alone_creates_no_actor_database(sqlite_storage: SqliteStorage) -> None:
    repo = RepoBuilder(ALICE)
    append(sqlite_storage.open(), repo.proposal(repo.enroll()))
    assert list((sqlite_storage.directory / "actors").iterdir()) == []


def test_a_second_opener_is_refused_by_name(sqlite_storage: SqliteStorage) -> None:
    first = sqlite_storage.open()
    with pytest.raises(DataDirectoryInUse, match=rf"{sqlite_storage.directory}.*process {os.getpid()}"):
        sqlite_storage.open()
    first.close()
    sqlite_storage.open()


def test_a_second_process_is_refused(sqlite_storage: SqliteStorage) -> None:
    sqlite_storage.open()
    program = (
        "import sys, pathlib\n"
        "from stratos.storage.sqlite.directory_lock import DirectoryLock\n"
        "DirectoryLock.acquire(pathlib.Path(sys.argv[1]))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(sqlite_storage.directory)], capture_output=True, text=True, check=False
    )
    assert run.returncode != 0
    assert "DataDirectoryInUse" in run.stderr
    assert str(sqlite_storage.directory) in run.stderr


def test_a_refused_opening_leaves_the_directory_free(sqlite_storage: SqliteStorage, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="migrations must be numbered"):
        SqliteBackend.open(sqlite_storage.directory, sql=SqlFiles(tmp_path), max_open_actors=1)
    sqlite_storage.open()


def test_a_data_directory_that_cannot_be_made_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFault, match=r"preparing the data directory .*file/data"):
        SqliteBackend.open(tmp_path / "file" / "data", sql=SqlFiles(sql_directory()), max_open_actors=1)


def test_every_start_finds_the_newest_schema(sqlite_storage: SqliteStorage) -> None:
    append(sqlite_storage.open(), RepoBuilder(ALICE).enrolled())
    sqlite_storage.close()
    files = SqlFiles(sql_directory())
    for path, folder in (
        (sqlite_storage.directory / "service.sqlite", "sqlite/service"),
        (actor_directory(sqlite_storage.directory / "actors", ALICE) / "stratos.sqlite", "sqlite/actor"),
    ):
        connection = connect(path, "rw", pragmas=())
        assert not is_outdated(connection, files.migrations(folder), "it")
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()


@pytest.mark.parametrize("which", ["service", "actor"])
def test_a_newer_schema_is_refused_by_name(sqlite_storage: SqliteStorage, which: str) -> None:
    path = damaged_file(sqlite_storage, which)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StorageFault, match=rf"{path}.*version 99.*newer version of Stratos"):
        open_alice(sqlite_storage)


@pytest.mark.parametrize("which", ["service", "actor"])
def test_a_file_that_is_no_database_is_refused_by_name(sqlite_storage: SqliteStorage, which: str) -> None:
    path = damaged_file(sqlite_storage, which)
    path.write_bytes(b"this is not a database" * 1000)
    with pytest.raises(StorageFault, match=rf"{path}.*not a database"):
        open_alice(sqlite_storage)
    assert path.read_bytes().startswith(b"this is not a database")


def test_a_damaged_actor_database_is_a_fault_of_that_actor_alone(sqlite_storage: SqliteStorage) -> None:
    bob = RepoBuilder(did_of("bob"))
    append(sqlite_storage.open(), bob.enrolled())
    sqlite_storage.close()
    damaged_file(sqlite_storage, "actor").write_bytes(b"this is not a database" * 1000)
    backend = sqlite_storage.open()
    with backend.actors.open(bob.did) as store:
        assert store is not None
    with pytest.raises(StorageFault), backend.actors.open(ALICE):
        pass


def test_a_closed_backend_raises_storage_faults(sqlite_storage: SqliteStorage) -> None:
    repo = RepoBuilder(ALICE)
    backend = sqlite_storage.open()
    append(backend, repo.enrolled())
    backend.close()
    backend.close()
    with pytest.raises(StorageFault):
        backend.check()
    with pytest.raises(StorageFault):
        backend.log.repo_head(ALICE)
    with pytest.raises(StorageFault), backend.actors.open(ALICE):
        pass
    with pytest.raises(StorageFault):
        backend.commit([repo.proposal(repo.create(POSTS, "a", post("one")))], now=START)


def test_a_migration_that_fails_leaves_the_old_schema(tmp_path: Path) -> None:
    path = tmp_path / "some.sqlite"
    first = Migration(1, "first", "CREATE TABLE a (x TEXT);\nINSERT INTO a VALUES ('semi;colon'); -- a comment; with one\n")
    second = Migration(2, "second", "CREATE TABLE b (y TEXT);\nCREATE TABLE a (z TEXT);\n")
    connection = connect(path, "rwc", pragmas=())
    migrate(connection, [first], "it")
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        migrate(connection, [first, second], "it")
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")] == ["a"]
    migrate(connection, [first, Migration(2, "second", "CREATE TABLE b (y TEXT)")], "it")
    assert connection.execute("SELECT x FROM a").fetchall() == [("semi;colon",)]
    assert not is_outdated(connection, [first, second], "it")
    connection.close()


def test_after_an_unenroll_no_file_holds_a_byte_of_records_or_key(sqlite_storage: SqliteStorage) -> None:
    repo = RepoBuilder(ALICE)
    backend = sqlite_storage.open()
    append(backend, repo.proposal(repo.enroll(sealed_key=b"the key of alice"), repo.entry()))
    fill(backend, repo, repo.create(POSTS, "a", post("the secret of alice", WRITERS)))
    with backend.actors.open(ALICE) as store, backend.actors.export(ALICE) as export:
        assert store is not None
        assert export is not None
        assert store.record(POSTS, "a") is not None
        assert files_holding(sqlite_storage, b"the secret of alice") != []
        assert files_holding(sqlite_storage, b"the key of alice") != []
        append(backend, repo.proposal(repo.unenroll()))
        assert files_holding(sqlite_storage, b"the secret of alice") == []
        assert files_holding(sqlite_storage, b"the key of alice") == []
        assert not actor_directory(sqlite_storage.directory / "actors", ALICE).exists()


@pytest.mark.parametrize("seed", range(3))
def test_trimming_and_purging_leave_no_stale_copies(sqlite_storage: SqliteStorage, seed: int) -> None:
    """Rows of several actors lie side by side in the pages of the log: no copy of a row may be left behind where it once stood,

    since nobody would find it when its actor leaves.
    """
    rng = random.Random(seed)
    repos = [RepoBuilder(did_of(f"actor{letter}")) for letter in "bcdefghijklmnopqrst"]
    backend = sqlite_storage.open()
    append(backend, *(repo.proposal(repo.enroll()) for repo in repos))
    written: Counter[bytes] = Counter()
    rows = []
    for seq in range(backend.log.head() + 1, backend.log.head() + 2500):
        copies = rng.choice([1, 3, 10, 60])
        written[str(seq).encode()] = 2 * copies
        secret = b"<secret %d>" % seq * copies
        noise = rng.randbytes(rng.choice([10, 800]))
        rows.append((seq, rng.choice(repos).did, 3, "", seq + rng.choice([0, 0, 0, 1500]), b"\x80", secret, secret + noise))
    with backend._database.write("filling the log") as connection:
        connection.executemany(backend._database.sql["append.insert_entry"], rows)
    backend.log.advance(rows[-1][0])
    while repos:
        for _ in range(8):
            before = START + timedelta(microseconds=rng.randrange(2500))
            backend.log.trim(before=before, limit=rng.choice([5, 20, 50]))
        leaving = repos.pop()
        append(backend, leaving.proposal(leaving.unenroll()))
        with backend._database.read("looking for what is left") as connection:
            living = {b"%d" % seq for (seq,) in connection.execute("SELECT seq FROM log WHERE kind < 9")}
        found = Counter(re.findall(rb"<secret (\d+)>", (sqlite_storage.directory / "service.sqlite").read_bytes()))
        assert {seq for seq, count in found.items() if seq not in living or count > written[seq]} == set()


def test_the_log_file_does_not_grow_when_it_is_trimmed(sqlite_storage: SqliteStorage) -> None:
    repo = RepoBuilder(ALICE)
    backend = sqlite_storage.open()
    append(backend, repo.enrolled())
    sizes = []
    for round_number in range(5):
        now = START + timedelta(days=round_number)
        entries = [repo.create(POSTS, f"{round_number}-{n:03d}", post("x" * 500)) for n in range(140)]
        append(backend, *(repo.proposal(entry) for entry in entries), now=now)
        backend.actors.checkpoint(ALICE)
        backend.log.trim(before=now + timedelta(hours=1), limit=1000)
        with backend._database.read("counting") as connection:
            sizes.append(connection.execute("SELECT count(*) FROM log").fetchone()[0])
    assert max(sizes) <= 128 + 140
    assert sizes[-1] == sizes[1]


def test_a_checkpoint_leaves_nothing_to_the_write_ahead_log(sqlite_storage: SqliteStorage, tmp_path: Path) -> None:
    repo = RepoBuilder(ALICE)
    backend = sqlite_storage.open()
    append(backend, repo.enrolled())
    fill(backend, repo, repo.create(POSTS, "a", post("one")))
    backend.actors.checkpoint(ALICE)
    alone = tmp_path / "alone.sqlite"
    alone.write_bytes((actor_directory(sqlite_storage.directory / "actors", ALICE) / "stratos.sqlite").read_bytes())
    connection = sqlite3.connect(alone)
    assert repo.commit is not None
    assert connection.execute("SELECT cid FROM stratos_repo_root").fetchall() == [(repo.commit.bytes,)]
    connection.close()


def test_each_commit_of_the_log_is_synced(sqlite_storage: SqliteStorage) -> None:
    with sqlite_storage.open()._database.write("asking how it commits") as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_backlinks_follow_their_record(sqlite_storage: SqliteStorage) -> None:
    repo = RepoBuilder(ALICE)
    backend = sqlite_storage.open()
    append(backend, repo.enrolled())
    target, other = (f"at://{did_of('bob')}/{POSTS}/{key}" for key in "ab")

    def links() -> list[tuple[str, str, str, str]]:
        connection = connect(actor_directory(sqlite_storage.directory / "actors", ALICE) / "stratos.sqlite", "rw", pragmas=())
        found = connection.execute("SELECT * FROM stratos_backlink ORDER BY rkey").fetchall()
        connection.close()
        return found

    fill(backend, repo, repo.create("a.b.c", "x", {"subject": target}), repo.create("a.b.c", "y", {"subject": {"uri": target}}))
    assert links() == [("a.b.c", "x", "subject", target), ("a.b.c", "y", "subject.uri", target)]
    fill(backend, repo, repo.update("a.b.c", "x", {"subject": other}), repo.update("a.b.c", "y", {"subject": 5}))
    assert links() == [("a.b.c", "x", "subject", other)]
    fill(backend, repo, repo.delete("a.b.c", "x"))
    assert links() == []


def test_what_is_taken_down_is_hidden(sqlite_storage: SqliteStorage) -> None:
    repo = RepoBuilder(ALICE)
    backend = sqlite_storage.open()
    append(backend, repo.enrolled())
    fill(backend, repo, repo.create(POSTS, "a", post("one")), repo.create(POSTS, "b", post("two")))
    path = actor_directory(sqlite_storage.directory / "actors", ALICE) / "stratos.sqlite"
    connection = connect(path, "rw", pragmas=())
    connection.execute("UPDATE stratos_record SET takedownRef = 'case 7' WHERE rkey = 'a'")
    connection.close()
    fill(backend, repo, repo.update(POSTS, "a", post("changed")))
    with backend.actors.open(ALICE) as store:
        assert store is not None
        assert store.record(POSTS, "a") is None
        assert set(store.records_at([(POSTS, "a"), (POSTS, "b")])) == {(POSTS, "b")}
        for reverse in (False, True):
            assert [record.rkey for record in store.records(POSTS, limit=9, reverse=reverse)] == ["b"]


def test_a_checkpoint_is_durable_even_while_an_export_holds_pages_back(
    sqlite_storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    repo = RepoBuilder(ALICE)
    backend = sqlite_storage.open()
    append(backend, repo.enrolled())
    with backend.actors.export(ALICE) as export:
        assert export is not None
        fill(backend, repo, repo.create(POSTS, "a", post("one")))
        backend.actors.checkpoint(ALICE)
        directory = actor_directory(sqlite_storage.directory / "actors", ALICE)
        durable = (directory / "stratos.sqlite-wal", directory, directory.parent, directory.parent.parent)
        assert synced == [path.stat().st_ino for path in durable]
        assert backend.log.trimmable(before=START + timedelta(days=1), limit=9) == []
        assert backend.log.trim(before=START + timedelta(days=1), limit=9) == 3
    sqlite_storage.close()
    held = picture(sqlite_storage.open(), ALICE)
    assert held is not None
    assert held.records == repo.records


def damaged_file(storage: SqliteStorage, which: str) -> Path:
    """Enroll alice, close everything, and name the file that a test is about to damage."""
    append(storage.open(), RepoBuilder(ALICE).enrolled())
    storage.close()
    if which == "service":
        return storage.directory / "service.sqlite"
    return actor_directory(storage.directory / "actors", ALICE) / "stratos.sqlite"


def open_alice(storage: SqliteStorage) -> None:
    with storage.open().actors.open(ALICE):
        pass


@pytest.mark.parametrize(("writes", "emptied"), [(1, False), (80, True)])
def test_making_room_empties_only_a_long_write_ahead_log(sqlite_storage: SqliteStorage, writes: int, emptied: bool) -> None:
    alice, bob = RepoBuilder(ALICE), RepoBuilder(did_of("bob"))
    backend = sqlite_storage.open(max_open_actors=1)
    append(backend, alice.enrolled(), bob.enrolled())
    for number in range(writes):
        fill(backend, alice, alice.create(POSTS, f"r{number}", post(f"post {number}")))
    with backend.actors.open(bob.did):
        wal = actor_directory(sqlite_storage.directory / "actors", ALICE) / "stratos.sqlite-wal"
    assert wal.exists() is not emptied
    held = picture(backend, ALICE)
    assert held is not None
    assert held.records == alice.records
