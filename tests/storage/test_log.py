"""Pages of the log."""

from __future__ import annotations

import pytest

from stratos.core.log_entry import EntryKind, LoggedEntry
from stratos.storage.ports import Backend
from tests.storage.builders import POSTS, RepoBuilder, did_of, post
from tests.storage.steps import MEGABYTE, append, fill


@pytest.fixture
def logged(backend: Backend) -> list[LoggedEntry]:
    """Two actors' entries, interleaved: enroll and first commit of each, then five posts of each."""
    alice, bob = RepoBuilder(did_of("alice")), RepoBuilder(did_of("bob"))
    entries = append(backend, alice.enrolled(), bob.enrolled())
    for number in range(5):
        for repo in (alice, bob):
            entries += fill(backend, repo, repo.create(POSTS, str(number), post(f"post {number}")))
    return entries


def test_the_cursor_is_exclusive(backend: Backend, logged: list[LoggedEntry]) -> None:
    assert backend.log.after(logged[3].seq, limit=100, max_bytes=MEGABYTE) == logged[4:]


def test_nothing_follows_the_head(backend: Backend, logged: list[LoggedEntry]) -> None:
    assert backend.log.after(backend.log.head(), limit=100, max_bytes=MEGABYTE) == []


def test_a_page_ends_at_its_limit(backend: Backend, logged: list[LoggedEntry]) -> None:
    assert backend.log.after(0, limit=4, max_bytes=MEGABYTE) == logged[:4]


def test_a_page_ends_before_its_bytes_are_exceeded(backend: Backend, logged: list[LoggedEntry]) -> None:
    exactly = sum(len(entry.frame) for entry in logged[:5])
    assert backend.log.after(0, limit=100, max_bytes=exactly) == logged[:5]
    assert backend.log.after(0, limit=100, max_bytes=exactly - 1) == logged[:4]


def test_a_page_holds_at_least_one_entry(backend: Backend, logged: list[LoggedEntry]) -> None:
    assert backend.log.after(0, limit=100, max_bytes=1) == logged[:1]


def test_pages_of_one_actor(backend: Backend, logged: list[LoggedEntry]) -> None:
    did = did_of("bob")
    expected = [entry for entry in logged if entry.did == did]
    first = backend.log.after(0, limit=3, max_bytes=MEGABYTE, did=did)
    assert first + backend.log.after(first[-1].seq, limit=100, max_bytes=MEGABYTE, did=did) == expected
    assert backend.log.after(0, limit=100, max_bytes=MEGABYTE, did=did_of("nobody")) == []


@pytest.mark.parametrize("kind", list(EntryKind))
@pytest.mark.parametrize("name", [None, "alice"])
def test_pages_of_one_kind(backend: Backend, logged: list[LoggedEntry], kind: EntryKind, name: str | None) -> None:
    did = None if name is None else did_of(name)
    expected = [entry for entry in logged if entry.kind is kind and did in (None, entry.did)]
    assert backend.log.after(0, limit=100, max_bytes=MEGABYTE, did=did, kind=kind) == expected
    assert backend.log.after(expected[0].seq, limit=100, max_bytes=MEGABYTE, did=did, kind=kind) == expected[1:]


def test_nothing_is_outdated_while_nothing_was_trimmed(backend: Backend, logged: list[LoggedEntry]) -> None:
    assert not backend.log.outdated(0)
    assert not backend.log.outdated(0, did_of("alice"))
    assert not backend.log.outdated(0, did_of("nobody"))


def test_a_consumer_cursor_never_moves_back(backend: Backend) -> None:
    assert backend.cursors.get("publisher") is None
    backend.cursors.save("publisher", 7)
    backend.cursors.save("publisher", 5)
    backend.cursors.save("metrics", 1)
    assert backend.cursors.get("publisher") == 7
    backend.cursors.save("publisher", 9)
    assert backend.cursors.get("publisher") == 9
