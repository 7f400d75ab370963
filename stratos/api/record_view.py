"""A stored record as its reader gets it: every read of a record passes through here, and so through the access predicate."""

from __future__ import annotations

from stratos.atproto import dag_cbor
from stratos.atproto.data_model import Json, to_json
from stratos.atproto.syntax import Did
from stratos.core.access import Viewer, may_read
from stratos.core.boundaries import record_boundaries
from stratos.storage.ports import StoredRecord


def view_of(viewer: Viewer, owner: Did, stored: StoredRecord) -> dict[str, Json] | None:
    """`{uri, cid, value}`, or None where the viewer may not read the record."""
    record = dag_cbor.decode_own(stored.block)
    if not isinstance(record, dict) or not may_read(viewer, owner, record_boundaries(record)):
        return None
    return {"uri": f"at://{owner}/{stored.collection}/{stored.rkey}", "cid": str(stored.cid), "value": to_json(record)}
