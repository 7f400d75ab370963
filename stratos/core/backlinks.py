"""Backlinks: what a record points at by its `subject`. Source: spec service.md §5.6."""

from __future__ import annotations

from collections.abc import Mapping

from stratos.atproto.dag_cbor import decode_own
from stratos.atproto.syntax import AtUri, InvalidSyntax, parse_did


def backlinks(record: Mapping[str, object]) -> list[tuple[str, str]]:
    """The (path, target) pairs to index: a `subject` that is a DID or AT-URI, or the AT-URI in `subject.uri`. Never raises."""
    subject = record.get("subject")
    if isinstance(subject, str) and (_is_did(subject) or _is_at_uri(subject)):
        return [("subject", subject)]
    uri = subject.get("uri") if isinstance(subject, dict) else None
    if isinstance(uri, str) and _is_at_uri(uri):
        return [("subject.uri", uri)]
    return []


def block_backlinks(block: bytes) -> list[tuple[str, str]]:
    """The backlinks of a record block of our own."""
    # Most records have no subject; looking for the word is a hundred times cheaper than reading the record.
    if b"subject" not in block:
        return []
    record = decode_own(block)
    return backlinks(record) if isinstance(record, dict) else []


def _is_did(text: str) -> bool:
    try:
        parse_did(text)
    except InvalidSyntax:
        return False
    return True


def _is_at_uri(text: str) -> bool:
    try:
        AtUri.parse(text)
    except InvalidSyntax:
        return False
    return True
