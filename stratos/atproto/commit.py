"""Repository commits, version 3: the signed statement that an account's tree has this root at this revision.

Source: https://atproto.com/specs/repository#commit-objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from stratos.atproto import dag_cbor
from stratos.atproto.cid import DAG_CBOR, Cid
from stratos.atproto.dag_cbor import InvalidDagCbor
from stratos.atproto.keys import SigningKey, VerifyingKey
from stratos.atproto.syntax import Did, InvalidSyntax, Tid, parse_did, parse_tid

VERSION: Final = 3

_FIELDS: Final = frozenset({"did", "rev", "sig", "data", "prev", "version"})


class InvalidCommit(ValueError):
    """The block is not a commit of version 3; the message says why."""


@dataclass(frozen=True, slots=True)
class SignedCommit:
    """A commit with its block. Having one says nothing about its signature: ask `verify`.

    `data` is the root of the tree, `prev` the commit before, if the writer named it (ours is always None).
    """

    did: Did
    rev: Tid
    data: Cid
    prev: Cid | None
    sig: bytes
    cid: Cid
    block: bytes

    @classmethod
    def decode(cls, block: bytes) -> SignedCommit:
        """Read a commit block from anywhere.

        Raises InvalidCommit unless it is canonical DAG-CBOR with exactly the fields of version 3, `prev` being null or a link.
        """
        try:
            value = dag_cbor.decode(block)
        except InvalidDagCbor as error:
            raise InvalidCommit(f"the commit is not DAG-CBOR: {error}") from error
        if not isinstance(value, dict):
            raise InvalidCommit("the commit is not a map")
        if value.keys() != _FIELDS:
            raise InvalidCommit(f"the commit has the fields {sorted(value)}, not {sorted(_FIELDS)}")
        match value:
            case {"version": version} if version != VERSION:
                raise InvalidCommit(f"the commit has version {version!r:.80}, not {VERSION}")
            case {"did": str(did), "rev": str(rev), "data": Cid() as data, "prev": (Cid() | None) as prev, "sig": bytes(sig)}:
                if data.codec != DAG_CBOR:
                    raise InvalidCommit(f"the commit's data is not a dag-cbor link: {data}")
                try:
                    return cls(parse_did(did), parse_tid(rev), data, prev, sig, Cid.of_dag_cbor(block), block)
                except InvalidSyntax as error:
                    raise InvalidCommit(f"the commit names no proper account or revision: {error}") from error
        raise InvalidCommit("a field of the commit has the wrong type")

    def verify(self, key: VerifyingKey) -> bool:
        """Whether the signature over the other fields is by this key."""
        return key.verify(_unsigned(self.did, self.rev, self.data, self.prev), self.sig)


def sign_commit(did: Did, rev: Tid, data: Cid, key: SigningKey) -> SignedCommit:
    """Make the commit of a tree root; `prev` is null."""
    sig = key.sign(_unsigned(did, rev, data, None))
    block = dag_cbor.encode({"did": did, "rev": rev, "sig": sig, "data": data, "prev": None, "version": VERSION})
    return SignedCommit(did, rev, data, None, sig, Cid.of_dag_cbor(block), block)


def _unsigned(did: Did, rev: Tid, data: Cid, prev: Cid | None) -> bytes:
    return dag_cbor.encode({"did": did, "rev": rev, "data": data, "prev": prev, "version": VERSION})
