"""Exports: a consistent picture of one repository."""

from __future__ import annotations

import pytest

from stratos.atproto.cid import Cid
from stratos.atproto.syntax import Tid
from stratos.storage.ports import Backend, RepoExport, StorageFault
from tests.storage.builders import POSTS, Put, RepoBuilder, did_of, post
from tests.storage.steps import append, fill

MEGABYTE = 1024 * 1024


@pytest.fixture
def repo(backend: Backend) -> RepoBuilder:
    """An enrolled account with ten posts, one a commit."""
    repo = RepoBuilder(did_of("alice"))
    append(backend, repo.enrolled())
    fill(backend, repo, *(repo.create(POSTS, str(n), post(f"post {n}")) for n in range(10)))
    return repo


def exported(export: RepoExport | None, since: Tid | None = None) -> list[tuple[Cid, bytes]]:
    assert export is not None
    return [block for page in export.pages(since) for block in page]


def test_an_export_holds_the_reachable_blocks_commit_first(backend: Backend, repo: RepoBuilder) -> None:
    with backend.actors.export(repo.did) as export:
        blocks = exported(export)
    assert blocks[0][0] == repo.commit
    assert dict(blocks) == repo.blocks
    assert len(blocks) == len(repo.blocks)


def test_an_export_does_not_see_later_commits(backend: Backend, repo: RepoBuilder) -> None:
    before = dict(repo.blocks)
    root = repo.commit
    with backend.actors.export(repo.did) as export:
        fill(backend, repo, *(repo.delete(POSTS, str(n)) for n in range(10)))
        assert export is not None
        assert export.root.commit == root
        assert dict(exported(export)) == before


def test_since_leaves_out_what_was_there_then(backend: Backend, repo: RepoBuilder) -> None:
    since = repo.rev
    before = set(repo.blocks)
    fill(backend, repo, repo.create(POSTS, "new", post("new")), repo.update(POSTS, "3", post("changed")))
    with backend.actors.export(repo.did) as export:
        blocks = exported(export, since)
    assert blocks[0][0] == repo.commit
    assert dict(blocks) == {cid: block for cid, block in repo.blocks.items() if cid not in before}


def test_since_holds_every_record_written_after_it(backend: Backend, repo: RepoBuilder) -> None:
    since = repo.rev
    fill(backend, repo, repo.create(POSTS, "copy", post("post 3")))
    with backend.actors.export(repo.did) as export:
        assert Cid.of_dag_cbor(repo.records[f"{POSTS}/copy"]) in dict(exported(export, since))


def test_since_the_head_there_is_nothing(backend: Backend, repo: RepoBuilder) -> None:
    with backend.actors.export(repo.did) as export:
        assert exported(export, repo.rev) == []


def test_pages_are_bounded_in_bytes(backend: Backend, repo: RepoBuilder) -> None:
    fill(backend, repo, repo.entry(*(Put(f"{POSTS}/big{n}", post(f"{n}" * 100_000)) for n in range(30))))
    with backend.actors.export(repo.did) as export:
        assert export is not None
        pages = list(export.pages(None))
    assert dict(block for page in pages for block in page) == repo.blocks
    assert len(pages) > 5
    assert max(sum(len(block) for _, block in page) for page in pages) < MEGABYTE


def test_a_purge_ends_an_export(backend: Backend, repo: RepoBuilder) -> None:
    fill(backend, repo, repo.entry(*(Put(f"{POSTS}/big{n}", post(f"{n}" * 100_000)) for n in range(30))))
    with backend.actors.export(repo.did) as export:
        assert export is not None
        pages = export.pages(None)
        next(pages)
        append(backend, repo.proposal(repo.unenroll()))
        with pytest.raises(StorageFault):
            next(pages)


def test_an_abandoned_export_leaves_nothing_open(backend: Backend, repo: RepoBuilder) -> None:
    with backend.actors.export(repo.did) as export:
        assert export is not None
        next(export.pages(None))
        assert backend.actors.statistics()["exports"] == 1
    assert backend.actors.statistics()["exports"] == 0
    with pytest.raises(StorageFault):
        exported(export)
