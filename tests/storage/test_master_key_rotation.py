"""A new master key: everything is sealed under it, and a death at any step leaves a store that opens. On either database."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stratos.atproto.keys import SigningKey
from stratos.atproto.syntax import Did
from stratos.engine import master_key_rotation
from stratos.engine.key_files import MASTER_KEY_FILE, KeyFault, load_master_keys, load_service_keys, replace_keys
from stratos.engine.keyring import Keyring
from stratos.engine.master_key_rotation import rotate_master_key
from stratos.engine.oauth.vault import session_context, state_context
from stratos.engine.resealing import Resealed, StillSealing, check_master_key, reseal
from stratos.engine.service import LED_TASKS
from stratos.storage.ports import Backend
from stratos.storage.sealed_port import SealedKind, SealedValue, SealedValues
from tests.storage.builders import START, RepoBuilder, did_of
from tests.storage.conftest import PostgresStorage, Storage
from tests.storage.steps import append

REI, SAKURA = did_of("rei"), did_of("sakura")
LATER = START + timedelta(hours=1)


class Killed(Exception):
    """The process ends here."""


@dataclass
class House:
    """A store with keys, sessions and a state, and the key files beside it."""

    backend: Backend
    data_dir: Path
    keys: dict[Did, SigningKey]

    def keyring(self) -> Keyring:
        """As a process that starts now reads it."""
        ring = load_master_keys(self.data_dir, None)
        return Keyring(load_service_keys(self.data_dir, None).current, ring.current, ring.former)

    def rotate(self, progress: Callable[[int], None] = lambda _: None) -> Resealed:
        """Rotate the key of the file."""
        return rotate_master_key(self.data_dir / MASTER_KEY_FILE, self.keyring, self.backend, progress=progress)

    def opens(self, keyring: Keyring | None = None) -> bool:
        """Whether everything opens and is what was sealed; raises KeyFault where something does not open."""
        keyring = keyring or self.keyring()
        page = self.backend.sealed.page
        keys = {Did(value.owner): value.sealed for value in page(SealedKind.SIGNING_KEY, after=None, limit=10)}
        sessions = {value.owner: value.sealed for value in page(SealedKind.SESSION, after=None, limit=10)}
        (state,) = page(SealedKind.STATE, after=None, limit=10)
        return (
            {did: keyring.open(did, sealed).did_key for did, sealed in keys.items()}
            == {did: key.did_key for did, key in self.keys.items()}
            and all(keyring.sealer.open(sessions[did], session_context(did)) == f"session of {did}".encode() for did in self.keys)
            and keyring.sealer.open(state.sealed, state_context("s")) == b"state s"
        )


def first_form(master_key: bytes, did: Did, key: SigningKey) -> bytes:
    """A user's key as it was sealed before values named their master key."""
    nonce = os.urandom(12)
    return b"\x01" + nonce + AESGCM(master_key).encrypt(nonce, b"p" + key.raw, did.encode())


@pytest.fixture
def house(backend: Backend, data_dir: Path) -> House:
    """Two accounts; Sakura's key has the form of before."""
    house = House(backend, data_dir, {did: SigningKey.generate_p256() for did in (REI, SAKURA)})
    keyring, master = house.keyring(), load_master_keys(data_dir, None).current
    for did, key in house.keys.items():
        repo = RepoBuilder(did, key)
        sealed = keyring.seal(did, key) if did == REI else first_form(master, did, key)
        append(backend, repo.proposal(repo.enroll(sealed_key=sealed), repo.entry()))
        backend.oauth.put_session(did, keyring.sealer.seal(f"session of {did}".encode(), session_context(did)), START)
    backend.oauth.put_state("s", keyring.sealer.seal(b"state s", state_context("s")), LATER, most=10)
    return house


def test_everything_opens_with_the_new_key_alone_and_nothing_with_the_former(house: House) -> None:
    before, former = load_master_keys(house.data_dir, None), house.keyring()
    looked_at: list[int] = []
    assert house.rotate(looked_at.append) == Resealed(5, ())
    assert sum(looked_at) == 5
    after = load_master_keys(house.data_dir, None)
    assert (after.former, after.current != before.current) == ((), True)
    assert house.opens()
    for kind in SealedKind:
        for value in house.backend.sealed.page(kind, after=None, limit=10):
            assert house.keyring().sealer.is_current(value.sealed)
            assert not former.sealer.is_current(value.sealed)
    check_master_key(house.backend.sealed, house.keyring(), "the file")
    with pytest.raises(KeyFault, match="STRATOS_MASTER_KEY: is not the key"):
        check_master_key(house.backend.sealed, former, "STRATOS_MASTER_KEY")


@pytest.mark.parametrize("step", range(10))
def test_a_death_at_any_step_leaves_a_store_that_opens_and_the_next_run_goes_on(
    house: House, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_master_keys(house.data_dir, None)
    replace = type(house.backend.sealed).replace
    left = step

    def survive() -> None:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1

    def dying_replace(values: SealedValues, changes: Sequence[tuple[SealedValue, bytes]]) -> int:
        survive()
        done = replace(values, changes)
        survive()
        return done

    def dying_replace_keys(path: Path, *keys: bytes) -> None:
        survive()
        replace_keys(path, *keys)
        survive()

    with monkeypatch.context() as patch:
        patch.setattr(type(house.backend.sealed), "replace", dying_replace)
        patch.setattr(master_key_rotation, "replace_keys", dying_replace_keys)
        with pytest.raises(Killed):
            house.rotate()
    assert house.opens(), "who starts now opens everything"
    assert not house.rotate().unreadable
    assert house.opens()
    after = load_master_keys(house.data_dir, None)
    assert (after.former, after.current != before.current) == ((), True)


def test_what_is_sealed_with_the_former_key_meanwhile_is_sealed_anew_too(house: House) -> None:
    former = house.keyring()
    late = former.sealer.seal(f"session of {REI}".encode(), session_context(REI))
    told = False

    def once(_: int) -> None:
        nonlocal told
        if not told:
            told = True
            house.backend.oauth.put_session(REI, late, LATER)

    house.rotate(once)
    assert house.opens()


def test_somebody_who_goes_on_sealing_with_the_former_key_is_noticed(house: House) -> None:
    ring, former = load_master_keys(house.data_dir, None), house.keyring()
    both = Keyring(former.service_key, os.urandom(32), (ring.current,))

    def interfere(_: int) -> None:
        house.backend.oauth.put_session(
            SAKURA, former.sealer.seal(f"session of {SAKURA}".encode(), session_context(SAKURA)), LATER
        )

    with pytest.raises(StillSealing):
        reseal(house.backend.sealed, both, progress=interfere, page=1)
    assert house.opens(both)


def test_what_no_key_opens_is_named_and_keeps_the_former_key(house: House) -> None:
    house.backend.oauth.put_session(SAKURA, b"\x02????nonsense", LATER)
    outcome = house.rotate()
    assert (outcome.resealed, len(outcome.unreadable)) == (4, 1)
    assert SAKURA in outcome.unreadable[0]
    assert len(load_master_keys(house.data_dir, None).former) == 1
    house.backend.oauth.delete_session(SAKURA)
    assert house.rotate() == Resealed(0, ())
    assert load_master_keys(house.data_dir, None).former == ()


def test_keys_of_settings_are_left_to_the_operator(house: House) -> None:
    former, fresh = load_master_keys(house.data_dir, None).current, os.urandom(32)

    def keyring() -> Keyring:
        ring = load_master_keys(house.data_dir, fresh.hex(), former.hex())
        return Keyring(load_service_keys(house.data_dir, None).current, ring.current, ring.former)

    assert rotate_master_key(None, keyring, house.backend, progress=lambda _: None) == Resealed(5, ())
    assert house.opens(Keyring(SigningKey.generate_secp256k1(), fresh))
    assert load_master_keys(house.data_dir, None).current == former, "the file is nobody's business then"


def test_a_running_service_keeps_the_key_of_a_file_from_being_rotated(postgres_storage: PostgresStorage, tmp_path: Path) -> None:
    backend = postgres_storage.open()
    service = postgres_storage.open().leadership(LED_TASKS[-1])
    assert service.acquire()
    load_master_keys(tmp_path, None)

    def keyring() -> Keyring:
        return Keyring(SigningKey.generate_secp256k1(), load_master_keys(tmp_path, None).current)

    with pytest.raises(KeyFault, match="a service is running"):
        rotate_master_key(tmp_path / MASTER_KEY_FILE, keyring, backend, progress=lambda _: None)
    assert load_master_keys(tmp_path, None).former == ()
    service.release()
    assert rotate_master_key(tmp_path / MASTER_KEY_FILE, keyring, backend, progress=lambda _: None) == Resealed(0, ())


def test_an_empty_store_takes_any_key(storage: Storage) -> None:
    backend = storage.open()
    check_master_key(backend.sealed, Keyring(SigningKey.generate_secp256k1(), os.urandom(32)), "the file")
