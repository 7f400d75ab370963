"""Key files: 32 bytes for each key, the current one first, readable by their owner alone, replaced in one step."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkstemp
from typing import Final

from stratos.atproto.keys import Curve, InvalidKey, SigningKey, VerifyingKey

KEY_BYTES: Final = 32
MAX_KEYS: Final = 2
"""In a file: the current key, and while a rotation is under way the former one."""
SERVICE_KEY_FILE: Final = "signing_key"
MASTER_KEY_FILE: Final = "master_key"
_OTHERS: Final = 0o077


class KeyFault(Exception):
    """A key file or a sealed key cannot be used; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """A key, and the one before it while something still hangs on that. `source` names the file or the setting."""

    current: bytes = field(repr=False)
    former: tuple[bytes, ...] = field(repr=False)
    source: str


@dataclass(frozen=True, slots=True)
class ServiceKeys:
    """The key that the service signs with, and the one that it signed with before, while attestations by that one stand."""

    current: SigningKey = field(repr=False)
    former: VerifyingKey | None
    source: str


def load_service_keys(data_dir: Path, hex_override: str | None, former: str | None = None) -> ServiceKeys:
    """The service's secp256k1 key: from the setting, else `<data_dir>/signing_key`, created on first start.

    `former` is the did:key of the one before. Raises KeyFault naming the file or the setting.
    """
    if hex_override:
        ring = KeyRing(_from_hex(hex_override, "STRATOS_SIGNING_KEY_HEX"), (), "STRATOS_SIGNING_KEY_HEX")
    else:
        ring = read_or_create(data_dir / SERVICE_KEY_FILE, SigningKey.generate_secp256k1().raw)
    try:
        current, *before = (SigningKey.from_raw(Curve.SECP256K1, raw) for raw in (ring.current, *ring.former))
    except InvalidKey as error:
        raise KeyFault(f"{ring.source}: is no secp256k1 key") from error
    if former is None:
        return ServiceKeys(current, before[0].verifying_key if before else None, ring.source)
    try:
        return ServiceKeys(current, VerifyingKey.from_did_key(former), ring.source)
    except InvalidKey as error:
        raise KeyFault("STRATOS_SIGNING_KEY_PREVIOUS: must be a did:key") from error


def load_master_keys(data_dir: Path, override: str | None, former: str | None = None) -> KeyRing:
    """The 32-byte key that seals user keys: from the setting (hex), else `<data_dir>/master_key`, created on first start.

    `former` (hex) opens what was sealed before. Raises KeyFault naming the file or the setting.
    """
    before = () if former is None else (_from_hex(former, "STRATOS_MASTER_KEY_PREVIOUS"),)
    if override:
        return KeyRing(_from_hex(override, "STRATOS_MASTER_KEY"), before, "STRATOS_MASTER_KEY")
    ring = read_or_create(data_dir / MASTER_KEY_FILE, os.urandom(KEY_BYTES))
    return KeyRing(ring.current, ring.former + before, ring.source)


def read_or_create(path: Path, fresh: bytes) -> KeyRing:
    """Read a key file; where there is none, make one of `fresh`. Of several who make it at the same time, one does.

    Raises KeyFault where others than the owner may read it, or it does not hold keys.
    """
    if not path.exists():
        partial = _partial(path, fresh)
        with suppress(FileExistsError):
            os.link(partial, path)
        partial.unlink()
        _sync_directory(path)
    raw, mode = path.read_bytes(), stat.S_IMODE(path.stat().st_mode)
    if mode & _OTHERS:
        raise KeyFault(f"{path}: others than its owner may use it (mode {mode:04o}): chmod 600 it, and rotate the key")
    keys = [raw[start : start + KEY_BYTES] for start in range(0, len(raw), KEY_BYTES)]
    if not 1 <= len(keys) <= MAX_KEYS or len(keys[-1]) != KEY_BYTES:
        raise KeyFault(f"{path}: must hold {KEY_BYTES} bytes, or twice as many while a rotation is under way, has {len(raw)}")
    return KeyRing(keys[0], tuple(keys[1:]), str(path))


def replace_keys(path: Path, *keys: bytes) -> None:
    """Let a key file hold these keys, the current one first, in one step: a crash leaves either what was or what is."""
    _partial(path, b"".join(keys)).replace(path)
    _sync_directory(path)


def _partial(path: Path, content: bytes) -> Path:
    """A durable file beside `path`, of mode 0600."""
    descriptor, name = mkstemp(prefix=f".{path.name}-", dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return Path(name)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _from_hex(text: str, setting: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError as error:
        raise KeyFault(f"{setting}: must be 64 hexadecimal digits") from error
    if len(raw) != KEY_BYTES:
        raise KeyFault(f"{setting}: must be 64 hexadecimal digits")
    return raw
