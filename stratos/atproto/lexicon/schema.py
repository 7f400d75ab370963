"""The Lexicon language as values: what a document says once it has been read and found well-formed.

Source: https://atproto.com/specs/lexicon. References are absolute here: `com.example.thing` or `com.example.thing#part`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TypeAlias

from stratos.atproto.syntax import Nsid


@dataclass(frozen=True, slots=True)
class Boolean:
    """true or false."""

    const: bool | None = None
    default: bool | None = None


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number; bounds are inclusive."""

    minimum: int | None = None
    maximum: int | None = None
    enum: frozenset[int] | None = None
    const: int | None = None
    default: int | None = None


@dataclass(frozen=True, slots=True)
class String:
    """A text; lengths count UTF-8 bytes, graphemes count extended grapheme clusters. `knownValues` restrict nothing."""

    format: str | None = None
    min_length: int | None = None
    max_length: int | None = None
    min_graphemes: int | None = None
    max_graphemes: int | None = None
    enum: frozenset[str] | None = None
    const: str | None = None
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Bytes:
    """A byte string; lengths count bytes."""

    min_length: int | None = None
    max_length: int | None = None


@dataclass(frozen=True, slots=True)
class CidLink:
    """A link to a block."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A reference to a blob. `accept` holds MIME types, `type/*` or `*/*`; `max_size` is in bytes."""

    accept: tuple[str, ...] | None = None
    max_size: int | None = None


@dataclass(frozen=True, slots=True)
class Array:
    """A list whose elements all follow one schema; lengths count elements."""

    items: Schema
    min_length: int | None = None
    max_length: int | None = None


@dataclass(frozen=True, slots=True)
class Object:
    """A map; properties that it does not name are allowed and not looked at."""

    properties: Mapping[str, Schema]
    required: tuple[str, ...] = ()
    nullable: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Ref:
    """The definition of that name."""

    target: str


@dataclass(frozen=True, slots=True)
class Union:
    """One of the named objects or records, told by `$type`; an open union lets unknown types pass."""

    targets: tuple[str, ...]
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """Any map that is not itself a blob."""


Schema: TypeAlias = Boolean | Integer | String | Bytes | CidLink | Blob | Array | Object | Ref | Union | Unknown
Scalar: TypeAlias = Boolean | Integer | String


@dataclass(frozen=True, slots=True)
class Token:
    """A name that stands for itself; it has no data."""


@dataclass(frozen=True, slots=True)
class Params:
    """The query parameters of a method: scalars, and arrays of them for repeated parameters."""

    properties: Mapping[str, Scalar | Array] = field(default_factory=lambda: MappingProxyType({}))
    required: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """What a repository may hold. `key` is `tid`, `nsid`, `any` or `literal:…`."""

    key: str
    value: Object


class MethodKind(StrEnum):
    """How a method is called: GET, POST or WebSocket."""

    QUERY = "query"
    PROCEDURE = "procedure"
    SUBSCRIPTION = "subscription"


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a request or an answer: a MIME type (`*/*` is any) and, for JSON, possibly a schema."""

    encoding: str
    schema: Object | Ref | Union | None = None


@dataclass(frozen=True, slots=True)
class Method:
    """A query, procedure or subscription."""

    kind: MethodKind
    parameters: Params
    input: Body | None = None
    output: Body | None = None
    message: Union | None = None
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Permission:
    """One permission of a set. Kinds other than `repo` and `rpc` carry nothing, since they are to be ignored."""

    resource: str
    names: tuple[str, ...] = ()
    """Collections for `repo`, methods for `rpc`."""


@dataclass(frozen=True, slots=True)
class PermissionSet:
    """A bundle of permissions for OAuth; nothing is checked against it."""

    permissions: tuple[Permission, ...]


Definition: TypeAlias = (
    Boolean | Integer | String | Bytes | CidLink | Blob | Array | Object | Token | Record | Method | PermissionSet
)


@dataclass(frozen=True, slots=True)
class Document:
    """One lexicon file: its definitions by absolute reference; `main` goes by the bare NSID."""

    id: Nsid
    definitions: Mapping[str, Definition]
