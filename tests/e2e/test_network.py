"""The network that the other end-to-end tests stand on: what they rely on, asked of the real PDS and PLC directory."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

import httpx
import pytest

from stratos.atproto.did_document import pds_endpoint, verification_key
from tests.e2e.network import NETWORK_MARKS, PdsNetwork

ENROLLMENT = "zone.stratos.actor.enrollment"
SERVICE = "did:web:stratos.test"

pytestmark = NETWORK_MARKS


def did_document(network: PdsNetwork, did: str) -> dict[str, object]:
    document: dict[str, object] = httpx.get(f"{network.plc_url}/{did}").raise_for_status().json()
    return document


def claims(token: str) -> Mapping[str, object]:
    body = token.split(".")[1]
    found: Mapping[str, object] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return found


def test_an_account_s_document_in_the_directory_names_the_pds(pds_network: PdsNetwork) -> None:
    account = pds_network.new_account()
    assert pds_endpoint(did_document(pds_network, account.did)) == pds_network.pds_url


def test_a_handle_resolves_at_the_pds(pds_network: PdsNetwork) -> None:
    account = pds_network.new_account()
    answer = pds_network.xrpc("GET", "com.atproto.identity.resolveHandle", params={"handle": account.handle})
    assert answer == {"did": account.did}


def test_a_service_token_is_bound_to_audience_and_method_and_signed_with_the_account_s_key(pds_network: PdsNetwork) -> None:
    account = pds_network.new_account()
    token = pds_network.service_auth(account, audience=SERVICE, method="zone.stratos.repo.createRecord")
    said = claims(token)
    assert (said["iss"], said["aud"], said["lxm"]) == (account.did, SERVICE, "zone.stratos.repo.createRecord")
    signed, _, signature = token.rpartition(".")
    key = verification_key(did_document(pds_network, account.did), "atproto")
    assert key is not None
    assert key.verify(signed.encode(), base64.urlsafe_b64decode(signature + "=="))


def test_the_pds_comes_back_with_accounts_and_records_after_an_outage(pds_network: PdsNetwork) -> None:
    account = pds_network.new_account()
    record = {"$type": ENROLLMENT, "service": "https://stratos.test"}
    body = {"repo": account.did, "collection": ENROLLMENT, "rkey": "self", "record": record}
    pds_network.xrpc("POST", "com.atproto.repo.putRecord", account=account, json_body=body)
    with pds_network.pds_down():
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{pds_network.pds_url}/xrpc/_health")
        assert did_document(pds_network, account.did)["id"] == account.did
    assert pds_network.record(account.did, ENROLLMENT, "self") == record
    assert pds_network.record(account.did, ENROLLMENT, "other") is None


def test_what_the_proxy_header_does_to_a_record_method_of_the_protocol(pds_network: PdsNetwork) -> None:
    # A PDS answers these methods itself, whatever the header says: the "private" record becomes public. Hence our own names.
    account = pds_network.new_account()
    body = {"repo": account.did, "collection": "zone.stratos.feed.post", "record": {"text": "meant to be private"}}
    answer = pds_network.xrpc(
        "POST",
        "com.atproto.repo.createRecord",
        account=account,
        json_body=body,
        headers={"atproto-proxy": "did:web:localhost%3A3100#atproto_pns"},
    )
    rkey = str(answer["uri"]).rpartition("/")[2]
    public = pds_network.record(account.did, "zone.stratos.feed.post", rkey)
    assert public is not None
    assert public["text"] == "meant to be private"
