"""Who belongs here, and how the network is asked about those who do and those who do not.

Anybody may present a token, with a DID that cost nothing, and so have us ask hosts that answer slowly. Whoever belongs here must
not wait behind that: what is looked up about them has places and caches of its own, which strangers cannot fill.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from stratos.atproto.syntax import Did
from stratos.engine.identity import DidDocument, Identity, OutgoingHttp

IsKnown = Callable[[Did], Awaitable[bool]]
"""Whether the account is enrolled here, actively or not."""


async def everybody(did: Did) -> bool:  # noqa: ARG001 - as IsKnown
    """For whoever has no members, and gives nobody anything that a token could use up."""
    return True


@dataclass(frozen=True, slots=True)
class WayOut:
    """How the network is asked: identities, and whatever else stands at addresses that others chose."""

    identity: Identity
    http: OutgoingHttp


class KnownFirst(Identity):
    """Identities, by one way for DIDs that belong here and by another for all others. Handles are strangers' business."""

    def __init__(self, known: Identity, others: Identity, is_known: IsKnown) -> None:
        self._known = known
        self._others = others
        self._is_known = is_known

    async def resolve_did(self, did: Did, *, refresh: bool = False) -> DidDocument:
        """See Identity. Raises StorageFault where it cannot be told whether the DID belongs here."""
        identity = self._known if await self._is_known(did) else self._others
        return await identity.resolve_did(did, refresh=refresh)

    async def resolve_handle(self, handle: str) -> Did | None:
        """See Identity."""
        return await self._others.resolve_handle(handle)

    async def verified_handle(self, document: DidDocument) -> str | None:
        """See Identity."""
        return await self._others.verified_handle(document)
