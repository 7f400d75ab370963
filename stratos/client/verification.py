"""Checking records against the signed repository that they are in. Source: spec service.md §10.5.

Whatever the bytes are, the outcome is a verified record or one VerificationFailed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from stratos.atproto import dag_cbor
from stratos.atproto.car import Car, InvalidCar, read_car
from stratos.atproto.cid import DAG_CBOR, Cid
from stratos.atproto.commit import InvalidCommit, SignedCommit
from stratos.atproto.dag_cbor import InvalidDagCbor
from stratos.atproto.keys import VerifyingKey
from stratos.atproto.mst import InvalidMst, MissingBlock
from stratos.atproto.mst_proof import verify_proof
from stratos.atproto.syntax import Did, Tid, record_path
from stratos.client.answers import Record
from stratos.client.errors import VerificationFailed, XrpcFailure
from stratos.client.signing_keys import SigningKeys
from stratos.client.xrpc import XrpcHost, host_at

SYNC_GET_RECORD: Final = "com.atproto.sync.getRecord"
CAR_TYPE: Final = "application/vnd.ipld.car"
MAX_PROOF_BYTES: Final = 8 * 1024 * 1024
"""Of a proof: a record, a commit and the tree nodes on the way, of which there are rarely more than ten."""


class VerificationLevel(StrEnum):
    """What vouches for a record, the strongest first."""

    USER_SIGNATURE = "user-signature"
    SERVICE_SIGNATURE = "service-signature"
    CID_INTEGRITY = "cid-integrity"


@dataclass(frozen=True, slots=True)
class VerifiedRecord:
    """A record that is in the repository of `did` at `rev`, as commit `commit` says, which `level` vouches for.

    With CID_INTEGRITY nobody has signed anything that was checked: the blocks fit together, no more.
    """

    did: Did
    cid: Cid
    record: Record
    level: VerificationLevel
    rev: Tid
    commit: Cid


def verify_cid_integrity(
    car: bytes, collection: str, rkey: str, did: Did | None = None, *, max_bytes: int = MAX_PROOF_BYTES
) -> VerifiedRecord:
    """Check a proof without its signature: every block's hash, the tree's path from the commit to the record, and whose it is.

    Without `did` the repository may be anybody's. Raises VerificationFailed.
    """
    _, verified = _proven(car, collection, rkey, did, VerificationLevel.CID_INTEGRITY, max_bytes)
    return verified


def verify_signed_record(
    car: bytes,
    collection: str,
    rkey: str,
    did: Did,
    key: VerifyingKey,
    *,
    level: VerificationLevel = VerificationLevel.USER_SIGNATURE,
    max_bytes: int = MAX_PROOF_BYTES,
) -> VerifiedRecord:
    """As `verify_cid_integrity`, and the commit's signature by `key`, whose owner `level` names. Raises VerificationFailed."""
    commit, verified = _proven(car, collection, rkey, did, level, max_bytes)
    _check_signature(commit, key)
    return verified


async def fetch_and_verify_record(
    service: XrpcHost | str,
    did: Did,
    collection: str,
    rkey: str,
    *,
    user_signing_key: VerifyingKey | SigningKeys | None = None,
    service_signing_key: VerifyingKey | None = None,
    max_bytes: int = MAX_PROOF_BYTES,
) -> VerifiedRecord:
    """Fetch a record with its proof from a service and check it, by the user's key if given, else by the service's, else by none.

    With `SigningKeys` the commit has to be signed with the key that was the account's at its rev, whatever is rotated meanwhile.
    With one key it has to be that one, which may be the former one where an enrollment record names it.

    A signature that does not hold is a failure: nothing weaker is tried after it. Whether a host has credentials decides what it
    shows us: a `service` given as URL is asked without, and no private record is shown to nobody. Raises VerificationFailed,
    KeyUnavailable, XrpcFailure, NoAnswer.
    """
    async with host_at(service) as host:
        try:
            params = {"did": did, "collection": collection, "rkey": rkey}
            car = await host.download(SYNC_GET_RECORD, params, accept=CAR_TYPE, max_bytes=max_bytes)
        except XrpcFailure as error:
            doing = "failed to fetch record proof"
            raise XrpcFailure(error.status, error.name, error.message, retry_after=error.retry_after, doing=doing) from error
    if isinstance(user_signing_key, SigningKeys):
        commit, verified = _proven(car, collection, rkey, did, VerificationLevel.USER_SIGNATURE, max_bytes)
        _check_signature(commit, await user_signing_key.of_commit(commit.rev))
        return verified
    if user_signing_key is not None:
        return verify_signed_record(car, collection, rkey, did, user_signing_key, max_bytes=max_bytes)
    if service_signing_key is not None:
        level = VerificationLevel.SERVICE_SIGNATURE
        return verify_signed_record(car, collection, rkey, did, service_signing_key, level=level, max_bytes=max_bytes)
    return verify_cid_integrity(car, collection, rkey, did, max_bytes=max_bytes)


def _check_signature(commit: SignedCommit, key: VerifyingKey) -> None:
    if not commit.verify(key):
        raise VerificationFailed(f"the commit {commit.cid} of {commit.did} is not signed with {key.did_key}")


def _proven(
    data: bytes, collection: str, rkey: str, did: Did | None, level: VerificationLevel, max_bytes: int
) -> tuple[SignedCommit, VerifiedRecord]:
    """The commit and the record of a proof, everything checked but the signature."""
    if len(data) > max_bytes:
        raise VerificationFailed(f"a proof of {len(data)} bytes is larger than {max_bytes}")
    path = record_path(collection, rkey)
    try:
        car = read_car(data)
        commit = SignedCommit.decode(_block(car, _root(car), "the commit"))
        if did is not None and commit.did != did:
            raise VerificationFailed(f"the repository is of {commit.did}, not of {did}")
        cid = verify_proof(commit.data, car.blocks, path)
        if cid is None:
            raise VerificationFailed(f"{path} is not in the repository at {commit.rev}")
        record = _record(cid, _block(car, cid, path), path)
    except (InvalidCar, InvalidCommit, InvalidMst, MissingBlock) as error:
        raise VerificationFailed(str(error)) from error
    return commit, VerifiedRecord(commit.did, cid, record, level, commit.rev, commit.cid)


def _root(car: Car) -> Cid:
    if len(car.roots) != 1:
        raise VerificationFailed(f"a proof has one root, not {len(car.roots)}")
    return car.roots[0]


def _block(car: Car, cid: Cid, what: str) -> bytes:
    block = car.blocks.get(cid)
    if block is None:
        raise VerificationFailed(f"the block of {what} is missing: {cid}")
    return block


def _record(cid: Cid, block: bytes, path: str) -> Record:
    if cid.codec != DAG_CBOR:
        raise VerificationFailed(f"{path} is not a record but raw bytes: {cid}")
    try:
        record = dag_cbor.decode(block)
    except InvalidDagCbor as error:
        raise VerificationFailed(f"{path} is not DAG-CBOR: {error}") from error
    if not isinstance(record, dict):
        raise VerificationFailed(f"{path} is not a map")
    return record
