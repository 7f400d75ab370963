"""What is remembered of enrollments never outlives a change."""

from __future__ import annotations

from stratos.atproto.syntax import Did
from stratos.storage.sqlite.enrollment_cache import EnrollmentCache, Held

ALICE, BOB, CAROL = Did("did:plc:alice"), Did("did:plc:bob"), Did("did:plc:carol")
OLD, NEW = Held(None, b"old"), Held(None, b"new")


def test_what_was_put_is_found_until_it_is_forgotten() -> None:
    cache = EnrollmentCache(10)
    cache.put(ALICE, OLD, cache.get(ALICE)[1])
    assert cache.get(ALICE)[0] == OLD
    cache.forget(ALICE)
    assert cache.get(ALICE)[0] is None


def test_what_was_read_before_a_change_is_not_kept_after_it() -> None:
    cache = EnrollmentCache(10)
    _, generation = cache.get(ALICE)
    cache.forget(ALICE)
    cache.put(ALICE, OLD, generation)
    assert cache.get(ALICE)[0] is None
    cache.put(ALICE, NEW, cache.get(ALICE)[1])
    assert cache.get(ALICE)[0] == NEW


def test_the_least_recently_used_leaves_a_full_cache() -> None:
    cache = EnrollmentCache(2)
    for did in (ALICE, BOB):
        cache.put(did, OLD, cache.get(did)[1])
    cache.get(ALICE)
    cache.put(CAROL, OLD, cache.get(CAROL)[1])
    assert len(cache) == 2
    assert cache.get(BOB)[0] is None
    assert cache.get(ALICE)[0] == OLD
