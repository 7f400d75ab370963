"""All keys of a service rotated by its operator, before a real PDS: nothing is lost, and the world can verify throughout."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
import pytest

from stratos.atproto.data_model import from_json
from stratos.atproto.did_document import attesting_key
from stratos.atproto.syntax import Did
from stratos.core.attestation import verify_attestation
from stratos.core.enrollment_record import EnrollmentRecord, parse_enrollment_record
from tests.e2e.network import NETWORK_MARKS, Account, PdsNetwork
from tests.e2e.programs import ADMIN_PASSWORD, Program, running
from tests.e2e.test_enrollment import LIST, POST, Service, settings_of
from tests.e2e.test_keys_command import stratos, told

pytestmark = NETWORK_MARKS

SERVICE = "did:web:stratos.test"
PUBLISHED_SECONDS = 30.0


def published(network: PdsNetwork, account: Account, wanted: Callable[[EnrollmentRecord], bool]) -> EnrollmentRecord:
    """The enrollment record on the PDS, once it is what is wanted."""
    deadline = time.monotonic() + PUBLISHED_SECONDS
    while True:
        value = network.record(account.did, "zone.stratos.actor.enrollment", SERVICE)
        data = None if value is None else from_json(dict(value))
        record = parse_enrollment_record(data) if isinstance(data, dict) else None
        if record is not None and wanted(record):
            return record
        assert time.monotonic() < deadline, f"the record stays {value}"
        time.sleep(0.1)  # another process's work can only be asked about again


def document(program: Program) -> Mapping[str, object]:
    """The service's DID document."""
    body: Mapping[str, object] = httpx.get(f"{program.service}/.well-known/did.json").raise_for_status().json()
    return body


def verifies(record: EnrollmentRecord, account: Account, document: Mapping[str, object]) -> bool:
    """Whether an enrollment record's attestation is by a key of the service's document."""
    key = attesting_key(document, record.attestation.signing_key)
    return key is not None and verify_attestation(
        record.attestation,
        service_key=key,
        did=Did(account.did),
        boundaries=record.boundaries,
        signing_key=record.signing_key,
    )


@pytest.mark.timeout(180)
def test_every_key_of_a_service_is_rotated_and_nobody_notices(pds_network: PdsNetwork, tmp_path: Path) -> None:
    rei = pds_network.new_account("rei")
    settings = settings_of(pds_network)
    with running("serve", tmp_path, settings) as program:
        service = Service(pds_network, program)
        assert service.browser(rei).sign_in().is_success
        assert service.create(rei, "with the first keys").is_success
        first = published(pds_network, rei, lambda _: True)

        url = ["--service", program.service, "--password", ADMIN_PASSWORD]
        rotated = told(tmp_path, "admin", *url, "rotate-key", rei.did)
        second = published(pds_network, rei, lambda record: record.signing_key == rotated["signingKey"])
        assert second.signing_key != first.signing_key
        assert verifies(second, rei, document(program))
        assert service.create(rei, "with the second key").is_success

        refused = stratos(tmp_path, "keys", "rotate-master")
        assert (refused.returncode, str(tmp_path / "data") in refused.stderr) == (1, True), refused.stderr

    before = told(tmp_path, "keys", "show")
    resealed = told(tmp_path, "keys", "rotate-master")
    assert (resealed["resealed"], resealed["unreadable"]) == (2, [])
    service_keys = told(tmp_path, "keys", "rotate-service")
    assert service_keys["formerServiceKey"] == before["serviceKey"] != service_keys["serviceKey"]
    after = told(tmp_path, "keys", "show")
    assert (after["masterKeyId"] != before["masterKeyId"], after["formerMasterKeyIds"]) == (True, [])
    assert stratos(tmp_path, "keys", "rotate-service").returncode == 1, "one rotation at a time"

    with running("serve", tmp_path, settings, service_port=program.port) as again:
        service = Service(pds_network, again)
        assert verifies(second, rei, document(again)), "what was published before still verifies"
        renewed = published(pds_network, rei, lambda record: record.attestation.signing_key == service_keys["serviceKey"])
        assert verifies(renewed, rei, document(again))
        assert service.create(rei, "with new keys all around").is_success
        listed = service.call(rei, "GET", LIST, repo=rei.did, collection=POST).raise_for_status().json()["records"]
        assert {record["value"]["text"] for record in listed} == {
            "with the first keys", "with the second key", "with new keys all around",
        }  # fmt: skip

    assert told(tmp_path, "keys", "rotate-service", "--finish")["formerServiceKey"] is None
    with running("serve", tmp_path, settings, service_port=program.port) as finished:
        assert verifies(renewed, rei, document(finished))
        assert not verifies(second, rei, document(finished))
