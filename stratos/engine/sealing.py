"""Sealing values at rest under the master key. Decisions: docs/adr/0013-key-rotation.md."""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stratos.engine.key_files import KeyFault

_FIRST_FORM: Final = b"\x01"
_FORM: Final = b"\x02"
_KEY_ID_BYTES: Final = 4
_NONCE_BYTES: Final = 12


def master_key_id(master_key: bytes) -> bytes:
    """What a sealed value says of the key that sealed it, and what may be shown of that key."""
    return sha256(master_key).digest()[:_KEY_ID_BYTES]


class ContextSealer:
    """Seals values, each to a context: `form(1) ‖ key id(4) ‖ nonce(12) ‖ AES-256-GCM(value)`.

    Seals with the current master key; opens what the current one or a former one sealed. Safe to use from several threads.
    """

    def __init__(self, master_key: bytes, former: Sequence[bytes] = ()) -> None:
        self._aead = AESGCM(master_key)
        self._prefix = _FORM + master_key_id(master_key)
        self._aeads = {_FORM + master_key_id(key): AESGCM(key) for key in (*former, master_key)}

    def seal(self, plain: bytes, context: str) -> bytes:
        """Encrypt and authenticate; opens only with the same context."""
        nonce = os.urandom(_NONCE_BYTES)
        return self._prefix + nonce + self._aead.encrypt(nonce, plain, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """Decrypt. Raises KeyFault where the key or the context is another, or the value was changed."""
        aead = self._aeads.get(sealed[: len(self._prefix)])
        if aead is None:
            raise KeyFault(f"{context} is sealed with another master key")
        try:
            return _decrypted(aead, sealed[len(self._prefix) :], context)
        except (InvalidTag, ValueError) as error:
            raise KeyFault(f"{context} does not open") from error

    def is_first_form(self, sealed: bytes) -> bool:
        """Whether a value has the form of before: `form(1) ‖ nonce(12) ‖ AES-256-GCM(value)`, which does not name its key."""
        return sealed.startswith(_FIRST_FORM)

    def open_first_form(self, sealed: bytes, context: str) -> bytes:
        """Decrypt a value of the form of before, by whichever key. Raises KeyFault."""
        for aead in self._aeads.values():
            try:
                return _decrypted(aead, sealed[len(_FIRST_FORM) :], context)
            except (InvalidTag, ValueError):
                continue
        raise KeyFault(f"{context} does not open with this master key")

    def is_current(self, sealed: bytes) -> bool:
        """Whether a value needs no former key to be opened."""
        return sealed.startswith(self._prefix)


def _decrypted(aead: AESGCM, sealed: bytes, context: str) -> bytes:
    return aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context.encode())
