"""Where the network keeps what it says about identities, and how its short answers read. Pure.

Sources: https://atproto.com/specs/did, https://atproto.com/specs/handle.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import orjson

from stratos.atproto.syntax import Did, Handle, InvalidSyntax, parse_did, parse_handle

RESERVED_TLDS: Final = frozenset({"alt", "arpa", "example", "internal", "invalid", "local", "localhost", "onion", "test"})
"""Top-level domains that mean something else on every network, if anything."""

_DID_IN_TEXT: Final = "did="
_is_plc = re.compile(r"did:plc:[a-z2-7]{24}").fullmatch


def is_plc(did: Did) -> bool:
    """Whether the DID is the directory's to resolve."""
    return _is_plc(did) is not None


def plc_document_url(plc_url: str, did: Did) -> str:
    """Where the directory keeps a did:plc's document."""
    return f"{plc_url.rstrip('/')}/{did}"


def normal_handle(text: str) -> Handle | None:
    """The handle in lower case; None when it has not the syntax of one."""
    try:
        return Handle(parse_handle(text).lower())
    except InvalidSyntax:
        return None


def has_reserved_tld(handle: Handle) -> bool:
    """Whether the handle lies under a top-level domain that the public network cannot resolve."""
    return handle.rpartition(".")[2] in RESERVED_TLDS


def handle_dns_name(handle: Handle) -> str:
    """The name with the handle's TXT record."""
    return f"_atproto.{handle}"


def handle_url(handle: Handle) -> str:
    """Where the handle's host says which DID it stands for."""
    return f"https://{handle}/.well-known/atproto-did"


def plc_handle_url(plc_url: str, handle: Handle) -> str:
    """Where the directory, if it does such a thing, says which DID a handle stands for."""
    return f"{plc_url.rstrip('/')}/did-by-handle/{handle}"


def service_handle_url(service_url: str, handle: Handle) -> str:
    """Where a PDS or AppView says the same."""
    return f"{service_url.rstrip('/')}/xrpc/com.atproto.identity.resolveHandle?handle={handle}"


def did_in_texts(texts: Iterable[str]) -> Did | None:
    """The DID in a handle's TXT records; None when there is none, or more than one, so that nobody can tell which holds."""
    found = {text.removeprefix(_DID_IN_TEXT) for text in texts if text.startswith(_DID_IN_TEXT)}
    return _did_or_none(found.pop()) if len(found) == 1 else None


def did_in_body(body: bytes) -> Did | None:
    """The DID that is the whole of a short answer but for white space around it; None when it is anything else."""
    # Bytes that are no text become characters that no DID has.
    return _did_or_none(body.decode("ascii", "replace").strip())


def did_in_json(body: bytes) -> Did | None:
    """The DID in an answer of com.atproto.identity.resolveHandle; None when there is none."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    did = answer.get("did") if isinstance(answer, dict) else None
    return _did_or_none(did) if isinstance(did, str) else None


def _did_or_none(text: str) -> Did | None:
    try:
        return parse_did(text)
    except InvalidSyntax:
        return None
