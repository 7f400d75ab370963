"""From entries of the log to marks."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from stratos.atproto.dag_cbor import InvalidDagCbor
from stratos.atproto.syntax import Did, parse_datetime
from stratos.core.log_codec import logged
from stratos.core.log_entry import Entry, LoggedEntry
from stratos.engine.publisher.marks import SESSION, STUB_COLLECTIONS, SWEEP, enrollment_path, marks_of
from stratos.storage.outbox_port import Mark
from tests.storage.builders import POSTS, Put, RepoBuilder, did_of, post

SERVICE = Did("did:web:localhost%3A3100")
ENROLLMENT = "zone.stratos.actor.enrollment/did:web:localhost:3100"
TIMES = ["2026-01-02T03:04:05.000Z", "2026-01-02T03:04:06.000Z", "2026-01-02T03:04:07.000Z"]
REI, SAKURA = did_of("rei"), did_of("sakura")


def at(number: int) -> datetime:
    return parse_datetime(TIMES[number])


def log_of(*entries: Entry) -> list[LoggedEntry]:
    """The entries as logged, a second apart."""
    return [logged(entry, seq, TIMES[seq]) for seq, entry in enumerate(entries)]


def marks(*entries: Entry, stubs: bool = True) -> list[Mark]:
    return marks_of(log_of(*entries), service=SERVICE, stubs=stubs)


def test_the_enrollment_record_stands_at_the_service_s_did_with_colons() -> None:
    assert enrollment_path(SERVICE) == ENROLLMENT


def test_stubs_are_written_where_accounts_let_us_write() -> None:
    assert {POSTS} == STUB_COLLECTIONS


def test_a_commit_marks_every_path_that_it_touches_once() -> None:
    rei = RepoBuilder(REI)
    entry = rei.entry(Put(f"{POSTS}/a", post("a")), Put(f"{POSTS}/b", post("b")))
    again = rei.update(POSTS, "a", post("another"))
    assert marks(entry, again) == [Mark(REI, f"{POSTS}/a", at(1)), Mark(REI, f"{POSTS}/b", at(0))]


def test_a_deletion_marks_its_path() -> None:
    rei = RepoBuilder(REI)
    rei.create(POSTS, "a", post("a"))
    assert marks(rei.delete(POSTS, "a")) == [Mark(REI, f"{POSTS}/a", at(0))]


@pytest.mark.parametrize("collection", ["zone.stratos.actor.profile", "zone.stratos.actor.enrollment"])
def test_other_collections_have_no_stubs(collection: str) -> None:
    assert marks(RepoBuilder(REI).create(collection, "a", {"text": "hi"})) == []


def test_without_stubs_commits_mark_nothing() -> None:
    assert marks(RepoBuilder(REI).create(POSTS, "a", post("a")), stubs=False) == []


def test_an_enrollment_marks_the_record_and_wakes_the_account() -> None:
    assert marks(RepoBuilder(REI).enroll()) == [Mark(REI, ENROLLMENT, at(0), wake=True)]


def test_a_hard_unenroll_leaves_the_account_nothing_else_to_do() -> None:
    rei, sakura = RepoBuilder(REI), RepoBuilder(SAKURA)
    found = marks(rei.create(POSTS, "a", post("a")), sakura.create(POSTS, "a", post("a")), rei.unenroll())
    assert found == [
        Mark(SAKURA, f"{POSTS}/a", at(1)),
        Mark(REI, SWEEP, at(2), wake=True, only=True),
        Mark(REI, ENROLLMENT, at(2), wake=True),
        Mark(REI, SESSION, at(2), wake=True),
    ]


def test_a_soft_unenroll_leaves_everything_else_to_do() -> None:
    rei = RepoBuilder(REI)
    commit = rei.create(POSTS, "a", post("a"))
    assert rei.rev is not None
    entries = [*log_of(commit), logged(rei.enroll(active=False), 1, TIMES[1], rev=rei.rev)]
    found = marks_of(entries, service=SERVICE, stubs=True)
    assert found == [
        Mark(REI, f"{POSTS}/a", at(0)),
        Mark(REI, ENROLLMENT, at(1), wake=True),
        Mark(REI, SESSION, at(1), wake=True),
    ]


def test_a_damaged_entry_is_not_skipped() -> None:
    [entry] = log_of(RepoBuilder(REI).create(POSTS, "a", post("a")))
    for damaged in (b"", entry.frame[:-5], entry.frame.replace(b"dpath", b"dpaht"), entry.frame.replace(b"2026-", b"years")):
        with pytest.raises(InvalidDagCbor):
            marks_of([replace(entry, frame=damaged)], service=SERVICE, stubs=True)
