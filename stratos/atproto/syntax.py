"""Identifier and string syntax of the AT Protocol: parsed once at the edge, trusted inside.

Every parser returns the typed value or raises InvalidSyntax with a message that names what is wrong.
Sources: https://atproto.com/specs/did, /handle, /nsid, /record-key, /tid, /at-uri-scheme and /lexicon#string-formats;
RFC 3986 (URI), RFC 5646 (language tags), RFC 3339 (date and time).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NewType, TypeAlias, cast

from stratos.atproto.language import is_language_tag

Did = NewType("Did", str)
Handle = NewType("Handle", str)
Nsid = NewType("Nsid", str)
Rkey = NewType("Rkey", str)
Tid = NewType("Tid", str)
_AtUriParts: TypeAlias = tuple[str, Nsid | None, Rkey | None, str | None]

MAX_DID_LENGTH: Final = 2048
MAX_HANDLE_LENGTH: Final = 253
MAX_NSID_LENGTH: Final = 317
MAX_RKEY_LENGTH: Final = 512
MAX_URI_BYTES: Final = 8192
MAX_DATETIME_LENGTH: Final = 64
_FIRST_MOMENT: Final = datetime.min.replace(tzinfo=UTC)
_LAST_MOMENT: Final = datetime.max.replace(tzinfo=UTC)
_SHOWN: Final = 80
"""Characters of a refused text that a message repeats."""

# Possessive quantifiers, with a look behind for what must not stand at the end, keep these from backtracking.
_LABEL = "[a-zA-Z0-9][a-zA-Z0-9-]{0,62}+(?<!-)"
_DID_PATTERN = "did:[a-z]++:[a-zA-Z0-9._:%-]++(?<![:%])"
_HANDLE_PATTERN = rf"(?:{_LABEL}\.)+[a-zA-Z][a-zA-Z0-9-]{{0,62}}+(?<!-)"
_NSID_PATTERN = rf"[a-zA-Z][a-zA-Z0-9-]{{0,62}}+(?<!-)(?:\.{_LABEL})+\.[a-zA-Z][a-zA-Z0-9]{{0,62}}+"
_RKEY_PATTERN = r"(?!\.{1,2}(?![A-Za-z0-9._:~-]))[A-Za-z0-9._:~-]{1,512}"

_is_did = re.compile(_DID_PATTERN).fullmatch
_is_handle = re.compile(_HANDLE_PATTERN).fullmatch
_is_nsid = re.compile(_NSID_PATTERN).fullmatch
_is_rkey = re.compile(_RKEY_PATTERN).fullmatch
_is_tid = re.compile("[2-7a-j][2-7a-z]{12}").fullmatch
_is_cid = re.compile("[a-zA-Z0-9+=]{8,256}").fullmatch
_is_uri = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]{0,80}:[^\s\x00-\x20\x7f]+").fullmatch
_is_datetime = re.compile(
    r"[0-9]{4}-[01][0-9]-[0-3][0-9]T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,20})?"
    r"(?:Z|(?!-00:00)[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
).fullmatch
_is_at_uri = re.compile(
    rf"at://({_DID_PATTERN}|{_HANDLE_PATTERN})(?:/({_NSID_PATTERN})(?:/({_RKEY_PATTERN}))?)?"
    r"(?:#(/[a-zA-Z0-9._~:@!$&%')(*+,;=\[\]/-]*))?"
).fullmatch


class InvalidSyntax(ValueError):
    """A text does not follow the syntax that it should; the message says which and shows the text's beginning."""


def _refusal(kind: str, text: str, reason: str = "") -> InvalidSyntax:
    shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    return InvalidSyntax(f"{shown!r} is not a valid {kind}" + (f": {reason}" if reason else ""))


def _too_long(kind: str, text: str, limit: int, unit: str = "characters") -> InvalidSyntax:
    return _refusal(kind, text, f"longer than {limit} {unit}")


def parse_did(text: str) -> Did:
    """A DID, method and identifier unchecked beyond the generic syntax. Raises InvalidSyntax."""
    if len(text) > MAX_DID_LENGTH:
        raise _too_long("DID", text, MAX_DID_LENGTH)
    if _is_did(text) is None:
        raise _refusal("DID", text, "" if text.startswith("did:") else "it must start with did:")
    return Did(text)


def parse_handle(text: str) -> Handle:
    """A handle, lower-cased (handles ignore case). Raises InvalidSyntax."""
    if len(text) > MAX_HANDLE_LENGTH:
        raise _too_long("handle", text, MAX_HANDLE_LENGTH)
    if _is_handle(text) is None:
        raise _refusal("handle", text)
    return Handle(text.lower())


def parse_at_identifier(text: str) -> Did | Handle:
    """A DID or a handle. Raises InvalidSyntax."""
    if text.startswith("did:"):
        return parse_did(text)
    try:
        return parse_handle(text)
    except InvalidSyntax:
        raise _refusal("DID or handle", text) from None


def parse_nsid(text: str) -> Nsid:
    """A namespaced identifier without fragment or wildcard. Raises InvalidSyntax."""
    if len(text) > MAX_NSID_LENGTH:
        raise _too_long("NSID", text, MAX_NSID_LENGTH)
    if _is_nsid(text) is None:
        raise _refusal("NSID", text)
    return Nsid(text)


def parse_rkey(text: str) -> Rkey:
    """A record key of any kind. Raises InvalidSyntax."""
    if len(text) > MAX_RKEY_LENGTH:
        raise _too_long("record key", text, MAX_RKEY_LENGTH)
    if _is_rkey(text) is None:
        raise _refusal("record key", text, "" if text else "it is empty")
    return Rkey(text)


def parse_tid(text: str) -> Tid:
    """A timestamp identifier: 13 characters of base32-sortable, high bit clear. Raises InvalidSyntax."""
    if _is_tid(text) is None:
        raise _refusal("TID", text, "" if len(text) == 13 else "it must have 13 characters")
    return Tid(text)


def check_cid_text(text: str) -> None:
    """Accept any CID of version 1 in any multibase, by its alphabet and length only. Raises InvalidSyntax.

    Lexicon's `cid` format covers CIDs that are not links of ours; those are parsed by `Cid.parse`.
    """
    if _is_cid(text) is None or text.startswith("Qm"):
        raise _refusal("CID", text, "version 0 is not supported" if text.startswith("Qm") else "")


def check_uri(text: str) -> None:
    """A URI of any scheme, without white space, at most 8192 bytes. Raises InvalidSyntax."""
    if len(text) > MAX_URI_BYTES or (not text.isascii() and len(text.encode()) > MAX_URI_BYTES):
        raise _too_long("URI", text, MAX_URI_BYTES, "bytes")
    if _is_uri(text) is None:
        raise _refusal("URI", text)


def check_language(text: str) -> None:
    """A well-formed BCP 47 language tag, no variant or extension given twice. Raises InvalidSyntax."""
    if not is_language_tag(text):
        raise _refusal("language tag", text)


def check_datetime(text: str) -> None:
    """A date and time with time zone, real in the calendar, not before the year 0 of UTC. Raises InvalidSyntax."""
    parse_datetime(text)


def parse_datetime(text: str) -> datetime:
    """The instant in UTC, cut to microseconds.

    Instants that `datetime` cannot hold become the nearest one that it can: those of year 0, and those that a negative offset
    takes beyond year 9999. Raises InvalidSyntax.
    """
    if len(text) > MAX_DATETIME_LENGTH or _is_datetime(text) is None:
        raise _refusal("datetime", text, "expected like 2026-01-02T03:04:05.678Z")
    try:
        if text.startswith("0000"):
            return _moment_of_year_0(text)
        moment = datetime.fromisoformat(text)
        return moment if text.endswith("Z") else moment.astimezone(UTC)
    except OverflowError:
        return _FIRST_MOMENT if text.startswith("0001") else _LAST_MOMENT
    except InvalidSyntax:
        raise
    except ValueError:
        raise _refusal("datetime", text, "no such date or time") from None


def _moment_of_year_0(text: str) -> datetime:
    # Year 0 is a leap year like 2000, so 2000 stands in for it.
    moment = datetime.fromisoformat("2000" + text[4:]).astimezone(UTC)
    if moment.year < 2000:
        raise _refusal("datetime", text, "before the year 0 in UTC")
    return moment.replace(year=1) if moment.year > 2000 else _FIRST_MOMENT


def format_datetime(moment: datetime) -> str:
    """An aware datetime as UTC text with milliseconds, cut not rounded: `2026-01-02T03:04:05.678Z`."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def record_path(collection: str, rkey: str) -> str:
    """The key of a record in its repository's tree: `collection/rkey`."""
    return f"{collection}/{rkey}"


def check_at_uri(text: str) -> None:
    """Accept what `AtUri.parse` accepts, without making one. Raises InvalidSyntax."""
    _at_uri_parts(text)


def _at_uri_parts(text: str) -> _AtUriParts:
    if len(text) > MAX_URI_BYTES:
        raise _too_long("AT-URI", text, MAX_URI_BYTES, "bytes")
    found = _is_at_uri(text)
    if found is None:
        raise _refusal("AT-URI", text, "" if text.startswith("at://") else "it must start with at://")
    parts = found.groups()
    # Only a long text can have a part that is too long.
    if len(text) > MAX_HANDLE_LENGTH:
        authority, collection = parts[0], parts[1]
        if len(authority) > (MAX_DID_LENGTH if authority.startswith("did:") else MAX_HANDLE_LENGTH):
            raise _refusal("AT-URI", text, "its authority is too long")
        if collection is not None and len(collection) > MAX_NSID_LENGTH:
            raise _refusal("AT-URI", text, "its collection is too long")
    return cast(_AtUriParts, parts)


@dataclass(frozen=True, slots=True)
class AtUri:
    """An AT-URI in its strict form: authority as written, then collection and record key if any.

    `fragment` excludes the `#` and begins with `/`. An rkey never stands without a collection.
    """

    authority: str
    collection: Nsid | None = None
    rkey: Rkey | None = None
    fragment: str | None = None

    @classmethod
    def parse(cls, text: str) -> AtUri:
        """Read `at://authority[/collection[/rkey]][#/fragment]`, at most 8192 bytes. Raises InvalidSyntax."""
        return cls(*_at_uri_parts(text))

    def __str__(self) -> str:
        text = f"at://{self.authority}"
        if self.collection is not None:
            text += f"/{self.collection}"
            if self.rkey is not None:
                text += f"/{self.rkey}"
        return text if self.fragment is None else f"{text}#{self.fragment}"
