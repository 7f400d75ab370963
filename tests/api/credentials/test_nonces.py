"""DPoP nonces: rotation, lifetime, and a secret that processes can share. Service spec §2.3."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from hashlib import sha256

import pytest

from stratos.api.credentials.nonces import NONCE_LIFETIME_SECONDS, ROTATION_SECONDS, DpopNonces
from tests.api.credentials.builders import Clock

SECRET = bytes(32)


def test_nonce_is_the_mac_of_the_next_counter(clock: Clock) -> None:
    counter = clock.seconds // 60 + 1
    expected = urlsafe_b64encode(hmac.digest(SECRET, counter.to_bytes(8, "big"), sha256)).decode().rstrip("=")
    assert DpopNonces(SECRET, clock=clock).next() == expected


def test_nonce_changes_every_minute(clock: Clock) -> None:
    nonces = DpopNonces(SECRET, clock=clock)
    given = []
    for _ in range(3):
        given.append(nonces.next())
        clock.advance(ROTATION_SECONDS)
    assert len(set(given)) == 3


@pytest.mark.parametrize("into_the_minute", [0, 30, 59])
def test_nonce_lives_two_to_three_minutes(clock: Clock, into_the_minute: int) -> None:
    nonces = DpopNonces(SECRET, clock=clock)
    clock.advance(into_the_minute - clock.seconds % 60)
    nonce = nonces.next()
    assert nonces.accepts(nonce)
    clock.advance(2 * ROTATION_SECONDS)
    assert nonces.accepts(nonce)
    clock.advance(NONCE_LIFETIME_SECONDS - 2 * ROTATION_SECONDS - into_the_minute - 1)
    assert nonces.accepts(nonce)
    clock.advance(1)
    assert not nonces.accepts(nonce)


def test_time_that_goes_back_gives_the_nonces_of_that_time(clock: Clock) -> None:
    nonces = DpopNonces(SECRET, clock=clock)
    first = nonces.next()
    clock.advance(600)
    assert nonces.next() != first
    clock.advance(-600)
    assert nonces.next() == first


def test_processes_that_share_the_secret_accept_each_others_nonces(clock: Clock) -> None:
    assert DpopNonces(SECRET, clock=clock).accepts(DpopNonces(SECRET, clock=clock).next())
    assert not DpopNonces(SECRET, clock=clock).accepts(DpopNonces(bytes([1]) * 32, clock=clock).next())


@pytest.mark.parametrize("nonce", ["", "x", "\udcff", "A" * 43])
def test_anything_else_is_no_nonce(clock: Clock, nonce: str) -> None:
    assert not DpopNonces(SECRET, clock=clock).accepts(nonce)


def test_empty_secret_is_refused(clock: Clock) -> None:
    with pytest.raises(ValueError, match="empty"):
        DpopNonces(b"", clock=clock)
