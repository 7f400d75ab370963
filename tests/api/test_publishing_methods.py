"""The operator's view of the publisher."""

from __future__ import annotations

import pytest

from stratos.atproto.syntax import Did
from stratos.storage.outbox_port import Mark
from tests.api.builders import ADMIN_PASSWORD, SYNC_TOKEN, Answer, Api
from tests.engine.builders import POST, REI, SAKURA

STATUS = "zone.stratos.admin.publisherStatus"
RETRY = "zone.stratos.admin.publisherRetry"
REFRESH = "zone.stratos.admin.publisherRefresh"
ENROLLMENT_PATH = "zone.stratos.actor.enrollment/did:web:stratos.test"
STUB = f"{POST}/3aaaaaaaaaaaa"


def mark(api: Api, did: Did, path: str) -> None:
    """Something is to be done on an account's PDS."""
    now = api.engine.clock()
    api.engine.service.backend.outbox.mark([Mark(did, path, now)], now=now)


async def status(api: Api, **params: str | int) -> Answer:
    answer = await api.get(STATUS, ADMIN_PASSWORD, **params)
    assert answer.status == 200, answer
    return answer


@pytest.mark.parametrize("caller", [None, REI, SYNC_TOKEN, "wrong"])
async def test_only_the_operator_is_admitted(api: Api, caller: str | None) -> None:
    for answer in (await api.get(STATUS, caller), await api.post(RETRY, caller, {}), await api.post(REFRESH, caller, {})):
        assert (answer.status, answer.body["error"]) == (401, "AuthRequired")


async def test_the_status_says_what_waits_and_what_stands_in_the_way(api: Api) -> None:
    outbox = api.engine.service.backend.outbox
    mark(api, REI, STUB)
    outbox.settle(REI, "https://pds.test")
    outbox.block(outbox.items(REI, first=None, last=None, limit=1)[0], "400 InvalidRecord: no")
    mark(api, SAKURA, ENROLLMENT_PATH)
    [account] = [due for due in outbox.due(api.engine.clock(), limit=9, per_pds=9) if due.did == SAKURA]
    outbox.park(account, "no OAuth session")
    body = (await status(api)).body
    assert {name: body[name] for name in ("pending", "parked", "blocked", "failingAccounts")} == {
        "pending": 0,
        "parked": 1,
        "blocked": 1,
        "failingAccounts": 0,
    }
    assert isinstance(body["accounts"], list)
    rei, sakura = body["accounts"]
    assert (rei["did"], rei["pds"], rei["items"]) == (REI, "https://pds.test", 1)
    assert rei["blocked"] == [{"path": STUB, "reason": "400 InvalidRecord: no"}]
    assert (sakura["did"], sakura["parked"]) == (SAKURA, "no OAuth session")
    assert "pds" not in sakura


async def test_the_accounts_come_in_pages(api: Api) -> None:
    for did in (REI, SAKURA):
        mark(api, did, ENROLLMENT_PATH)
    first = (await status(api, limit=1)).body
    assert [account["did"] for account in first["accounts"]] == [REI]  # type: ignore[attr-defined]  # a list of objects
    second = (await status(api, limit=1, cursor=str(first["cursor"]))).body
    assert [account["did"] for account in second["accounts"]] == [SAKURA]  # type: ignore[attr-defined]  # a list of objects
    assert (await status(api, limit=1, cursor=str(second["cursor"]))).body["accounts"] == []


@pytest.mark.parametrize("body", [{}, {"did": REI}])
async def test_a_retry_unblocks(api: Api, body: dict[str, object]) -> None:
    outbox = api.engine.service.backend.outbox
    mark(api, REI, STUB)
    outbox.block(outbox.items(REI, first=None, last=None, limit=1)[0], "400")
    answer = await api.post(RETRY, ADMIN_PASSWORD, body)
    assert (answer.status, answer.body) == (200, {"accounts": 1})
    assert [item.path for item in outbox.items(REI, first=None, last=None, limit=9)] == [STUB]


async def test_a_refresh_marks_one_enrollment_or_all(api: Api) -> None:
    outbox = api.engine.service.backend.outbox
    assert (await api.post(REFRESH, ADMIN_PASSWORD, {"did": REI})).body == {"accounts": 1}
    assert [work.did for work in outbox.page(after=None, limit=9, blocked=0)] == [REI]
    enrolled = api.engine.service.backend.enrollments.count()
    assert (await api.post(REFRESH, ADMIN_PASSWORD, {})).body == {"accounts": enrolled}
    assert len(outbox.page(after=None, limit=9, blocked=0)) == enrolled > 1


async def test_a_refresh_of_an_account_that_is_not_enrolled_is_told_so(api: Api) -> None:
    answer = await api.post(REFRESH, ADMIN_PASSWORD, {"did": "did:plc:nobody"})
    assert (answer.status, answer.body["error"]) == (404, "NotFound")
    assert api.engine.service.backend.outbox.page(after=None, limit=9, blocked=0) == []


@pytest.mark.parametrize("method", [RETRY, REFRESH])
@pytest.mark.parametrize("did", ["rei.test", 7, None, ""])
async def test_what_is_no_did_is_refused_by_name(api: Api, method: str, did: object) -> None:
    answer = await api.post(method, ADMIN_PASSWORD, {"did": did})
    assert answer.status == 400
    assert "did" in str(answer.body["message"])


async def test_the_gauges_are_in_the_metrics(api: Api) -> None:
    text = (await api.client.get("/metrics")).text
    for name in ("pending", "parked", "blocked", "failing_accounts", "oldest_age_seconds"):
        assert f"stratos_publisher_{name} " in text
