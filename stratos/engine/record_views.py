"""Records as their readers get them: every read of a record passes through here, and so through the access predicate (I4)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Final

import orjson

from stratos.atproto import dag_cbor
from stratos.atproto.data_model import to_json
from stratos.atproto.syntax import Did
from stratos.core.access import Viewer, may_read
from stratos.core.boundaries import OWNER_ONLY, Boundary, record_boundaries
from stratos.storage.ports import StoredRecord

DEFAULT_MAX_BYTES: Final = 16 * 1024 * 1024
OVERHEAD_BYTES: Final = 700
"""What an entry takes beside its JSON: key, tuples, the table's own share."""

_Key = tuple[str, str, str, bytes]


@dataclass(frozen=True, slots=True)
class _Rendered:
    """`json` is `{"uri", "cid", "value"}` as it goes out."""

    boundaries: tuple[Boundary, ...]
    json: bytes


class RecordViews:
    """Renders stored records for their readers, and remembers the renderings within a bound of bytes.

    A rendering belongs to one CID at one path, so it never goes stale; whether the record is still there is the store's answer,
    and whether its reader may have it is asked anew at each reading. Safe to use from several threads.
    """

    def __init__(self, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._lock = Lock()
        self._rendered: OrderedDict[_Key, _Rendered] = OrderedDict()
        self._bytes = 0
        self._hits = self._misses = 0

    def view(self, viewer: Viewer, owner: Did, stored: StoredRecord) -> bytes | None:
        """The record as JSON, `{uri, cid, value}`, or None where the viewer may not read it."""
        key = (owner, stored.collection, stored.rkey, stored.cid.bytes)
        with self._lock:
            rendered = self._rendered.get(key)
            if rendered is not None:
                self._hits += 1
                self._rendered.move_to_end(key)
        if rendered is None:
            rendered = _render(owner, stored)
            self._remember(key, rendered)
        return rendered.json if may_read(viewer, owner, rendered.boundaries) else None

    def forget_all(self) -> None:
        """Drop every rendering, as an unenrollment demands (I7)."""
        with self._lock:
            self._rendered.clear()
            self._bytes = 0

    def statistics(self) -> Mapping[str, int]:
        """Gauges and counters: renderings, their bytes and the bound, hits and misses."""
        return {
            "entries": len(self._rendered),
            "bytes": self._bytes,
            "bytes_limit": self._max_bytes,
            "hits_total": self._hits,
            "misses_total": self._misses,
        }

    def _remember(self, key: _Key, rendered: _Rendered) -> None:
        with self._lock:
            self._misses += 1
            if key in self._rendered:
                return
            self._rendered[key] = rendered
            self._bytes += len(rendered.json) + OVERHEAD_BYTES
            while self._bytes > self._max_bytes:
                _, oldest = self._rendered.popitem(last=False)
                self._bytes -= len(oldest.json) + OVERHEAD_BYTES


def _render(owner: Did, stored: StoredRecord) -> _Rendered:
    """What is not a record at all is shown to its owner alone."""
    record = dag_cbor.decode_own(stored.block)
    boundaries = record_boundaries(record) if isinstance(record, dict) else (OWNER_ONLY,)
    uri = f"at://{owner}/{stored.collection}/{stored.rkey}"
    return _Rendered(boundaries, orjson.dumps({"uri": uri, "cid": str(stored.cid), "value": to_json(record)}))
