"""What stands on a PDS in the end: the enrollment record, and a stub for every record."""

from __future__ import annotations

from itertools import count

import pytest
import trio
from trio.testing import MockClock

from stratos.atproto.data_model import from_json
from stratos.core.attestation import verify_attestation
from stratos.core.enrollment import Enrollment
from stratos.core.enrollment_record import parse_enrollment_record
from stratos.engine.publisher.marks import SESSION, SWEEP
from stratos.storage.outbox_port import AccountWork, Mark
from stratos.storage.postgres.backend import PostgresBackend
from stratos.storage.sqlite.backend import SqliteBackend
from tests.engine.builders import EDITORS, POST, REI, SAKURA, SERVICE, WRITERS
from tests.engine.publisher.house import ENROLLMENT_PATH, SERVICE_URL, House, Signed
from tests.engine.publisher.pds_model import DirectClient

Json = dict[str, object]


def stub_of(uri: str, cid: str, service: str = f"{SERVICE}#atproto_pns") -> Json:
    """A stub as service spec §5.7 draws it."""
    return {
        "$type": POST,
        "source": {"vary": "authenticated", "subject": {"uri": uri, "cid": cid}, "service": service},
        "createdAt": "2026-05-28T12:00:00.000Z",
    }


async def work_left(house: House) -> list[AccountWork]:
    """What the outbox still holds."""
    return house.backend.outbox.page(after=None, limit=10, blocked=10)


async def enrolled(house: House, oauth: Signed, *rkeys: str) -> None:
    """Rei is enrolled with these posts, and all of it published."""
    await oauth.sign_in(REI)
    await house.enroll(REI)
    for rkey in rkeys:
        await house.write(REI, rkey)
    await house.settle(oauth.client)
    assert oauth.network.model.paths(REI) == [ENROLLMENT_PATH, *(f"{POST}/{rkey}" for rkey in rkeys)]


async def test_the_enrollment_record_stands_at_the_service_s_key_and_its_attestation_verifies(
    house: House, oauth: Signed, autojump_clock: MockClock
) -> None:
    await oauth.sign_in(REI)
    enrollment = await house.enroll(REI, WRITERS, EDITORS)
    await house.settle(oauth.client)
    stored = oauth.network.model.records[REI, ENROLLMENT_PATH]
    record = parse_enrollment_record(stored)
    assert record is not None
    assert stored["$type"] == "zone.stratos.actor.enrollment"
    assert (record.service, set(record.boundaries)) == (SERVICE_URL, {WRITERS, EDITORS})
    assert (record.signing_key, record.created_at) == (enrollment.signing_key, enrollment.enrolled_at)
    assert verify_attestation(
        record.attestation,
        service_key=house.engine.service.service_key,
        did=REI,
        boundaries=record.boundaries,
        signing_key=record.signing_key,
    )
    assert await work_left(house) == []


async def test_a_change_of_boundaries_is_written_with_the_creation_time_that_stands_there(
    house: House, oauth: Signed, autojump_clock: MockClock
) -> None:
    await enrolled(house, oauth)
    oauth.network.model.records[REI, ENROLLMENT_PATH]["createdAt"] = "2020-01-01T00:00:00.000Z"
    await house.engine.service.enrollment.set_boundaries(REI, [EDITORS])
    await house.settle(oauth.client)
    record = parse_enrollment_record(oauth.network.model.records[REI, ENROLLMENT_PATH])
    assert record is not None
    assert (record.boundaries, record.created_at) == ((EDITORS,), "2020-01-01T00:00:00.000Z")


async def test_a_creation_time_that_is_none_is_not_kept(house: House, oauth: Signed, autojump_clock: MockClock) -> None:
    await oauth.sign_in(REI)
    enrollment = await house.enroll(REI)
    oauth.network.model.records[REI, ENROLLMENT_PATH] = {"service": SERVICE_URL, "createdAt": "some day"}
    await house.settle(oauth.client)
    assert oauth.network.model.records[REI, ENROLLMENT_PATH]["createdAt"] == enrollment.enrolled_at


async def test_records_of_ours_under_former_keys_move_and_those_of_other_services_stay(
    house: House, oauth: Signed, autojump_clock: MockClock
) -> None:
    theirs: Json = {"service": "https://other.test", "createdAt": "2021-01-01T00:00:00.000Z"}
    former: Json = {"service": f"{SERVICE_URL}/", "createdAt": "2022-02-02T00:00:00.000Z"}
    records = oauth.network.model.records
    for rkey, record in {"self": former, "3kabc": former, "did:web:other.test": theirs, "zzz": theirs}.items():
        records[REI, f"zone.stratos.actor.enrollment/{rkey}"] = record
    await oauth.sign_in(REI)
    await house.enroll(REI)
    await house.settle(oauth.client)
    left = [path.partition("/")[2] for path in oauth.network.model.paths(REI)]
    assert left == ["did:web:other.test", "did:web:stratos.test", "zzz"]
    assert records[REI, ENROLLMENT_PATH]["createdAt"] == "2022-02-02T00:00:00.000Z"
    assert oauth.network.model.writes[0] == f"put {ENROLLMENT_PATH}", "nothing is deleted before the record stands"


async def test_a_record_has_a_stub_that_follows_it_and_goes_with_it(
    house: House, oauth: Signed, autojump_clock: MockClock
) -> None:
    await enrolled(house, oauth)
    path = f"{POST}/3aaaaaaaaaaaa"
    for text in ("first", "second"):
        [result] = (await house.write(REI, "3aaaaaaaaaaaa", text)).results
        assert result is not None
        await house.settle(oauth.client)
        assert oauth.network.model.records[REI, path] == stub_of(result.uri, str(result.cid))
    await house.remove(REI, "3aaaaaaaaaaaa")
    await house.settle(oauth.client)
    assert oauth.network.model.paths(REI) == [ENROLLMENT_PATH]


async def test_nothing_is_deleted_at_a_record_s_place_that_is_not_our_stub(
    house: House, oauth: Signed, autojump_clock: MockClock
) -> None:
    await enrolled(house, oauth, "3aaaaaaaaaaaa")
    public: Json = {"$type": POST, "text": "everybody may read this", "createdAt": "2026-05-28T12:00:00.000Z"}
    oauth.network.model.records[REI, f"{POST}/3aaaaaaaaaaaa"] = public
    await house.remove(REI, "3aaaaaaaaaaaa")
    await house.settle(oauth.client)
    assert oauth.network.model.records[REI, f"{POST}/3aaaaaaaaaaaa"] == public
    assert await work_left(house) == []


async def test_a_stub_takes_the_place_of_nothing_that_is_not_ours(house: House, oauth: Signed, autojump_clock: MockClock) -> None:
    """A post that the account made public itself, or another service's stub, under the rkey of a private record."""
    paths = [f"{POST}/3aaaaaaaaaaaa", f"{POST}/3bbbbbbbbbbbb"]
    public: Json = {"$type": POST, "text": "everybody may read this", "createdAt": "2026-05-28T12:00:00.000Z"}
    elsewhere = stub_of(f"at://{REI}/{paths[1]}", "bafy", service="did:web:other.test#atproto_pns")
    await enrolled(house, oauth)
    for path, record in zip(paths, (public, elsewhere), strict=True):
        oauth.network.model.records[REI, path] = record
        await house.write(REI, path.partition("/")[2])
    await house.settle(oauth.client)
    assert [oauth.network.model.records[REI, path] for path in paths] == [public, elsewhere]
    [work] = await work_left(house)
    assert [(item.path, "left alone" in item.reason) for item in work.blocked] == [(path, True) for path in paths]


@pytest.mark.parametrize("stub_stands", [True, False])
async def test_what_appears_between_a_look_and_a_stub_is_not_overwritten(
    house: House, autojump_clock: MockClock, stub_stands: bool
) -> None:
    client, path = DirectClient({REI: "https://pds.test"}), f"{POST}/3aaaaaaaaaaaa"
    await house.enroll(REI)
    if stub_stands:
        await house.write(REI, "3aaaaaaaaaaaa")
    await house.settle(client)
    await house.write(REI, "3aaaaaaaaaaaa", "second version")
    public: Json = {"$type": POST, "text": "just written"}
    steps = count()

    async def write_before_the_stub() -> None:
        if next(steps) == 2:  # before and after the look come first
            client.models["https://pds.test"].records[REI, path] = public

    client.interrupt = write_before_the_stub
    await house.settle(client)
    assert client.models["https://pds.test"].records[REI, path] == public
    [work] = await work_left(house)
    assert [(item.path, "left alone" in item.reason) for item in work.blocked] == [(path, True)]


async def test_without_stubs_only_the_enrollment_is_published(house: House, oauth: Signed, autojump_clock: MockClock) -> None:
    await oauth.sign_in(REI)
    await house.enroll(REI)
    await house.write(REI, "3aaaaaaaaaaaa")
    await house.settle(oauth.client, stubs=False)
    assert oauth.network.model.paths(REI) == [ENROLLMENT_PATH]


async def test_superseded_work_is_done_once(house: House, oauth: Signed, autojump_clock: MockClock) -> None:
    await oauth.sign_in(REI)
    await house.enroll(REI)
    for number in range(5):
        await house.write(REI, "3aaaaaaaaaaaa", f"version {number}")
    await house.write(REI, "3bbbbbbbbbbbb")
    await house.remove(REI, "3bbbbbbbbbbbb")
    await house.settle(oauth.client)
    assert oauth.network.model.writes == [f"put {ENROLLMENT_PATH}", f"put {POST}/3aaaaaaaaaaaa"]


async def test_the_enrollment_comes_first_whatever_was_marked_before(
    house: House, oauth: Signed, autojump_clock: MockClock
) -> None:
    await oauth.sign_in(REI)
    await house.enroll(REI)
    await house.settle(None)
    await house.write(REI, "3aaaaaaaaaaaa")
    await house.settle(None)
    await house.engine.service.enrollment.set_boundaries(REI, [EDITORS])
    await house.settle(oauth.client)
    assert oauth.network.model.writes == [f"put {ENROLLMENT_PATH}", f"put {POST}/3aaaaaaaaaaaa"]


async def test_a_hard_unenroll_removes_all_that_is_ours_and_ends_the_session_last(
    house: House, oauth: Signed, autojump_clock: MockClock
) -> None:
    await enrolled(house, oauth, "3aaaaaaaaaaaa", "3bbbbbbbbbbbb", "3cccccccccccc", "3dddddddddddd", "3eeeeeeeeeeee")
    elsewhere = stub_of("at://x/y/z", "bafy", service="did:web:other.test#atproto_pns")
    oauth.network.model.records[REI, f"{POST}/3aabaabaabaab"] = elsewhere
    oauth.network.model.records[REI, f"{POST}/3zzzzzzzzzzzz"] = {"$type": POST, "text": "public"}
    await house.unenroll(REI)
    await house.settle(oauth.client)
    assert oauth.network.model.paths(REI) == [f"{POST}/3aabaabaabaab", f"{POST}/3zzzzzzzzzzzz"]
    assert oauth.network.model.writes[-1] == f"delete {ENROLLMENT_PATH}"
    assert not await oauth.client.has_session(REI)
    assert [grant.alive for grant in oauth.network.grants] == [False]
    assert await work_left(house) == []


async def test_a_sweep_spares_the_stubs_of_records_that_are_here(house: House, oauth: Signed, autojump_clock: MockClock) -> None:
    await enrolled(house, oauth, "3aaaaaaaaaaaa")
    left_over = f"{POST}/3bbbbbbbbbbbb"
    oauth.network.model.records[REI, left_over] = stub_of(f"at://{REI}/{left_over}", "bafy")
    house.backend.outbox.mark([Mark(REI, SWEEP, house.clock())], now=house.clock())
    await house.settle(oauth.client)
    assert oauth.network.model.paths(REI) == [ENROLLMENT_PATH, f"{POST}/3aaaaaaaaaaaa"]


async def test_what_changes_between_a_look_and_a_deletion_stays(house: House, autojump_clock: MockClock) -> None:
    client, path = DirectClient({REI: "https://pds.test"}), f"{POST}/3aaaaaaaaaaaa"
    await house.enroll(REI)
    await house.write(REI, "3aaaaaaaaaaaa")
    await house.settle(client)
    await house.remove(REI, "3aaaaaaaaaaaa")
    public: Json = {"$type": POST, "text": "just written"}
    steps = count()

    async def write_before_the_deletion() -> None:
        if next(steps) == 2:  # before and after the look come first
            client.models["https://pds.test"].records[REI, path] = public

    client.interrupt = write_before_the_deletion
    await house.settle(client)
    assert client.models["https://pds.test"].records[REI, path] == public
    assert await work_left(house) == []


async def test_nothing_of_a_purged_account_stays_in_the_outbox(house: House, oauth: Signed, autojump_clock: MockClock) -> None:
    await enrolled(house, oauth, "3aaaaaaaaaaaa")
    await house.write(REI, "3sssssssssss2")
    await house.settle(None)
    await house.unenroll(REI)
    await house.settle(None)
    assert [item.path for item in house.backend.outbox.items(REI, first=None, last=None, limit=9)] == [
        SWEEP,
        SESSION,
        ENROLLMENT_PATH,
    ]
    await house.settle(oauth.client)
    assert isinstance(house.backend, SqliteBackend | PostgresBackend)
    with house.backend._database.read("looking") as connection:
        assert connection.execute("SELECT count(*) FROM outbox_account").fetchone() == (0,)


async def test_a_soft_revoke_removes_the_enrollment_record_and_keeps_the_stubs(
    house: House, oauth: Signed, autojump_clock: MockClock
) -> None:
    await enrolled(house, oauth, "3aaaaaaaaaaaa")
    await house.revoke(REI)
    await house.settle(oauth.client)
    assert oauth.network.model.paths(REI) == [f"{POST}/3aaaaaaaaaaaa"]
    assert not await oauth.client.has_session(REI)
    await oauth.sign_in(REI)
    await house.enroll(REI)
    await house.settle(oauth.client)
    assert oauth.network.model.paths(REI) == [ENROLLMENT_PATH, f"{POST}/3aaaaaaaaaaaa"]


async def test_what_was_not_published_before_a_soft_revoke_is_published_before_the_session_ends(
    house: House, oauth: Signed, autojump_clock: MockClock
) -> None:
    await enrolled(house, oauth)
    await house.write(REI, "3aaaaaaaaaaaa")
    await house.revoke(REI)
    await house.settle(oauth.client)
    assert oauth.network.model.writes[1:] == [f"put {POST}/3aaaaaaaaaaaa", f"delete {ENROLLMENT_PATH}"]


async def test_an_account_that_enrolls_again_before_it_was_taken_down_keeps_record_and_session(
    house: House, oauth: Signed, autojump_clock: MockClock
) -> None:
    await enrolled(house, oauth, "3aaaaaaaaaaaa")
    await house.unenroll(REI)
    await house.settle(None)
    await house.enroll(REI)
    await house.write(REI, "3bbbbbbbbbbbb")
    await house.settle(oauth.client)
    assert oauth.network.model.paths(REI) == [ENROLLMENT_PATH, f"{POST}/3bbbbbbbbbbbb"]
    assert f"delete {ENROLLMENT_PATH}" not in oauth.network.model.writes
    assert await oauth.client.has_session(REI)


async def test_a_session_of_a_later_sign_in_outlives_the_departure(
    house: House, oauth: Signed, autojump_clock: MockClock
) -> None:
    await enrolled(house, oauth)
    await house.revoke(REI)
    await trio.sleep(600)  # the service's own clock moves by hand, the sign-in's with trio's
    await oauth.sign_in(REI)
    await house.settle(oauth.client)
    assert oauth.network.model.paths(REI) == []
    assert await oauth.client.has_session(REI)


async def test_an_account_without_a_session_waits_for_its_sign_in_and_nobody_waits_for_it(
    house: House, oauth: Signed, autojump_clock: MockClock
) -> None:
    await oauth.sign_in(SAKURA)
    for did in (REI, SAKURA):
        await house.enroll(did)
        await house.write(did, "3aaaaaaaaaaaa")
    publisher = house.publisher(oauth.client)
    async with house.running(publisher):
        await trio.sleep(100)
        assert oauth.network.model.paths(SAKURA) == [ENROLLMENT_PATH, f"{POST}/3aaaaaaaaaaaa"]
        [waiting] = await publisher.pending(after=None, limit=10)
        assert (waiting.did, waiting.parked, waiting.items) == (REI, "no OAuth session: the account has to sign in", 2)
        assert (publisher.statistics()["pending"], publisher.statistics()["parked"]) == (0, 2)
        await oauth.sign_in(REI)
        await publisher.refresh(REI)
        await trio.sleep(1)
        assert oauth.network.model.paths(REI) == [ENROLLMENT_PATH, f"{POST}/3aaaaaaaaaaaa"]


async def test_a_sign_in_that_nobody_told_of_is_found_at_the_next_start(
    house: House, oauth: Signed, autojump_clock: MockClock
) -> None:
    await house.enroll(REI)
    await house.settle(oauth.client)
    await oauth.sign_in(REI)
    await house.settle(oauth.client)
    assert oauth.network.model.paths(REI) == [ENROLLMENT_PATH]


async def test_a_session_that_its_server_has_ended_leaves_the_work_waiting(
    house: House, oauth: Signed, autojump_clock: MockClock
) -> None:
    await enrolled(house, oauth)
    oauth.network.grants[0].alive = False
    await house.write(REI, "3aaaaaaaaaaaa")
    await house.settle(oauth.client)
    [waiting] = await work_left(house)
    assert waiting.parked is not None
    await oauth.sign_in(REI)
    await house.publisher(None).refresh(REI)
    await house.settle(oauth.client)
    assert oauth.network.model.paths(REI) == [ENROLLMENT_PATH, f"{POST}/3aaaaaaaaaaaa"]


async def test_who_left_for_good_without_a_session_and_signs_in_in_vain_leaves_nothing(
    house: House, oauth: Signed, autojump_clock: MockClock
) -> None:
    """What it had published is taken back with the session that it is about to lose."""
    await enrolled(house, oauth, "3aaaaaaaaaaaa")
    await oauth.client.revoke(REI)
    await house.unenroll(REI)
    publisher = house.publisher(oauth.client)
    async with house.running(publisher):
        await trio.sleep(60)
        assert oauth.network.model.paths(REI) == [ENROLLMENT_PATH, f"{POST}/3aaaaaaaaaaaa"]
        await oauth.sign_in(REI)
        await trio.sleep(1)
        assert await publisher.dismiss(REI)
        await trio.sleep(60)
        assert oauth.network.model.paths(REI) == []
        assert not await oauth.client.has_session(REI)
        assert not await publisher.dismiss(REI), "nothing is left, so the next session is the caller's to end"
    assert await work_left(house) == []


async def test_an_account_that_left_for_good_and_never_signed_in_leaves_no_work(
    house: House, oauth: Signed, autojump_clock: MockClock
) -> None:
    await house.enroll(REI)
    await house.write(REI, "3aaaaaaaaaaaa")
    await house.settle(oauth.client)
    await house.unenroll(REI)
    await house.settle(oauth.client)
    assert await work_left(house) == []


async def test_an_account_that_left_for_good_after_its_session_ended_stays_visible(
    house: House, oauth: Signed, autojump_clock: MockClock
) -> None:
    await enrolled(house, oauth)
    await oauth.client.revoke(REI)
    await house.unenroll(REI)
    await house.settle(oauth.client)
    [waiting] = await work_left(house)
    assert (waiting.did, waiting.pds, waiting.items) == (REI, "https://pds.test", 2)
    assert waiting.parked is not None


async def test_refreshing_all_writes_every_enrollment_again(house: House, oauth: Signed, autojump_clock: MockClock) -> None:
    for did in (REI, SAKURA):
        await oauth.sign_in(did)
        await house.enroll(did)
    await house.settle(oauth.client)
    oauth.network.model.records.clear()
    assert await house.publisher(None).refresh_all() == 2
    await house.settle(oauth.client)
    assert [oauth.network.model.paths(did) for did in (REI, SAKURA)] == [[ENROLLMENT_PATH], [ENROLLMENT_PATH]]


async def test_a_first_start_marks_everybody_enrolled_whatever_the_log_still_has(
    house: House, oauth: Signed, autojump_clock: MockClock
) -> None:
    await oauth.sign_in(REI)
    await house.enroll(REI)
    house.backend.actors.checkpoint(REI)
    house.backend.log.trim(before=house.engine.clock().replace(year=2100), limit=100)
    assert house.backend.log.after(0, limit=10, max_bytes=10**6) == []
    await house.settle(oauth.client)
    assert oauth.network.model.paths(REI) == [ENROLLMENT_PATH]


async def test_the_record_is_valid_data_of_the_protocol(house: House, oauth: Signed, autojump_clock: MockClock) -> None:
    await enrolled(house, oauth)
    record = from_json(oauth.network.model.records[REI, ENROLLMENT_PATH])
    assert isinstance(record, dict)
    attestation = record["attestation"]
    assert isinstance(attestation, dict)
    assert isinstance(attestation["sig"], bytes)
    assert len(attestation["sig"]) == 64


async def test_a_new_signing_key_is_published_with_a_fresh_attestation(
    house: House, oauth: Signed, autojump_clock: MockClock
) -> None:
    await enrolled(house, oauth)
    rotated = await house.engine.service.key_rotation.rotate(REI)
    assert isinstance(rotated, Enrollment)
    await house.settle(oauth.client)
    record = parse_enrollment_record(oauth.network.model.records[REI, ENROLLMENT_PATH])
    assert record is not None
    assert record.signing_key == rotated.signing_key
    assert verify_attestation(
        record.attestation,
        service_key=house.engine.service.service_key,
        did=REI,
        boundaries=record.boundaries,
        signing_key=rotated.signing_key,
    )
