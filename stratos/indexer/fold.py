"""What a batch of events means for each actor: pure, and independent of how the rows are written.

The rules (design §6, I5, I6): commits apply in order; a commit at or before the rev that an actor's rows show is skipped; one
that does not follow upon that rev is a gap, and the actor is blocked until its rows are fetched anew. While an actor is blocked
its commits are only noted; enrollment changes, which decide access, apply all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from stratos.atproto.syntax import Did, Tid
from stratos.core.fault_text import describe
from stratos.core.log_entry import Action, EnrollmentAction
from stratos.indexer.events import CommitEvent, EnrollmentEvent, Event, MalformedEvent, OutdatedCursor
from stratos.indexer.post_row import PostRow, post_row


@dataclass(frozen=True, slots=True)
class ActorState:
    """What the tables say of an actor before a batch: its position, the rev its rows show, and whether it is blocked."""

    seq: int = 0
    rev: Tid | None = None
    blocked: bool = False


@dataclass(frozen=True, slots=True)
class EnrollmentRow:
    """A row of `stratos_enrollment`. `enrolled_at` only counts where there is no row yet."""

    did: Did
    service_url: str
    enrolled_at: str
    last_checked: str
    boundaries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """Why an actor's commits wait for a resync, and the last event and rev that passed it by.

    `error` is None where the actor was blocked before.
    """

    seq: int
    rev: Tid | None
    error: str | None


@dataclass(slots=True)
class ActorChanges:
    """The outcome of a batch for one actor, in the order in which it must be written.

    `purge`: first delete everything of the actor. `posts`: final state by rkey, None for deleted. `moved`: `seq` and `rev` are to
    be saved. `distrust`: the stored boundaries must be asked for again before use.
    """

    did: Did
    seq: int
    rev: Tid | None
    purge: bool = False
    posts: dict[str, PostRow | None] = field(default_factory=dict)
    enrollment: EnrollmentRow | None = None
    moved: bool = False
    block: Block | None = None
    distrust: bool = False
    last_seq: int = 0
    last_rev: Tid | None = None

    def blocked_by(self, error: str) -> ActorChanges:
        """The same without the posts, blocked: what is still written when the posts cannot be."""
        return ActorChanges(
            did=self.did,
            seq=0,
            rev=None,
            purge=self.purge,
            enrollment=self.enrollment,
            block=Block(self.last_seq, self.last_rev, error),
            distrust=self.distrust,
        )

    def closed_by(self, error: str) -> ActorChanges:
        """Only the block, with the stored boundaries distrusted: the last resort when not even the enrollment can be written."""
        blocked = self.blocked_by(error)
        return replace(blocked, enrollment=None, distrust=True)


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """The outcome of a batch. `seq`: the position after it. `reconcile`: every actor must be compared with the service."""

    actors: tuple[ActorChanges, ...]
    seq: int
    reconcile: bool
    commits: int
    duplicates: int
    malformed: int


def fold(events: Iterable[Event], states: Mapping[Did, ActorState], *, after: int, service_url: str) -> BatchPlan:
    """Fold a batch into final states. `after` is the stream's saved position: events up to it were applied before.

    `states` has the actors that the tables know; all others are new.
    """
    folding = _Folding(states, service_url)
    for event in events:
        seq = None if isinstance(event, OutdatedCursor) else event.seq
        if seq is not None and seq <= after:
            folding.duplicates += 1
            continue
        folding.add(event)
        if seq is not None:
            after = seq
    return BatchPlan(
        actors=tuple(folding.actors.values()),
        seq=after,
        reconcile=folding.reconcile,
        commits=folding.commits,
        duplicates=folding.duplicates,
        malformed=folding.malformed,
    )


class _Folding:
    """The fold's state: what each actor has come to so far."""

    def __init__(self, states: Mapping[Did, ActorState], service_url: str) -> None:
        self._states = states
        self._service_url = service_url
        self.actors: dict[Did, ActorChanges] = {}
        self.reconcile = False
        self.commits = self.duplicates = self.malformed = 0

    def add(self, event: Event) -> None:
        match event:
            case CommitEvent():
                self._commit(event)
            case EnrollmentEvent():
                self._enrollment(event)
            case MalformedEvent():
                self._malformed(event)
            case OutdatedCursor():
                self.reconcile = True

    def _commit(self, event: CommitEvent) -> None:
        actor = self._actor(event.did)
        actor.last_seq, actor.last_rev = event.seq, _later(actor.last_rev, event.rev)
        if actor.block is not None:
            actor.block = replace(actor.block, seq=event.seq, rev=_later(actor.block.rev, event.rev))
            return
        if _is_contained(event, actor):
            self.duplicates += 1
        elif event.chained and event.since != actor.rev:
            gap = f"gap: commit {event.rev} follows {event.since}, the rows show {actor.rev}"
            actor.block = Block(event.seq, event.rev, gap)
            return
        else:
            try:
                posts = _changed_posts(event, actor.posts)
            except Exception as error:  # noqa: BLE001 - whatever one record provokes must not stop the other actors
                actor.block = Block(event.seq, event.rev, f"commit {event.rev}: {describe(error)}")
                return
            actor.posts |= posts
            actor.rev = event.rev or actor.rev
            self.commits += 1
        actor.seq = max(actor.seq, event.seq)
        actor.moved = True

    def _enrollment(self, event: EnrollmentEvent) -> None:
        actor = self._actor(event.did)
        seq = event.seq or 0
        if event.action is EnrollmentAction.UNENROLL:
            self.actors[event.did] = ActorChanges(event.did, 0, None, purge=True, last_seq=seq)
            return
        actor.last_seq = max(actor.last_seq, seq)
        actor.enrollment = EnrollmentRow(
            did=event.did,
            service_url=event.service_url or self._service_url,
            enrolled_at=event.time,
            last_checked=event.time,
            boundaries=event.boundaries,
        )
        actor.distrust = False
        if actor.block is not None:
            actor.block = replace(actor.block, seq=max(actor.block.seq, seq))
        elif event.rev is not None and (actor.rev is None or event.rev > actor.rev):
            gap = f"gap: enrolled with its repository at {event.rev}, the rows show {actor.rev}"
            actor.block = Block(seq, event.rev, gap)

    def _malformed(self, event: MalformedEvent) -> None:
        self.malformed += 1
        if event.did is None:
            self.reconcile = True
            return
        actor = self._actor(event.did)
        actor.last_seq = max(actor.last_seq, event.seq or 0)
        actor.distrust = True
        actor.block = Block(actor.last_seq, actor.last_rev, event.problem)

    def _actor(self, did: Did) -> ActorChanges:
        actor = self.actors.get(did)
        if actor is None:
            state = self._states.get(did) or ActorState()
            block = Block(0, None, None) if state.blocked else None
            actor = self.actors[did] = ActorChanges(did, state.seq, state.rev, block=block)
        return actor


def _is_contained(event: CommitEvent, actor: ActorChanges) -> bool:
    """Whether the actor's rows show this commit already.

    In a chained stream the rev tells. Old producers send several frames with one rev: there only an older rev is contained for
    sure, and an equal one is applied again, which does no harm.
    """
    if event.chained and event.rev is not None:
        return actor.rev is not None and event.rev <= actor.rev
    if event.seq <= actor.seq:
        return True
    return event.rev is not None and actor.rev is not None and event.rev < actor.rev


def _changed_posts(event: CommitEvent, standing: Mapping[str, PostRow | None]) -> dict[str, PostRow | None]:
    """The posts after a commit that it touches, upon what the batch has made of them so far."""
    changed: dict[str, PostRow | None] = {}
    for change in event.changes:
        rkey = change.rkey
        if change.record is None:
            changed[rkey] = None
            continue
        known = rkey in changed or rkey in standing
        before = changed[rkey] if rkey in changed else standing.get(rkey)
        fresh = change.action is Action.CREATE or (known and before is None)
        row = post_row(event.did, rkey, change.cid, change.record, event.time, fresh=fresh)
        if before is not None and not fresh:
            row = replace(row, created_at=before.created_at, fresh=before.fresh)
        changed[rkey] = row
    return changed


def _later(one: Tid | None, other: Tid | None) -> Tid | None:
    if one is None or other is None:
        return one or other
    return max(one, other)
