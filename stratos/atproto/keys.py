"""Signing keys on the two curves of AT Protocol, and their public forms: did:key and Multikey.

A signature is ECDSA over SHA-256 as 64 bytes, r then s, with s in the lower half of the order. Both curves sign deterministically
(RFC 6979). Source: https://atproto.com/specs/cryptography.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import coincurve
from coincurve.ecdsa import cdata_to_der, deserialize_compact
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from multiformats import multibase

PRIVATE_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
COMPRESSED_POINT_BYTES: Final = 33
MAX_MULTIBASE_CHARACTERS: Final = 120
"""Longer text is no key; decoding base 58 takes time that grows with its square."""

_POINT_BYTES: Final = {b"\x02": COMPRESSED_POINT_BYTES, b"\x03": COMPRESSED_POINT_BYTES, b"\x04": 65}
_DID_KEY: Final = "did:key:"
_BASE58: Final = "base58btc"
_ECDSA: Final = ec.ECDSA(SHA256(), deterministic_signing=True)


class Curve(Enum):
    """A curve, with its multicodec prefix and the order of its group."""

    P256 = (b"\x80\x24", 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551)
    SECP256K1 = (b"\xe7\x01", 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141)

    @property
    def multicodec(self) -> bytes:
        """The prefix of a public key's bytes in multibase."""
        return self.value[0]

    @property
    def order(self) -> int:
        """The number of points, below which r, s and the private scalar lie."""
        return self.value[1]


class InvalidKey(ValueError):
    """The text or bytes are not a key on either curve; never quotes private bytes."""


class SigningKey:
    """A private key; prints only its public part."""

    __slots__ = ("_key", "curve", "raw", "verifying_key")
    curve: Curve
    raw: bytes
    verifying_key: VerifyingKey

    def __init__(self, curve: Curve, raw32: bytes) -> None:
        """Take the scalar as 32 big-endian bytes. Raises InvalidKey unless it lies between 1 and the order of the curve."""
        if len(raw32) != PRIVATE_KEY_BYTES:
            raise InvalidKey(f"a private key has {PRIVATE_KEY_BYTES} bytes, not {len(raw32)}")
        scalar = int.from_bytes(raw32, "big")
        if not 0 < scalar < curve.order:
            raise InvalidKey("the private scalar is outside the curve's order")
        self.curve = curve
        self.raw = bytes(raw32)
        self._key: ec.EllipticCurvePrivateKey | coincurve.PrivateKey
        if curve is Curve.P256:
            p256 = ec.derive_private_key(scalar, ec.SECP256R1())
            self._key = p256
            public = p256.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        else:
            self._key = coincurve.PrivateKey(self.raw)
            public = self._key.public_key.format(compressed=True)
        self.verifying_key = VerifyingKey(curve, public)

    @classmethod
    def generate_p256(cls) -> SigningKey:
        """A new random key on P-256, the curve of users' keys."""
        scalar = ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value
        return cls(Curve.P256, scalar.to_bytes(PRIVATE_KEY_BYTES, "big"))

    @classmethod
    def generate_secp256k1(cls) -> SigningKey:
        """A new random key on secp256k1, the curve of the service's key."""
        return cls(Curve.SECP256K1, coincurve.PrivateKey().secret)

    @classmethod
    def from_raw(cls, curve: Curve, raw32: bytes) -> SigningKey:
        """Read the scalar as 32 big-endian bytes. Raises InvalidKey."""
        return cls(curve, raw32)

    @property
    def did_key(self) -> str:
        """The public key as did:key."""
        return self.verifying_key.did_key

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature over the SHA-256 of a message, with low s; the same for the same message."""
        if isinstance(self._key, coincurve.PrivateKey):
            return self._key.sign_recoverable(message)[:SIGNATURE_BYTES]
        r, s = decode_dss_signature(self._key.sign(message, _ECDSA))
        if s > self.curve.order // 2:
            s = self.curve.order - s
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def __repr__(self) -> str:
        return f"<SigningKey of {self.did_key}>"


class VerifyingKey:
    """A public key; equal and hashed by its curve and compressed point."""

    __slots__ = ("_key", "_multibase", "compressed", "curve")
    curve: Curve
    compressed: bytes

    def __init__(self, curve: Curve, point: bytes) -> None:
        """Take a point in its compressed (33 bytes) or uncompressed (65 bytes) form.

        Raises InvalidKey for other forms, and for points that are not on the curve.
        """
        if _POINT_BYTES.get(point[:1]) != len(point):
            raise InvalidKey("a public key is a point of 33 bytes beginning with 2 or 3, or of 65 bytes beginning with 4")
        self.curve = curve
        self._key: ec.EllipticCurvePublicKey | coincurve.PublicKey
        try:
            if curve is Curve.P256:
                p256 = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
                self._key = p256
                self.compressed = p256.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
            else:
                self._key = coincurve.PublicKey(point)
                self.compressed = self._key.format(compressed=True)
        except ValueError as error:
            raise InvalidKey(f"not a point on {curve.name}") from error
        self._multibase: str | None = None

    @classmethod
    def from_did_key(cls, text: str) -> VerifyingKey:
        """Read a did:key. Raises InvalidKey, also for other kinds of key."""
        if not text.startswith(_DID_KEY):
            raise InvalidKey(f"not a did:key: {text[:80]!r}")
        return cls.from_multibase(text[len(_DID_KEY) :])

    @classmethod
    def from_multibase(cls, text: str) -> VerifyingKey:
        """Read a Multikey: `z` and base 58 of the multicodec prefix and the compressed point. Raises InvalidKey."""
        raw = decode_multibase(text)
        for curve in Curve:
            if raw.startswith(curve.multicodec):
                return cls.from_compressed(curve, raw[len(curve.multicodec) :])
        raise InvalidKey(f"neither a P-256 nor a secp256k1 key: {text[:80]!r}")

    @classmethod
    def from_compressed(cls, curve: Curve, raw33: bytes) -> VerifyingKey:
        """Read a compressed point. Raises InvalidKey."""
        if len(raw33) != COMPRESSED_POINT_BYTES:
            raise InvalidKey(f"a compressed point has {COMPRESSED_POINT_BYTES} bytes, not {len(raw33)}")
        return cls(curve, raw33)

    @property
    def multibase(self) -> str:
        """The key as Multikey; built when first asked for, since that takes half a millisecond."""
        if self._multibase is None:
            self._multibase = multibase.encode(self.curve.multicodec + self.compressed, _BASE58)
        return self._multibase

    @property
    def did_key(self) -> str:
        """The key as did:key."""
        return _DID_KEY + self.multibase

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether this key made the signature over the SHA-256 of the message.

        False, never an exception, for any other bytes: another length, DER, high s, numbers out of range.
        """
        if len(signature) != SIGNATURE_BYTES:
            return False
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        if not 0 < r < self.curve.order or not 0 < s <= self.curve.order // 2:
            return False
        if isinstance(self._key, coincurve.PublicKey):
            return self._key.verify(cdata_to_der(deserialize_compact(signature)), message)
        try:
            self._key.verify(encode_dss_signature(r, s), message, _ECDSA)
        except InvalidSignature:
            return False
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VerifyingKey) and (self.curve, self.compressed) == (other.curve, other.compressed)

    def __hash__(self) -> int:
        return hash((self.curve, self.compressed))

    def __repr__(self) -> str:
        return f"<VerifyingKey {self.did_key}>"


def decode_multibase(text: str) -> bytes:
    """The bytes of a `z` multibase text (base 58, the only base that keys are published in). Raises InvalidKey."""
    if not text.startswith("z") or len(text) > MAX_MULTIBASE_CHARACTERS:
        raise InvalidKey(f"not a base 58 multibase key: {text[:80]!r}")
    try:
        return multibase.decode(text)
    except ValueError as error:
        raise InvalidKey(f"not a base 58 multibase key: {text[:80]!r}") from error
