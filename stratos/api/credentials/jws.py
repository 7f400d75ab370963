"""Signed tokens in their compact form: taken apart once, strictly, and checked against a public key of their own algorithm.

Only asymmetric algorithms exist here, so that no public key can ever serve as a shared secret. Low s is no rule of JOSE, and
browsers do not keep it; where AT Protocol asks for it, `VerifyingKey` checks. Source: RFC 7515, 7517, 7518, 7638, 8812.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Final, TypeVar

import orjson
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry

ES256: Final = "ES256"
ES256K: Final = "ES256K"
ASYMMETRIC: Final = frozenset({ES256, ES256K, "RS256", "PS256"})
"""What a proof or an access token may be signed with. ES256K is not recommended by JOSE, but it is AT Protocol's."""
MAX_TOKEN_CHARACTERS: Final = 8_192
MIN_RSA_BITS: Final = 2_048
MAX_RSA_BITS: Final = 4_096
MAX_RSA_EXPONENT: Final = 2**32
"""Checking a signature takes time that grows with the square of the modulus and the length of the exponent."""

_COORDINATE_BYTES: Final = 32
_CURVE_OF: Final[Mapping[str, str]] = {ES256: "P-256", ES256K: "secp256k1"}
_Key = TypeVar("_Key", ECKey, RSAKey)
_REGISTRY: Final = JWSRegistry(algorithms=sorted(ASYMMETRIC))


class MalformedToken(ValueError):
    """The text is not a token; the message never quotes it."""


class UnusableKey(ValueError):
    """The JSON is not a public key that this service can check a signature with."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token taken apart; nothing in it is to be believed before its signature has been checked."""

    header: Mapping[str, object]
    claims: Mapping[str, object]
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @property
    def algorithm(self) -> str | None:
        """What the header says that it is signed with."""
        return self.text_header("alg")

    def text_header(self, name: str) -> str | None:
        """A header parameter that is text; None for what is absent or anything else."""
        value = self.header.get(name)
        return value if isinstance(value, str) else None

    def text(self, claim: str) -> str | None:
        """A claim that is text and not empty; None for what is absent or anything else."""
        value = self.claims.get(claim)
        return value if isinstance(value, str) and value else None

    def seconds(self, claim: str) -> float | None:
        """A point in time, as seconds since 1970; None where the claim is absent. Raises MalformedToken for anything else."""
        value = self.claims.get(claim)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise MalformedToken(f"{claim} is not a time")
        return float(value)


class PublicKey:
    """A public key of somebody else's, that says which algorithms it is for. Equal keys have equal thumbprints."""

    __slots__ = ("_key", "algorithms", "kid", "thumbprint")

    def __init__(self, jwk: Mapping[str, object]) -> None:
        """Read a JWK: EC on P-256 or secp256k1, or RSA. Raises UnusableKey, also for keys that are not for signatures."""
        if jwk.get("use", "sig") != "sig" or not _may_verify(jwk.get("key_ops")):
            raise UnusableKey("the key is not for signatures")
        self._key, algorithms = _imported(jwk)
        stated = jwk.get("alg")
        self.algorithms: frozenset[str] = algorithms if stated is None else algorithms & {str(stated)}
        """What signatures of this key are made with."""
        if not self.algorithms:
            raise UnusableKey("the key is for an algorithm that is not accepted")
        kid = jwk.get("kid")
        self.kid = kid if isinstance(kid, str) else None
        self.thumbprint = self._key.thumbprint()
        """SHA-256 of its required members, base64url (RFC 7638)."""

    def signed(self, token: Token) -> bool:
        """Whether this key made the token's signature, with an algorithm that the key is for."""
        if token.algorithm not in self.algorithms:
            return False
        algorithm = _REGISTRY.get_alg(token.algorithm)
        algorithm.check_key(self._key)
        return algorithm.verify(token.signing_input, token.signature, self._key)


def parse_token(text: str) -> Token:
    """Take a compact token apart.

    Raises MalformedToken: `Invalid JWT format` for what has not three parts, `Invalid JWT encoding` for parts that are not the
    one base64url form of a JSON object, and for header parameters that must be understood and are not.
    """
    parts = text.split(".")
    if len(parts) != 3 or len(text) > MAX_TOKEN_CHARACTERS or not text.isascii():
        raise MalformedToken("Invalid JWT format")
    header, claims = _json_object(parts[0]), _json_object(parts[1])
    if "crit" in header:
        raise MalformedToken("Invalid JWT encoding")
    return Token(header, claims, f"{parts[0]}.{parts[1]}".encode(), decode_base64url(parts[2]))


def looks_like_a_token(text: str) -> bool:
    """Whether the text has a compact token's shape; a DID has not, for its colons."""
    return text.count(".") == 2 and ":" not in text


def decode_base64url(text: str) -> bytes:
    """The bytes of unpadded base64url. Raises MalformedToken for every other form, so that equal bytes have equal texts."""
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise MalformedToken("Invalid JWT encoding") from None
    if encode_base64url(raw) != text:
        raise MalformedToken("Invalid JWT encoding")
    return raw


def encode_base64url(raw: bytes) -> str:
    """Unpadded base64url."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _json_object(part: str) -> Mapping[str, object]:
    try:
        value: object = orjson.loads(decode_base64url(part))
    except orjson.JSONDecodeError:
        raise MalformedToken("Invalid JWT encoding") from None
    if not isinstance(value, dict):
        raise MalformedToken("Invalid JWT encoding")
    return value


def _may_verify(operations: object) -> bool:
    return operations is None or (isinstance(operations, list) and "verify" in operations)


def _imported(jwk: Mapping[str, object]) -> tuple[ECKey | RSAKey, frozenset[str]]:
    """The key, from its required members alone, with what it can be used for. Raises UnusableKey."""
    match jwk:
        case {"kty": "EC", "crv": ("P-256" | "secp256k1") as curve, "x": str(x), "y": str(y)}:
            if len(_member(x)) != _COORDINATE_BYTES or len(_member(y)) != _COORDINATE_BYTES:
                raise UnusableKey("a coordinate has another length than the curve's")
            algorithms = frozenset(name for name, of in _CURVE_OF.items() if of == curve)
            return _imported_by(ECKey, {"kty": "EC", "crv": curve, "x": x, "y": y}), algorithms
        case {"kty": "RSA", "n": str(n), "e": str(e)}:
            modulus, exponent = int.from_bytes(_member(n), "big"), int.from_bytes(_member(e), "big")
            if not MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS or exponent > MAX_RSA_EXPONENT:
                raise UnusableKey("the modulus or the exponent has another size than is accepted")
            return _imported_by(RSAKey, {"kty": "RSA", "n": n, "e": e}), frozenset({"RS256", "PS256"})
    raise UnusableKey("the key is of a kind that is not accepted")


def _imported_by(kind: type[_Key], members: dict[str, str | list[str]]) -> _Key:
    try:
        return kind.import_key(members)
    except (JoseError, ValueError) as error:
        raise UnusableKey("the members do not make a key") from error


def _member(text: str) -> bytes:
    try:
        return decode_base64url(text)
    except MalformedToken as error:
        raise UnusableKey("a member is not base64url") from error
