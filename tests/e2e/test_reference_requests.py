"""Every create request recorded from the reference implementation gets a verdict, and the reason is one of the spec's."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from stratos.atproto.cid import Cid
from stratos.atproto.dag_cbor import encode
from stratos.atproto.data_model import object_from_json
from tests.e2e.programs import ADMIN_PASSWORD, Program, running
from tests.vectors import reference

ALICE = "did:plc:goldenaaaaaaaaaaaaaaaaab"
POST = "zone.stratos.feed.post"
BOUNDARIES = ["did:web:stratos.test/engineering", "did:web:stratos.test/leadership"]

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

REFUSED = {
    # n: (error, part of the message, rule of the spec)
    3: ("InvalidRequest", "rkey", "§3.8: TID keys for posts"),
    9: ("InvalidRecord", "image", "§5.10: an images embed takes images"),
}


def _create(system: Program, rkey: str | None, record: object, **more: object) -> httpx.Response:
    body = {"repo": ALICE, "collection": POST, "record": record, **({"rkey": rkey} if rkey else {}), **more}
    return httpx.post(
        f"{system.service}/xrpc/com.atproto.repo.createRecord", json=body, headers={"Authorization": f"Bearer {ALICE}"}
    )


@pytest.fixture
def service(tmp_path_factory: pytest.TempPathFactory) -> object:
    folder: Path = tmp_path_factory.mktemp("reference")
    with running("serve", folder, {"STRATOS_ALLOWED_DOMAINS": "engineering,leadership"}) as system:
        answer = httpx.post(
            f"{system.service}/xrpc/zone.stratos.admin.enroll",
            json={"did": ALICE, "boundaries": BOUNDARIES},
            headers={"Authorization": f"Bearer {ADMIN_PASSWORD}"},
        )
        assert answer.status_code == 200, answer.text
        yield system


def test_each_recorded_create_is_accepted_or_refused_for_a_reason_of_the_spec(service: Program) -> None:
    recorded = json.loads(reference("createRecord.requests-and-responses.json").read_text())
    verdicts: dict[int, str] = {}
    for case in recorded:
        answer = _create(service, case.get("rkey"), case["record"])
        body = answer.json()
        if answer.status_code == 200:
            verdicts[case["n"]] = "accepted"
            assert body["cid"] == str(Cid.of_dag_cbor(encode(object_from_json(case["record"]))))
        else:
            assert answer.status_code == 400, (case["n"], body)
            error, part, _ = REFUSED.get(case["n"], ("", "none is expected", ""))
            assert (error, part in body["message"]) == (body["error"], True), (case["n"], body)
            verdicts[case["n"]] = "refused"
    assert len(verdicts) == 42
    assert {n for n, verdict in verdicts.items() if verdict == "refused"} == set(REFUSED)


def test_the_recorded_batch_in_the_older_item_shape_is_accepted(service: Program) -> None:
    batch = json.loads(reference("applyWrites.request.json").read_text())
    for write in batch["writes"]:
        if write["action"] != "create":
            # The recording's update and delete refer to records of earlier requests.
            _create(service, write["rkey"], batch["writes"][0]["record"])
    answer = httpx.post(
        f"{service.service}/xrpc/com.atproto.repo.applyWrites", json=batch, headers={"Authorization": f"Bearer {ALICE}"}
    )
    assert answer.status_code == 200, answer.text
    recorded = json.loads(reference("applyWrites.response.json").read_text())["body"]
    assert [result.get("uri") for result in answer.json()["results"]] == [result.get("uri") for result in recorded["results"]]
    assert [result.get("cid") for result in answer.json()["results"]] == [result.get("cid") for result in recorded["results"]]
