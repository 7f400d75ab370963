"""The write limiter: service spec §5.8."""

from __future__ import annotations

import random

from stratos.atproto.syntax import Did
from stratos.core.outcomes import Reason
from stratos.engine.rate_limit import WriteLimiter, WriteRate

ALICE = Did("did:plc:alice")
BOB = Did("did:plc:bob")


class _Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def _limiter(clock: _Clock, **rate: float) -> WriteLimiter:
    settings = {"max_writes": 3, "window": 60.0, "cooldown": 10.0, "cooldown_jitter": 0.0} | rate
    return WriteLimiter(WriteRate(**settings), clock=clock, rng=random.Random(1))  # type: ignore[arg-type]  # ints among floats


def test_the_write_after_the_last_credit_is_refused_with_the_cooldown() -> None:
    limiter = _limiter(_Clock())
    assert limiter.reserve(ALICE, 3) is None
    refusal = limiter.reserve(ALICE, 1)
    assert refusal is not None
    assert (refusal.reason, refusal.retry_after) == (Reason.RATE_LIMITED, 10)
    assert refusal.message == "Write rate limit exceeded. Try again in 10s."


def test_another_did_is_not_affected() -> None:
    limiter = _limiter(_Clock())
    limiter.reserve(ALICE, 3)
    limiter.reserve(ALICE, 1)
    assert limiter.reserve(BOB, 3) is None


def test_a_cooldown_refuses_even_when_the_window_has_room_again() -> None:
    clock = _Clock()
    limiter = _limiter(clock, window=5.0)
    limiter.reserve(ALICE, 3)
    limiter.reserve(ALICE, 1)
    clock.now += 6
    refusal = limiter.reserve(ALICE, 1)
    assert refusal is not None
    assert refusal.retry_after == 4
    clock.now += 4
    assert limiter.reserve(ALICE, 1) is None


def test_credits_given_back_can_be_used_again() -> None:
    limiter = _limiter(_Clock())
    limiter.reserve(ALICE, 3)
    limiter.give_back(ALICE, 2)
    assert limiter.reserve(ALICE, 2) is None


def test_credits_return_as_the_window_slides() -> None:
    clock = _Clock()
    limiter = _limiter(clock)
    limiter.reserve(ALICE, 3)
    clock.now += 60
    assert limiter.reserve(ALICE, 3) is None


def test_a_batch_beyond_the_allowance_is_refused_without_a_cooldown() -> None:
    limiter = _limiter(_Clock())
    refusal = limiter.reserve(ALICE, 4)
    assert refusal is not None
    assert refusal.reason is Reason.INVALID_REQUEST
    assert limiter.reserve(ALICE, 3) is None


def test_the_memory_is_bounded_and_forgets_the_least_recently_seen() -> None:
    limiter = _limiter(_Clock(), max_dids=2)
    for did in (ALICE, BOB, ALICE, Did("did:plc:carol")):
        limiter.reserve(did, 1)
    assert limiter.statistics()["dids"] == 2
    assert limiter.reserve(BOB, 3) is None
    limiter.reserve(ALICE, 1)


def test_jitter_lengthens_the_cooldown_within_its_bound() -> None:
    limiter = WriteLimiter(
        WriteRate(max_writes=1, window=60, cooldown=10, cooldown_jitter=5), clock=_Clock(), rng=random.Random(7)
    )
    limiter.reserve(ALICE, 1)
    refusal = limiter.reserve(ALICE, 1)
    assert refusal is not None
    assert refusal.retry_after is not None
    assert 10 <= refusal.retry_after <= 15
