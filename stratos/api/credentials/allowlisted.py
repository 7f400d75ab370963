"""Users who must be on the lists at every request, not at their enrollment only. Source: service spec §4.1."""

from __future__ import annotations

from stratos.api.auth import Credential, User, Verifier
from stratos.api.credentials.dpop import OnAllowlist
from stratos.api.errors import not_authenticated
from stratos.api.request import RequestHead


class AllowlistedVerifier:
    """Another verifier, whose users are refused while no list names them. DPoP has words of its own for it: see DpopVerifier."""

    def __init__(self, verifier: Verifier, on_allowlist: OnAllowlist) -> None:
        self._verifier = verifier
        self._on_allowlist = on_allowlist

    async def verify(self, head: RequestHead, nsid: str) -> Credential | None:
        """As the other verifier. Raises XrpcError 401 for a user who is on no list."""
        credential = await self._verifier.verify(head, nsid)
        if isinstance(credential, User) and not await self._on_allowlist(credential.did):
            raise not_authenticated(f"User {credential.did} is not on the allowlist")
        return credential
