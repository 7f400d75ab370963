"""Keys at rest."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stratos.atproto.keys import SigningKey
from stratos.atproto.syntax import Did
from stratos.engine.key_files import KeyFault
from stratos.engine.keyring import Keyring

REI, SAKURA = Did("did:plc:rei"), Did("did:plc:sakura")


def _keyring(master: bytes | None = None, max_cached: int = 8) -> Keyring:
    return Keyring(SigningKey.generate_secp256k1(), master or os.urandom(32), max_cached=max_cached)


@pytest.mark.parametrize("key", [SigningKey.generate_p256(), SigningKey.generate_secp256k1()], ids=["p256", "secp256k1"])
def test_a_sealed_key_opens_as_the_same_key_and_shows_nothing_of_it(key: SigningKey) -> None:
    master = os.urandom(32)
    sealed = _keyring(master).seal(REI, key)
    assert key.raw not in sealed
    assert _keyring(master).open(REI, sealed).did_key == key.did_key


def test_another_master_key_another_did_or_another_byte_does_not_open_it() -> None:
    keyring = _keyring()
    sealed = keyring.seal(REI, SigningKey.generate_p256())
    with pytest.raises(KeyFault):
        _keyring().open(REI, sealed)
    with pytest.raises(KeyFault):
        keyring.open(SAKURA, sealed)
    with pytest.raises(KeyFault):
        keyring.open(REI, sealed[:-1] + bytes([sealed[-1] ^ 1]))
    with pytest.raises(KeyFault):
        keyring.open(REI, b"\x01short")


def test_a_cached_key_still_opens_for_its_own_did_only() -> None:
    keyring = _keyring()
    sealed = keyring.seal(REI, SigningKey.generate_p256())
    keyring.open(REI, sealed)
    with pytest.raises(KeyFault):
        keyring.open(SAKURA, sealed)


def test_the_cache_is_bounded_and_forgets() -> None:
    keyring = _keyring(max_cached=2)
    for _ in range(5):
        keyring.open(REI, keyring.seal(REI, SigningKey.generate_p256()))
    assert keyring.statistics() == {"opened": 2, "opened_limit": 2}
    keyring.forget(REI)
    assert keyring.statistics()["opened"] == 0


def test_a_former_master_key_still_opens_and_seals_nothing() -> None:
    former, fresh = os.urandom(32), os.urandom(32)
    key = SigningKey.generate_p256()
    sealed = _keyring(former).seal(REI, key)
    service_key = SigningKey.generate_secp256k1()
    both = Keyring(service_key, fresh, [former])
    assert both.open(REI, sealed).did_key == key.did_key
    assert _keyring(fresh).open(REI, both.seal(REI, key)).did_key == key.did_key
    with pytest.raises(KeyFault):
        _keyring(former).open(REI, both.seal(REI, key))


def test_a_key_in_the_form_of_before_opens_with_whichever_key_sealed_it() -> None:
    master, nonce, key = os.urandom(32), os.urandom(12), SigningKey.generate_p256()
    sealed = b"\x01" + nonce + AESGCM(master).encrypt(nonce, b"p" + key.raw, REI.encode())
    assert _keyring(master).open(REI, sealed).did_key == key.did_key
    assert Keyring(SigningKey.generate_secp256k1(), os.urandom(32), [master]).open(REI, sealed).did_key == key.did_key
    for keyring, did in ((_keyring(master), SAKURA), (_keyring(), REI)):
        with pytest.raises(KeyFault):
            keyring.open(did, sealed)


def test_a_value_of_one_kind_does_not_pass_for_another() -> None:
    keyring = _keyring()
    with pytest.raises(KeyFault):
        keyring.open(REI, keyring.sealer.seal(b"p" + SigningKey.generate_p256().raw, REI))
