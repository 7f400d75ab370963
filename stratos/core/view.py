"""The stream as a subscriber sees it who may only see chosen boundaries: exact view maintenance (design §4).

The view is the set of records that carry a chosen boundary. Folding the scoped frames from the beginning gives exactly that set
at every step. Of other records the frames tell nothing: neither their operations nor, through the previous rev, the commit's CID
or a commit without a visible operation, that they exist. A visible record stays whole, its other boundaries included.
"""

from __future__ import annotations

from typing import Final

from stratos.atproto.dag_cbor import DataModel, InvalidDagCbor, encode
from stratos.atproto.frames import encode_message
from stratos.core.boundaries import Boundary, named_by
from stratos.core.log_codec import body_of
from stratos.core.log_entry import Action, EntryKind, LoggedEntry

_SCOPED_COMMIT: Final = ("did", "rev", "seq", "time")
"""Members of a `#commit` that a scoped subscriber gets beside its operations: all but `since` and `commit`."""


def in_view(entry: LoggedEntry, chosen: frozenset[Boundary]) -> bytes | None:
    """The frame of an entry for a subscriber scoped to the chosen boundaries; None when nothing of it is in view.

    A record that leaves the view arrives as a delete, one that enters it as a create, a delete only if the record was in view.
    A record without boundaries is in no view. An `#enrollment` is always told, for a consumer must learn that an account holds
    none of its boundaries any more, but with the chosen boundaries only and without `rev`; where that changes nothing, the very
    bytes of the entry are given. Raises InvalidDagCbor when the log is damaged.
    """
    if entry.kind is EntryKind.ENROLLMENT:
        return _enrollment(entry, chosen)
    seen = [(_carries(before, chosen), _carries(after, chosen)) for before, after in entry.views]
    if not any(before or after for before, after in seen):
        return None
    body = body_of(entry)
    ops = body["ops"]
    if not isinstance(ops, list) or len(ops) != len(seen):
        raise InvalidDagCbor(f"damaged: entry {entry.seq} has not one view for each operation")
    visible: list[DataModel] = [
        _operation(op, before=before, after=after) for op, (before, after) in zip(ops, seen, strict=True) if before or after
    ]
    scoped: dict[str, DataModel] = {name: body[name] for name in _SCOPED_COMMIT}
    scoped["ops"] = visible
    return encode_message(EntryKind.COMMIT.value, encode(scoped))


def _carries(side: tuple[Boundary, ...] | None, chosen: frozenset[Boundary]) -> bool:
    return side is not None and named_by(chosen, side)


def _operation(op: DataModel, *, before: bool, after: bool) -> DataModel:
    """An operation on a record that was in view before, or is after it."""
    if not isinstance(op, dict):
        raise InvalidDagCbor("damaged: an operation is not a map")
    if before and after:
        return op
    action, members = (Action.CREATE, ("path", "cid", "record")) if after else (Action.DELETE, ("path", "prev"))
    return {"action": action.value, **{name: op[name] for name in members if name in op}}


def _enrollment(entry: LoggedEntry, chosen: frozenset[Boundary]) -> bytes:
    body = body_of(entry)
    scoped = {name: value for name, value in body.items() if name != "rev"}
    boundaries = body.get("boundaries")
    if isinstance(boundaries, list):
        scoped["boundaries"] = [boundary for boundary in boundaries if boundary in chosen]
    return entry.frame if scoped == body else encode_message(EntryKind.ENROLLMENT.value, encode(scoped))
