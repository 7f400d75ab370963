"""Who may read what: the matrix of service spec §6.1 with design §5, over every read path (I4)."""

from __future__ import annotations

import pytest

from stratos.engine.writes import Committed, Create
from tests.api.builders import SYNC_TOKEN, Api, authorized
from tests.engine.builders import EDITORS, KAORUKO, POST, REI, SAKURA, WRITERS

NEWCOMER = "did:plc:newcomer"
RKEY = "3kaaaaaaaaa2a"
OPEN = "zone.stratos.test.open"
SHARED, NONE_SHARED = (POST, RKEY), (OPEN, "open")

OWNER, SHARES, SHARES_NONE, STRANGER, NOBODY, SERVICE = REI, SAKURA, KAORUKO, NEWCOMER, None, SYNC_TOKEN
EVERYBODY = [OWNER, SHARES, SHARES_NONE, STRANGER, NOBODY, SERVICE]
MAY_READ = {SHARED: {OWNER, SHARES}, NONE_SHARED: {OWNER, SHARES, SHARES_NONE}}


@pytest.fixture
async def api(api: Api) -> Api:
    """Rei has a post for writers, and a record of another collection without boundaries."""
    await api.engine.service.enrollment.set_boundaries(REI, [WRITERS])
    await api.engine.service.enrollment.set_boundaries(KAORUKO, [EDITORS])
    await api.create(REI, "hello", WRITERS, rkey=RKEY)
    outcome = await api.engine.service.repository.write(REI, [Create(OPEN, "open", {"open": True})])
    assert isinstance(outcome, Committed), outcome
    return api


@pytest.mark.parametrize("viewer", EVERYBODY)
@pytest.mark.parametrize("path", MAY_READ)
async def test_get_record(api: Api, viewer: str | None, path: tuple[str, str]) -> None:
    for prefix in ("com.atproto.repo", "zone.stratos.repo"):
        answer = await api.get(f"{prefix}.getRecord", viewer, repo=REI, collection=path[0], rkey=path[1])
        if viewer in MAY_READ[path]:
            assert answer.status == 200
        else:
            assert (answer.status, answer.body["error"]) == (400, "RecordNotFound")


@pytest.mark.parametrize("viewer", EVERYBODY)
@pytest.mark.parametrize("path", MAY_READ)
async def test_list_records(api: Api, viewer: str | None, path: tuple[str, str]) -> None:
    answer = await api.get("zone.stratos.repo.listRecords", viewer, repo=REI, collection=path[0])
    records = answer.body["records"]
    assert isinstance(records, list)
    assert answer.status == 200
    assert len(records) == (1 if viewer in MAY_READ[path] else 0)


@pytest.mark.parametrize("viewer", [STRANGER, NOBODY, SERVICE])
async def test_a_cursor_does_not_betray_a_record_to_those_for_whom_it_is_not_there(api: Api, viewer: str | None) -> None:
    answer = await api.get("zone.stratos.repo.listRecords", viewer, repo=REI, collection=POST, limit="1")
    assert answer.body == {"records": []}


@pytest.mark.parametrize("viewer", EVERYBODY)
@pytest.mark.parametrize("path", MAY_READ)
async def test_hydration(api: Api, viewer: str | None, path: tuple[str, str]) -> None:
    uri = f"at://{REI}/{path[0]}/{path[1]}"
    one = await api.get("zone.stratos.repo.hydrateRecord", viewer, uri=uri)
    many = await api.post("zone.stratos.repo.hydrateRecords", viewer, {"uris": [uri]})
    lists = {name for name, found in many.body.items() if found}
    if viewer in MAY_READ[path]:
        assert (one.status, lists) == (200, {"records"})
    elif viewer == SHARES_NONE:
        assert (one.body["error"], lists) == ("RecordBlocked", {"blocked"})
    else:
        assert (one.body["error"], lists) == ("RecordNotFound", {"notFound"})


@pytest.mark.parametrize("viewer", EVERYBODY)
@pytest.mark.parametrize("path", MAY_READ)
async def test_proof(api: Api, viewer: str | None, path: tuple[str, str]) -> None:
    params = {"did": REI, "collection": path[0], "rkey": path[1]}
    response = await api.client.get("/xrpc/com.atproto.sync.getRecord", params=params, headers=authorized(viewer))
    if viewer in MAY_READ[path]:
        assert response.status_code == 200
    else:
        assert (response.status_code, response.json()["error"]) == (400, "RecordNotFound")


@pytest.mark.parametrize("viewer", EVERYBODY)
async def test_export(api: Api, viewer: str | None) -> None:
    response = await api.client.get("/xrpc/zone.stratos.sync.getRepo", params={"did": REI}, headers=authorized(viewer))
    assert response.status_code == (200 if viewer in {OWNER, SERVICE} else 401)


@pytest.mark.parametrize("viewer", EVERYBODY)
async def test_metadata(api: Api, viewer: str | None) -> None:
    answer = await api.get("zone.stratos.repo.describeRepo", viewer, repo=REI)
    assert answer.body["collections"] == [POST, OPEN]


async def test_owner_reads_what_its_own_boundaries_no_longer_cover(api: Api) -> None:
    await api.engine.service.enrollment.set_boundaries(REI, [EDITORS])
    params = {"repo": REI, "collection": POST, "rkey": RKEY}
    assert (await api.get("zone.stratos.repo.getRecord", OWNER, **params)).status == 200
    assert (await api.get("zone.stratos.repo.getRecord", SHARES, **params)).status == 200


async def test_records_of_who_has_left_for_a_while_are_there_for_nobody_else_until_the_return(api: Api) -> None:
    uri = f"at://{REI}/{POST}/{RKEY}"

    async def seen_by(viewer: str) -> list[bool]:
        where = {"collection": POST, "rkey": RKEY}
        one = await api.get("zone.stratos.repo.getRecord", viewer, repo=REI, **where)
        page = await api.get("zone.stratos.repo.listRecords", viewer, repo=REI, collection=POST)
        hydrated = await api.get("zone.stratos.repo.hydrateRecord", viewer, uri=uri)
        many = await api.post("zone.stratos.repo.hydrateRecords", viewer, {"uris": [uri]})
        proof = await api.client.get("/xrpc/com.atproto.sync.getRecord", params={"did": REI, **where}, headers=authorized(viewer))
        statuses = (one.status, hydrated.status, proof.status_code)
        return [*(status == 200 for status in statuses), bool(page.body["records"]), bool(many.body["records"])]

    assert await seen_by(SHARES) == [True] * 5
    await api.engine.service.enrollment.revoke(REI)
    assert await seen_by(SHARES) == [False] * 5
    assert await seen_by(OWNER) == [True] * 5
    await api.engine.service.enrollment.enroll(REI)
    assert await seen_by(SHARES) == [True] * 5
