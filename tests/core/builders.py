"""Builders of the values that the tests of the core speak about, and Hypothesis strategies for hostile shapes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hypothesis import strategies as st

from stratos.atproto import dag_cbor
from stratos.atproto.cid import Cid
from stratos.atproto.dag_cbor import DataModel
from stratos.atproto.syntax import Did, Tid
from stratos.core.boundaries import Boundary, qualify
from stratos.core.log_entry import Action, CommitEntry, RecordOp

SERVICE: Final = Did("did:web:stratos.example.com")
OTHER_SERVICE: Final = Did("did:web:elsewhere.example.net")
ALICE: Final = Did("did:plc:aliceaaaaaaaaaaaaaaaaaaa")
BOB: Final = Did("did:plc:bobbbbbbbbbbbbbbbbbbbbbb")
WRITERS: Final = qualify(SERVICE, "writers")
EDITORS: Final = qualify(SERVICE, "editors")
READERS: Final = qualify(SERVICE, "readers")
POST: Final = "zone.stratos.feed.post"
TIME: Final = "2026-01-02T03:04:05.678Z"
REV: Final = Tid("3lgoldenzzzz2")
EARLIER_REV: Final = Tid("3lgoldenzzzz3")


def domains(*values: str) -> dict[str, DataModel]:
    """The boundary object of a record."""
    return {
        "$type": "zone.stratos.boundary.defs#Domains",
        "values": [{"$type": "zone.stratos.boundary.defs#Domain", "value": value} for value in values],
    }


def post(*values: str, **members: DataModel) -> dict[str, DataModel]:
    """A post with these boundaries and further members."""
    return {"$type": POST, "text": "hello", "createdAt": TIME, "boundary": domains(*values), **members}


def cid_of(text: str) -> Cid:
    """Some CID, the same for the same text."""
    return Cid.of_dag_cbor(text.encode())


def created(path: str, record: DataModel, after: tuple[Boundary, ...] = ()) -> RecordOp:
    """The creation of a record."""
    block = dag_cbor.encode(record)
    return RecordOp(Action.CREATE, path, Cid.of_dag_cbor(block), block, prev=None, before=None, after=after)


def updated(path: str, record: DataModel, prev: Cid, before: tuple[Boundary, ...], after: tuple[Boundary, ...]) -> RecordOp:
    """The replacement of a record."""
    block = dag_cbor.encode(record)
    return RecordOp(Action.UPDATE, path, Cid.of_dag_cbor(block), block, prev=prev, before=before, after=after)


def deleted(path: str, prev: Cid | None, before: tuple[Boundary, ...] | None) -> RecordOp:
    """The deletion of a record, or of none."""
    return RecordOp(Action.DELETE, path, cid=None, record=None, prev=prev, before=before, after=None)


def commit_entry(ops: Iterable[RecordOp], *, rev: Tid = REV, since: Tid | None = EARLIER_REV) -> CommitEntry:
    """A commit of Alice's with these operations."""
    return CommitEntry(
        did=ALICE,
        rev=rev,
        since=since,
        commit=cid_of(f"commit {rev}"),
        prev_commit=None if since is None else cid_of(f"commit {since}"),
        ops=tuple(ops),
        blocks=((cid_of("node"), b"node"), (cid_of(f"commit {rev}"), b"commit")),
        removed=(cid_of("old node"),),
    )


def _cid(digest: bytes) -> Cid:
    return Cid(b"\x01\x71\x12\x20" + digest)


cids: Final = st.binary(min_size=32, max_size=32).map(_cid)
texts: Final = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_scalars: Final = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | texts
    | st.binary(max_size=40)
    | cids
    | st.sampled_from(
        [str(WRITERS), f"at://{ALICE}/{POST}/3lgoldenzzzz2", f"at://{ALICE}/app.bsky.feed.post/x", str(ALICE), "at://"]
    )
)
_MEMBERS: Final = """$type boundary values value reply parent root uri cid embed record media subject source vary service
    boundaries signingKey attestation sig createdAt $bytes $link"""
_keys: Final = st.sampled_from(sorted(set(_MEMBERS.split())))
data_values: Final = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keys | texts, inner, max_size=5), max_leaves=25
)
"""Anything of the data model, with the members that our rules look at more often than chance would give."""
data_records: Final = st.dictionaries(_keys | texts, data_values, max_size=8)
