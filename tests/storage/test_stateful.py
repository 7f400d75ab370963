"""Log and stores against a naive model: whatever is done in whatever order, both say the same."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stratos.atproto.syntax import Did
from stratos.core.log_entry import EntryKind, LoggedEntry, Proposal
from stratos.storage.ports import Appended, Backend, HeadMoved
from tests.storage.builders import POSTS, READERS, WRITERS, Clock, Put, Remove, RepoBuilder, did_of, post
from tests.storage.conftest import SqliteStorage, Storage
from tests.storage.steps import MEGABYTE, picture

NAMES = st.sampled_from(["alice", "bob", "carol"])
KEYS = st.sampled_from(list("abcdefgh"))
BOUNDARIES = st.sampled_from([(), (WRITERS,), (READERS, WRITERS)])


@dataclass
class Person:
    """One DID in the model: its repository while enrolled, and what was trimmed of it."""

    repo: RepoBuilder
    enrolled: bool = False
    has_repository: bool = False
    head_seq: int = 0
    checkpointed: int = 0


@dataclass
class Model:
    """What the backend should hold."""

    people: dict[str, Person] = field(
        default_factory=lambda: {n: Person(RepoBuilder(did_of(n))) for n in ("alice", "bob", "carol")}
    )
    log: list[LoggedEntry] = field(default_factory=list)
    times: dict[int, float] = field(default_factory=dict)
    trimmed: list[tuple[int, Did]] = field(default_factory=list)
    head: int = 0
    cursor: int | None = None


class LogAndStores(RuleBasedStateMachine):
    """Rules are batches and housekeeping; the invariants compare everything that can be read."""

    def make_storage(self, directory: Path) -> Storage:
        """The kind of storage under test."""
        return SqliteStorage(directory)

    @initialize()
    def start(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.storage = self.make_storage(self.directory / "data")
        self.backend: Backend = self.storage.open()
        self.model = Model()
        self.clock = Clock()

    def teardown(self) -> None:
        if hasattr(self, "storage"):
            self.storage.close()
            shutil.rmtree(self.directory)

    def commit(self, *proposals: tuple[Person, Proposal]) -> None:
        """Append, and do the same to the model; every proposal must be accepted."""
        outcomes = self.backend.commit([proposal for _, proposal in proposals], now=self.clock())
        for (person, _), outcome in zip(proposals, outcomes, strict=True):
            assert isinstance(outcome, Appended)
            for entry in outcome.entries:
                assert entry.seq > self.model.head
                self.model.head = entry.seq
                self.model.log.append(entry)
                self.model.times[entry.seq] = self.clock().timestamp()
                if entry.kind is EntryKind.COMMIT:
                    person.head_seq = entry.seq

    @rule(name=NAMES, boundaries=BOUNDARIES)
    def enroll(self, name: str, boundaries: tuple[str, ...]) -> None:
        person = self.model.people[name]
        person.repo.boundaries = tuple(sorted({WRITERS, READERS} & set(boundaries)))
        if person.enrolled:
            self.commit((person, person.repo.proposal(person.repo.enroll(sealed_key=None))))
            return
        person.enrolled = True
        with_repository = len(boundaries) != 1
        self.commit((person, person.repo.enrolled() if with_repository else person.repo.proposal(person.repo.enroll())))
        person.has_repository = with_repository

    @rule(name=NAMES, keys=st.lists(KEYS, unique=True, max_size=4), text=st.text(max_size=8), boundaries=BOUNDARIES)
    def write(self, name: str, keys: list[str], text: str, boundaries: tuple[str, ...]) -> None:
        person = self.model.people[name]
        record = post(text, *(b for b in (READERS, WRITERS) if b in boundaries))
        if not person.enrolled:
            rejected = person.repo.copy()
            assert self.backend.commit([rejected.proposal(rejected.entry())], now=self.clock()) == [HeadMoved(person.repo.did)]
            return
        person.has_repository = True
        puts = [Put(f"{POSTS}/{key}", record) for key in keys]
        self.commit((person, person.repo.proposal(person.repo.entry(*puts))))

    @rule(keys=st.lists(KEYS, max_size=3), names=st.lists(NAMES, min_size=1, max_size=4))
    def delete_in_one_batch(self, names: list[str], keys: list[str]) -> None:
        people = [self.model.people[name] for name in names if self.model.people[name].has_repository]
        batch = []
        for person in people:
            removals = [Remove(f"{POSTS}/{key}") for key in dict.fromkeys(keys)]
            batch.append((person, person.repo.proposal(person.repo.entry(*removals))))
        self.commit(*batch)

    @rule(name=NAMES)
    def write_upon_an_old_head(self, name: str) -> None:
        person = self.model.people[name]
        if not person.has_repository:
            return
        stale = person.repo.copy()
        self.commit((person, person.repo.proposal(person.repo.entry())))
        late = stale.proposal(stale.create(POSTS, "late", post("late")))
        assert self.backend.commit([late], now=self.clock()) == [HeadMoved(person.repo.did)]

    @rule(name=NAMES)
    def unenroll(self, name: str) -> None:
        person = self.model.people[name]
        if not person.enrolled:
            return
        self.model.log = [entry for entry in self.model.log if entry.did != person.repo.did]
        self.commit((person, person.repo.proposal(person.repo.unenroll())))
        self.model.people[name] = Person(person.repo.restarted())

    @rule(hours=st.integers(-3, 30))
    def time_passes(self, hours: int) -> None:
        self.clock.advance(hours=hours)

    @rule()
    def restart(self) -> None:
        self.storage.close()
        self.backend = self.storage.open()

    @rule(name=NAMES)
    def checkpoint(self, name: str) -> None:
        person = self.model.people[name]
        self.backend.actors.checkpoint(person.repo.did)
        person.checkpointed = person.head_seq

    @precondition(lambda self: self.model.log)
    @rule(data=st.data())
    def consume(self, data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from([entry.seq for entry in self.model.log]))
        self.backend.cursors.save("consumer", seq)
        self.model.cursor = max(seq, self.model.cursor or 0)

    @rule(hours=st.integers(0, 20), limit=st.integers(1, 6))
    def trim(self, hours: int, limit: int) -> None:
        before = self.clock() - timedelta(hours=hours)
        people = {person.repo.did: person for person in self.model.people.values()}
        old = [
            entry
            for entry in self.model.log
            if self.model.times[entry.seq] < before.timestamp()
            and (entry.kind is EntryKind.ENROLLMENT or entry.seq <= people[entry.did].checkpointed)
            and (self.model.cursor is None or entry.seq <= self.model.cursor)
        ]
        gone = sorted(old, key=lambda entry: (self.model.times[entry.seq], entry.seq))[:limit]
        assert self.backend.log.trim(before=before, limit=limit) == len(gone)
        self.model.trimmed += [(entry.seq, entry.did) for entry in gone]
        self.model.log = [entry for entry in self.model.log if entry not in gone]

    @invariant()
    def the_log_says_the_same(self) -> None:
        model = self.model
        assert self.backend.log.head() == model.head
        paged: list[LoggedEntry] = []
        while page := self.backend.log.after(paged[-1].seq if paged else 0, limit=3, max_bytes=MEGABYTE):
            paged += page
        assert paged == model.log
        for person in model.people.values():
            did = person.repo.did
            mine = [entry for entry in model.log if entry.did == did]
            assert self.backend.log.after(0, limit=1000, max_bytes=MEGABYTE, did=did) == mine
            for cursor in {0, model.head, *(seq for seq, _ in model.trimmed), *(seq - 1 for seq, _ in model.trimmed)}:
                assert self.backend.log.outdated(cursor) == any(seq > cursor for seq, _ in model.trimmed)
                assert self.backend.log.outdated(cursor, did) == any(seq > cursor and d == did for seq, d in model.trimmed)

    @invariant()
    def heads_and_enrollments_say_the_same(self) -> None:
        people = sorted(self.model.people.values(), key=lambda person: person.repo.did)
        heads = self.backend.log.repo_heads(after=None, limit=10)
        assert [(h.did, h.commit, h.rev, h.seq) for h in heads] == [
            (p.repo.did, p.repo.commit, p.repo.rev, p.head_seq) for p in people if p.has_repository
        ]
        enrollments = self.backend.enrollments.page(after=None, limit=10)
        assert enrollments == [p.repo.enrollment() for p in people if p.enrolled]
        assert self.backend.enrollments.count() == len(enrollments)

    @invariant()
    def stores_say_the_same(self) -> None:
        for person in self.model.people.values():
            held = picture(self.backend, person.repo.did)
            if not person.has_repository:
                assert held is None
                continue
            assert held is not None
            assert (held.root.commit, held.root.rev, held.root.seq) == (person.repo.commit, person.repo.rev, person.head_seq)
            assert held.blocks == person.repo.blocks
            assert held.records == person.repo.records


TestLogAndStores = LogAndStores.TestCase
TestLogAndStores.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
