"""Access tokens of a user's own PDS: what they claim. Whether they are genuine is `issuers.py`'s question.

Source: service spec §2.3 steps 10–14; RFC 9068, RFC 9449 §6.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from stratos.api.credentials.challenge import invalid_token, other_key, unusable_claims
from stratos.api.credentials.jws import MalformedToken, Token, parse_token
from stratos.atproto.syntax import Did, InvalidSyntax, parse_did

LEEWAY_SECONDS: Final = 30

_TYPES: Final = frozenset({"at+jwt", "application/at+jwt", "jwt"})


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What an access token claims: `issuer` gave it for the account `did`."""

    did: Did
    issuer: str
    token: Token = field(repr=False)


def read_access_token(text: str, *, thumbprint: str, now: float) -> AccessToken:
    """Take an access token apart and check it, as far as that goes without its issuer. Raises Refused.

    It must be bound to the key with this thumbprint, which the proof was made with. `now` is seconds since 1970.
    """
    try:
        token = parse_token(text)
        expires = token.seconds("exp")
        begins = max(token.seconds("nbf") or 0, token.seconds("iat") or 0)
    except MalformedToken:
        raise invalid_token("Could not decode access token") from None
    if (token.text_header("typ") or "jwt").lower() not in _TYPES:
        raise invalid_token("Not an access token")
    if expires is not None and now > expires + LEEWAY_SECONDS:
        raise invalid_token("Token expired")
    if begins > now + LEEWAY_SECONDS:
        raise invalid_token("Token not yet valid")
    try:
        did = parse_did(token.text("sub") or "")
    except InvalidSyntax:
        raise unusable_claims("Invalid subject in token") from None
    issuer = token.text("iss")
    if issuer is None:
        raise unusable_claims("Token missing issuer (iss) claim")
    confirmation = token.claims.get("cnf")
    if not isinstance(confirmation, dict) or confirmation.get("jkt") != thumbprint:
        raise other_key()
    return AccessToken(did, issuer, token)
