"""The repository writer upon a real store: design §3, service spec §5."""

from __future__ import annotations

from datetime import timedelta

import pytest
import trio
import trio.testing

from stratos.atproto import dag_cbor
from stratos.atproto.cid import Cid
from stratos.atproto.commit import SignedCommit
from stratos.atproto.dag_cbor import DataModel
from stratos.atproto.keys import SigningKey, VerifyingKey
from stratos.atproto.mst import MissingBlock, Mst, check_tree
from stratos.atproto.syntax import Did
from stratos.core.outcomes import Reason, Refusal
from stratos.engine.planner import MissingFromStore, Plan, WriteRequest
from stratos.engine.rate_limit import WriteRate
from stratos.engine.repository import BULK_WRITES
from stratos.engine.service import ServiceLimits
from stratos.engine.writes import Committed, Create, Delete, Put, Write
from stratos.storage.ports import ActorStore, Backend
from tests.engine.builders import EDITORS, KAORUKO, POST, REI, SAKURA, WRITERS, Engine, post, start_engine

RKEY = "3lgoldenzzzz2"


def _reason(outcome: Committed | Refusal) -> Reason:
    assert isinstance(outcome, Refusal), outcome
    return outcome.reason


def _records(engine: Engine, did: Did) -> dict[str, DataModel]:
    with engine.service.backend.actors.open(did) as store:
        assert store is not None
        commit = store.block(store.root().commit)
        assert commit is not None
        tree = Mst.open(SignedCommit.decode(commit).data, store)
        found: dict[str, DataModel] = {}
        for path, cid in tree.entries():
            block = store.block(cid)
            assert block is not None
            found[path] = dag_cbor.decode(block)
        return found


async def test_a_created_record_stands_in_a_signed_canonical_tree(engine: Engine) -> None:
    enrollment = await engine.enroll(REI, WRITERS)
    outcome = await engine.post(REI, "hello", WRITERS)
    with engine.service.backend.actors.open(REI) as store:
        assert store is not None
        block = store.block(outcome.commit)
        assert block is not None
        commit = SignedCommit.decode(block)
        assert commit.verify(VerifyingKey.from_did_key(enrollment.signing_key))
        assert (commit.did, commit.rev) == (REI, outcome.rev)
        check_tree(commit.data, store)
    (result,) = outcome.results
    assert result is not None
    assert list(_records(engine, REI)) == [result.uri.removeprefix(f"at://{REI}/")]


async def test_a_record_gets_its_type_and_its_cid_is_of_its_bytes(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    outcome = await engine.post(REI, "hello", WRITERS, rkey=RKEY)
    record = _records(engine, REI)[f"{POST}/{RKEY}"]
    assert isinstance(record, dict)
    assert record["$type"] == POST
    (result,) = outcome.results
    assert result is not None
    assert result.cid == Cid.of_dag_cbor(dag_cbor.encode(record))


async def test_creating_upon_a_taken_rkey_is_refused_and_changes_nothing(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    await engine.post(REI, "first", WRITERS, rkey=RKEY)
    outcome = await engine.service.repository.write(REI, [Create(POST, RKEY, post("second", WRITERS))])
    assert outcome == Refusal(Reason.INVALID_REQUEST, f"Record already exists: {POST}/{RKEY}")
    record = _records(engine, REI)[f"{POST}/{RKEY}"]
    assert isinstance(record, dict)
    assert record["text"] == "first"


async def test_a_batch_is_one_commit_and_one_entry_or_nothing(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    head = engine.service.log.head
    good: list[Write] = [Create(POST, None, post(f"post {number}", WRITERS)) for number in range(3)]
    outcome = await engine.service.repository.write(REI, good)
    assert isinstance(outcome, Committed)
    assert len(outcome.results) == 3
    entries = engine.service.backend.log.after(head, limit=10, max_bytes=1_000_000)
    assert len(entries) == 1
    assert len(entries[0].views) == 3
    bad: list[Write] = [*good, Create(POST, None, post("forbidden", EDITORS))]
    assert _reason(await engine.service.repository.write(REI, bad)) is Reason.FORBIDDEN_BOUNDARY
    assert len(_records(engine, REI)) == 3


async def test_deleting_what_is_absent_still_makes_a_commit_but_not_in_a_batch(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    first = await engine.service.repository.write(REI, [Delete(POST, RKEY)])
    second = await engine.service.repository.write(REI, [Delete(POST, RKEY)])
    assert isinstance(first, Committed)
    assert isinstance(second, Committed)
    assert second.rev > first.rev
    strict = await engine.service.repository.write(REI, [Delete(POST, RKEY, must_exist=True)])
    assert _reason(strict) is Reason.RECORD_NOT_FOUND


async def test_swaps_compare_with_what_stands_there(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    created = await engine.post(REI, "first", WRITERS, rkey=RKEY)
    (result,) = created.results
    assert result is not None
    write = engine.service.repository.write
    other = Cid.of_dag_cbor(b"\xa0")
    assert _reason(await write(REI, [Delete(POST, RKEY)], swap_commit=other)) is Reason.INVALID_SWAP
    assert _reason(await write(REI, [Put(POST, RKEY, post("x", WRITERS), swap_record=other)])) is Reason.INVALID_SWAP
    assert _reason(await write(REI, [Put(POST, RKEY, post("x", WRITERS), swap_record=None)])) is Reason.INVALID_SWAP
    assert _reason(await write(REI, [Delete(POST, RKEY, swap_record=other)])) is Reason.INVALID_SWAP
    swapped = await write(REI, [Put(POST, RKEY, post("second", WRITERS), swap_record=result.cid)], swap_commit=created.commit)
    assert isinstance(swapped, Committed)


async def test_validate_false_switches_off_the_lexicon_but_no_boundary_rule(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    write = engine.service.repository.write
    too_long = post("x" * 3_001, WRITERS)
    assert _reason(await write(REI, [Create(POST, None, too_long)])) is Reason.INVALID_RECORD
    assert isinstance(await write(REI, [Create(POST, None, too_long)], validate=False), Committed)
    assert _reason(await write(REI, [Create(POST, None, post("x", EDITORS))], validate=False)) is Reason.FORBIDDEN_BOUNDARY
    assert _reason(await write(REI, [Create(POST, None, {"text": "x"})], validate=False)) is Reason.INVALID_RECORD


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (Create("app.bsky.feed.post", None, post("x", WRITERS)), Reason.INVALID_COLLECTION),
        (Create("zone.stratos.actor.enrollment", "self", {"service": "x"}), Reason.INVALID_COLLECTION),
        (Create("not an nsid", None, {}), Reason.INVALID_REQUEST),
        (Create(POST, "..", post("x", WRITERS)), Reason.INVALID_REQUEST),
        (Create(POST, "not-a-tid", post("x", WRITERS)), Reason.INVALID_REQUEST),
        (Create(POST, None, post("x", "did:web:other.test/writers")), Reason.INVALID_RECORD),
    ],
)
async def test_what_may_not_be_written_is_refused_for_its_reason(engine: Engine, write: Write, reason: Reason) -> None:
    await engine.enroll(REI, WRITERS)
    assert _reason(await engine.service.repository.write(REI, [write], validate=True)) is reason


async def test_nobody_writes_without_an_enrollment(engine: Engine) -> None:
    outcome = await engine.service.repository.write(REI, [Create(POST, None, post("x", WRITERS))])
    assert _reason(outcome) is Reason.NOT_ENROLLED


async def test_one_path_cannot_be_written_twice_in_a_call(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    writes: list[Write] = [Create(POST, RKEY, post("x", WRITERS)), Delete(POST, RKEY)]
    assert _reason(await engine.service.repository.write(REI, writes)) is Reason.INVALID_REQUEST


async def test_a_reply_needs_a_parent_that_its_author_can_read(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS, EDITORS)
    await engine.enroll(SAKURA, WRITERS)
    await engine.enroll(KAORUKO, EDITORS)
    parent = await engine.post(REI, "for the writers", WRITERS)
    (result,) = parent.results
    assert result is not None
    link: DataModel = {"uri": result.uri, "cid": str(result.cid)}
    reply = post("a reply", WRITERS, reply={"root": link, "parent": link})
    write = engine.service.repository.write
    assert isinstance(await write(SAKURA, [Create(POST, None, reply)]), Committed)
    wider = post("wider", WRITERS, EDITORS, reply={"root": link, "parent": link})
    assert _reason(await write(REI, [Create(POST, None, wider)])) is Reason.INVALID_RECORD
    unseen = post("unseen", EDITORS, reply={"root": link, "parent": link})
    refused = await write(KAORUKO, [Create(POST, None, unseen)])
    assert _reason(refused) is Reason.INVALID_RECORD
    absent: DataModel = {"uri": f"{result.uri[:-1]}z", "cid": str(result.cid)}
    unseen = post("unseen", EDITORS, reply={"root": absent, "parent": absent})
    assert await write(KAORUKO, [Create(POST, None, unseen)]) == refused


async def test_a_parent_whose_owner_has_left_for_a_while_is_as_unseen_as_one_that_never_was(engine: Engine) -> None:
    for did in (REI, SAKURA):
        await engine.enroll(did, WRITERS)
    (parent,) = (await engine.post(REI, "for the writers", WRITERS)).results
    assert parent is not None
    outcomes = []
    await engine.service.enrollment.revoke(REI)
    for uri in (parent.uri, f"{parent.uri[:-1]}z"):
        link: DataModel = {"uri": uri, "cid": str(parent.cid)}
        reply = post("a reply", WRITERS, reply={"root": link, "parent": link})
        outcomes.append(await engine.service.repository.write(SAKURA, [Create(POST, None, reply)]))
    assert isinstance(outcomes[0], Refusal)
    assert outcomes[0] == outcomes[1]


async def test_a_thread_may_be_posted_as_one_batch(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    link: DataModel = {"uri": f"at://{REI}/{POST}/{RKEY}", "cid": str(Cid.of_dag_cbor(b"\xa0"))}
    reply = post("and a reply", WRITERS, reply={"root": link, "parent": link})
    writes: list[Write] = [Create(POST, RKEY, post("a post", WRITERS)), Create(POST, None, reply)]
    assert isinstance(await engine.service.repository.write(REI, writes), Committed)


async def test_a_large_batch_goes_the_same_way(backend: Backend, nursery: trio.Nursery) -> None:
    engine = await start_engine(backend, nursery, ServiceLimits(writes=WriteRate(max_writes=1_000)))
    await engine.enroll(REI, WRITERS)
    writes: list[Write] = [Create(POST, None, post(f"post {number}", WRITERS)) for number in range(200)]
    outcome = await engine.service.repository.write(REI, writes)
    assert isinstance(outcome, Committed)
    assert len(_records(engine, REI)) == 200
    assert _reason(await engine.service.repository.write(REI, [*writes, writes[0]])) is Reason.INVALID_REQUEST
    await engine.stop()


async def test_batches_that_wait_for_the_bulk_thread_are_counted(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    repository = engine.service.repository
    writes: list[Write] = [Create(POST, None, post(f"post {number}", WRITERS)) for number in range(BULK_WRITES)]
    async with trio.open_nursery() as waiting, repository._parts.bulk_thread:
        waiting.start_soon(repository.write, REI, writes)
        await trio.testing.wait_all_tasks_blocked()
        assert repository.statistics()["bulk_waiting"] == 1
    assert repository.statistics()["bulk_waiting"] == 0


async def test_concurrent_writes_of_one_actor_follow_each_other(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(engine.post, REI, f"post {number}", WRITERS)
    assert len(_records(engine, REI)) == 20
    entries = engine.service.backend.log.after(0, limit=100, max_bytes=10_000_000, did=REI)
    assert [entry.seq for entry in entries] == sorted({entry.seq for entry in entries})
    assert engine.service.repository.statistics()["replanned_total"] == 0


async def test_credits_of_a_refused_write_come_back(backend: Backend, nursery: trio.Nursery) -> None:
    engine = await start_engine(backend, nursery, ServiceLimits(writes=WriteRate(max_writes=2)))
    await engine.enroll(REI, WRITERS)
    for _ in range(5):
        refused = await engine.service.repository.write(REI, [Create(POST, None, post("x", EDITORS))])
        assert _reason(refused) is Reason.FORBIDDEN_BOUNDARY
    await engine.post(REI, "one", WRITERS)
    await engine.post(REI, "two", WRITERS)
    limited = await engine.service.repository.write(REI, [Create(POST, None, post("three", WRITERS))])
    assert _reason(limited) is Reason.RATE_LIMITED
    await engine.stop()


async def test_a_revoked_boundary_stops_the_next_write_at_once(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS, EDITORS)
    await engine.post(REI, "allowed", EDITORS)
    await engine.service.enrollment.remove_boundary(REI, EDITORS)
    outcome = await engine.service.repository.write(REI, [Create(POST, None, post("no more", EDITORS))])
    assert _reason(outcome) is Reason.FORBIDDEN_BOUNDARY


async def test_revs_increase_even_when_the_clock_goes_back(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    first = await engine.post(REI, "one", WRITERS)
    engine.clock.now -= timedelta(hours=1)
    second = await engine.post(REI, "two", WRITERS)
    assert second.rev > first.rev


async def test_a_write_whose_head_was_replaced_while_it_was_planned_is_planned_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.enroll(REI, WRITERS)
    await engine.post(REI, "one", WRITERS)
    planner, missing = engine.service.repository._planner, [MissingFromStore("gone"), MissingBlock(Cid.of_dag_cbor(b"gone"))]
    plan = planner.plan

    def plan_late(store: ActorStore, request: WriteRequest, key: SigningKey) -> Plan | Refusal:
        if missing:
            raise missing.pop()
        return plan(store, request, key)

    monkeypatch.setattr(planner, "plan", plan_late)
    await engine.post(REI, "two", WRITERS)
    assert engine.service.repository.statistics()["replanned_total"] == 2


async def test_a_store_that_lacks_what_its_head_refers_to_is_a_fault_in_the_end(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.enroll(REI, WRITERS)

    def damaged(*_: object) -> Plan:
        raise MissingFromStore("gone for good")

    monkeypatch.setattr(engine.service.repository._planner, "plan", damaged)
    with pytest.raises(MissingFromStore):
        await engine.service.repository.write(REI, [Create(POST, None, post("never", WRITERS))])
