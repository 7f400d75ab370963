"""hydrateRecord and hydrateRecords. Service spec §1.3.11–12, §6.3; design §5."""

from __future__ import annotations

import pytest
import trio

from stratos.api.hydrate import OWNERS_PER_TURN
from stratos.atproto.cid import Cid
from tests.api.builders import Answer, Api
from tests.engine.builders import EDITORS, KAORUKO, POST, REI, SAKURA, WRITERS

ONE = "zone.stratos.repo.hydrateRecord"
MANY = "zone.stratos.repo.hydrateRecords"
NOWHERE = f"at://{REI}/{POST}/nowhere"


async def hydrated(api: Api, as_: str | None, uris: object) -> Answer:
    """Hydrate a list."""
    return await api.post(MANY, as_, {"uris": uris})


def uris(answer: Answer) -> list[str]:
    """The URIs of the hydrated records, in order."""
    records = answer.body["records"]
    assert isinstance(records, list)
    return [record["uri"] for record in records]


async def test_record_is_hydrated_from_its_uri(api: Api) -> None:
    uri = await api.create(REI, "hello", WRITERS)
    answer = await api.get(ONE, SAKURA, uri=uri)
    assert answer.status == 200
    assert set(answer.body) == {"uri", "cid", "value"}
    again = await api.get(ONE, SAKURA, uri=uri, cid=str(answer.body["cid"]))
    assert again.body == answer.body


@pytest.mark.parametrize(
    ("uri", "cid"),
    [
        (NOWHERE, None),
        (f"at://did:plc:unknown/{POST}/a", None),
        (f"at://{REI}/{POST}/there", str(Cid.of_raw(b"another"))),
    ],
)
async def test_absent_record_is_not_found(api: Api, uri: str, cid: str | None) -> None:
    await api.create(REI, "hello", WRITERS, rkey="3kaaaaaaaaa2a")
    uri = uri.replace("there", "3kaaaaaaaaa2a")
    answer = await api.get(ONE, SAKURA, uri=uri, **({} if cid is None else {"cid": cid}))
    assert answer.status == 400
    assert answer.body == {"error": "RecordNotFound", "message": "Record not found"}


async def test_enrolled_viewer_is_told_that_a_record_is_blocked(api: Api) -> None:
    uri = await api.create(REI, "hello", WRITERS)
    answer = await api.get(ONE, KAORUKO, uri=uri)
    assert answer.status == 400
    assert answer.body == {"error": "RecordBlocked", "message": "Record blocked due to boundary restrictions"}


@pytest.mark.parametrize("viewer", [None, "did:plc:newcomer"])
async def test_to_everybody_else_a_blocked_record_is_not_there(api: Api, viewer: str | None) -> None:
    uri = await api.create(REI, "hello", WRITERS)
    assert (await api.get(ONE, viewer, uri=uri)).body["error"] == "RecordNotFound"
    answer = await hydrated(api, viewer, [uri])
    assert answer.body == {"records": [], "notFound": [uri], "blocked": []}


@pytest.mark.parametrize("uri", [f"at://{REI}", f"at://{REI}/{POST}", f"at://rei.example.com/{POST}/a"])
async def test_uri_that_names_no_record_by_did_is_a_hydration_error(api: Api, uri: str) -> None:
    answer = await api.get(ONE, REI, uri=uri)
    assert answer.status == 400
    assert answer.body == {"error": "HydrationError", "message": "Invalid AT-URI"}


@pytest.mark.parametrize("params", [{}, {"uri": "https://example.com"}, {"uri": NOWHERE, "cid": "bogus"}])
async def test_malformed_parameters_are_an_invalid_request(api: Api, params: dict[str, str]) -> None:
    answer = await api.get(ONE, REI, **params)
    assert (answer.status, answer.body["error"]) == (400, "InvalidRequest")


async def test_records_are_sorted_into_readable_blocked_and_not_found(api: Api) -> None:
    mine = await api.create(SAKURA, "mine", WRITERS)
    shared = await api.create(REI, "shared", WRITERS)
    blocked = await api.create(REI, "blocked", EDITORS)
    answer = await hydrated(api, SAKURA, [blocked, NOWHERE, shared, mine, "nonsense", f"at://rei.example.com/{POST}/a"])
    assert answer.status == 200
    assert uris(answer) == [shared, mine]
    assert answer.body["blocked"] == [blocked]
    assert answer.body["notFound"] == ["nonsense", f"at://rei.example.com/{POST}/a", NOWHERE]


async def test_records_are_grouped_by_owner_in_order_of_first_appearance(api: Api) -> None:
    rei = [await api.create(REI, f"{n}", WRITERS) for n in range(2)]
    sakura = [await api.create(SAKURA, f"{n}", WRITERS) for n in range(2)]
    answer = await hydrated(api, REI, [sakura[1], rei[1], sakura[0], rei[0]])
    assert uris(answer) == [sakura[1], sakura[0], rei[1], rei[0]]


async def test_repeated_uri_is_answered_once_per_occurrence(api: Api) -> None:
    uri = await api.create(REI, "hello", WRITERS)
    assert uris(await hydrated(api, REI, [uri, uri])) == [uri, uri]
    assert (await hydrated(api, REI, [NOWHERE, NOWHERE])).body["notFound"] == [NOWHERE, NOWHERE]


async def test_empty_list_hydrates_nothing(api: Api) -> None:
    assert (await hydrated(api, None, [])).body == {"records": [], "notFound": [], "blocked": []}


async def test_a_hundred_uris_are_taken_and_no_more(api: Api) -> None:
    assert (await hydrated(api, REI, [NOWHERE] * 100)).status == 200
    answer = await hydrated(api, REI, [NOWHERE] * 101)
    assert answer.status == 400
    assert answer.body == {"error": "TooManyUris", "message": "Maximum of 100 URIs per request"}


async def test_list_must_be_given(api: Api) -> None:
    answer = await api.post(MANY, REI, {})
    assert answer.status == 400
    assert answer.body == {"error": "InvalidInput", "message": "URIs array required"}


@pytest.mark.parametrize("uris", ["text", [7], [None], {"a": 1}])
async def test_list_of_anything_but_texts_is_an_invalid_request(api: Api, uris: object) -> None:
    answer = await hydrated(api, REI, uris)
    assert (answer.status, answer.body["error"]) == (400, "InvalidRequest")


async def test_each_owner_is_one_query_and_others_run_in_between(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many owners' stores are read without keeping everybody else waiting for all of them."""
    mine = [await api.create(SAKURA, f"{n}", WRITERS) for n in range(3)]
    others = [await api.create(REI, "hello", WRITERS), await api.create(KAORUKO, "hello", EDITORS)]
    strangers = [f"at://did:plc:stranger{number}/{POST}/3kaaaaaaaaa2a" for number in range(2 * OWNERS_PER_TURN - 2)]
    events: list[str] = []
    stores = api.engine.service.backend.actors
    opened = stores.open

    def noted(did: str) -> object:
        events.append(did)
        return opened(did)  # type: ignore[arg-type]  # the DIDs of this test

    async def bystander(task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        while True:
            events.append("bystander")
            await trio.lowlevel.checkpoint()

    monkeypatch.setattr(stores, "open", noted)
    async with trio.open_nursery() as nursery:
        await nursery.start(bystander)
        await hydrated(api, REI, [*mine, others[0], *strangers, others[1]])
        nursery.cancel_scope.cancel()
    opens = [index for index, event in enumerate(events) if event != "bystander"]
    assert [events[index] for index in opens][:: 2 * OWNERS_PER_TURN] == [SAKURA, KAORUKO]
    assert len(opens) == 2 * OWNERS_PER_TURN + 1  # three turns: whoever waits runs in the middle one at the latest
    assert "bystander" in events[opens[0] : opens[-1]]
