"""Key files: made once, for their owner alone, and replaced in one step."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from threading import Barrier, Thread

import pytest

from stratos.atproto.keys import SigningKey
from stratos.engine.key_files import KeyFault, load_master_keys, load_service_keys, replace_keys

NAMES = ("signing_key", "master_key")


def test_key_files_are_made_once_and_for_their_owner_alone(data_dir: Path) -> None:
    first = load_service_keys(data_dir, None).current
    assert load_service_keys(data_dir, None).current.did_key == first.did_key
    assert load_master_keys(data_dir, None) == load_master_keys(data_dir, None)
    for name in NAMES:
        file = data_dir / name
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert len(file.read_bytes()) == 32
    assert {file.name for file in data_dir.iterdir()} == set(NAMES), "nothing is left over"


def test_processes_that_start_together_for_the_first_time_agree_upon_one_key(data_dir: Path) -> None:
    together, keys = Barrier(8), set[bytes]()

    def start() -> None:
        together.wait()
        keys.add(load_master_keys(data_dir, None).current)

    threads = [Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 1


def test_a_key_file_is_durable_with_its_name_before_anything_is_sealed_with_it(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directories: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: directories.append(stat.S_ISDIR(os.fstat(descriptor).st_mode)))
    load_master_keys(data_dir, None)
    assert directories == [False, True]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o755])
def test_a_key_file_that_others_may_use_is_refused_by_name(data_dir: Path, mode: int) -> None:
    load_service_keys(data_dir, None)
    load_master_keys(data_dir, None)
    for name in NAMES:
        (data_dir / name).chmod(mode)
    with pytest.raises(KeyFault, match=rf"signing_key: others .* \(mode {mode:04o}\): chmod 600"):
        load_service_keys(data_dir, None)
    with pytest.raises(KeyFault, match="master_key: others"):
        load_master_keys(data_dir, None)


@pytest.mark.parametrize("size", [0, 5, 31, 33, 63, 65, 96])
def test_a_damaged_key_file_is_refused_by_name(data_dir: Path, size: int) -> None:
    replace_keys(data_dir / "signing_key", bytes(size))
    with pytest.raises(KeyFault, match=f"signing_key: must hold 32 bytes.*has {size}"):
        load_service_keys(data_dir, None)


def test_bytes_that_are_no_key_are_refused_by_name(data_dir: Path) -> None:
    replace_keys(data_dir / "signing_key", bytes(32))
    with pytest.raises(KeyFault, match="signing_key: is no secp256k1 key"):
        load_service_keys(data_dir, None)


def test_the_setting_wins_over_the_file_and_a_bad_one_is_named(data_dir: Path) -> None:
    key, former = SigningKey.generate_secp256k1(), SigningKey.generate_secp256k1()
    held = load_service_keys(data_dir, key.raw.hex(), former.did_key)
    assert (held.current.did_key, held.former, held.source) == (
        key.did_key,
        former.verifying_key,
        "STRATOS_SIGNING_KEY_HEX",
    )
    assert not (data_dir / "signing_key").exists()
    with pytest.raises(KeyFault, match="STRATOS_SIGNING_KEY_HEX"):
        load_service_keys(data_dir, "abc")
    with pytest.raises(KeyFault, match="STRATOS_SIGNING_KEY_PREVIOUS"):
        load_service_keys(data_dir, key.raw.hex(), "did:key:nonsense")
    with pytest.raises(KeyFault, match="STRATOS_MASTER_KEY:"):
        load_master_keys(data_dir, "00")
    with pytest.raises(KeyFault, match="STRATOS_MASTER_KEY_PREVIOUS"):
        load_master_keys(data_dir, os.urandom(32).hex(), "00")


def test_a_former_key_stands_behind_the_current_one(data_dir: Path) -> None:
    former, current = SigningKey.generate_secp256k1(), SigningKey.generate_secp256k1()
    replace_keys(data_dir / "signing_key", current.raw, former.raw)
    held = load_service_keys(data_dir, None)
    assert (held.current.did_key, held.former) == (current.did_key, former.verifying_key)
    replace_keys(data_dir / "master_key", bytes(32), bytes(range(32)))
    ring = load_master_keys(data_dir, None, (b"x" * 32).hex())
    assert (ring.current, ring.former) == (bytes(32), (bytes(range(32)), b"x" * 32))
    assert stat.S_IMODE((data_dir / "master_key").stat().st_mode) == 0o600
