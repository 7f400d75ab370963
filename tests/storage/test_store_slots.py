"""The table of open stores, with databases that can be held in the middle of closing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import cast

import pytest

from stratos.storage.sqlite.actor_database import ActorDatabase
from stratos.storage.sqlite.actor_store import SqliteActorStore
from stratos.storage.sqlite.store_slots import Slot, SlotTable
from tests.storage.builders import did_of

ALICE, BOB = did_of("alice"), did_of("bob")


class SlowDatabase:
    """Closes when it is told to."""

    def __init__(self) -> None:
        self.closing = threading.Event()
        self.go_on = threading.Event()
        self.closed = False

    def lay_aside(self) -> None:
        self.closing.set()
        self.go_on.wait()
        self.closed = True


def occupy(slot: Slot) -> SlowDatabase:
    """Put an open store into a slot."""
    database = SlowDatabase()
    slot.database = cast(ActorDatabase, database)
    slot.store = cast(SqliteActorStore, object())
    return database


@pytest.fixture
def table() -> SlotTable:
    """Room for one."""
    return SlotTable(1)


@pytest.fixture
def closing(table: SlotTable) -> Iterator[SlowDatabase]:
    """Alice's store, in the middle of being evicted by another thread."""
    with table.pinned(ALICE) as slot:
        database = occupy(slot)

    def use_another() -> None:
        with table.pinned(BOB) as slot:
            occupy(slot).go_on.set()

    thread = threading.Thread(target=use_another)
    thread.start()
    database.closing.wait()
    yield database
    database.go_on.set()
    thread.join()


def test_a_store_that_is_being_closed_is_handed_to_nobody(table: SlotTable, closing: SlowDatabase) -> None:
    with table.pinned(ALICE) as slot:
        assert slot.store is None
        assert not slot.lock.acquire(blocking=False)
        closing.go_on.set()
        with slot.lock:
            assert closing.closed
            assert slot.database is None


def test_whoever_opens_it_again_meanwhile_keeps_it(table: SlotTable, closing: SlowDatabase) -> None:
    with table.pinned(ALICE) as slot:
        closing.go_on.set()
        with slot.lock:
            again = occupy(slot)
            again.go_on.set()
        assert not again.closed


def test_a_store_that_is_being_closed_is_not_evicted_twice(table: SlotTable, closing: SlowDatabase) -> None:
    with table.pinned(ALICE):
        pass
    with table.pinned(BOB) as slot:
        assert slot.store is not None
    assert table.evicted == 1


def test_an_evicted_slot_leaves_the_table(table: SlotTable) -> None:
    with table.pinned(ALICE) as slot:
        occupy(slot).go_on.set()
    with table.pinned(BOB) as other:
        occupy(other).go_on.set()
    assert table.slots() == [other]


def test_an_empty_slot_leaves_with_its_last_user_unless_it_is_behind(table: SlotTable) -> None:
    with table.pinned(ALICE) as slot, table.pinned(ALICE) as same:
        assert same is slot
    assert table.slots() == []
    with table.pinned(ALICE) as slot:
        slot.behind = True
    assert table.slots() == [slot]
