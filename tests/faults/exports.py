"""A repository as it is exported, checked from the signature down to every record, without our storage code."""

from __future__ import annotations

from stratos.atproto import dag_cbor
from stratos.atproto.car import read_car
from stratos.atproto.commit import SignedCommit
from stratos.atproto.keys import VerifyingKey
from stratos.atproto.mst import MappingSource, Mst, checked_entries
from stratos.atproto.syntax import Did
from tests.crash.clients import POST
from tests.crash.http import Connection


async def exported_posts(connection: Connection, did: Did, signing_key: str) -> dict[str, str]:
    """The text of every post by record key.

    Checked: the commit is this account's and signed with this key (a did:key), the tree is canonical, each block is what its CID
    says, and the file has what is reachable and nothing else.
    """
    car = read_car(await connection.file("zone.stratos.sync.getRepo", did, did=did))
    (root,) = car.roots
    commit = SignedCommit.decode(car.blocks[root])
    assert commit.did == did
    assert commit.verify(VerifyingKey.from_did_key(signing_key))
    source = MappingSource(car.blocks)
    entries = dict(checked_entries(commit.data, source))
    nodes = {cid for cid, _ in Mst.open(commit.data, source).nodes()}
    assert set(car.blocks) == {root} | nodes | set(entries.values())
    texts: dict[str, str] = {}
    for path, cid in entries.items():
        record = dag_cbor.decode(car.blocks[cid])
        assert isinstance(record, dict)
        collection, _, rkey = path.partition("/")
        assert collection == POST
        texts[rkey] = str(record["text"])
    return texts
