"""Keys at rest."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from stratos.atproto.keys import SigningKey
from stratos.atproto.syntax import Did
from stratos.engine.keyring import KeyFault, Keyring, load_master_key, load_service_key

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


def test_key_files_are_made_once_and_for_their_owner_alone(data_dir: Path) -> None:
    first = load_service_key(data_dir, None)
    assert load_service_key(data_dir, None).did_key == first.did_key
    assert load_master_key(data_dir, None) == load_master_key(data_dir, None)
    for name in ("signing_key", "master_key"):
        file = data_dir / name
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert len(file.read_bytes()) == 32


def test_a_key_file_is_durable_with_its_name_before_anything_is_sealed_with_it(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directories: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: directories.append(stat.S_ISDIR(os.fstat(descriptor).st_mode)))
    load_master_key(data_dir, None)
    assert directories == [False, True]


def test_the_setting_wins_over_the_file_and_a_bad_one_is_named(data_dir: Path) -> None:
    key = SigningKey.generate_secp256k1()
    assert load_service_key(data_dir, key.raw.hex()).did_key == key.did_key
    assert not (data_dir / "signing_key").exists()
    with pytest.raises(KeyFault, match="STRATOS_SIGNING_KEY_HEX"):
        load_service_key(data_dir, "abc")
    with pytest.raises(KeyFault, match="STRATOS_MASTER_KEY"):
        load_master_key(data_dir, "00")


def test_a_damaged_key_file_is_refused_by_name(data_dir: Path) -> None:
    (data_dir / "signing_key").write_bytes(b"short")
    with pytest.raises(KeyFault, match="signing_key"):
        load_service_key(data_dir, None)
