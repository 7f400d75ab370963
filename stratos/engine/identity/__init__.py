"""Identities of the network: DIDs, their documents, handles, and how we ask addresses that others chose.

Decisions: docs/adr/0006-identity.md.
"""

from stratos.atproto.resolved_document import DidDocument, InvalidDocument
from stratos.engine.identity.answer_cache import CacheLimits
from stratos.engine.identity.errors import DidNotFound, IdentityError, IdentityUnavailable
from stratos.engine.identity.identity import Identity
from stratos.engine.identity.names import DnsNames, Names, NamesUnavailable, SystemNames
from stratos.engine.identity.outgoing import (
    AddressRefused,
    Answer,
    AnswerRefused,
    NoSuchHost,
    OutgoingError,
    OutgoingHttp,
    OutgoingPolicy,
    Unreachable,
    user_agent,
)
from stratos.engine.identity.resolver import IdentityLimits, IdentityResolver, OpenIdentity, open_identity

__all__ = [
    "AddressRefused",
    "Answer",
    "AnswerRefused",
    "CacheLimits",
    "DidDocument",
    "DidNotFound",
    "DnsNames",
    "Identity",
    "IdentityError",
    "IdentityLimits",
    "IdentityResolver",
    "IdentityUnavailable",
    "InvalidDocument",
    "Names",
    "NamesUnavailable",
    "NoSuchHost",
    "OpenIdentity",
    "OutgoingError",
    "OutgoingHttp",
    "OutgoingPolicy",
    "SystemNames",
    "Unreachable",
    "open_identity",
    "user_agent",
]
