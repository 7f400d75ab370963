"""What an actor store holds after commits: exactly the effects of the log (I3)."""

from __future__ import annotations

import psycopg
import pytest

from stratos.atproto.cid import Cid
from stratos.atproto.mst import EMPTY_MST_ROOT, Mst, check_tree
from stratos.atproto.syntax import Did
from stratos.storage.ports import Backend, RepoRoot, StorageFault, StoredRecord
from stratos.storage.postgres.actor_schema import schema_name
from tests.storage.builders import POSTS, WRITERS, Put, Remove, RepoBuilder, did_of, paths, post
from tests.storage.conftest import PostgresStorage, Storage
from tests.storage.steps import append, fill, picture, text_of

LIKES = "zone.stratos.feed.like"
PREPARED_AFTER = 5
"""How often psycopg sees a statement before it prepares it."""


@pytest.fixture
def repo(backend: Backend) -> RepoBuilder:
    """An enrolled account with an empty repository."""
    repo = RepoBuilder(did_of("alice"))
    append(backend, repo.enrolled())
    return repo


def assert_holds(backend: Backend, repo: RepoBuilder) -> None:
    """The store holds what the builder says, no block more and none less."""
    held = picture(backend, repo.did)
    assert held is not None
    assert held.root.commit == repo.commit
    assert held.root.rev == repo.rev
    assert held.records == repo.records
    assert held.blocks == repo.blocks


def test_enrolling_creates_an_empty_repository(backend: Backend, repo: RepoBuilder) -> None:
    assert_holds(backend, repo)
    assert EMPTY_MST_ROOT in repo.blocks


def test_a_did_without_repository_has_no_store(backend: Backend) -> None:
    with backend.actors.open(did_of("nobody")) as store:
        assert store is None
    with backend.actors.export(did_of("nobody")) as export:
        assert export is None
    backend.actors.checkpoint(did_of("nobody"))


def test_hostile_names_have_no_store(backend: Backend) -> None:
    for name in ("did:web:../../../etc", "../../service.sqlite", "", "did:plc:a/../../b"):
        with backend.actors.open(Did(name)) as store:
            assert store is None


def test_the_root_is_the_last_commit_with_its_seq(backend: Backend, repo: RepoBuilder) -> None:
    (logged,) = fill(backend, repo, repo.create(POSTS, "a", post("one")))
    assert repo.commit is not None
    assert repo.rev is not None
    with backend.actors.open(repo.did) as store:
        assert store is not None
        assert store.root() == RepoRoot(repo.commit, repo.rev, logged.seq)


def test_a_record_reads_back(backend: Backend, repo: RepoBuilder) -> None:
    entry = repo.create(POSTS, "a", post("one", WRITERS))
    fill(backend, repo, entry)
    block = repo.records[f"{POSTS}/a"]
    with backend.actors.open(repo.did) as store:
        assert store is not None
        assert store.record(POSTS, "a") == StoredRecord(POSTS, "a", Cid.of_dag_cbor(block), entry.rev, block)
        assert store.record(POSTS, "b") is None
        assert store.record(LIKES, "a") is None


def test_an_update_replaces_record_and_block(backend: Backend, repo: RepoBuilder) -> None:
    fill(backend, repo, repo.create(POSTS, "a", post("one")))
    old = Cid.of_dag_cbor(repo.records[f"{POSTS}/a"])
    fill(backend, repo, repo.update(POSTS, "a", post("two")))
    assert_holds(backend, repo)
    with backend.actors.open(repo.did) as store:
        assert store is not None
        assert store.block(old) is None


def test_an_update_to_the_same_content_keeps_the_block(backend: Backend, repo: RepoBuilder) -> None:
    fill(backend, repo, repo.create(POSTS, "a", post("one")), repo.update(POSTS, "a", post("one")))
    assert_holds(backend, repo)


def test_deleting_the_last_record_leaves_the_empty_tree(backend: Backend, repo: RepoBuilder) -> None:
    fill(backend, repo, repo.create(POSTS, "a", post("one")), repo.delete(POSTS, "a"))
    assert_holds(backend, repo)
    assert repo.records == {}


def test_deleting_what_is_not_there_is_a_commit_without_effect(backend: Backend, repo: RepoBuilder) -> None:
    fill(backend, repo, repo.create(POSTS, "a", post("one")), repo.delete(POSTS, "b"))
    assert_holds(backend, repo)


def test_a_block_that_another_record_shares_stays(backend: Backend, repo: RepoBuilder) -> None:
    twins = repo.entry(Put(f"{POSTS}/a", post("same")), Put(f"{POSTS}/b", post("same")))
    fill(backend, repo, twins, repo.delete(POSTS, "a"))
    assert_holds(backend, repo)
    fill(backend, repo, repo.delete(POSTS, "b"))
    assert_holds(backend, repo)


def test_content_that_moves_within_one_commit_stays(backend: Backend, repo: RepoBuilder) -> None:
    fill(backend, repo, repo.create(POSTS, "a", post("same")))
    fill(backend, repo, repo.entry(Remove(f"{POSTS}/a"), Put(f"{POSTS}/b", post("same"))))
    assert_holds(backend, repo)


def test_content_that_comes_back_is_there_again(backend: Backend, repo: RepoBuilder) -> None:
    fill(
        backend,
        repo,
        repo.create(POSTS, "a", post("one")),
        repo.update(POSTS, "a", post("two")),
        repo.update(POSTS, "a", post("one")),
    )
    assert_holds(backend, repo)


def test_a_large_tree_is_complete_and_canonical(backend: Backend, repo: RepoBuilder) -> None:
    fill(backend, repo, repo.entry(*(Put(f"{POSTS}/{n:04d}", post(f"post {n}")) for n in range(300))))
    fill(backend, repo, repo.entry(*(Remove(f"{POSTS}/{n:04d}") for n in range(0, 300, 3))))
    assert_holds(backend, repo)
    with backend.actors.open(repo.did) as store:
        assert store is not None
        tree_root = repo._tree_root()
        check_tree(tree_root, store)
        assert [key for key, _ in Mst.open(tree_root, store, store.nodes()).entries()] == sorted(repo.records)


def test_blocks_are_read_in_bulk(backend: Backend, repo: RepoBuilder) -> None:
    fill(backend, repo, repo.entry(*(Put(f"{POSTS}/{n:04d}", post(f"post {n}")) for n in range(150))))
    missing = Cid.of_dag_cbor(b"missing")
    with backend.actors.open(repo.did) as store:
        assert store is not None
        for count in (0, 1, 7, 8, 9, 63, 64, 65, 150):
            cids = list(repo.blocks)[:count]
            assert store.blocks([*cids, missing, *cids]) == {cid: repo.blocks[cid] for cid in cids}


def test_records_are_read_in_bulk(backend: Backend, repo: RepoBuilder) -> None:
    fill(backend, repo, repo.entry(*(Put(f"{POSTS}/{n:04d}", post(f"post {n}")) for n in range(150))))
    wanted = paths([f"{POSTS}/{n:04d}" for n in range(100, 200)])
    with backend.actors.open(repo.did) as store:
        assert store is not None
        found = store.records_at([*wanted, *wanted[:3]])
        assert set(found) == set(wanted[:50])
        assert all(found[path] == store.record(*path) for path in wanted[:50])
        assert store.records_at([]) == {}


def test_records_of_several_actors_are_read_at_once(backend: Backend, repo: RepoBuilder) -> None:
    other, empty = RepoBuilder(did_of("bob")), RepoBuilder(did_of("carol"))
    append(backend, other.enrolled(), empty.enrolled())
    for builder, text in ((repo, "ours"), (other, "theirs")):
        fill(backend, builder, builder.create(POSTS, "a", post(text)), builder.create(POSTS, "b", post(f"{text} too")))
    stranger, hostile = did_of("nobody"), Did("did:web:nul\x00")
    wanted = [(POSTS, "a"), (POSTS, "missing")]
    found = backend.actors.records_at({other.did: wanted, stranger: wanted, repo.did: wanted, empty.did: wanted, hostile: wanted})
    assert {did: {path: text_of(record.block) for path, record in records.items()} for did, records in found.items()} == {
        repo.did: {(POSTS, "a"): "ours"},
        other.did: {(POSTS, "a"): "theirs"},
        empty.did: {},
    }
    with backend.actors.open(repo.did) as store:
        assert store is not None
        assert found[repo.did] == store.records_at(wanted)
    assert backend.actors.records_at({}) == {}


def test_a_repository_that_cannot_be_read_spoils_no_later_read_of_the_others(postgres_storage: PostgresStorage) -> None:
    """Over one connection, of which psycopg believes what a failed pipeline was to prepare."""
    backend, repo, damaged = postgres_storage.open(pool_size=1), RepoBuilder(did_of("alice")), RepoBuilder(did_of("bob"))
    append(backend, damaged.enrolled(), repo.enrolled())
    fill(backend, repo, repo.create(POSTS, "a", post("still there")))
    with psycopg.connect(postgres_storage.url, autocommit=True) as server:
        server.execute(f"DROP TABLE {schema_name(damaged.did)}.stratos_record CASCADE".encode())
    asked = {damaged.did: [(POSTS, "a")], repo.did: [(POSTS, "a")]}
    for _ in range(PREPARED_AFTER + 1):
        with pytest.raises(StorageFault, match="does not exist"):
            backend.actors.records_at(asked)
        found = backend.actors.records_at({repo.did: [(POSTS, "a")]})
        assert text_of(found[repo.did][POSTS, "a"].block) == "still there"


def test_pages_of_a_collection_go_either_way(backend: Backend, repo: RepoBuilder) -> None:
    writes = [Put(f"{collection}/{rkey}", post(rkey)) for collection in (LIKES, POSTS) for rkey in ("a", "b", "c", "~", "A")]
    fill(backend, repo, repo.entry(*writes))

    with backend.actors.open(repo.did) as store:
        assert store is not None

        def keys(*, limit: int = 9, after: str | None = None, reverse: bool = False) -> list[str]:
            return [record.rkey for record in store.records(POSTS, limit=limit, after=after, reverse=reverse)]

        assert keys() == ["~", "c", "b", "a", "A"]
        assert keys(reverse=True) == ["A", "a", "b", "c", "~"]
        assert keys(limit=2) == ["~", "c"]
        assert keys(limit=2, after="c") == ["b", "a"]
        assert keys(limit=2, after="a", reverse=True) == ["b", "c"]
        assert keys(after="A") == []
        assert keys(after="bb") == ["b", "a", "A"]
        assert store.records("zone.stratos.none", limit=9) == []


def test_collections_are_named_once_each(backend: Backend, repo: RepoBuilder) -> None:
    fill(backend, repo, repo.entry(*(Put(f"{c}/{n}", post("x")) for c in (POSTS, LIKES, "a.b.c") for n in range(3))))
    fill(backend, repo, repo.entry(*(Remove(f"a.b.c/{n}") for n in range(3))))
    with backend.actors.open(repo.did) as store:
        assert store is not None
        assert store.collections() == [LIKES, POSTS]
        assert store.record_count() == 6


def test_an_empty_repository_has_no_collections(backend: Backend, repo: RepoBuilder) -> None:
    with backend.actors.open(repo.did) as store:
        assert store is not None
        assert store.collections() == []
        assert store.records(POSTS, limit=5) == []


def test_cached_nodes_stay_while_the_store_is_open(backend: Backend, repo: RepoBuilder) -> None:
    cid = Cid.of_dag_cbor(b"node")
    node = object()
    with backend.actors.open(repo.did) as store:
        assert store is not None
        store.nodes().put(cid, node)
    with backend.actors.open(repo.did) as store:
        assert store is not None
        assert store.nodes().get(cid) is node


def test_a_snapshot_shows_one_moment(backend: Backend, repo: RepoBuilder) -> None:
    fill(backend, repo, repo.create(POSTS, "a", post("one")))
    with backend.actors.open(repo.did) as store:
        assert store is not None
        with store.snapshot():
            before = store.root()
            with store.snapshot():
                fill(backend, repo, repo.update(POSTS, "a", post("two")))
            assert store.root() == before
            assert store.block(before.commit) is not None
        assert store.root().commit == repo.commit
        assert store.block(before.commit) is None


def test_a_store_survives_reopening(storage: Storage) -> None:
    repo = RepoBuilder(did_of("alice"))
    backend = storage.open()
    append(backend, repo.enrolled())
    fill(backend, repo, repo.create(POSTS, "a", post("one")))
    storage.close()
    backend = storage.open()
    assert_holds(backend, repo)
    fill(backend, repo, repo.update(POSTS, "a", post("two")))
    assert_holds(backend, repo)
