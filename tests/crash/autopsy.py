"""What a data directory holds, read from its files without our storage code, and whether that obeys the invariants.

The log's frames are the truth; actor stores, heads and trees are compared with what folding the frames gives.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from stratos.atproto import dag_cbor
from stratos.atproto.cid import Cid
from stratos.atproto.commit import SignedCommit
from stratos.atproto.dag_cbor import DataModel
from stratos.atproto.frames import MessageFrame, decode_frame
from stratos.atproto.keys import VerifyingKey
from stratos.atproto.mst import MappingSource, Mst, checked_entries
from stratos.atproto.syntax import Did

COMMIT: Final = 2
ERASED: Final = 9
LARGEST_SEQ: Final = 2**53


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the log; `body` is empty for an erased entry."""

    seq: int
    did: Did
    kind: int
    rev: str
    frame: bytes
    body: Mapping[str, DataModel]


@dataclass(frozen=True, slots=True)
class Head:
    """The log's view of a repository; `commit` is None after an unenroll."""

    commit: Cid | None
    rev: str
    seq: int


@dataclass(frozen=True, slots=True)
class Store:
    """An actor's database: its root, its record rows, its blocks."""

    commit: Cid
    rev: str
    seq: int
    records: Mapping[str, Cid]
    blocks: Mapping[Cid, bytes]


@dataclass(frozen=True, slots=True)
class Autopsy:
    """One data directory of which no process has anything open."""

    last_seq: int
    rows: Sequence[Row]
    heads: Mapping[Did, Head]
    keys: Mapping[Did, str]
    stores: Mapping[Did, Store | None]
    purging: frozenset[Did]

    @classmethod
    def of(cls, data: Path) -> Autopsy:
        """Read everything. SQLite may recover its files while this looks at them: look at a copy of what is still needed."""
        with closing(sqlite3.connect(data / "service.sqlite")) as service:
            assert service.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            rows = [
                Row(seq, Did(did), kind, rev, frame, {} if kind == ERASED else _body(frame))
                for seq, did, kind, rev, frame in service.execute("SELECT seq, did, kind, rev, frame FROM log ORDER BY seq")
            ]
            heads = {
                Did(did): Head(None if commit is None else Cid(commit), rev, seq)
                for did, commit, rev, seq in service.execute("SELECT did, commitCid, rev, seq FROM repo_head")
            }
            keys = {Did(did): key for did, key in service.execute("SELECT did, signingKeyDid FROM enrollment")}
            purging = frozenset(Did(did) for (did,) in service.execute("SELECT did FROM purge"))
            last_seq: int = service.execute("SELECT value FROM meta WHERE name = 'last_seq'").fetchone()[0]
        stores = {did: _store(database_of(data, did)) for did, head in heads.items() if head.commit is not None}
        return cls(last_seq, rows, heads, keys, stores, purging)

    @classmethod
    def of_a_copy(cls, data: Path, scratch: Path) -> Autopsy:
        """Read everything as a killed process left it, and leave that untouched."""
        copy = scratch / "copy"
        shutil.copytree(data, copy)
        try:
            return cls.of(copy)
        finally:
            shutil.rmtree(copy)

    def commits(self, did: Did | None = None) -> list[Row]:
        """The commits that are in the log, of everybody or of one account, in order."""
        return [row for row in self.rows if row.kind == COMMIT and did in (None, row.did)]

    def check_order(self) -> None:
        """I2: every seq is told by its own frame, and per account revs rise with the seq and each follows the one before."""
        assert self.rows
        assert self.rows[-1].seq <= self.last_seq < LARGEST_SEQ
        revs: dict[Did, str] = {}
        for row in self.rows:
            if row.kind != ERASED:
                assert (row.body["seq"], row.body["did"]) == (row.seq, row.did)
            if not row.rev:
                continue
            assert row.rev > revs.get(row.did, ""), row
            if row.kind == COMMIT:
                assert row.body["rev"] == row.rev
                assert row.body["since"] in (None, revs.get(row.did))
            revs[row.did] = row.rev
        for did, head in self.heads.items():
            if head.commit is None:
                assert not self.commits(did)
                continue
            last = self.commits(did)[-1]
            assert (head.seq, head.rev, head.commit) == (last.seq, last.rev, last.body["commit"])

    def check_stores(self, *, may_lag: bool) -> int:
        """I3: every store holds the effects of its entries up to its rev, nothing more or less; gives how many stores lag."""
        lagging = 0
        for did, store in self.stores.items():
            if did in self.purging:
                continue
            head = self.heads[did]
            if store is None or store.seq < head.seq:
                lagging += 1
            if store is not None:
                self._check_store(did, store)
        assert may_lag or not lagging, f"{lagging} stores are behind the log"
        return lagging

    def _check_store(self, did: Did, store: Store) -> None:
        folded: dict[str, tuple[Cid, bytes]] = {}
        at: Row | None = None
        for row in self.commits(did):
            if row.seq <= store.seq:
                _fold(folded, row)
                at = row
        assert at is not None
        assert (store.seq, store.rev, store.commit) == (at.seq, at.rev, at.body["commit"])
        expected = {path: cid for path, (cid, _) in folded.items()}
        commit = SignedCommit.decode(store.blocks[store.commit])
        assert (commit.did, commit.rev) == (did, store.rev)
        assert commit.verify(VerifyingKey.from_did_key(self.keys[did]))
        source = MappingSource(store.blocks)
        assert dict(checked_entries(commit.data, source)) == expected
        assert store.records == expected
        assert all(cid.matches(block) for cid, block in store.blocks.items())
        nodes = {cid for cid, _ in Mst.open(commit.data, source).nodes()}
        assert set(store.blocks) == {store.commit} | nodes | set(expected.values())
        assert all(store.blocks[cid] == block for cid, block in folded.values())


def database_of(data: Path, did: Did) -> Path:
    """Where an account's database lies."""
    return data / "actors" / sha256(did.encode()).hexdigest()[:2] / did / "stratos.sqlite"


def files_with(data: Path, text: str) -> list[Path]:
    """The files below a directory that contain a text."""
    return [path for path in sorted(data.rglob("*")) if path.is_file() and text.encode() in path.read_bytes()]


def operations(row: Row) -> Iterator[Mapping[str, DataModel]]:
    """The operations of a commit."""
    ops = row.body["ops"]
    assert isinstance(ops, list)
    for op in ops:
        assert isinstance(op, dict)
        yield op


def _fold(folded: dict[str, tuple[Cid, bytes]], row: Row) -> None:
    for op in operations(row):
        path, cid = str(op["path"]), op.get("cid")
        standing = folded.get(path)
        assert op.get("prev") == (None if standing is None else standing[0])
        assert (op["action"] == "create") == (standing is None and cid is not None)
        if cid is None:
            folded.pop(path, None)
            continue
        block = dag_cbor.encode(op["record"])
        assert isinstance(cid, Cid)
        assert cid.matches(block)
        folded[path] = cid, block


def _body(frame: bytes) -> Mapping[str, DataModel]:
    message = decode_frame(frame)
    assert isinstance(message, MessageFrame)
    return message.body


def _store(path: Path) -> Store | None:
    """Read an actor's database; None where there is none yet, or nothing in it."""
    if not path.exists():
        return None
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        if not database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'stratos_repo_root'").fetchone()[0]:
            return None
        root = database.execute("SELECT cid, rev, seq FROM stratos_repo_root").fetchone()
        if root is None:
            return None
        records = {
            f"{collection}/{rkey}": Cid(cid)
            for collection, rkey, cid in database.execute("SELECT collection, rkey, cid FROM stratos_record")
        }
        blocks = {Cid(cid): content for cid, content in database.execute("SELECT cid, content FROM stratos_repo_block")}
    return Store(Cid(root[0]), root[1], root[2], records, blocks)
