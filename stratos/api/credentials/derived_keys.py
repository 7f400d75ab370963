"""Keys made of other keys, one for each purpose, so that none is ever used for two things. Source: RFC 5869."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES: Final = 32


def derive_key(material: bytes, purpose: str) -> bytes:
    """A key of 32 bytes; the same for the same secret material and purpose, and telling nothing about either."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=f"stratos {purpose}".encode()).derive(material)
