"""Commits of version 3: exactly one form, signed by exactly one key."""

from __future__ import annotations

import json

import pytest

from stratos.atproto import dag_cbor
from stratos.atproto.car import read_car
from stratos.atproto.cid import Cid
from stratos.atproto.commit import InvalidCommit, SignedCommit, sign_commit
from stratos.atproto.dag_cbor import Encodable
from stratos.atproto.keys import Curve, SigningKey, VerifyingKey
from stratos.atproto.mst import EMPTY_MST_ROOT
from stratos.atproto.syntax import Did, Tid
from tests.vectors import reference

DID = Did("did:plc:goldenaaaaaaaaaaaaaaaaaf")
REV = Tid("3lvalidaa2222")
KEYS = [SigningKey.from_raw(curve, bytes([7]) * 32) for curve in Curve]
OTHER_KEYS = [SigningKey.from_raw(curve, bytes([9]) * 32) for curve in Curve]
COMMIT = sign_commit(DID, REV, EMPTY_MST_ROOT, KEYS[0])
FIELDS: dict[str, Encodable] = {
    "did": DID,
    "rev": REV,
    "sig": COMMIT.sig,
    "data": EMPTY_MST_ROOT,
    "prev": None,
    "version": 3,
}


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.curve.name)
def test_a_signed_commit_reads_back_and_verifies_with_its_key_alone(key: SigningKey) -> None:
    commit = sign_commit(DID, REV, EMPTY_MST_ROOT, key)
    read = SignedCommit.decode(commit.block)
    assert read == commit
    assert (read.did, read.rev, read.data, read.prev) == (DID, REV, EMPTY_MST_ROOT, None)
    assert read.cid == Cid.of_dag_cbor(commit.block)
    assert read.verify(key.verifying_key)
    for other in [*KEYS, *OTHER_KEYS]:
        assert read.verify(other.verifying_key) == (other is key)


def test_the_fields_stand_in_canonical_order_and_the_signature_covers_all_others() -> None:
    value = dag_cbor.decode(COMMIT.block)
    assert isinstance(value, dict)
    assert list(value) == ["did", "rev", "sig", "data", "prev", "version"]
    assert value == FIELDS
    unsigned = dag_cbor.encode({name: field for name, field in FIELDS.items() if name != "sig"})
    assert KEYS[0].verifying_key.verify(unsigned, COMMIT.sig)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("did", "did:plc:goldenaaaaaaaaaaaaaaaaac"),
        ("rev", "3lvalidaa2223"),
        ("data", Cid.of_dag_cbor(b"another tree")),
        ("prev", Cid.of_dag_cbor(b"a commit before")),
        ("sig", bytes([COMMIT.sig[0] ^ 1]) + COMMIT.sig[1:]),
        ("sig", COMMIT.sig[:-1]),
        ("sig", COMMIT.sig + b"\x00"),
        ("sig", b""),
    ],
)
def test_a_commit_with_a_changed_field_does_not_verify(field: str, value: Encodable) -> None:
    changed = SignedCommit.decode(dag_cbor.encode(FIELDS | {field: value}))
    assert not changed.verify(KEYS[0].verifying_key)


def test_a_commit_may_name_the_one_before_and_that_is_signed_too() -> None:
    before = Cid.of_dag_cbor(b"a commit before")
    unsigned = {name: field for name, field in FIELDS.items() if name != "sig"} | {"prev": before}
    sig = KEYS[0].sign(dag_cbor.encode(unsigned))
    commit = SignedCommit.decode(dag_cbor.encode(unsigned | {"sig": sig}))
    assert commit.prev == before
    assert commit.verify(KEYS[0].verifying_key)


@pytest.mark.parametrize("field", sorted(FIELDS))
def test_a_commit_without_one_of_its_fields_is_refused(field: str) -> None:
    with pytest.raises(InvalidCommit, match="fields"):
        SignedCommit.decode(dag_cbor.encode({name: value for name, value in FIELDS.items() if name != field}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("extra", None),
        ("did", None),
        ("did", "not a did"),
        ("did", b"did:plc:goldenaaaaaaaaaaaaaaaaaf"),
        ("rev", 3),
        ("rev", "not a tid"),
        ("data", None),
        ("data", str(EMPTY_MST_ROOT)),
        ("data", Cid.of_raw(b"a blob")),
        ("prev", False),
        ("prev", 0),
        ("prev", ""),
        ("prev", EMPTY_MST_ROOT.bytes),
        ("prev", []),
        ("sig", None),
        ("sig", "signature"),
        ("sig", EMPTY_MST_ROOT),
        ("version", 2),
        ("version", 4),
        ("version", "3"),
        ("version", None),
        ("version", [3]),
    ],
)
def test_a_commit_with_another_kind_of_field_is_refused(field: str, value: Encodable) -> None:
    with pytest.raises(InvalidCommit):
        SignedCommit.decode(dag_cbor.encode(FIELDS | {field: value}))


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\xf6",
        b"\x80",
        b"\xa0",
        dag_cbor.encode("commit"),
        COMMIT.block[:-1],
        COMMIT.block + b"\x00",
        COMMIT.block.replace(b"gversion\x03", b"gversion\x18\x03"),
        COMMIT.block.replace(b"gversion\x03", b"gversion\xf9\x42\x00"),
        b"\xa6gversion\x03" + COMMIT.block[1:].removesuffix(b"gversion\x03"),
    ],
)
def test_a_block_that_is_no_canonical_commit_is_refused(block: bytes) -> None:
    with pytest.raises(InvalidCommit):
        SignedCommit.decode(block)


def test_every_recorded_commit_verifies_with_the_accounts_key() -> None:
    """The export holds the superseded commits too."""
    car = read_car(reference("valid/repo-after-step3.car").read_bytes())
    keys = json.loads(reference("valid/keys.json").read_text())
    commits = []
    for cid, block in car.blocks.items():
        if b"gversion\x03" in block:
            commit = SignedCommit.decode(block)
            assert commit.cid == cid
            assert commit.verify(VerifyingKey.from_did_key(keys["signingKeyDid"]))
            assert not commit.verify(KEYS[0].verifying_key)
            commits.append(commit)
    assert len(commits) >= 3
    assert len({commit.rev for commit in commits}) == len(commits)
    assert max(commits, key=lambda commit: commit.rev).cid == car.roots[0]
