"""Proofs of records: what is believed at which level, and that every hostile one is one typed error."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.atproto import dag_cbor
from stratos.atproto.car import encode_header
from stratos.atproto.cid import Cid
from stratos.atproto.commit import sign_commit
from stratos.atproto.mst import Mst
from stratos.client import (
    BearerToken,
    Did,
    NoAnswer,
    NotProxied,
    VerificationFailed,
    VerificationLevel,
    VerifyingKey,
    XrpcFailure,
    fetch_and_verify_record,
    verify_cid_integrity,
    verify_signed_record,
)
from tests.client.builders import (
    ALICE,
    BOB,
    OTHER_KEY,
    POST,
    REV,
    SERVICE,
    SERVICE_KEY,
    USER_KEY,
    Proof,
    Script,
    answering,
    car_of,
    post,
)
from tests.vectors import reference


def serving(car: bytes) -> Script:
    return Script(lambda _request: httpx.Response(200, content=car, headers={"content-type": "application/vnd.ipld.car"}))


def test_a_proof_gives_the_record_its_cid_and_where_it_comes_from() -> None:
    proof = Proof()
    verified = verify_cid_integrity(proof.car(), POST, proof.rkey, ALICE)
    assert (verified.cid, verified.record, verified.did, verified.rev) == (proof.cid, post(), ALICE, REV)
    assert (verified.level, verified.commit) == (VerificationLevel.CID_INTEGRITY, proof.commit.cid)
    assert verify_cid_integrity(proof.car(), POST, proof.rkey) == verified


def test_a_signature_is_the_user_s_or_the_proof_is_refused() -> None:
    proof = Proof()
    verified = verify_signed_record(proof.car(), POST, proof.rkey, ALICE, USER_KEY.verifying_key)
    assert verified.level is VerificationLevel.USER_SIGNATURE
    for key in (OTHER_KEY, SERVICE_KEY):
        with pytest.raises(VerificationFailed, match="not signed with"):
            verify_signed_record(proof.car(), POST, proof.rkey, ALICE, key.verifying_key)


@pytest.mark.parametrize("rkey", ["3lvalidah2222", "3lvalidau2222"])
def test_a_proof_recorded_from_the_reference_verifies_with_its_user_s_key(rkey: str) -> None:
    keys = json.loads(reference("valid/keys.json").read_text())
    car = reference(f"valid/sync.getRecord-{rkey}.car").read_bytes()
    did, key = Did(keys["did"]), VerifyingKey.from_did_key(keys["signingKeyDid"])
    listed = json.loads(reference("valid/listRecords.json").read_text())["records"]
    verified = verify_signed_record(car, POST, rkey, did, key)
    assert str(verified.cid) in {record["cid"] for record in listed if record["uri"].endswith(rkey)}


def test_a_record_of_the_reference_that_is_not_what_its_cid_says_is_refused() -> None:
    car = reference("sync.getRecord.car").read_bytes()
    with pytest.raises(VerificationFailed, match="a block is not what its CID"):
        verify_cid_integrity(car, POST, "3lgoldenzzzb4")


def without(proof: Proof, cid: Cid) -> bytes:
    blocks = {proof.commit.cid: proof.commit.block, **proof.nodes, proof.cid: proof.block}
    del blocks[cid]
    return car_of(proof.commit.cid, blocks)


def with_record(proof: Proof, block: bytes) -> bytes:
    return proof.car().replace(proof.block, block)


def of_somebody_else(proof: Proof) -> bytes:
    return Proof(did=BOB).car()


def with_raw_record(proof: Proof) -> bytes:
    """A tree whose value is a raw block, properly signed."""
    tree = Mst.empty()
    cid = Cid.of_raw(proof.block)
    tree.put(f"{POST}/{proof.rkey}", cid)
    change = tree.change()
    commit = sign_commit(ALICE, REV, change.root, USER_KEY)
    return car_of(commit.cid, {commit.cid: commit.block, **dict(change.created), cid: proof.block})


def with_value(value: object) -> Callable[[Proof], bytes]:
    """A tree whose value is another DAG-CBOR block, properly signed."""

    def car(proof: Proof) -> bytes:
        block = value if isinstance(value, bytes) else dag_cbor.encode(["no", "map"])
        tree = Mst.empty()
        cid = Cid.of_dag_cbor(block)
        tree.put(f"{POST}/{proof.rkey}", cid)
        change = tree.change()
        commit = sign_commit(ALICE, REV, change.root, USER_KEY)
        return car_of(commit.cid, {commit.cid: commit.block, **dict(change.created), cid: block})

    return car


NO_ROOT = b"\x11" + dag_cbor.encode({"roots": [], "version": 1})

HOSTILE: dict[str, Callable[[Proof], bytes]] = {
    "empty": lambda _proof: b"",
    "garbage": lambda _proof: b"\xff" * 100,
    "no root": lambda proof: proof.car().replace(
        encode_header(proof.commit.cid), b"\x11" + dag_cbor.encode({"roots": [], "version": 1})
    ),
    "a changed record": lambda proof: with_record(proof, dag_cbor.encode(post("jello"))),
    "a truncated file": lambda proof: proof.car()[:-1],
    "a missing record": lambda proof: without(proof, proof.cid),
    "a missing commit": lambda proof: without(proof, proof.commit.cid),
    "a missing root node": lambda proof: without(proof, proof.commit.data),
    "a root that is no commit": lambda proof: car_of(proof.cid, {proof.cid: proof.block}),
    "another account's repository": of_somebody_else,
    "a raw record": with_raw_record,
    "a record that is a list": with_value(None),
    "a record that is no DAG-CBOR": with_value(b"\xff"),
    "a record of bottomless lists": with_value(b"\x81" * 100_000),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_proof_is_one_typed_error(kind: str) -> None:
    proof = Proof()
    car = HOSTILE[kind](proof)
    with pytest.raises(VerificationFailed):
        verify_cid_integrity(car, POST, proof.rkey, ALICE)
    with pytest.raises(VerificationFailed):
        verify_signed_record(car, POST, proof.rkey, ALICE, USER_KEY.verifying_key)


def test_a_record_that_the_tree_has_not_is_refused() -> None:
    proof = Proof()
    for collection, rkey in (
        (POST, "3mgaaaaaaaa3z"),
        ("app.test.thing", proof.rkey),
        (POST, ""),
        ("", ""),
        (POST, "ä"),
        (POST, "a/b"),
    ):
        with pytest.raises(VerificationFailed):
            verify_cid_integrity(proof.car(), collection, rkey, ALICE)


def test_a_proof_above_the_limit_is_not_read() -> None:
    proof = Proof()
    with pytest.raises(VerificationFailed, match="larger than 100"):
        verify_cid_integrity(proof.car(), POST, proof.rkey, ALICE, max_bytes=100)


@given(data=st.data())
def test_no_change_of_a_byte_is_believed_with_another_outcome(data: st.DataObject) -> None:
    proof = Proof(others=5)
    car = bytearray(proof.car())
    at = data.draw(st.integers(0, len(car) - 1))
    car[at] ^= data.draw(st.integers(1, 255))
    try:
        verified = verify_signed_record(bytes(car), POST, proof.rkey, ALICE, USER_KEY.verifying_key)
    except VerificationFailed:
        return
    assert (verified.record, verified.cid) == (post(), proof.cid)


def test_random_bytes_never_raise_anything_else() -> None:
    rng = random.Random(7)
    for _ in range(300):
        with pytest.raises(VerificationFailed):
            verify_cid_integrity(rng.randbytes(rng.randrange(400)), POST, "a")


async def test_a_record_is_fetched_with_credentials_and_checked_by_the_user_s_key() -> None:
    proof = Proof()
    script = serving(proof.car())
    host = script.host(credentials=BearerToken("sesame"))
    verified = await fetch_and_verify_record(host, ALICE, POST, proof.rkey, user_signing_key=USER_KEY.verifying_key)
    assert verified.level is VerificationLevel.USER_SIGNATURE
    (asked,) = script.asked
    assert asked.url.path == "/xrpc/com.atproto.sync.getRecord"
    assert dict(asked.url.params) == {"did": ALICE, "collection": POST, "rkey": proof.rkey}
    assert asked.headers["authorization"] == "Bearer sesame"


async def test_the_level_is_that_of_the_key_that_was_given() -> None:
    signed_by_service = Proof(key=SERVICE_KEY)
    host = serving(signed_by_service.car()).host()
    where = (ALICE, POST, signed_by_service.rkey)
    by_service = await fetch_and_verify_record(host, *where, service_signing_key=SERVICE_KEY.verifying_key)
    assert by_service.level is VerificationLevel.SERVICE_SIGNATURE
    assert (await fetch_and_verify_record(host, *where)).level is VerificationLevel.CID_INTEGRITY


async def test_a_user_signature_that_fails_does_not_fall_back_to_the_service_s() -> None:
    signed_by_service = Proof(key=SERVICE_KEY)
    with pytest.raises(VerificationFailed):
        await fetch_and_verify_record(
            serving(signed_by_service.car()).host(),
            ALICE,
            POST,
            signed_by_service.rkey,
            user_signing_key=USER_KEY.verifying_key,
            service_signing_key=SERVICE_KEY.verifying_key,
        )


async def test_the_record_of_another_account_is_refused_whatever_the_key() -> None:
    proof = Proof(did=BOB)
    host = serving(proof.car()).host()
    where, key = (ALICE, POST, proof.rkey), USER_KEY.verifying_key
    for user_key, service_key in ((None, None), (key, None), (None, key)):
        with pytest.raises(VerificationFailed, match=BOB):
            await fetch_and_verify_record(host, *where, user_signing_key=user_key, service_signing_key=service_key)


async def test_a_proof_that_is_refused_says_so() -> None:
    recorded = json.loads(reference("sync.getRecord.missing.response.json").read_text())
    with pytest.raises(XrpcFailure, match="failed to fetch record proof: 400 RecordNotFound") as caught:
        await fetch_and_verify_record(answering(recorded["body"], recorded["status"]).host(), ALICE, POST, "a")
    assert caught.value.name == "RecordNotFound"


async def test_a_proof_that_does_not_end_is_given_up() -> None:
    with pytest.raises(NoAnswer, match="more than 1000 bytes"):
        await fetch_and_verify_record(serving(bytes(2_000)).host(), ALICE, POST, "a", max_bytes=1_000)


async def test_a_proof_cannot_be_asked_for_through_a_pds() -> None:
    with pytest.raises(NotProxied):
        await fetch_and_verify_record(serving(b"").host(proxy=f"{SERVICE}#stratos"), ALICE, POST, "a")
