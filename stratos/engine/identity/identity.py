"""What the rest of the house knows of identities: a port, so that tests can stand in for the network."""

from __future__ import annotations

from typing import Protocol

from stratos.atproto.resolved_document import DidDocument
from stratos.atproto.syntax import Did


class Identity(Protocol):
    """Looks up DIDs and handles. Every method answers within the time-outs of whoever implements it."""

    async def resolve_did(self, did: Did, *, refresh: bool = False) -> DidDocument:
        """The DID's document. Raises DidNotFound or IdentityUnavailable.

        `refresh` asks anew although an answer is at hand: for a signature that the known key does not verify. It is honoured only
        so often per DID; check with what comes back, whether newer or not. A refresh that fails gives what was at hand.
        """
        ...

    async def resolve_handle(self, handle: str) -> Did | None:
        """The DID that the handle points to; None when it points to none. Raises IdentityUnavailable when that cannot be told.

        One way only: whether the DID claims the handle is `verified_handle`'s question.
        """
        ...

    async def verified_handle(self, document: DidDocument) -> str | None:
        """The handle that the document claims and that points back to its DID, in lower case; None when there is none.

        Raises IdentityUnavailable when it cannot be told whether the handle points back: neither believe nor forget it then.
        """
        ...
