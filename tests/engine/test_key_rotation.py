"""A new signing key for an account: one step of the log, after which only the new key signs, and the history tells which did."""

from __future__ import annotations

import os
from contextlib import ExitStack

import trio

from stratos.atproto.commit import SignedCommit
from stratos.atproto.keys import SigningKey, VerifyingKey
from stratos.atproto.syntax import Did, Tid
from stratos.core.enrollment import Enrollment
from stratos.core.key_history import key_of_commit
from stratos.core.log_entry import EntryKind
from stratos.core.outcomes import Reason, Refusal
from stratos.engine.keyring import Keyring
from stratos.resources import sql_directory
from stratos.storage.ports import Backend
from stratos.storage.postgres.backend import PostgresBackend
from stratos.storage.postgres.config import PostgresConfig
from stratos.storage.sql_files import SqlFiles
from tests.engine.builders import EDITORS, REI, WRITERS, Clock, Engine, message, start_engine
from tests.engine.pairs import pair


async def rotated(engine: Engine, did: Did = REI) -> Enrollment:
    """Rotate an account's key; fails the test where that is refused."""
    outcome = await engine.service.key_rotation.rotate(did)
    assert isinstance(outcome, Enrollment), outcome
    return outcome


def head(engine: Engine) -> SignedCommit:
    """Rei's newest commit, as stored."""
    with engine.service.backend.actors.open(REI) as store:
        assert store is not None
        block = store.block(store.root().commit)
    assert block is not None
    return SignedCommit.decode(block)


def signed_by(commit: SignedCommit, key: str | None) -> bool:
    """Whether a did:key made a commit's signature."""
    return key is not None and commit.verify(VerifyingKey.from_did_key(key))


async def test_every_commit_before_and_after_verifies_with_the_key_of_the_history(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    commits = [head(engine)]
    for number in range(3):
        await engine.post(REI, f"post {number}", WRITERS)
        commits.append(head(engine))
        await rotated(engine)
        commits.append(head(engine))
    history = engine.service.backend.enrollments.signing_keys(REI)
    assert len({period.key for period in history}) == 4
    assert [signed_by(commit, key_of_commit(history, commit.rev)) for commit in commits] == [True] * 7
    assert [commit.data for commit in commits[1::2]] == [commit.data for commit in commits[2::2]], "the records are the same"


async def test_rotation_is_an_enrollment_and_an_empty_commit_on_the_stream(engine: Engine) -> None:
    standing = await engine.enroll(REI, WRITERS)
    await engine.post(REI, "hello", WRITERS)
    before, seq = head(engine), engine.service.log.head
    changed = await rotated(engine)
    enroll, commit = engine.service.backend.log.after(seq, limit=10, max_bytes=100_000)
    assert (enroll.kind, commit.kind) == (EntryKind.ENROLLMENT, EntryKind.COMMIT)
    told = message(enroll.frame).body
    assert (told["action"], told["boundaries"], told["rev"]) == ("enroll", [WRITERS], before.rev)
    body = message(commit.frame).body
    assert (body["ops"], body["since"], body["rev"]) == ([], before.rev, head(engine).rev)
    assert changed.signing_key != standing.signing_key
    assert engine.service.backend.enrollments.get(REI) == changed


async def test_the_retired_key_is_erased(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    sealed = engine.service.backend.enrollments.sealed_key(REI)
    await engine.post(REI, "opens the key", WRITERS)
    await rotated(engine)
    assert engine.service.backend.enrollments.sealed_key(REI) not in (sealed, None)
    assert engine.service.keyring.statistics()["opened"] == 0


async def test_writes_under_way_end_before_or_after_and_none_is_lost(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(engine.post, REI, f"post {number}", WRITERS)
            if number % 3 == 0:
                nursery.start_soon(rotated, engine)
    with engine.service.backend.actors.open(REI) as store:
        assert store is not None
        assert store.record_count() == 8
    history = engine.service.backend.enrollments.signing_keys(REI)
    assert signed_by(head(engine), history[-1].key)


async def test_two_processes_rotate_and_write_one_account(stores: tuple[Backend, Backend]) -> None:
    async with pair(stores) as two:
        await two.here.enroll(REI, WRITERS)
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(two.here.post, REI, f"here {number}", WRITERS)
                nursery.start_soon(rotated, two.there)
        history = stores[0].enrollments.signing_keys(REI)
        assert len(history) == 5
        assert [period.retired is None for period in history] == [False] * 4 + [True]
        assert signed_by(head(two.here), key_of_commit(history, head(two.here).rev))


async def test_a_process_that_remembers_the_retired_key_writes_with_the_new_one_at_once(
    postgres_database: str, nursery: trio.Nursery
) -> None:
    config, files = PostgresConfig(postgres_database, pool_size=4, answer_timeout=10.0), SqlFiles(sql_directory())
    service_key, master_key = SigningKey.generate_secp256k1(), os.urandom(32)
    with ExitStack() as stack:
        engines: list[Engine] = []
        for number in range(2):
            backend = PostgresBackend.open(config, sql=files, max_open_actors=8, writer=f"{number}", now=Clock().now)
            stack.callback(backend.close)
            engines.append(await start_engine(backend, nursery, keyring=Keyring(service_key, master_key), seed=number))
        here, there = engines
        await here.enroll(REI, WRITERS)
        for number in range(3):
            await here.post(REI, f"remembers {number}", WRITERS)
            await rotated(there)
            await here.post(REI, f"at once {number}", WRITERS)
        history = there.service.backend.enrollments.signing_keys(REI)
        commit = head(here)
        assert (len(history), signed_by(commit, key_of_commit(history, commit.rev))) == (4, True)
        for engine in engines:
            await engine.stop()


async def test_boundaries_changed_afterwards_keep_the_new_key(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    changed = await rotated(engine)
    await engine.service.enrollment.add_boundary(REI, EDITORS)
    standing = engine.service.backend.enrollments.get(REI)
    assert standing is not None
    assert standing.signing_key == changed.signing_key


async def test_only_an_active_account_gets_a_new_key(engine: Engine) -> None:
    refusal = await engine.service.key_rotation.rotate(REI)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.NOT_FOUND
    await engine.enroll(REI, WRITERS)
    await engine.service.enrollment.revoke(REI)
    refusal = await engine.service.key_rotation.rotate(REI)
    assert isinstance(refusal, Refusal)
    assert engine.service.backend.enrollments.signing_keys(REI)[0].first_rev is not None


async def test_an_account_that_left_for_good_has_a_history_of_its_new_repository_only(engine: Engine) -> None:
    await engine.enroll(REI, WRITERS)
    await rotated(engine)
    await engine.service.enrollment.unenroll(REI)
    assert engine.service.backend.enrollments.signing_keys(REI) == []
    again = await engine.enroll(REI, WRITERS)
    (period,) = engine.service.backend.enrollments.signing_keys(REI)
    assert (period.key, period.first_rev) == (again.signing_key, Tid(head(engine).rev))
