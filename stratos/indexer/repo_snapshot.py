"""A repository that was fetched whole: checked from the signature down to every record, then read as rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stratos.atproto import dag_cbor
from stratos.atproto.cid import Cid
from stratos.atproto.commit import InvalidCommit, SignedCommit
from stratos.atproto.dag_cbor import InvalidDagCbor
from stratos.atproto.keys import InvalidKey, VerifyingKey
from stratos.atproto.mst import InvalidMst, MappingSource, MissingBlock, checked_entries
from stratos.atproto.syntax import Did, Tid
from stratos.core.key_history import SigningKeyPeriod, key_of_commit
from stratos.indexer.events import POST_COLLECTION
from stratos.indexer.post_row import PostRow, post_row
from stratos.indexer.service_client import RepoBlocks


class InvalidSnapshot(ValueError):
    """The repository is not what its owner signed; the message says where it fails."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An actor's posts at one rev."""

    did: Did
    rev: Tid
    posts: tuple[PostRow, ...]


@dataclass(frozen=True, slots=True)
class CheckedRepo:
    """A repository that is what its owner signed: its rev, and path and CID of every record."""

    rev: Tid
    records: tuple[tuple[str, Cid], ...]


def read_snapshot(did: Did, repo: RepoBlocks, keys: Sequence[SigningKeyPeriod], indexed_at: str) -> Snapshot:
    """Check a repository as `check_repo` does and read its posts, each of which must be canonical DAG-CBOR.

    Raises InvalidSnapshot.
    """
    checked = check_repo(did, repo, keys)
    posts: list[PostRow] = []
    for path, cid in checked.records:
        collection, _, rkey = path.partition("/")
        if collection == POST_COLLECTION:
            posts.append(_post(did, rkey, cid, _block(repo, cid, path), indexed_at))
    return Snapshot(did, checked.rev, tuple(posts))


def check_repo(did: Did, repo: RepoBlocks, keys: Sequence[SigningKeyPeriod]) -> CheckedRepo:
    """Check a whole repository; hashes of the blocks were checked when they arrived.

    Checked: the commit is version 3, of this DID and signed with the one of its `keys` that signed at its rev; the tree is
    canonical and complete; every record is there. Raises InvalidSnapshot.
    """
    try:
        commit = SignedCommit.decode(_block(repo, repo.root, "the commit"))
        if commit.did != did:
            raise InvalidSnapshot(f"the commit is of {commit.did}, not of {did}")
        signing_key = key_of_commit(keys, commit.rev)
        if signing_key is None or not commit.verify(VerifyingKey.from_did_key(signing_key)):
            raise InvalidSnapshot(f"the commit {commit.cid} of {commit.rev} is not signed with {signing_key}")
        records = tuple(checked_entries(commit.data, MappingSource(repo.blocks)))
    except (InvalidCommit, InvalidKey, InvalidMst, MissingBlock) as error:
        raise InvalidSnapshot(str(error)) from error
    for path, cid in records:
        _block(repo, cid, path)
    return CheckedRepo(commit.rev, records)


def _post(did: Did, rkey: str, cid: Cid, block: bytes, indexed_at: str) -> PostRow:
    try:
        record = dag_cbor.decode(block)
    except InvalidDagCbor as error:
        raise InvalidSnapshot(f"the post {rkey} is not DAG-CBOR: {error}") from error
    if not isinstance(record, dict):
        raise InvalidSnapshot(f"the post {rkey} is not a map")
    return post_row(did, rkey, str(cid), record, indexed_at)


def _block(repo: RepoBlocks, cid: Cid, what: str) -> bytes:
    block = repo.blocks.get(cid)
    if block is None:
        raise InvalidSnapshot(f"the block of {what} is missing: {cid}")
    return block
