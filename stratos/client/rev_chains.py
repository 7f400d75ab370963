"""Whether each actor's commits follow upon one another: what was last seen of each, as far as memory goes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from stratos.atproto.syntax import Did, Tid
from stratos.client.stream_events import CommitEvent, Gap, StreamEvent
from stratos.core.log_entry import EnrollmentAction
from stratos.core.stream_events import EnrollmentEvent, MalformedEvent


class RevChains:
    """The last rev of the actors that were seen last, at most `limit`; the chain of a forgotten one begins anew.

    What is checked counts only once it is kept: events whose hand-over failed arrive again.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[Did, Tid] = OrderedDict()
        self._unkept: dict[Did, Tid | None] = {}
        self._gaps = self._unkept_gaps = 0

    def check(self, event: StreamEvent) -> tuple[StreamEvent, ...]:
        """The event; behind a Gap where it does not follow upon the last rev, as a MalformedEvent where revs do not rise."""
        if isinstance(event, CommitEvent):
            return (event,) if event.rev is None else self._commit(event, event.rev)
        if isinstance(event, EnrollmentEvent):
            if event.rev is not None and event.seq is not None:
                return self._following(event.seq, event.did, event.rev, event)
            if event.action is EnrollmentAction.UNENROLL:
                self._unkept[event.did] = None
        return (event,)

    def keep(self) -> None:
        """What was checked since the last time has been handed over."""
        for did, rev in self._unkept.items():
            if rev is None:
                self._kept.pop(did, None)
            else:
                self._kept[did] = rev
                self._kept.move_to_end(did)
        while len(self._kept) > self._limit:
            self._kept.popitem(last=False)
        self._gaps += self._unkept_gaps
        self.forget_unkept()

    def forget_unkept(self) -> None:
        """What was checked and not kept never happened."""
        self._unkept.clear()
        self._unkept_gaps = 0

    def statistics(self) -> Mapping[str, int]:
        """Actors remembered and their limit, gaps found."""
        return {"actors": len(self._kept), "actors_limit": self._limit, "gaps_total": self._gaps}

    def _commit(self, event: CommitEvent, rev: Tid) -> tuple[StreamEvent, ...]:
        known = self._last(event.did)
        # Old producers send several frames of one rev, and no chain.
        if known is not None and (rev < known or (event.chained and rev == known)):
            return (MalformedEvent(event.seq, event.did, f"commit {rev} comes after {known}"),)
        if event.since is not None and event.since >= rev:
            return (MalformedEvent(event.seq, event.did, f"commit {rev} claims to follow upon {event.since}"),)
        found = self._following(event.seq, event.did, event.since, event) if event.chained else (event,)
        self._unkept[event.did] = rev
        return found

    def _following(self, seq: int, did: Did, rev: Tid | None, event: StreamEvent) -> tuple[StreamEvent, ...]:
        """The event, which follows upon this rev, behind a Gap where that is not the last one known."""
        known = self._last(did)
        if rev is not None:
            self._unkept[did] = rev
        if known is None or known == rev:
            return (event,)
        self._unkept_gaps += 1
        return (Gap(seq, did, known, rev), event)

    def _last(self, did: Did) -> Tid | None:
        return self._unkept[did] if did in self._unkept else self._kept.get(did)
