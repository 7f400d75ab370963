"""The tail of the log in memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stratos.atproto.syntax import Did
from stratos.core.log_entry import EntryKind, LoggedEntry
from stratos.engine.log_tail import LogTail

ALICE = Did("did:plc:alice")
BOB = Did("did:plc:bob")


def _entry(seq: int, did: Did = ALICE, size: int = 10) -> LoggedEntry:
    return LoggedEntry(seq, did, EntryKind.COMMIT, b"x" * size)


def test_a_cursor_before_the_tail_must_read_the_log() -> None:
    tail = LogTail(floor=5, max_entries=10, max_bytes=1_000)
    assert tail.after(4, 10) is None
    assert tail.after(5, 10) == []


def test_entries_after_a_cursor_come_in_order_and_bounded() -> None:
    tail = LogTail(floor=0, max_entries=10, max_bytes=1_000)
    tail.extend(_entry(seq) for seq in (2, 4, 6, 8))
    for cursor in (2, 3):
        found = tail.after(cursor, 2)
        assert found is not None
        assert [entry.seq for entry in found] == [4, 6]


def test_forgetting_an_actor_keeps_the_entry_that_says_so() -> None:
    tail = LogTail(floor=0, max_entries=10, max_bytes=1_000)
    tail.extend([_entry(1), _entry(2, BOB), _entry(3), _entry(4)])
    tail.forget(ALICE, before=4)
    found = tail.after(0, 10)
    assert found is not None
    assert [(entry.seq, entry.did) for entry in found] == [(2, BOB), (4, ALICE)]
    assert tail.statistics()["bytes"] == 20


@given(
    sizes=st.lists(st.integers(1, 50), max_size=60),
    max_entries=st.integers(1, 10),
    max_bytes=st.integers(1, 120),
    cursor=st.integers(0, 60),
)
def test_the_tail_answers_completely_or_not_at_all(sizes: list[int], max_entries: int, max_bytes: int, cursor: int) -> None:
    tail = LogTail(floor=0, max_entries=max_entries, max_bytes=max_bytes)
    for seq, size in enumerate(sizes, start=1):
        tail.extend([_entry(seq, size=size)])
        statistics = tail.statistics()
        assert statistics["entries"] <= max_entries
        assert statistics["bytes"] <= max_bytes
    found = tail.after(cursor, 100)
    if found is not None:
        assert [entry.seq for entry in found] == list(range(cursor + 1, len(sizes) + 1))
