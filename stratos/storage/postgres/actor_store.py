"""Reads of one actor's repository."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from psycopg import Cursor
from psycopg.rows import TupleRow

from stratos.atproto.cid import Cid
from stratos.atproto.syntax import Tid
from stratos.storage.node_cache import LruNodeCache
from stratos.storage.ports import RecordPath, RepoRoot, StorageFault, StoredRecord
from stratos.storage.postgres.actor_schema import ActorSchema
from stratos.storage.postgres.database import Parameters, PgConnection, faults

_BEYOND_RKEYS = "\x7f"
"""Sorts after every record key, which are printable ASCII."""
_BEGIN_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class PostgresActorStore:
    """One actor's repository over one connection, for one thread at a time; implements `ports.ActorStore`."""

    __slots__ = ("_connection", "_name", "_nodes", "_opened_at", "_purges", "_purges_before", "_schema", "_snapshots")

    def __init__(
        self,
        connection: PgConnection,
        schema: ActorSchema,
        name: str,
        nodes: LruNodeCache,
        *,
        opened_at: RepoRoot,
        purges: Callable[[], int],
    ) -> None:
        """`opened_at` is the root that was found at opening; it answers the first question for the root, unless an account was
        purged meanwhile: `purges` counts those."""
        self._connection = connection
        self._schema = schema
        self._name = name
        self._opened_at: RepoRoot | None = opened_at
        self._nodes = nodes
        self._snapshots = 0
        self._purges = purges
        self._purges_before = purges()

    def root(self) -> RepoRoot:
        """The current root."""
        root, self._opened_at = self._opened_at, None
        if root is not None and self._purges() == self._purges_before:
            return root
        row = self._execute("read.root").fetchone()
        if row is None:
            raise StorageFault(f"the schema {self._name} has no root")
        return RepoRoot(Cid(row[0]), Tid(row[1]), row[2])

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All reads of the block see one moment. May be nested."""
        self._opened_at = None
        if self._snapshots == 0:
            self._connection.execute(_BEGIN_SNAPSHOT)
        self._snapshots += 1
        try:
            yield
        finally:
            self._snapshots -= 1
            if self._snapshots == 0:
                self._connection.roll_back()

    def block(self, cid: Cid) -> bytes | None:
        """The bytes of one reachable block."""
        row = self._execute("read.block", (cid.bytes,)).fetchone()
        return None if row is None else row[0]

    def blocks(self, cids: Sequence[Cid]) -> Mapping[Cid, bytes]:
        """The bytes of several blocks; what is missing is left out."""
        rows = self._execute("read.blocks", ([cid.bytes for cid in cids],)).fetchall()
        return {Cid(raw): content for raw, content in rows}

    def record(self, collection: str, rkey: str) -> StoredRecord | None:
        """One record; None where it is absent or taken down."""
        row = self._execute("read.record", (collection, rkey)).fetchone()
        return None if row is None else _stored(row)

    def records_at(self, paths: Sequence[RecordPath]) -> Mapping[RecordPath, StoredRecord]:
        """Several records by (collection, rkey); what is missing or taken down is left out."""
        return by_path(self._execute("read.records_at", columns_of(paths)).fetchall())

    def records(self, collection: str, *, limit: int, after: str | None = None, reverse: bool = False) -> list[StoredRecord]:
        """A page of a collection, rkey descending (`reverse`: ascending), `after` an exclusive rkey in that direction."""
        start = ("" if reverse else _BEYOND_RKEYS) if after is None else after
        statement = "read.records_ascending" if reverse else "read.records_descending"
        return [_stored(row) for row in self._execute(statement, (collection, start, limit)).fetchall()]

    def collections(self) -> list[str]:
        """The distinct collections present, ascending."""
        return [collection for (collection,) in self._execute("read.collections").fetchall()]

    def record_count(self) -> int:
        """How many records the repository holds."""
        row = self._execute("read.record_count").fetchone()
        return 0 if row is None else int(row[0])

    def nodes(self) -> LruNodeCache:
        """A bounded cache of decoded MST nodes; they are named by their content, so that other processes' commits age none."""
        return self._nodes

    def _execute(self, statement: str, parameters: Parameters = ()) -> Cursor[TupleRow]:
        with faults(f"reading {self._name}"):
            return self._connection.execute(self._schema.statement(statement, self._name), parameters)


def columns_of(paths: Sequence[RecordPath]) -> tuple[list[str], list[str]]:
    """The parameters of `read.records_at`."""
    asked = sorted(set(paths))
    return [collection for collection, _ in asked], [rkey for _, rkey in asked]


def by_path(rows: Sequence[TupleRow]) -> dict[RecordPath, StoredRecord]:
    """The rows of `read.records_at` by (collection, rkey)."""
    return {(row[0], row[1]): _stored(row) for row in rows}


def _stored(row: TupleRow) -> StoredRecord:
    collection, rkey, cid, rev, block = row
    return StoredRecord(collection, rkey, Cid(cid), Tid(rev), block)
