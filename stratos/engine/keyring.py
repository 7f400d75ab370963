"""Keys: the service's own, and the sealing of users' keys at rest.

Source: service spec §4.12. A sealed key is `version(1) ‖ nonce(12) ‖ AES-256-GCM(curve(1) ‖ raw key(32))`, bound to its DID.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stratos.atproto.keys import Curve, SigningKey
from stratos.atproto.syntax import Did

_VERSION: Final = b"\x01"
_CONTEXT_VERSION: Final = b"\x02"
_KEY_ID_BYTES: Final = 4
_NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32
_CURVE_TAGS: Final = {Curve.P256: b"p", Curve.SECP256K1: b"k"}
_CURVES: Final = {tag: curve for curve, tag in _CURVE_TAGS.items()}


class KeyFault(Exception):
    """A key file or a sealed key cannot be used; the message says which and what to do."""


class ContextSealer:
    """Seals values under the master key, each to a context: `version(1) ‖ key id(4) ‖ nonce(12) ‖ AES-256-GCM(value)`.

    Safe to use from several threads.
    """

    def __init__(self, master_key: bytes) -> None:
        self._aead = AESGCM(master_key)
        self._prefix = _CONTEXT_VERSION + sha256(master_key).digest()[:_KEY_ID_BYTES]

    def seal(self, plain: bytes, context: str) -> bytes:
        """Encrypt and authenticate; opens only with the same context."""
        nonce = os.urandom(_NONCE_BYTES)
        return self._prefix + nonce + self._aead.encrypt(nonce, plain, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """Decrypt. Raises KeyFault where the key or the context is another, or the value was changed."""
        start = len(self._prefix)
        if sealed[:start] != self._prefix:
            raise KeyFault(f"{context} is sealed with another master key")
        try:
            return self._aead.decrypt(sealed[start : start + _NONCE_BYTES], sealed[start + _NONCE_BYTES :], context.encode())
        except (InvalidTag, ValueError) as error:
            raise KeyFault(f"{context} does not open") from error


class Keyring:
    """The service key, the user keys' and other values' seal, and a bounded cache of opened user keys."""

    def __init__(self, service_key: SigningKey, master_key: bytes, *, max_cached: int = 1_024) -> None:
        self.service_key = service_key
        self.sealer = ContextSealer(master_key)
        self._aead = AESGCM(master_key)
        self._max_cached = max_cached
        self._opened: OrderedDict[bytes, tuple[Did, SigningKey]] = OrderedDict()

    def seal(self, did: Did, key: SigningKey) -> bytes:
        """Encrypt a user's key for storage; only this service's master key and this DID open it."""
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + nonce + self._aead.encrypt(nonce, _CURVE_TAGS[key.curve] + key.raw, did.encode())

    def open(self, did: Did, sealed: bytes) -> SigningKey:
        """Decrypt a stored user key. Raises KeyFault where the master key or the DID is another."""
        cached = self._opened.get(sealed)
        if cached is not None and cached[0] == did:
            self._opened.move_to_end(sealed)
            return cached[1]
        try:
            plain = self._aead.decrypt(sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :], did.encode())
        except (InvalidTag, ValueError) as error:
            raise KeyFault(f"the signing key of {did} does not open with this master key") from error
        if sealed[:1] != _VERSION or plain[:1] not in _CURVES:
            raise KeyFault(f"the signing key of {did} is sealed in an unknown form")
        key = SigningKey.from_raw(_CURVES[plain[:1]], plain[1:])
        self._opened[sealed] = (did, key)
        if len(self._opened) > self._max_cached:
            self._opened.popitem(last=False)
        return key

    def forget(self, did: Did) -> None:
        """Drop opened keys of a DID."""
        for sealed in [sealed for sealed, (owner, _) in self._opened.items() if owner == did]:
            del self._opened[sealed]

    def statistics(self) -> Mapping[str, int]:
        """Gauges: opened user keys and their limit."""
        return {"opened": len(self._opened), "opened_limit": self._max_cached}


def load_service_key(data_dir: Path, hex_override: str | None) -> SigningKey:
    """The service's secp256k1 key: from the setting, else `<data_dir>/signing_key`, created on first start.

    Raises KeyFault naming the file or the setting.
    """
    if hex_override:
        try:
            raw = bytes.fromhex(hex_override)
        except ValueError as error:
            raise KeyFault("STRATOS_SIGNING_KEY_HEX: must be 64 hexadecimal digits") from error
        if len(raw) != _KEY_BYTES:
            raise KeyFault("STRATOS_SIGNING_KEY_HEX: must be 64 hexadecimal digits")
    else:
        raw = _read_or_create(data_dir / "signing_key", SigningKey.generate_secp256k1().raw)
    return SigningKey.from_raw(Curve.SECP256K1, raw)


def load_master_key(data_dir: Path, override: str | None) -> bytes:
    """The 32-byte key that seals user keys: from the setting (hex), else `<data_dir>/master_key`, created on first start."""
    if override:
        try:
            raw = bytes.fromhex(override)
        except ValueError as error:
            raise KeyFault("STRATOS_MASTER_KEY: must be 64 hexadecimal digits") from error
        if len(raw) != _KEY_BYTES:
            raise KeyFault("STRATOS_MASTER_KEY: must be 64 hexadecimal digits")
        return raw
    return _read_or_create(data_dir / "master_key", os.urandom(_KEY_BYTES))


def _read_or_create(path: Path, fresh: bytes) -> bytes:
    """Read a 32-byte key file, or write `fresh` with mode 0600 so that a crash never leaves a partial file."""
    if not path.exists():
        partial = path.with_suffix(".new")
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(fresh)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
        # What is sealed with a key is durable; the key's name must be no less.
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    raw = path.read_bytes()
    if len(raw) != _KEY_BYTES:
        raise KeyFault(f"{path}: must hold exactly {_KEY_BYTES} bytes, has {len(raw)}")
    return raw
