"""Verification on both sides of a rotation, of an account's key and of a service's."""

from __future__ import annotations

import httpx
import pytest

from stratos.atproto.commit import sign_commit
from stratos.atproto.did_document import service_document
from stratos.atproto.keys import SigningKey
from stratos.client import (
    KeyUnavailable,
    NoAnswer,
    SigningKeys,
    Tid,
    VerificationFailed,
    VerificationLevel,
    fetch_and_verify_record,
    resolve_service,
    verify_attestation,
)
from tests.client.builders import (
    ALICE,
    OTHER_KEY,
    POST,
    SERVICE,
    SERVICE_KEY,
    SERVICE_URL,
    TIME,
    USER_KEY,
    Proof,
    Script,
    answering,
    car_of,
    enrollment,
)

BEFORE, ROTATED, AFTER = Tid("3mgaaaaaaaa2a"), Tid("3mgbbbbbbbb2a"), Tid("3mgcccccccc2a")
HISTORY = [
    {"key": USER_KEY.did_key, "createdAt": TIME, "retiredAt": TIME},
    {"key": OTHER_KEY.did_key, "createdAt": TIME, "firstRev": ROTATED},
]


def proof_at(rev: Tid, key: SigningKey) -> tuple[bytes, str]:
    """The proof of a record in a commit of this rev, and its key."""
    proof = Proof()
    commit = sign_commit(ALICE, rev, proof.commit.data, key)
    return car_of(commit.cid, {commit.cid: commit.block, **proof.nodes, proof.cid: proof.block}), proof.rkey


def service(car: bytes, status: dict[str, object]) -> Script:
    """A service that has a record and tells an account's standing."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("getRecord"):
            return httpx.Response(200, content=car, headers={"content-type": "application/vnd.ipld.car"})
        return httpx.Response(200, json=status)

    return Script(answer)


def status(**changes: object) -> dict[str, object]:
    """How Alice stands with the service after a rotation."""
    return {"did": ALICE, "enrolled": True, "active": True, "signingKey": OTHER_KEY.did_key, "signingKeys": HISTORY, **changes}


@pytest.mark.parametrize(("rev", "key"), [(BEFORE, USER_KEY), (ROTATED, OTHER_KEY), (AFTER, OTHER_KEY)])
async def test_a_commit_verifies_with_the_key_of_its_time(rev: Tid, key: SigningKey) -> None:
    car, rkey = proof_at(rev, key)
    script = service(car, status())
    host = script.host(SERVICE_URL)
    verified = await fetch_and_verify_record(host, ALICE, POST, rkey, user_signing_key=SigningKeys(host, ALICE))
    assert (verified.level, verified.rev) == (VerificationLevel.USER_SIGNATURE, rev)
    asked = [request.url.path.rpartition("/")[2] for request in script.asked]
    assert asked == ["com.atproto.sync.getRecord", "zone.stratos.enrollment.status"], "keys are asked for after the proof"


@pytest.mark.parametrize(("rev", "key"), [(BEFORE, OTHER_KEY), (ROTATED, USER_KEY), (AFTER, USER_KEY), (AFTER, SERVICE_KEY)])
async def test_a_commit_that_is_signed_with_a_key_of_another_time_is_refused(rev: Tid, key: SigningKey) -> None:
    car, rkey = proof_at(rev, key)
    host = service(car, status()).host(SERVICE_URL)
    with pytest.raises(VerificationFailed, match="is not signed with"):
        await fetch_and_verify_record(host, ALICE, POST, rkey, user_signing_key=SigningKeys(host, ALICE))


async def test_a_service_without_histories_has_one_key() -> None:
    told = status()
    del told["signingKeys"]
    assert await SigningKeys(answering(told).host(), ALICE).of_commit(BEFORE) == OTHER_KEY.verifying_key


@pytest.mark.parametrize(
    "told",
    [
        {"did": ALICE, "enrolled": False},
        status(did=SERVICE),
        status(signingKeys=[{"key": OTHER_KEY.did_key, "createdAt": TIME, "firstRev": ROTATED}]),
        status(signingKeys=[{"key": "zDn", "createdAt": TIME}]),
    ],
)
async def test_where_no_key_is_told_there_is_none(told: dict[str, object]) -> None:
    with pytest.raises(KeyUnavailable):
        await SigningKeys(answering(told).host(), ALICE).of_commit(BEFORE)


@pytest.mark.parametrize("history", ["text", ["text"], [{"key": 7}], [{"key": "k", "createdAt": TIME, "firstRev": "no"}]])
async def test_a_history_that_is_none_is_no_answer(history: object) -> None:
    with pytest.raises(NoAnswer, match="signingKeys"):
        await SigningKeys(answering(status(signingKeys=history)).host(), ALICE).of_commit(BEFORE)


async def test_an_attestation_by_the_former_key_stands_while_the_service_publishes_it() -> None:
    present = OTHER_KEY.verifying_key
    rotating = service_document(SERVICE, "atproto_pns", SERVICE_URL, present, SERVICE_KEY.verifying_key)
    published = await resolve_service(SERVICE, fetch=answering(rotating).fetch())
    assert (published.signing_key, published.attesting_keys) == (present, (present, SERVICE_KEY.verifying_key))
    verify_attestation(ALICE, enrollment(), *published.attesting_keys)
    verify_attestation(ALICE, enrollment(key=OTHER_KEY), *published.attesting_keys)
    with pytest.raises(VerificationFailed, match="but the service signs with"):
        verify_attestation(ALICE, enrollment(key=USER_KEY), *published.attesting_keys)

    finished = service_document(SERVICE, "atproto_pns", SERVICE_URL, present)
    published = await resolve_service(SERVICE, fetch=answering(finished).fetch())
    with pytest.raises(VerificationFailed, match="but the service signs with"):
        verify_attestation(ALICE, enrollment(), *published.attesting_keys)
