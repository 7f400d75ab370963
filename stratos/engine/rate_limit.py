"""The per-DID write limiter: a sliding window with a cooldown.

Source: service spec §5.8. Credits of a refused write are given back, so that only writes that entered the log count.
"""

from __future__ import annotations

import math
import random
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from stratos.atproto.syntax import Did
from stratos.core.outcomes import Reason, Refusal


@dataclass(frozen=True, slots=True)
class WriteRate:
    """How many writes a DID may make per window, and how long it rests after asking for more. Durations in seconds."""

    max_writes: int = 300
    window: float = 60.0
    cooldown: float = 10.0
    cooldown_jitter: float = 1.0
    max_dids: int = 100_000


@dataclass(slots=True)
class _History:
    stamps: deque[float] = field(default_factory=deque)
    cooldown_until: float = 0.0


class WriteLimiter:
    """Counts writes per DID in memory; `clock` is monotonic, in seconds."""

    def __init__(self, rate: WriteRate, *, clock: Callable[[], float], rng: random.Random) -> None:
        self._rate = rate
        self._clock = clock
        self._rng = rng
        self._histories: OrderedDict[Did, _History] = OrderedDict()
        self._refused = 0

    def reserve(self, did: Did, count: int) -> Refusal | None:
        """Take `count` credits, or refuse with the whole seconds to wait.

        A batch larger than the whole window allowance can never succeed and says so, without a cooldown.
        """
        rate = self._rate
        if count > rate.max_writes:
            self._refused += 1
            return Refusal(Reason.INVALID_REQUEST, f"writes: at most {rate.max_writes} per batch are allowed by the write rate")
        now = self._clock()
        history = self._history(did)
        if now < history.cooldown_until:
            return self._refuse(history.cooldown_until - now)
        while history.stamps and history.stamps[0] <= now - rate.window:
            history.stamps.popleft()
        if len(history.stamps) + count > rate.max_writes:
            rest = rate.cooldown + self._rng.random() * rate.cooldown_jitter
            history.cooldown_until = now + rest
            return self._refuse(rest)
        history.stamps.extend([now] * count)
        return None

    def give_back(self, did: Did, count: int) -> None:
        """Return the credits of a write that was refused after its reservation."""
        history = self._histories.get(did)
        if history is not None:
            for _ in range(min(count, len(history.stamps))):
                history.stamps.pop()

    def statistics(self) -> Mapping[str, int]:
        """Gauges: remembered DIDs, their limit, refusals so far."""
        return {"dids": len(self._histories), "dids_limit": self._rate.max_dids, "refused_total": self._refused}

    def _history(self, did: Did) -> _History:
        history = self._histories.get(did)
        if history is None:
            history = self._histories[did] = _History()
            if len(self._histories) > self._rate.max_dids:
                self._histories.popitem(last=False)
        else:
            self._histories.move_to_end(did)
        return history

    def _refuse(self, rest: float) -> Refusal:
        self._refused += 1
        seconds = max(1, math.ceil(rest))
        return Refusal(Reason.RATE_LIMITED, f"Write rate limit exceeded. Try again in {seconds}s.", retry_after=seconds)
