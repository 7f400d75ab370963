"""createRecord, putRecord, deleteRecord, applyWrites. Service spec §1.3.1–3, §5.2–5.4; design §5."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
import pytest

from stratos.atproto.cid import Cid
from stratos.atproto.dag_cbor import encode
from stratos.atproto.data_model import from_json
from tests.api.builders import Answer, Api
from tests.engine.builders import EDITORS, POST, REI, SAKURA, WRITERS, post
from tests.vectors import reference

PREFIXES = ["com.atproto.repo", "zone.stratos.repo"]
WRITES = ["createRecord", "putRecord", "deleteRecord", "applyWrites"]
RKEY = "3kaaaaaaaaa2a"
OTHER_RKEY = "3kaaaaaaaaa2b"
ABSENT_CID = str(Cid.of_raw(b"never stored"))


def body(**changes: object) -> dict[str, object]:
    """A create or put of a post of Rei's; None takes a field out."""
    fields: dict[str, object] = {"repo": REI, "collection": POST, "rkey": RKEY, "record": post("hello", WRITERS), **changes}
    return {name: value for name, value in fields.items() if value is not None}


def batch(*writes: Mapping[str, object], **more: object) -> dict[str, object]:
    """An applyWrites of Rei's."""
    return {"repo": REI, "writes": [*writes], **more}


async def current(api: Api, rkey: str = RKEY) -> Answer:
    """What stands at an rkey, as its owner sees it."""
    return await api.get("zone.stratos.repo.getRecord", REI, repo=REI, collection=POST, rkey=rkey)


def refusal(answer: Answer) -> tuple[int, object]:
    """Status and error name."""
    return answer.status, answer.body.get("error")


def text_of(answer: Answer) -> object:
    """The text of the record in an answer."""
    value = answer.body["value"]
    assert isinstance(value, dict)
    return value["text"]


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_created_record_is_answered_with_its_uri_cid_and_commit(api: Api, prefix: str) -> None:
    record = post("hello", WRITERS)
    answer = await api.post(f"{prefix}.createRecord", REI, body(record=record))
    stored = encode(from_json({"$type": POST, **record}))
    assert answer.status == 200
    assert answer.body["uri"] == f"at://{REI}/{POST}/{RKEY}"
    assert answer.body["cid"] == str(Cid.of_dag_cbor(stored))
    head = api.engine.service.backend.log.repo_head(REI)
    assert head is not None
    assert answer.body["commit"] == {"cid": str(head.commit), "rev": head.rev}


async def test_created_record_gets_a_tid_where_no_rkey_is_named(api: Api) -> None:
    answer = await api.post("zone.stratos.repo.createRecord", REI, body(rkey=None))
    assert len(str(answer.body["uri"]).rpartition("/")[2]) == 13


@pytest.mark.parametrize("method", WRITES)
@pytest.mark.parametrize("prefix", PREFIXES)
async def test_nobody_writes_to_another_users_repo(api: Api, prefix: str, method: str) -> None:
    answer = await api.post(f"{prefix}.{method}", SAKURA, {**body(), "writes": []})
    messages = {
        "createRecord": "Cannot create record for another user",
        "putRecord": "Cannot update record for another user",
        "deleteRecord": "Cannot delete record for another user",
        "applyWrites": "Cannot write to another user's repo",
    }
    assert refusal(answer) == (401, "AuthenticationRequired")
    assert answer.body["message"] == messages[method]


@pytest.mark.parametrize("method", ["createRecord", "putRecord", "deleteRecord"])
async def test_handle_is_not_resolved_to_the_callers_repo(api: Api, method: str) -> None:
    answer = await api.post(f"com.atproto.repo.{method}", REI, body(repo="rei.example.com"))
    assert refusal(answer) == (401, "AuthenticationRequired")


@pytest.mark.parametrize("method", ["createRecord", "putRecord", "deleteRecord"])
async def test_only_the_private_namespace_can_be_written(api: Api, method: str) -> None:
    answer = await api.post(f"zone.stratos.repo.{method}", REI, body(collection="app.bsky.feed.post"))
    assert refusal(answer) == (400, "InvalidCollection")
    assert answer.body["message"] == "Only zone.stratos.* collections are supported"


@pytest.mark.parametrize(
    ("record", "error"),
    [
        (post("no boundary"), "InvalidRecord"),
        (post("elsewhere", "did:web:elsewhere.test/writers"), "InvalidRecord"),
        (post("x" * 3001, WRITERS), "InvalidRecord"),
        ({**post("type", WRITERS), "$type": "zone.stratos.feed.other"}, "InvalidRecord"),
        ({**post("no date", WRITERS), "createdAt": "yesterday"}, "InvalidRecord"),
    ],
)
async def test_record_that_breaks_a_rule_is_an_invalid_record(api: Api, record: object, error: str) -> None:
    assert refusal(await api.post("zone.stratos.repo.createRecord", REI, body(record=record))) == (400, error)


async def test_boundary_that_the_author_does_not_hold_is_forbidden(api: Api) -> None:
    answer = await api.post("zone.stratos.repo.createRecord", SAKURA, body(repo=SAKURA, record=post("hello", EDITORS)))
    assert refusal(answer) == (400, "ForbiddenBoundary")
    assert EDITORS in str(answer.body["message"])


async def test_validate_false_does_not_switch_boundary_rules_off(api: Api) -> None:
    answer = await api.post(
        "zone.stratos.repo.createRecord", SAKURA, body(repo=SAKURA, record=post("hello", EDITORS), validate=False)
    )
    assert refusal(answer) == (400, "ForbiddenBoundary")


@pytest.mark.parametrize(
    "changes",
    [
        {"collection": None},
        {"record": None},
        {"repo": None},
        {"record": "text"},
        {"record": ["a"]},
        {"rkey": ".."},
        {"rkey": "a/b"},
        {"rkey": ""},
        {"rkey": "x" * 513},
        {"rkey": 7},
        {"collection": "zone"},
        {"validate": "false"},
        {"swapCommit": "bogus"},
    ],
)
async def test_malformed_write_is_an_invalid_request(api: Api, changes: dict[str, object]) -> None:
    answer = await api.post("com.atproto.repo.createRecord", REI, body(**changes))
    assert refusal(answer) == (400, "InvalidRequest")


async def test_create_at_a_taken_rkey_is_refused(api: Api) -> None:
    await api.create(REI, "first", WRITERS, rkey=RKEY)
    answer = await api.post("zone.stratos.repo.createRecord", REI, body())
    assert refusal(answer) == (400, "InvalidRequest")
    assert "Record already exists" in str(answer.body["message"])
    assert text_of(await current(api)) == "first"


async def test_put_creates_and_then_replaces(api: Api) -> None:
    first = await api.post("zone.stratos.repo.putRecord", REI, body())
    second = await api.post("zone.stratos.repo.putRecord", REI, body(record=post("changed", WRITERS)))
    assert (first.status, second.status) == (200, 200)
    assert first.body["uri"] == second.body["uri"]
    assert first.body["cid"] != second.body["cid"]
    assert (await current(api)).body["cid"] == second.body["cid"]


async def test_put_of_the_same_bytes_is_a_new_commit(api: Api) -> None:
    first = await api.post("zone.stratos.repo.putRecord", REI, body())
    second = await api.post("zone.stratos.repo.putRecord", REI, body())
    assert first.body["cid"] == second.body["cid"]
    assert first.body["commit"] != second.body["commit"]


async def test_put_compares_the_record_that_stands(api: Api) -> None:
    first = await api.post("zone.stratos.repo.putRecord", REI, body(swapRecord=ABSENT_CID))
    assert refusal(first) == (400, "InvalidSwap")
    created = await api.post("zone.stratos.repo.createRecord", REI, body())
    stale = await api.post("zone.stratos.repo.putRecord", REI, body(swapRecord=ABSENT_CID))
    assert refusal(stale) == (400, "InvalidSwap")
    good = await api.post("zone.stratos.repo.putRecord", REI, body(swapRecord=created.body["cid"], record=post("new", WRITERS)))
    assert good.status == 200


async def test_put_with_swap_null_expects_that_nothing_stands(api: Api) -> None:
    async def put() -> Answer:
        return await api.post("zone.stratos.repo.putRecord", REI, {**body(), "swapRecord": None})

    assert (await put()).status == 200
    assert refusal(await put()) == (400, "InvalidSwap")


@pytest.mark.parametrize("method", WRITES)
async def test_every_write_compares_the_commit_that_stands(api: Api, method: str) -> None:
    created = await api.post("zone.stratos.repo.createRecord", REI, body(rkey=OTHER_RKEY))
    commit = created.body["commit"]
    assert isinstance(commit, dict)
    item = {"action": "create", "collection": POST, "rkey": RKEY, "record": post("a", WRITERS)}
    stale = await api.post(f"zone.stratos.repo.{method}", REI, {**body(), "writes": [item], "swapCommit": ABSENT_CID})
    assert refusal(stale) == (400, "InvalidSwap")
    good = await api.post(f"zone.stratos.repo.{method}", REI, {**body(), "writes": [item], "swapCommit": commit["cid"]})
    assert good.status == 200


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_deleted_record_is_gone(api: Api, prefix: str) -> None:
    await api.create(REI, "hello", WRITERS, rkey=RKEY)
    answer = await api.post(f"{prefix}.deleteRecord", REI, body(record=None))
    assert answer.status == 200
    assert set(answer.body) == {"commit"}
    assert refusal(await current(api)) == (400, "RecordNotFound")


async def test_delete_of_a_record_that_is_not_there_succeeds_with_a_new_commit(api: Api) -> None:
    first = await api.post("zone.stratos.repo.deleteRecord", REI, body(record=None))
    second = await api.post("zone.stratos.repo.deleteRecord", REI, body(record=None))
    assert (first.status, second.status) == (200, 200)
    assert first.body["commit"] != second.body["commit"]


async def test_delete_compares_the_record_that_stands(api: Api) -> None:
    await api.create(REI, "hello", WRITERS, rkey=RKEY)
    stale = await api.post("zone.stratos.repo.deleteRecord", REI, body(record=None, swapRecord=ABSENT_CID))
    assert refusal(stale) == (400, "InvalidSwap")
    good = await api.post("zone.stratos.repo.deleteRecord", REI, body(record=None, swapRecord=(await current(api)).body["cid"]))
    assert good.status == 200


OFFICIAL = "com.atproto.repo.applyWrites#"


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(
    ("kind", "content", "lead"),
    [
        ("action", "record", ""),
        ("$type", "value", OFFICIAL),
        ("$type", "value", "#"),
        ("$type", "value", "zone.stratos.repo.applyWrites#"),
    ],
)
async def test_batch_takes_both_item_shapes(api: Api, prefix: str, kind: str, content: str, lead: str) -> None:
    await api.create(REI, "old", WRITERS, rkey=RKEY)
    answer = await api.post(
        f"{prefix}.applyWrites",
        REI,
        batch(
            {kind: f"{lead}create", "collection": POST, "rkey": OTHER_RKEY, content: post("new", WRITERS)},
            {kind: f"{lead}create", "collection": POST, content: post("keyless", WRITERS)},
            {kind: f"{lead}update", "collection": POST, "rkey": "3kaaaaaaaaa2c", content: post("upserted", WRITERS)},
            {kind: f"{lead}delete", "collection": POST, "rkey": RKEY},
        ),
    )
    assert answer.status == 200, answer
    results = answer.body["results"]
    assert isinstance(results, list)
    assert [set(result) for result in results] == [{"uri", "cid"}, {"uri", "cid"}, {"uri", "cid"}, set()]
    assert results[0]["uri"].endswith(OTHER_RKEY)
    head = api.engine.service.backend.log.repo_head(REI)
    assert head is not None
    assert answer.body["commit"] == {"cid": str(head.commit), "rev": head.rev}
    assert refusal(await current(api)) == (400, "RecordNotFound")
    assert text_of(await current(api, "3kaaaaaaaaa2c")) == "upserted"


async def test_batch_is_all_or_nothing(api: Api) -> None:
    head = api.engine.service.backend.log.head()
    answer = await api.post(
        "zone.stratos.repo.applyWrites",
        REI,
        batch(
            {"action": "create", "collection": POST, "rkey": RKEY, "record": post("good", WRITERS)},
            {"action": "create", "collection": POST, "rkey": OTHER_RKEY, "record": post("bad")},
        ),
    )
    assert refusal(answer) == (400, "InvalidRecord")
    assert refusal(await current(api)) == (400, "RecordNotFound")
    assert api.engine.service.backend.log.head() == head


async def test_batch_delete_of_a_record_that_is_not_there_fails_the_batch(api: Api) -> None:
    answer = await api.post("zone.stratos.repo.applyWrites", REI, batch({"action": "delete", "collection": POST, "rkey": RKEY}))
    assert refusal(answer) == (400, "RecordNotFound")
    assert answer.body["message"] == "Record not found"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"action": "update", "collection": POST, "record": {}}, "rkey is required for update"),
        ({"$type": "#delete", "collection": POST}, "rkey is required for delete"),
        ({"action": "upsert", "collection": POST, "record": {}}, "Unknown write type: upsert"),
        ({"$type": f"{OFFICIAL}upsert", "collection": POST}, f"Unknown write type: {OFFICIAL}upsert"),
        ({"$type": "com.example.other#create", "collection": POST}, "Unknown write type: com.example.other#create"),
        ({"action": "create", "record": {}}, "collection is required"),
        ({"action": "create", "collection": 7, "record": {}}, "collection must be a string"),
        ({"action": "create", "collection": POST}, "record must be an object"),
        ({"$type": "#create", "collection": POST, "record": {}}, "value must be an object"),
        ({"collection": POST}, "action is required"),
    ],
)
async def test_malformed_item_of_a_batch_is_named(api: Api, item: dict[str, object], message: str) -> None:
    answer = await api.post("zone.stratos.repo.applyWrites", REI, batch(item))
    assert refusal(answer) == (400, "InvalidRequest")
    assert answer.body["message"] == message


@pytest.mark.parametrize("items", [["text"], [7], [None], [["a"]]])
async def test_item_that_is_no_object_is_refused(api: Api, items: list[object]) -> None:
    assert refusal(await api.post("zone.stratos.repo.applyWrites", REI, {"repo": REI, "writes": items}))[0] == 400


async def test_empty_batch_is_refused(api: Api) -> None:
    answer = await api.post("zone.stratos.repo.applyWrites", REI, batch())
    assert refusal(answer) == (400, "InvalidRequest")
    assert answer.body["message"] == "writes is required"


async def test_batch_of_more_than_200_is_refused(api: Api) -> None:
    items = [{"action": "create", "collection": POST, "record": post("a", WRITERS)}] * 201
    assert refusal(await api.post("zone.stratos.repo.applyWrites", REI, batch(*items))) == (400, "InvalidRequest")


async def test_writes_are_counted_for_the_metrics(api: Api) -> None:
    await api.create(REI, "one", WRITERS, rkey=RKEY)
    await api.post("zone.stratos.repo.deleteRecord", REI, body(record=None))
    assert api.app.statistics()["writes"] == {"records_total": 1, "deletes_total": 1}


async def test_recorded_batch_of_the_reference_is_understood(api: Api) -> None:
    """Its item shape is taken; its boundaries are another service's, for which the spec has a name."""
    recorded = orjson.loads(reference("applyWrites.request.json").read_bytes())
    answer = await api.post("zone.stratos.repo.applyWrites", REI, {**recorded, "repo": REI})
    assert refusal(answer) == (400, "InvalidRecord")
    assert "engineering" in str(answer.body["message"])
