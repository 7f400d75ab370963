"""The keys that sign an account's commits at a service, over rotations. Source: spec service.md §1.3.17, §10.5."""

from __future__ import annotations

from typing import Final

from stratos.atproto.keys import InvalidKey, VerifyingKey
from stratos.atproto.syntax import Did, Tid
from stratos.client.answers import Answer
from stratos.client.errors import KeyUnavailable
from stratos.client.xrpc import XrpcHost
from stratos.core.key_history import key_of_commit

STATUS: Final = "zone.stratos.enrollment.status"
_DID_KEY: Final = "did:key:"


class SigningKeys:
    """The account's keys by the word of the service, which is asked anew for each commit: a key may be rotated at any moment.

    Ask after the commit has arrived: then no rotation that it could have seen is missing.
    """

    def __init__(self, service: XrpcHost, did: Did) -> None:
        """`service` is at the address in the service's own DID document (`resolve_service`), whoever else may name another."""
        self._service = service
        self._did = did

    async def of_commit(self, rev: Tid) -> VerifyingKey:
        """The key that a commit of this rev has to be signed with. Raises KeyUnavailable, XrpcFailure, NoAnswer."""
        status = Answer(STATUS, await self._service.query(STATUS, {"did": self._did})).status()
        if status.did != self._did or not status.enrolled:
            raise KeyUnavailable(f"{self._did} is not enrolled at the service")
        # Services that rotate no keys tell no history.
        key = key_of_commit(status.signing_keys, rev) if status.signing_keys else status.signing_key
        if key is None:
            raise KeyUnavailable(f"the service tells no key of {self._did} for a commit at {rev}")
        return user_signing_key(key)


def user_signing_key(text: str) -> VerifyingKey:
    """The key that an enrollment names. Raises KeyUnavailable for what is not a did:key on one of the two curves."""
    if not text.startswith(_DID_KEY):
        raise KeyUnavailable(f"invalid signing key format: {text[:80]}")
    try:
        return VerifyingKey.from_did_key(text)
    except InvalidKey as error:
        raise KeyUnavailable(f"invalid signing key: {error}") from error
