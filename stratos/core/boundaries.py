"""Boundaries: `<service did>/<name>`, the marks by which records and people meet.

Comparison is exact, without trimming or case folding. Source: spec service.md §3.1 and §3.5.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, NewType

from stratos.atproto.syntax import Did
from stratos.core.outcomes import Reason, Refusal

Boundary = NewType("Boundary", str)

DOMAINS_TYPE: Final = "zone.stratos.boundary.defs#Domains"
DOMAIN_TYPE: Final = "zone.stratos.boundary.defs#Domain"

MAX_VALUES: Final = 10
"""Boundaries on one record."""
MAX_VALUE_BYTES: Final = 253
"""UTF-8 length of one boundary on a record."""

OWNER_ONLY: Final = Boundary("!owner-only")
"""Stands in for a boundary that cannot be understood. It is not qualified, so nobody can be enrolled in it, and `named_by` never
matches it: a record marked so is read by its owner alone."""


def qualify(service: Did, name: str) -> Boundary:
    """The qualified form of a bare name; `name` must not be empty."""
    return Boundary(f"{service}/{name}")


def split_boundary(value: str) -> tuple[Did, str] | None:
    """The service DID and the name of a qualified boundary; None for anything else. A name may contain `/`."""
    if not value.startswith("did:"):
        return None
    second_colon = value.find(":", 4)
    slash = value.find("/", second_colon)
    if second_colon == -1 or slash == -1:
        return None
    service, name = value[:slash], value[slash + 1 :]
    if slash == second_colon + 1 or not name:
        return None
    return Did(service), name


def belongs_to(service: Did, value: str) -> bool:
    """Whether the value is `<service>/` followed by a name."""
    return value.startswith(f"{service}/") and len(value) > len(service) + 1


def mismatch_message(service: Did, value: str) -> str:
    """What to tell somebody whose boundary does not belong to `service`."""
    parts = split_boundary(value)
    actual = parts[0] if parts else "(unqualified)"
    return f'Boundary "{value}" belongs to service {actual}, not {service}'


def ensure_qualified(service: Did, value: str) -> Boundary | Refusal:
    """Qualify a bare name, keep a boundary of this service, refuse one of another service with ServiceMismatch.

    An empty value, and one that begins like a DID without being a qualified boundary, is refused as well.
    """
    if belongs_to(service, value):
        return Boundary(value)
    if not value or value.startswith("did:"):
        return Refusal(Reason.SERVICE_MISMATCH, mismatch_message(service, value))
    return qualify(service, value)


def record_boundaries(record: Mapping[str, object]) -> tuple[Boundary, ...]:
    """The boundaries that mark a stored record, sorted and distinct.

    `()` means that the record has none: no `boundary` at all, or one with an empty list. Everything else fails closed, because
    "no boundaries" would open the record to every enrolled viewer: values that are not understood are left out (each value only
    widens the audience), and a `boundary` in which nothing is understood gives `(OWNER_ONLY,)`. Never raises.
    """
    if "boundary" not in record:
        return ()
    values = _domain_values(record["boundary"])
    if values == []:
        return ()
    known = {value for value in map(domain_value, values or ()) if value is not None}
    return tuple(sorted(known)) or (OWNER_ONLY,)


def written_boundaries(boundary: object) -> tuple[Boundary, ...] | None:
    """The values of a `boundary` object that somebody wants to write, in their order; None unless all of it is well-formed.

    Stricter than reading: every item must be understood, and the lexicon's limits on number and length hold.
    """
    values = _domain_values(boundary)
    if values is None or len(values) > MAX_VALUES:
        return None
    found = [domain_value(item) for item in values]
    well_formed = tuple(value for value in found if value is not None and _utf8_length(value) <= MAX_VALUE_BYTES)
    return well_formed if len(well_formed) == len(found) else None


def domain_value(item: object) -> Boundary | None:
    """The value of one `Domain` object, of a record's boundary or an enrollment's list; None if it is not one, or empty."""
    if not isinstance(item, dict) or item.get("$type", DOMAIN_TYPE) != DOMAIN_TYPE:
        return None
    value = item.get("value")
    return Boundary(value) if isinstance(value, str) and value else None


def named_by(held: frozenset[Boundary], named: Collection[Boundary]) -> bool:
    """Whether a holder of the boundaries `held` is among those whom the boundaries `named` mean."""
    return OWNER_ONLY not in named and not held.isdisjoint(named)


def _domain_values(boundary: object) -> list[object] | None:
    """The `values` list of a `Domains` object; None if it is not one."""
    if not isinstance(boundary, dict) or boundary.get("$type", DOMAINS_TYPE) != DOMAINS_TYPE:
        return None
    values = boundary.get("values")
    return values if isinstance(values, list) else None


def _utf8_length(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
