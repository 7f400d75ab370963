"""Everything that is sealed: read by pages, and replaced only where it is still as it was read."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import psycopg

from stratos.atproto.keys import SigningKey
from stratos.storage.ports import Backend
from stratos.storage.sealed_port import SealedKind, SealedValue
from tests.storage.builders import START, RepoBuilder, did_of
from tests.storage.conftest import PostgresStorage, SqliteStorage
from tests.storage.steps import append

NAMES = ("carol", "alice", "bob")
LATER = START + timedelta(hours=1)


def fill(backend: Backend) -> None:
    """A key and a session for each of three accounts, and two states."""
    for name in NAMES:
        repo = RepoBuilder(did_of(name))
        append(backend, repo.proposal(repo.enroll(sealed_key=f"key of {name}".encode()), repo.entry()))
        backend.oauth.put_session(repo.did, f"session of {name}".encode(), START)
    for state in ("t", "s"):
        backend.oauth.put_state(state, f"state {state}".encode(), LATER, most=10)


def test_every_kind_is_read_by_pages_in_the_order_of_owners(backend: Backend) -> None:
    fill(backend)
    values = backend.sealed
    assert values.count() == 8
    for kind, word in ((SealedKind.SIGNING_KEY, "key"), (SealedKind.SESSION, "session")):
        first = values.page(kind, after=None, limit=2)
        assert [value.sealed for value in first] == [f"{word} of alice".encode(), f"{word} of bob".encode()]
        assert values.page(kind, after=first[-1].owner, limit=2) == [
            SealedValue(kind, did_of("carol"), f"{word} of carol".encode())
        ]
    assert [value.owner for value in values.page(SealedKind.STATE, after=None, limit=5)] == ["s", "t"]
    assert values.page(SealedKind.STATE, after="t", limit=5) == []


def test_values_are_replaced_where_they_stand(backend: Backend) -> None:
    fill(backend)
    values = backend.sealed
    standing = [value for kind in SealedKind for value in values.page(kind, after=None, limit=10)]
    assert values.replace([(value, b"anew " + value.sealed) for value in standing]) == 8
    for name in NAMES:
        assert backend.oauth.get_session(did_of(name)) == f"anew session of {name}".encode()
    assert backend.oauth.take_state("s") == b"anew state s"
    (key, *_) = values.page(SealedKind.SIGNING_KEY, after=None, limit=1)
    assert key.sealed == b"anew key of alice"


def test_what_changed_since_it_was_read_is_left_alone(backend: Backend) -> None:
    fill(backend)
    values, alice = backend.sealed, did_of("alice")
    session, *_ = values.page(SealedKind.SESSION, after=None, limit=1)
    state, *_ = values.page(SealedKind.STATE, after=None, limit=1)
    backend.oauth.put_session(alice, b"a newer session", LATER)
    backend.oauth.take_state(state.owner)
    assert values.replace([(session, b"stale"), (state, b"stale")]) == 0
    assert backend.oauth.get_session(alice) == b"a newer session"
    assert backend.oauth.take_state(state.owner) is None


def sealed_column_sqlite(storage: SqliteStorage) -> list[bytes]:
    """What stands of every key, retired ones too."""
    with closing(sqlite3.connect(storage.directory / "service.sqlite")) as connection:
        return sorted(sealed for (sealed,) in connection.execute("SELECT sealed FROM signing_key"))


def sealed_column_postgres(storage: PostgresStorage) -> list[bytes]:
    """What stands of every key, retired ones too."""
    with psycopg.connect(storage.url) as connection:
        return sorted(sealed for (sealed,) in connection.execute("SELECT sealed FROM signing_key"))


def test_a_retired_key_is_erased(storage: SqliteStorage | PostgresStorage) -> None:
    backend, repo = storage.open(), RepoBuilder(did_of("alice"))
    append(backend, repo.proposal(repo.enroll(sealed_key=b"first"), repo.entry()))
    repo.key = SigningKey.generate_p256()
    append(backend, repo.proposal(repo.enroll(sealed_key=b"second")))
    column = sealed_column_sqlite(storage) if isinstance(storage, SqliteStorage) else sealed_column_postgres(storage)
    assert column == [b"", b"second"]


def test_a_retired_key_is_not_among_them(backend: Backend) -> None:
    repo = RepoBuilder(did_of("alice"))
    append(backend, repo.proposal(repo.enroll(sealed_key=b"first"), repo.entry()))
    first, *_ = backend.sealed.page(SealedKind.SIGNING_KEY, after=None, limit=5)
    repo.key = SigningKey.generate_p256()
    append(backend, repo.proposal(repo.enroll(sealed_key=b"second")))
    assert [value.sealed for value in backend.sealed.page(SealedKind.SIGNING_KEY, after=None, limit=5)] == [b"second"]
    assert backend.sealed.replace([(replace(first, sealed=b""), b"back again")]) == 0, "the retired key is nothing to be replaced"
