"""What the OAuth client keeps: the same rules in either database, and in the twin in memory that its own tests stand on."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from stratos.storage.oauth_port import OAuthStore
from stratos.storage.ports import Backend
from tests.engine.oauth.memory import MemoryStore
from tests.storage.builders import START, did_of

REI, SAKURA, KAORUKO = did_of("rei"), did_of("sakura"), did_of("kaoruko")
MANY = 1_000
SECOND = timedelta(seconds=1)


@pytest.fixture(params=["database", "memory"])
def store(request: pytest.FixtureRequest, backend: Backend) -> OAuthStore:
    """An empty store."""
    return MemoryStore() if request.param == "memory" else backend.oauth


def test_a_state_is_taken_once_and_is_what_was_put(store: OAuthStore) -> None:
    assert store.put_state("one", b"\x00sealed\xff", START + SECOND, most=MANY) == 0
    assert store.put_state("two", b"other", START + SECOND, most=MANY) == 0
    assert store.take_state("one") == b"\x00sealed\xff"
    assert store.take_state("one") is None
    assert store.take_state("three") is None
    assert store.count_states() == 1


def test_a_state_that_is_put_again_takes_the_place_of_the_former(store: OAuthStore) -> None:
    store.put_state("one", b"first", START, most=MANY)
    store.put_state("one", b"second", START + SECOND, most=MANY)
    assert store.expire_states(START) == 0
    assert store.take_state("one") == b"second"


def test_states_go_when_they_expire_and_not_before(store: OAuthStore) -> None:
    for number in range(4):
        store.put_state(f"state {number}", b"", START + number * SECOND, most=MANY)
    assert store.expire_states(START + SECOND) == 2
    assert store.expire_states(START + SECOND) == 0
    assert [store.take_state(f"state {number}") is None for number in range(4)] == [True, True, False, False]


def test_of_too_many_states_those_that_expire_first_go(store: OAuthStore) -> None:
    for number in (3, 1, 2):
        assert store.put_state(f"state {number}", b"", START + number * SECOND, most=3) == 0
    assert store.put_state("state 4", b"", START + 4 * SECOND, most=3) == 1
    assert store.put_state("state 5", b"", START + 5 * SECOND, most=2) == 2
    assert [store.take_state(f"state {number}") is None for number in range(1, 6)] == [True, True, True, False, False]


def test_two_callers_never_take_the_same_state(backend: Backend) -> None:
    for number in range(20):
        backend.oauth.put_state(f"state {number}", b"sealed", START + SECOND, most=MANY)
    with ThreadPoolExecutor(4) as threads:
        taken = list(threads.map(lambda number: (number, backend.oauth.take_state(f"state {number}")), [*range(20)] * 4))
    assert Counter(number for number, sealed in taken if sealed is not None) == Counter(range(20))


def test_an_account_has_one_session(store: OAuthStore) -> None:
    store.put_session(REI, b"first", START)
    store.put_session(REI, b"second\x00", START)
    store.put_session(SAKURA, b"hers", START)
    assert (store.get_session(REI), store.get_session(SAKURA), store.get_session(KAORUKO)) == (b"second\x00", b"hers", None)
    assert store.delete_session(REI) is True
    assert store.delete_session(REI) is False
    assert (store.get_session(REI), store.get_session(SAKURA)) == (None, b"hers")


def test_idle_sessions_are_those_put_before_page_by_page(store: OAuthStore) -> None:
    for did in (REI, SAKURA, KAORUKO):
        store.put_session(did, b"", START)
    store.put_session(SAKURA, b"", START + SECOND)
    idle = sorted([REI, KAORUKO])
    assert list(store.sessions_put_before(START, after=None, limit=10)) == []
    assert list(store.sessions_put_before(START + SECOND, after=None, limit=10)) == idle
    assert list(store.sessions_put_before(START + SECOND, after=None, limit=1)) == idle[:1]
    assert list(store.sessions_put_before(START + SECOND, after=idle[0], limit=10)) == idle[1:]
