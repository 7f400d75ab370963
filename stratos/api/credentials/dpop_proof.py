"""DPoP proofs: that the caller holds a key, made for one request. Source: service spec §2.3 steps 4–9; RFC 9449 §4.3."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from math import inf
from typing import Final
from urllib.parse import unquote, urlsplit

from stratos.api.credentials.challenge import invalid_proof, nonce_needed
from stratos.api.credentials.jws import (
    ASYMMETRIC,
    MalformedToken,
    PublicKey,
    Token,
    UnusableKey,
    encode_base64url,
    parse_token,
)
from stratos.api.credentials.nonces import NONCE_LIFETIME_SECONDS, DpopNonces
from stratos.api.credentials.origins import web_origin

PROOF_TYPE: Final = "dpop+jwt"
MAX_PROOF_AGE_SECONDS: Final = 10
CLOCK_TOLERANCE_SECONDS: Final = 180
"""How far the caller's clock may be from ours, either way."""
MAX_JTI_CHARACTERS: Final = 512

_PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof that holds. Nobody accepts it after `until` (seconds since 1970)."""

    thumbprint: str
    """Of the caller's key."""
    jti: str
    until: float


class DpopProofs:
    """Checks proofs of requests to one deployable, known by the origin of its public URL."""

    def __init__(self, public_url: str, *, nonces: DpopNonces, require_nonce: bool, clock: Callable[[], datetime]) -> None:
        """Without `require_nonce` a proof may lack a nonce; one that it has must be ours all the same."""
        self._origin = web_origin(public_url)
        self._nonces = nonces
        self._require_nonce = require_nonce
        self._clock = clock

    def check(self, text: str, *, verb: str, path: str, access_token: str) -> Proof:
        """The proof, where it holds for this request. `path` is the full path, decoded. Raises Refused."""
        try:
            token = parse_token(text)
            key = _key(token)
            until = self._check_times(token)
        except MalformedToken as error:
            raise invalid_proof(f"DPoP proof: {error}") from None
        jti = token.text("jti")
        if jti is None or len(jti) > MAX_JTI_CHARACTERS:
            raise invalid_proof('DPoP "jti" missing' if jti is None else 'DPoP "jti" too long')
        if token.text("htm") != verb:
            raise invalid_proof('DPoP "htm" mismatch')
        if not self._names(token.text("htu"), path):
            raise invalid_proof('DPoP "htu" mismatch')
        left = self._check_nonce(token)
        if token.text("ath") != encode_base64url(sha256(access_token.encode()).digest()):
            raise invalid_proof('DPoP "ath" mismatch')
        return Proof(key.thumbprint, jti, min(until, self._clock().timestamp() + left))

    def _check_times(self, token: Token) -> float:
        """Until when the proof can be accepted."""
        now = self._clock().timestamp()
        issued, expires, begins = token.seconds("iat"), token.seconds("exp"), token.seconds("nbf")
        if issued is None:
            raise invalid_proof('DPoP "iat" missing')
        if max(issued, begins or issued) > now + CLOCK_TOLERANCE_SECONDS:
            raise invalid_proof("DPoP proof is not yet valid")
        until = issued + MAX_PROOF_AGE_SECONDS + CLOCK_TOLERANCE_SECONDS
        if now > until or (expires is not None and now > expires + CLOCK_TOLERANCE_SECONDS):
            raise invalid_proof("DPoP proof expired")
        return until

    def _names(self, target: str | None, path: str) -> bool:
        """Whether `htu` is this request's address; query and fragment do not count."""
        origin = None if target is None else web_origin(target)
        if target is None or origin is None:
            return False
        return origin == self._origin and unquote(urlsplit(target).path or "/") == path

    def _check_nonce(self, token: Token) -> float:
        """How many seconds its nonce leaves the proof at most."""
        nonce = token.text("nonce")
        if nonce is None and not self._require_nonce:
            return inf
        if nonce is None or not self._nonces.accepts(nonce):
            raise nonce_needed()
        return NONCE_LIFETIME_SECONDS


def _key(token: Token) -> PublicKey:
    """The key in the proof's header, which made its signature. Raises Refused."""
    if token.text_header("typ") != PROOF_TYPE:
        raise invalid_proof('DPoP "typ" mismatch')
    if token.algorithm not in ASYMMETRIC:
        raise invalid_proof('DPoP "alg" is not accepted')
    jwk = token.header.get("jwk")
    if not isinstance(jwk, dict) or not _PRIVATE_MEMBERS.isdisjoint(jwk):
        raise invalid_proof('DPoP "jwk" missing or not a public key')
    try:
        key = PublicKey(jwk)
    except UnusableKey:
        raise invalid_proof('DPoP "jwk" is not accepted') from None
    if not key.signed(token):
        raise invalid_proof("DPoP signature is invalid")
    return key
