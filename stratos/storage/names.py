"""Which DIDs may become names of directories and schemas (spec service.md §8.2)."""

from __future__ import annotations

from stratos.atproto.syntax import Did, InvalidSyntax, parse_did


def is_nameable(did: Did) -> bool:
    """Whether `check_nameable` lets it pass."""
    try:
        check_nameable(did)
    except InvalidSyntax:
        return False
    return True


def check_nameable(did: Did) -> None:
    """Raise InvalidSyntax for what is not a DID, or could lead out of a directory that is named after it."""
    parse_did(did)
    if "/" in did or "\\" in did or ".." in did:
        raise InvalidSyntax(f"a DID that cannot name a directory: {did[:80]!r}")
