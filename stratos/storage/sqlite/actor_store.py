"""Reads of one actor's repository."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final

from stratos.atproto.cid import Cid
from stratos.atproto.syntax import Tid
from stratos.storage.node_cache import LruNodeCache
from stratos.storage.ports import RepoRoot, StorageFault, StoredRecord
from stratos.storage.sqlite.actor_database import ActorDatabase

_FEW_CIDS: Final = 8
_MANY_CIDS: Final = 64
"""Lengths of `IN` lists: a shorter list is filled up with its last CID, so that only two statements are ever prepared."""
_BEYOND_RKEYS: Final = "\x7f"
"""Sorts after every record key, which are printable ASCII."""

_BLOCK_QUERIES: Final = {
    size: f"SELECT cid, content FROM stratos_repo_block WHERE cid IN ({', '.join('?' * size)})"  # noqa: S608 - only question marks
    for size in (_FEW_CIDS, _MANY_CIDS)
}

_RecordRow = tuple[str, str, bytes, str, bytes]


class SqliteActorStore:
    """One actor's repository; implements `ports.ActorStore`."""

    __slots__ = ("_database", "_nodes", "_sql")

    def __init__(self, database: ActorDatabase, nodes: LruNodeCache) -> None:
        self._database = database
        self._sql = database.sql
        self._nodes = nodes

    def root(self) -> RepoRoot:
        """The current root."""
        root = self._database.root()
        if root is None:
            raise StorageFault(f"{self._database.path} has no root")
        return root

    def snapshot(self) -> AbstractContextManager[None]:
        """All reads of the block see one moment."""
        return self._database.snapshot()

    def block(self, cid: Cid) -> bytes | None:
        """The bytes of one reachable block."""
        with self._database.read() as connection:
            row: tuple[bytes] | None = connection.execute(self._sql["read.block"], (cid.bytes,)).fetchone()
        return None if row is None else row[0]

    def blocks(self, cids: Sequence[Cid]) -> Mapping[Cid, bytes]:
        """The bytes of several blocks; what is missing is left out."""
        wanted = {cid.bytes: cid for cid in cids}
        raws = list(wanted)
        found: dict[Cid, bytes] = {}
        with self._database.snapshot(), self._database.read() as connection:
            for start in range(0, len(raws), _MANY_CIDS):
                chunk = raws[start : start + _MANY_CIDS]
                size = _FEW_CIDS if len(chunk) <= _FEW_CIDS else _MANY_CIDS
                chunk += [chunk[-1]] * (size - len(chunk))
                for raw, content in connection.execute(_BLOCK_QUERIES[size], chunk):
                    found[wanted[raw]] = content
        return found

    def record(self, collection: str, rkey: str) -> StoredRecord | None:
        """One record; None where it is absent or taken down."""
        with self._database.read() as connection:
            row: _RecordRow | None = connection.execute(self._sql["read.record"], (collection, rkey)).fetchone()
        return None if row is None else _stored(row)

    def records_at(self, paths: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], StoredRecord]:
        """Several records by (collection, rkey); what is missing or taken down is left out."""
        if len(paths) == 1:
            found = self.record(*paths[0])
            return {} if found is None else {paths[0]: found}
        with self._database.read() as connection:
            rows: list[_RecordRow] = connection.execute(self._sql["read.records_at"], (json.dumps(paths),)).fetchall()
        return {(row[0], row[1]): _stored(row) for row in rows}

    def records(self, collection: str, *, limit: int, after: str | None = None, reverse: bool = False) -> list[StoredRecord]:
        """A page of a collection, rkey descending (`reverse`: ascending), `after` an exclusive rkey in that direction."""
        start = ("" if reverse else _BEYOND_RKEYS) if after is None else after
        query = self._sql["read.records_ascending" if reverse else "read.records_descending"]
        with self._database.read() as connection:
            rows: list[_RecordRow] = connection.execute(query, (collection, start, limit)).fetchall()
        return [_stored(row) for row in rows]

    def collections(self) -> list[str]:
        """The distinct collections present, ascending."""
        with self._database.read() as connection:
            return [collection for (collection,) in connection.execute(self._sql["read.collections"])]

    def record_count(self) -> int:
        """How many records the repository holds."""
        with self._database.read() as connection:
            count: int = connection.execute(self._sql["read.record_count"]).fetchone()[0]
        return count

    def nodes(self) -> LruNodeCache:
        """A bounded cache of decoded MST nodes that lives and dies with this open store."""
        return self._nodes


def _stored(row: _RecordRow) -> StoredRecord:
    collection, rkey, cid, rev, block = row
    return StoredRecord(collection, rkey, Cid(cid), Tid(rev), block)
