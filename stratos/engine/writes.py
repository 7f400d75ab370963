"""What a caller may ask of a repository, and what it gets back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from stratos.atproto.cid import Cid
from stratos.atproto.dag_cbor import DataModel
from stratos.atproto.syntax import Tid


class Unset(Enum):
    """Marks a swap that was not asked for, which is not the same as one that expects absence (None)."""

    UNSET = "unset"


@dataclass(frozen=True, slots=True)
class Create:
    """Create a record; without `rkey` at a fresh TID. Refused where the rkey is taken."""

    collection: str
    rkey: str | None
    record: dict[str, DataModel]


@dataclass(frozen=True, slots=True)
class Put:
    """Create or replace a record. `swap_record`: the CID that must stand there now, None for nothing."""

    collection: str
    rkey: str
    record: dict[str, DataModel]
    swap_record: Cid | Unset | None = Unset.UNSET


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a record; with `must_exist` an absent one refuses the whole call."""

    collection: str
    rkey: str
    swap_record: Cid | Unset | None = Unset.UNSET
    must_exist: bool = False


Write = Create | Put | Delete


@dataclass(frozen=True, slots=True)
class WriteResult:
    """Where a created or replaced record stands, and its CID."""

    uri: str
    cid: Cid


@dataclass(frozen=True, slots=True)
class Committed:
    """A durable commit; one result per write in the order asked, None for a delete."""

    commit: Cid
    rev: Tid
    results: tuple[WriteResult | None, ...]
