"""getRecord, listRecords, describeRepo. Service spec §1.3.5–7."""

from __future__ import annotations

import pytest

from stratos.atproto.cid import Cid
from stratos.engine.writes import Create
from tests.api.builders import Answer, Api
from tests.engine.builders import EDITORS, KAORUKO, POST, REI, SAKURA, WRITERS, post

PREFIXES = ["com.atproto.repo", "zone.stratos.repo"]
RKEYS = [f"3kaaaaaaaaa2{letter}" for letter in "abcde"]
UNKNOWN = "did:plc:unknown"


async def listed(api: Api, as_: str | None = REI, **params: str | int) -> Answer:
    """A page of Rei's posts."""
    return await api.get("zone.stratos.repo.listRecords", as_, **{"repo": REI, "collection": POST, **params})


def rkeys(answer: Answer) -> list[str]:
    """The rkeys of a page."""
    records = answer.body["records"]
    assert isinstance(records, list)
    return [record["uri"].rpartition("/")[2] for record in records]


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_record_is_read_as_it_was_written(api: Api, prefix: str) -> None:
    created = await api.engine.service.repository.write(
        REI,
        [
            Create(
                "zone.stratos.test.shapes",
                "shapes",
                {"link": Cid.of_raw(b"x"), "bytes": b"\x01\x02", "list": [1, None, True, "a"]},
            )
        ],
    )
    answer = await api.get(f"{prefix}.getRecord", REI, repo=REI, collection="zone.stratos.test.shapes", rkey="shapes")
    assert answer.status == 200, (answer, created)
    assert answer.body["uri"] == f"at://{REI}/zone.stratos.test.shapes/shapes"
    assert answer.body["value"] == {
        "$type": "zone.stratos.test.shapes",
        "link": {"$link": str(Cid.of_raw(b"x"))},
        "bytes": {"$bytes": "AQI"},
        "list": [1, None, True, "a"],
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"repo": UNKNOWN},
        {"repo": "rei.example.com"},
        {"rkey": RKEYS[1]},
        {"collection": "zone.stratos.feed.other"},
        {"cid": str(Cid.of_raw(b"another"))},
    ],
)
async def test_whatever_stands_in_the_way_of_a_record_has_one_answer(api: Api, changes: dict[str, str]) -> None:
    await api.create(REI, "hello", WRITERS, rkey=RKEYS[0])
    params = {"repo": REI, "collection": POST, "rkey": RKEYS[0]} | changes
    answer = await api.get("com.atproto.repo.getRecord", REI, **params)
    assert answer.status == 400
    assert answer.body == {"error": "RecordNotFound", "message": "Record not found"}


async def test_record_is_found_by_its_current_cid(api: Api) -> None:
    await api.create(REI, "hello", WRITERS, rkey=RKEYS[0])
    params = {"repo": REI, "collection": POST, "rkey": RKEYS[0]}
    cid = str((await api.get("com.atproto.repo.getRecord", REI, **params)).body["cid"])
    assert (await api.get("com.atproto.repo.getRecord", REI, **params, cid=cid)).status == 200


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_listing_is_newest_first_and_reversed_on_request(api: Api, prefix: str) -> None:
    for rkey in RKEYS:
        await api.create(REI, rkey, WRITERS, rkey=rkey)
    params = {"repo": REI, "collection": POST}
    assert rkeys(await api.get(f"{prefix}.listRecords", REI, **params)) == RKEYS[::-1]
    assert rkeys(await api.get(f"{prefix}.listRecords", REI, **params, reverse="true")) == RKEYS
    assert rkeys(await api.get(f"{prefix}.listRecords", REI, **params, reverse="false")) == RKEYS[::-1]


@pytest.mark.parametrize("reverse", ["1", "yes", "TRUE", ""])
async def test_reverse_is_strictly_true_or_false(api: Api, reverse: str) -> None:
    assert (await listed(api, reverse=reverse)).body["error"] == "InvalidRequest"


@pytest.mark.parametrize("reverse", ["true", "false"])
@pytest.mark.parametrize("as_uri", [True, False])
async def test_pages_follow_one_another_without_gap_or_overlap(api: Api, reverse: str, as_uri: bool) -> None:
    for rkey in RKEYS:
        await api.create(REI, rkey, WRITERS, rkey=rkey)
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(4):
        page = await listed(api, limit=2, reverse=reverse, **cursor)
        seen += rkeys(page)
        if "cursor" not in page.body:
            break
        rkey = str(page.body["cursor"])
        assert rkey == seen[-1]
        cursor = {"cursor": f"at://{REI}/{POST}/{rkey}" if as_uri else rkey}
    assert seen == (RKEYS if reverse == "true" else RKEYS[::-1])


async def test_cursor_is_left_out_where_the_page_was_not_full(api: Api) -> None:
    await api.create(REI, "one", WRITERS)
    assert "cursor" not in (await listed(api, limit=2)).body


async def test_page_is_filtered_after_it_was_read_so_that_its_cursor_leads_on(api: Api) -> None:
    await api.create(REI, "visible", WRITERS, rkey=RKEYS[0])
    for rkey in RKEYS[1:]:
        await api.create(REI, "hidden", EDITORS, rkey=rkey)
    first = await listed(api, SAKURA, limit=4)
    assert (rkeys(first), first.body["cursor"]) == ([], RKEYS[1])
    assert rkeys(await listed(api, SAKURA, limit=4, cursor=RKEYS[1])) == [RKEYS[0]]


@pytest.mark.parametrize(("asked", "given"), [(0, 1), (-5, 1), (1, 1), (3, 3), (101, 5), (100000, 5)])
async def test_limit_is_brought_into_range(api: Api, asked: int, given: int) -> None:
    for rkey in RKEYS:
        await api.create(REI, rkey, WRITERS, rkey=rkey)
    assert len(rkeys(await listed(api, limit=asked))) == given


async def test_limit_is_50_by_default_and_100_at_most(api: Api) -> None:
    writes = [{"action": "create", "collection": POST, "record": post(f"{n}", WRITERS)} for n in range(130)]
    assert (await api.post("zone.stratos.repo.applyWrites", REI, {"repo": REI, "writes": writes})).status == 200
    assert len(rkeys(await listed(api))) == 50
    assert len(rkeys(await listed(api, limit=1000))) == 100


@pytest.mark.parametrize("repo", [UNKNOWN, "rei.example.com"])
async def test_unknown_repo_lists_nothing(api: Api, repo: str) -> None:
    answer = await listed(api, repo=repo)
    assert (answer.status, answer.body) == (200, {"records": []})


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_repo_is_described_to_anybody_with_its_collections(api: Api, prefix: str) -> None:
    await api.create(REI, "one", WRITERS)
    answer = await api.get(f"{prefix}.describeRepo", repo=REI)
    assert answer.body == {"handle": REI, "did": REI, "collections": [POST], "handleIsCorrect": False}


async def test_empty_repo_is_described_without_collections(api: Api) -> None:
    assert (await api.get("zone.stratos.repo.describeRepo", repo=KAORUKO)).body["collections"] == []


@pytest.mark.parametrize("repo", [UNKNOWN, "rei.example.com"])
async def test_unknown_repo_is_not_described(api: Api, repo: str) -> None:
    answer = await api.get("com.atproto.repo.describeRepo", repo=repo)
    assert answer.status == 400
    assert answer.body == {"error": "RepoNotFound", "message": "Could not find repo"}


async def test_repo_must_be_named(api: Api) -> None:
    answer = await api.get("com.atproto.repo.describeRepo")
    assert (answer.status, answer.body["error"]) == (400, "InvalidRequest")
    assert "repo" in str(answer.body["message"])
