"""Stubs: public placeholders on a user's PDS that point at private records. Source: spec service.md §5.7 and §3.4."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from stratos.atproto.cid import Cid
from stratos.atproto.dag_cbor import DataModel
from stratos.atproto.syntax import AtUri, Did, InvalidSyntax, parse_datetime

VARY_AUTHENTICATED: Final = "authenticated"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a stub says that its full record is. Read from a public record: nothing in it is checked.

    `service` is the DID of the service and `fragment` what follows the first `#`, None without one. `uri` and `cid` name the full
    record, as far as they are text.
    """

    vary: str
    uri: str | None
    cid: str | None
    service: str
    fragment: str | None


def stub_record(
    uri: AtUri, cid: Cid, record: Mapping[str, DataModel], *, service: Did, fragment: str, now: str
) -> dict[str, DataModel]:
    """The stub of the private record at `uri`, which has a collection and an rkey; it is written at the same place on the PDS.

    It has nothing of the record but `createdAt`, and that only where it is a datetime, else `now`: the world reads the stub, and
    a record that was written without a lexicon check may hold any text there. `$type` is the collection, as the record's must be.
    """
    return {
        "$type": uri.collection,
        "source": {
            "vary": VARY_AUTHENTICATED,
            "subject": {"uri": str(uri), "cid": str(cid)},
            "service": f"{service}#{fragment}",
        },
        "createdAt": _datetime(record.get("createdAt")) or now,
    }


def parse_source(record: object) -> Source | None:
    """The source of a stub; None for every other record. Never raises."""
    source = record.get("source") if isinstance(record, dict) else None
    match source:
        case {"vary": str(vary), "subject": dict(subject), "service": str(service)}:
            did, hash_sign, fragment = service.partition("#")
            return Source(
                vary=vary,
                uri=_text(subject.get("uri")),
                cid=_text(subject.get("cid")),
                service=did,
                fragment=fragment if hash_sign else None,
            )
    return None


def _datetime(value: object) -> str | None:
    try:
        parse_datetime(value if isinstance(value, str) else "")
    except InvalidSyntax:
        return None
    return _text(value)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
