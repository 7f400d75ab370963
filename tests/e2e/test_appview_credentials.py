"""Reading a timeline with one's own account: `stratos dev` without dev mode's credentials, before a real PDS."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest

from tests.api.credentials.builders import b64, part
from tests.e2e.network import NETWORK_MARKS, Account, PdsNetwork
from tests.e2e.programs import ADMIN_PASSWORD, Program, running

pytestmark = NETWORK_MARKS

TIMELINE, CREATE = "zone.stratos.feed.getTimeline", "zone.stratos.repo.createRecord"
SERVICE, POST = "did:web:stratos.test", "zone.stratos.feed.post"
INDEXED_SECONDS = 20.0


class Scene:
    """A running system with an account that has posted."""

    def __init__(self, network: PdsNetwork, program: Program) -> None:
        self.network = network
        self.program = program
        self.did = f"did:web:localhost%3A{program.appview_port}"
        self.rei = network.new_account("rei")

    def enroll(self, account: Account) -> None:
        """Enroll an account among the writers, as the operator."""
        url = f"{self.program.service}/xrpc/zone.stratos.admin.enroll"
        body = {"did": account.did, "boundaries": ["writers"]}
        httpx.post(url, auth=("admin", ADMIN_PASSWORD), json=body).raise_for_status()

    def post(self, account: Account, text: str) -> None:
        """Write to the writers, with a token of the account's PDS for the service."""
        values = [{"value": f"{SERVICE}/writers"}]
        record = {
            "$type": POST,
            "text": text,
            "createdAt": "2026-05-28T12:00:00.000Z",
            "boundary": {"$type": "zone.stratos.boundary.defs#Domains", "values": values},
        }
        token = self.network.service_auth(account, audience=SERVICE, method=CREATE)
        headers = {"authorization": f"Bearer {token}"}
        body = {"repo": account.did, "collection": POST, "record": record}
        httpx.post(f"{self.program.service}/xrpc/{CREATE}", headers=headers, json=body).raise_for_status()

    def token(self, audience: str | None = None, method: str = TIMELINE) -> str:
        """What Rei's PDS mints for a call of the AppView."""
        return self.network.service_auth(self.rei, audience=audience or self.did, method=method)

    def timeline(self, token: str) -> httpx.Response:
        """Rei's timeline, asked of the AppView directly."""
        return httpx.get(f"{self.program.appview}/xrpc/{TIMELINE}", headers={"authorization": f"Bearer {token}"})


@pytest.fixture(scope="module")
def scene(pds_network: PdsNetwork, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One post of Rei's, which has arrived at the AppView."""
    settings = {
        "STRATOS_DEV_MODE": "false",
        "STRATOS_ALLOW_PRIVATE_NETWORK": "true",
        "STRATOS_PLC_URL": pds_network.plc_url,
        "BSKY_DB_POOL_SIZE": "8",
    }
    with running("dev", tmp_path_factory.mktemp("appview"), settings) as program:
        scene = Scene(pds_network, program)
        scene.enroll(scene.rei)
        scene.post(scene.rei, "hello, writers")
        deadline = time.monotonic() + INDEXED_SECONDS
        while not texts(scene.timeline(scene.token())):
            assert time.monotonic() < deadline, "the post does not arrive at the AppView"
            time.sleep(0.1)  # another process's work can only be asked about again
        yield scene


def texts(answer: httpx.Response) -> list[str]:
    """What a feed's posts say."""
    assert answer.is_success, answer.text
    return [item["post"]["record"]["text"] for item in answer.json()["feed"]]


def test_account_reads_its_timeline_with_a_token_of_its_pds(scene: Scene) -> None:
    assert texts(scene.timeline(scene.token())) == ["hello, writers"]


def test_account_reads_its_timeline_through_the_proxy_of_its_pds(scene: Scene) -> None:
    headers = {"atproto-proxy": f"{scene.did}#stratos_appview"}
    answer = scene.network.xrpc("GET", TIMELINE, account=scene.rei, headers=headers)
    assert isinstance(answer["feed"], list)
    assert [item["post"]["record"]["text"] for item in answer["feed"]] == ["hello, writers"]


def test_stranger_is_an_account_without_boundaries(scene: Scene) -> None:
    stranger = scene.network.new_account("stranger")
    assert texts(scene.timeline(scene.network.service_auth(stranger, audience=scene.did, method=TIMELINE))) == []


def test_whatever_else_is_refused_by_name(scene: Scene) -> None:
    header, claims, signature = scene.token().split(".")
    for name, token in {
        "for the service": scene.token(SERVICE),
        "for another method": scene.token(method="zone.stratos.feed.getPost"),
        "with another signature": f"{header}.{claims}.{b64(bytes(64))}",
        "unsigned": f"{part({'typ': 'JWT', 'alg': 'none'})}.{claims}.",
        "with another header": f"{part({'typ': 'JWT', 'alg': 'HS256'})}.{claims}.{signature}",
        "a mere DID": scene.rei.did,
    }.items():
        answer = scene.timeline(token)
        assert (answer.status_code, answer.json()["error"]) == (401, "AuthRequired"), name
