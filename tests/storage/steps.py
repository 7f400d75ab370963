"""What storage tests do over and over: append and look at what a store holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from stratos.atproto import dag_cbor
from stratos.atproto.cid import Cid
from stratos.atproto.dag_cbor import DataModel
from stratos.atproto.syntax import Did, Tid
from stratos.core.log_codec import body_of
from stratos.core.log_entry import Entry, LoggedEntry, Proposal
from stratos.storage.ports import Appended, Backend, RepoRoot
from tests.storage.builders import START, RepoBuilder

MEGABYTE = 1024 * 1024


@dataclass(frozen=True)
class Picture:
    """Everything an actor store holds, as far as it can be asked."""

    root: RepoRoot
    blocks: Mapping[Cid, bytes]
    records: Mapping[str, bytes]


def append(backend: Backend, *proposals: Proposal, now: datetime = START) -> list[LoggedEntry]:
    """Append proposals, all of which must be accepted; their entries in order."""
    outcomes = backend.commit(proposals, now=now)
    logged: list[LoggedEntry] = []
    for outcome in outcomes:
        assert isinstance(outcome, Appended)
        logged += outcome.entries
    return logged


def fill(backend: Backend, repo: RepoBuilder, *entries: Entry, now: datetime = START) -> list[LoggedEntry]:
    """Append entries of one repository, each as a proposal and a batch of its own."""
    return [logged for entry in entries for logged in append(backend, repo.proposal(entry), now=now)]


def whole_log(backend: Backend, did: Did | None = None) -> list[LoggedEntry]:
    """Every retained entry."""
    return backend.log.after(0, limit=1_000_000, max_bytes=1_000 * MEGABYTE, did=did)


def seqs(entries: list[LoggedEntry]) -> list[int]:
    """Their seqs."""
    return [entry.seq for entry in entries]


def body(entry: LoggedEntry) -> dict[str, DataModel]:
    """The decoded body of an entry's frame."""
    return body_of(entry)


def picture(backend: Backend, did: Did, since: Tid | None = None) -> Picture | None:
    """What the store of a DID holds, through the store and through an export, which must agree."""
    with backend.actors.open(did) as store:
        if store is None:
            return None
        records = {
            f"{record.collection}/{record.rkey}": record.block
            for collection in store.collections()
            for record in store.records(collection, limit=100_000)
        }
        root = store.root()
        assert store.record_count() == len(records)
    with backend.actors.export(did) as export:
        assert export is not None
        assert export.root == root
        pages = [block for page in export.pages(since) for block in page]
    blocks = dict(pages)
    assert len(blocks) == len(pages)
    assert all(cid.matches(block) for cid, block in blocks.items())
    return Picture(root, blocks, records)


def text_of(block: bytes) -> str:
    """The text of a post."""
    record = dag_cbor.decode(block)
    assert isinstance(record, dict)
    text = record["text"]
    assert isinstance(text, str)
    return text
