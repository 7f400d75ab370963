"""Who passes, who is refused and with which words. Service spec §2; design §5."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest

from stratos.api.config import ApiConfig
from stratos.core.enrollment import Enrollment
from stratos.core.log_entry import EnrollmentAction, EnrollmentEntry, Proposal
from stratos.storage.ports import Appended
from tests.api.builders import ADMIN_PASSWORD, CONFIG, SYNC_TOKEN, Api, serving
from tests.engine.builders import POST, REI, SAKURA, WRITERS, post

GET = "com.atproto.repo.getRecord"
CREATE = "com.atproto.repo.createRecord"
LIST_ENROLLMENTS = "/xrpc/zone.stratos.admin.listEnrollments"
NEWCOMER = "did:plc:newcomer"


def basic(text: str) -> str:
    """A Basic header around user and password."""
    return f"Basic {b64encode(text.encode()).decode()}"


def params(rkey: str = "none") -> dict[str, str]:
    """Parameters of a getRecord of Rei's."""
    return {"repo": REI, "collection": POST, "rkey": rkey}


async def deactivate(api: Api, enrollment: Enrollment) -> None:
    """Make an enrollment inactive, as a soft unenroll does."""
    inactive = Enrollment(
        enrollment.did, enrollment.boundaries, enrollment.enrolled_at, active=False, signing_key=enrollment.signing_key
    )
    entry = EnrollmentEntry(enrollment.did, EnrollmentAction.ENROLL, "https://stratos.test", inactive)
    outcome = await api.engine.service.log.append(Proposal(enrollment.did, (entry,)))
    assert isinstance(outcome, Appended)


async def test_write_without_a_credential_asks_for_one(api: Api) -> None:
    answer = await api.post(CREATE, None, {})
    assert (answer.status, answer.body["error"]) == (401, "AuthenticationRequired")
    assert answer.body["message"] == "Authorization required"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("Bearer not-a-did", "Authorization failed"),
        ("Bearer did:", "Authorization failed"),
        ("Bearer eyJhbGciOiJFUzI1NksifQ.e30.c2ln", "Authorization failed"),
        ("Bearer", "Authorization failed"),
        ("DPoP eyJhbGciOiJFUzI1NksifQ.e30.c2ln", "DPoP authorization required"),
        (basic(f"admin:{ADMIN_PASSWORD}"), "DPoP authorization required"),
        ("nonsense", "DPoP authorization required"),
    ],
)
@pytest.mark.parametrize(
    "nsid", [GET, "com.atproto.repo.listRecords", "zone.stratos.enrollment.status", "zone.stratos.sync.getRepo"]
)
async def test_credential_that_does_not_hold_is_refused_and_never_anonymous(
    api: Api, nsid: str, header: str, message: str
) -> None:
    response = await api.client.get(f"/xrpc/{nsid}", params={**params(), "did": REI}, headers={"authorization": header})
    assert response.status_code == 401
    assert response.json() == {"error": "AuthenticationRequired", "message": message}


async def test_two_authorization_headers_are_refused(api: Api) -> None:
    headers = [("authorization", f"Bearer {REI}"), ("authorization", f"Bearer {SAKURA}")]
    response = await api.client.get(f"/xrpc/{GET}", params=params(), headers=headers)
    assert response.status_code == 401


async def test_dev_bearer_is_believed_in_dev_mode(api: Api) -> None:
    uri = await api.create(REI, "hello", WRITERS)
    answer = await api.get(GET, SAKURA, **params(uri.rpartition("/")[2]))
    assert answer.status == 200


@pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
async def test_scheme_is_read_without_regard_to_case(api: Api, scheme: str) -> None:
    await api.create(REI, "hello", WRITERS, rkey="3kaaaaaaaaa2a")
    response = await api.client.get(
        f"/xrpc/{GET}", params=params("3kaaaaaaaaa2a"), headers={"authorization": f"{scheme} {SAKURA}"}
    )
    assert response.status_code == 200


async def test_dev_bearer_is_refused_outside_of_dev_mode(data_dir: Path) -> None:
    async with serving(data_dir, config=ApiConfig(sync_token=SYNC_TOKEN)) as api:
        for nsid in (GET, "zone.stratos.enrollment.status"):
            answer = await api.get(nsid, REI, **params(), did=REI)
            assert answer.status == 401
            assert answer.body["message"] == "DPoP authorization required"
        answer = await api.post(CREATE, REI, {})
        assert answer.status == 401


async def test_caller_who_is_not_enrolled_may_not_write(api: Api) -> None:
    answer = await api.post(CREATE, NEWCOMER, {"repo": NEWCOMER, "collection": POST, "record": post("hi", WRITERS)})
    assert (answer.status, answer.body["error"]) == (400, "NotEnrolled")
    assert answer.body["message"] == "User is not enrolled in this Stratos service"


async def test_caller_who_is_not_enrolled_reads_as_anonymous(api: Api) -> None:
    uri = await api.create(REI, "hello", WRITERS)
    answer = await api.get(GET, NEWCOMER, **params(uri.rpartition("/")[2]))
    assert (answer.status, answer.body["error"]) == (400, "RecordNotFound")


async def test_inactive_enrollment_neither_writes_nor_reads_others(api: Api) -> None:
    uri = await api.create(REI, "hello", WRITERS)
    own = await api.create(SAKURA, "mine", WRITERS)
    enrollment = api.engine.service.backend.enrollments.get(SAKURA)
    assert enrollment is not None
    await deactivate(api, enrollment)
    refused = await api.post(CREATE, SAKURA, {"repo": SAKURA, "collection": POST, "record": post("hi", WRITERS)})
    assert (refused.status, refused.body["error"]) == (400, "NotEnrolled")
    hidden = await api.get(GET, SAKURA, **params(uri.rpartition("/")[2]))
    assert hidden.body["error"] == "RecordNotFound"
    mine = await api.get(GET, SAKURA, repo=SAKURA, collection=POST, rkey=own.rpartition("/")[2])
    assert mine.status == 200


async def test_sync_token_is_taken_as_bearer_and_as_query_value(api: Api) -> None:
    for answer in (
        await api.get("zone.stratos.sync.listRepos", SYNC_TOKEN),
        await api.get("zone.stratos.sync.listRepos", syncToken=SYNC_TOKEN),
    ):
        assert answer.status == 200


@pytest.mark.parametrize("token", ["wrong", "", SYNC_TOKEN + "x", SYNC_TOKEN[:-1]])
async def test_wrong_sync_token_is_refused_even_beside_a_good_bearer(api: Api, token: str) -> None:
    answer = await api.get("zone.stratos.sync.getRepo", REI, did=REI, syncToken=token)
    assert (answer.status, answer.body["message"]) == (401, "Invalid sync token")


async def test_sync_token_is_no_viewer(api: Api) -> None:
    uri = await api.create(REI, "hello", WRITERS)
    answer = await api.get(GET, SYNC_TOKEN, **params(uri.rpartition("/")[2]))
    assert answer.body["error"] == "RecordNotFound"


async def test_sync_token_may_not_write(api: Api) -> None:
    answer = await api.post(CREATE, SYNC_TOKEN, {"repo": REI, "collection": POST, "record": post("hi", WRITERS)})
    assert answer.status == 401


@pytest.mark.parametrize("token", ["", "None", "null"])
async def test_no_sync_token_holds_while_none_is_set(data_dir: Path, token: str) -> None:
    async with serving(data_dir, config=ApiConfig(dev_mode=True)) as api:
        answer = await api.get("zone.stratos.sync.listRepos", syncToken=token)
    assert answer.status == 401


@pytest.mark.parametrize("header", [basic(f"admin:{ADMIN_PASSWORD}"), f"Bearer {ADMIN_PASSWORD}", f"bearer {ADMIN_PASSWORD}"])
async def test_admin_password_is_taken_as_basic_and_as_bearer(api: Api, header: str) -> None:
    response = await api.client.get(LIST_ENROLLMENTS, headers={"authorization": header})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        None,
        basic(f"root:{ADMIN_PASSWORD}"),
        basic(f"admin:{ADMIN_PASSWORD}:more"),
        basic("admin:wrong"),
        basic("admin"),
        "Basic %%%",
        "Basic",
        f"Bearer {ADMIN_PASSWORD}x",
        "Bearer",
        f"Bearer {REI}",
        f"Bearer {SYNC_TOKEN}",
    ],
)
async def test_everybody_else_is_no_admin(api: Api, header: str | None) -> None:
    response = await api.client.get(LIST_ENROLLMENTS, headers={} if header is None else {"authorization": header})
    assert response.status_code == 401
    assert response.json() == {"error": "AuthRequired", "message": "Admin auth required"}


async def test_admin_password_with_a_colon_is_split_at_the_first_one_only(data_dir: Path) -> None:
    async with serving(data_dir, config=ApiConfig(admin_password="a:b:c")) as api:
        response = await api.client.get(LIST_ENROLLMENTS, headers={"authorization": basic("admin:a:b:c")})
    assert response.status_code == 200


@pytest.mark.parametrize("header", [basic("admin:"), "Bearer", basic("admin:None"), "Bearer None"])
async def test_nobody_is_admin_while_no_password_is_set(data_dir: Path, header: str) -> None:
    async with serving(data_dir, config=ApiConfig(dev_mode=CONFIG.dev_mode)) as api:
        response = await api.client.get(LIST_ENROLLMENTS, headers={"authorization": header})
    assert response.status_code == 401


async def test_public_method_does_not_look_at_credentials(api: Api) -> None:
    assert (await api.get("zone.stratos.server.listDomains", "nonsense")).status == 200
