"""Open stores: their number, their pins, and several threads at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from stratos.core.log_entry import CommitEntry
from stratos.storage.ports import StorageFault
from tests.storage.builders import POSTS, START, Put, RepoBuilder, did_of, post
from tests.storage.conftest import SqliteStorage, Storage
from tests.storage.steps import append, fill, text_of

NAMES = ("alice", "bob", "carol", "dave", "eve")
GONE = ("closed", "unable to open", "is gone", "does not exist")
"""How a store says that its account was unenrolled meanwhile."""


@pytest.fixture
def repos() -> list[RepoBuilder]:
    return [RepoBuilder(did_of(name)) for name in NAMES]


def test_no_more_stores_stay_open_than_the_limit(sqlite_storage: SqliteStorage, repos: list[RepoBuilder]) -> None:
    backend = sqlite_storage.open(max_open_actors=2)
    append(backend, *(repo.enrolled() for repo in repos))
    for repo in repos * 2:
        with backend.actors.open(repo.did) as store:
            assert store is not None
            assert store.root().commit == repo.commit
        assert backend.actors.statistics()["open"] <= 2
    statistics = backend.actors.statistics()
    assert statistics["open"] == 2
    assert statistics["open_limit"] == 2
    assert statistics["pinned"] == 0
    assert statistics["evicted_total"] >= 8


def test_the_least_recently_used_store_leaves(storage: Storage, repos: list[RepoBuilder]) -> None:
    backend = storage.open(max_open_actors=2)
    alice, bob, carol = repos[:3]
    append(backend, *(repo.enrolled() for repo in (alice, bob, carol)))
    kept = []
    for repo in (alice, bob, alice, carol):
        with backend.actors.open(repo.did) as store:
            assert store is not None
            kept.append(store.nodes())
    with backend.actors.open(alice.did) as store:
        assert store is not None
        assert store.nodes() is kept[0]
    with backend.actors.open(bob.did) as store:
        assert store is not None
        assert store.nodes() is not kept[1]


def test_a_pinned_store_is_not_closed(sqlite_storage: SqliteStorage, repos: list[RepoBuilder]) -> None:
    backend = sqlite_storage.open(max_open_actors=1)
    append(backend, *(repo.enrolled() for repo in repos))
    with ExitStack() as pins:
        stores = [pins.enter_context(backend.actors.open(repo.did)) for repo in repos]
        assert backend.actors.statistics()["pinned"] == len(repos)
        for repo, store in zip(repos, stores, strict=True):
            assert store is not None
            assert store.root().commit == repo.commit
    assert backend.actors.statistics()["open"] == 1
    assert backend.actors.statistics()["pinned"] == 0


def test_asking_for_strangers_closes_nothing_and_leaves_nothing(sqlite_storage: SqliteStorage, repos: list[RepoBuilder]) -> None:
    backend = sqlite_storage.open(max_open_actors=1)
    append(backend, repos[0].enrolled())
    for number in range(50):
        with backend.actors.open(did_of(f"stranger{number:c}" if number > 96 else "stranger")) as store:
            assert store is None
    with pytest.raises(ValueError, match="by the caller"), backend.actors.open(did_of("stranger")):
        raise ValueError("by the caller")
    assert backend.actors.statistics()["evicted_total"] == 0
    assert backend.actors.statistics()["open"] == 1


def test_cached_nodes_are_bounded_and_counted(storage: Storage, repos: list[RepoBuilder]) -> None:
    alice = repos[0]
    backend = storage.open(max_open_actors=2)
    append(backend, alice.enrolled())
    with backend.actors.open(alice.did) as store:
        assert store is not None
        for cid in alice.blocks:
            store.nodes().put(cid, cid)
    assert backend.actors.statistics()["nodes"] == len(alice.blocks)
    assert backend.actors.statistics()["nodes_limit"] == 2 * 128


def test_closed_stores_are_not_opened_again(sqlite_storage: SqliteStorage, repos: list[RepoBuilder]) -> None:
    backend = sqlite_storage.open()
    append(backend, repos[0].enrolled())
    with backend.actors.open(repos[0].did) as store:
        assert store is not None
        backend.actors.close()
        with pytest.raises(StorageFault):
            store.root()
    with pytest.raises(StorageFault, match="closed"), backend.actors.open(repos[0].did):
        pass


def test_a_purge_does_not_wait_for_a_snapshot(sqlite_storage: SqliteStorage, repos: list[RepoBuilder]) -> None:
    """Who holds a snapshot may open the store again inside it: if the purge waited for the snapshot, both would wait for ever."""
    alice = repos[0]
    backend = sqlite_storage.open()
    append(backend, alice.enrolled())
    with backend.actors.open(alice.did) as store:
        assert store is not None
        with store.snapshot():
            store.root()
            purge = threading.Thread(target=append, args=(backend, alice.proposal(alice.unenroll())))
            purge.start()
            purge.join()
            with pytest.raises(StorageFault):
                store.root()
            with backend.actors.open(alice.did) as again:
                assert again is None


def test_opening_while_the_same_store_is_being_closed_waits_for_that(
    sqlite_storage: SqliteStorage, repos: list[RepoBuilder]
) -> None:
    """Two threads ask for five stores of which one may stay open: each closing meets an opening of the same store."""
    backend = sqlite_storage.open(max_open_actors=1)
    append(backend, *(repo.enrolled() for repo in repos))

    def read() -> None:
        for repo in repos * 30:
            with backend.actors.open(repo.did) as store:
                assert store is not None
                assert store.root().commit == repo.commit

    with Threads(read, read, read) as threads:
        pass
    assert threads.errors == []
    assert backend.actors.statistics()["open"] <= 1
    assert backend.actors.statistics()["evicted_total"] > len(repos)


def test_a_table_without_room_makes_no_sense(sqlite_storage: SqliteStorage) -> None:
    with pytest.raises(ValueError, match="at least one"):
        sqlite_storage.open(max_open_actors=0)
    sqlite_storage.open()


def test_a_failing_snapshot_is_left(storage: Storage, repos: list[RepoBuilder]) -> None:
    backend = storage.open()
    append(backend, repos[0].enrolled())
    with backend.actors.open(repos[0].did) as store:
        assert store is not None
        with pytest.raises(ValueError, match="inside"), store.snapshot():
            raise ValueError("inside")
        fill(backend, repos[0], repos[0].create(POSTS, "a", post("one")))
        assert store.root().commit == repos[0].commit


def test_readers_in_other_threads_never_see_half_a_commit(storage: Storage, repos: list[RepoBuilder]) -> None:
    """Each commit rewrites three records with one text; whoever reads a snapshot finds one text, and a whole tree."""
    backend = storage.open(max_open_actors=1)
    alice, bob = repos[:2]
    append(backend, alice.enrolled(), bob.enrolled())
    entries = [alice.entry(*(Put(f"{POSTS}/{key}", post(f"round {n}")) for key in "abc")) for n in range(40)]
    done = threading.Event()
    seen: set[str] = set()

    def read() -> None:
        while not done.is_set():
            with backend.actors.open(alice.did) as store:
                assert store is not None
                with store.snapshot():
                    root = store.root()
                    assert store.block(root.commit) is not None
                    found = store.records_at([(POSTS, key) for key in "abc"])
                texts = {text_of(record.block) for record in found.values()}
                assert len(found) in (0, 3)
                assert len(texts) <= 1
                seen.update(texts)
            with backend.actors.open(bob.did) as store:
                assert store is not None

    with Threads(read, read) as threads:
        fill(backend, alice, *entries)
        done.set()
    assert threads.errors == []
    assert seen


def test_a_purge_among_readers_ends_in_absence(storage: Storage, repos: list[RepoBuilder]) -> None:
    backend = storage.open(max_open_actors=1)
    alice, bob = repos[:2]
    append(backend, alice.enrolled(), bob.enrolled())
    gone = threading.Event()
    entries: list[CommitEntry] = [alice.create(POSTS, str(n), post(f"{n}")) for n in range(5)]

    def read() -> None:
        while not gone.is_set():
            try:
                with backend.actors.open(alice.did) as store:
                    if store is not None:
                        store.records(POSTS, limit=10)
                with backend.actors.export(alice.did) as export:
                    if export is not None:
                        list(export.pages(None))
            except StorageFault as fault:
                assert any(reason in str(fault) for reason in GONE), fault  # noqa: PT017 - in another thread
            with backend.actors.open(bob.did) as store:
                assert store is not None

    with Threads(read, read) as threads:
        fill(backend, alice, *entries)
        append(backend, alice.proposal(alice.unenroll()), now=START)
        gone.set()
    assert threads.errors == []
    with backend.actors.open(alice.did) as store:
        assert store is None
    if isinstance(storage, SqliteStorage):
        assert not list((storage.directory / "actors").glob("*/*alice*"))


class Threads:
    """Runs functions in threads for the block; what they raised is in `errors`."""

    def __init__(self, *targets: Callable[[], None]) -> None:
        self.errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(target,)) for target in targets]

    def _run(self, target: Callable[[], None]) -> None:
        try:
            target()
        except BaseException as error:  # noqa: BLE001 - handed over to the test
            self.errors.append(error)

    def __enter__(self) -> Threads:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join()
