"""How a DPoP request is refused: the message for people, the `WWW-Authenticate` challenge for programs.

Source: service spec §2.3, the table; RFC 9449 §7.1, RFC 6750 §3.
"""

from __future__ import annotations

from typing import Final

REALM: Final = 'DPoP realm="stratos"'


class Refused(Exception):
    """The credential does not hold; `challenge` is the value of `WWW-Authenticate`, None for no such header."""

    def __init__(self, message: str, challenge: str | None) -> None:
        super().__init__(message)
        self.message = message
        self.challenge = challenge


def missing_credential(message: str) -> Refused:
    """No DPoP credential is there at all."""
    return Refused(message, REALM)


def missing_proof(message: str) -> Refused:
    """There is no proof, or more than one."""
    return Refused(message, f'{REALM}, error="invalid_dpop_proof"')


def invalid_proof(message: str) -> Refused:
    """The proof does not hold; the challenge tells why."""
    described = message.replace("\\", "\\\\").replace('"', '\\"')
    return Refused(message, f'{REALM}, error="invalid_dpop_proof", error_description="{described}"')


def nonce_needed() -> Refused:
    """The proof holds but for a nonce of ours."""
    return Refused("DPoP nonce required", 'DPoP error="use_dpop_nonce"')


def invalid_token(message: str) -> Refused:
    """The access token does not hold."""
    return Refused(message, f'{REALM}, error="invalid_token"')


def unusable_claims(message: str) -> Refused:
    """The access token lacks what every token of an account has; no challenge helps."""
    return Refused(message, None)


def other_key() -> Refused:
    """The access token belongs to another key than the proof's."""
    return Refused("DPoP key binding mismatch", f'{REALM}, error="invalid_dpop_proof"')
