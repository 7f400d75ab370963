"""The whole story with nothing of it played: three people enroll with the accounts they have, write, read each other, and leave.

`stratos serve`, `stratos index` and `stratos appview` as processes, none of them in dev mode, upon a real PDS, directory and
PostgreSQL.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final, TypeAlias

import httpx
import psycopg
import pytest
import trio
from psycopg import sql

from tests.e2e.network import NETWORK_MARKS, Account, PdsNetwork
from tests.e2e.pds_firehose import pds_firehose
from tests.e2e.programs import Program, free_ports, running
from tests.e2e.test_enrollment import Browser, figure, sessions_kept, settings_of
from tests.e2e.test_publisher import admin, assert_attested, eventually, status

pytestmark = NETWORK_MARKS

POST: Final = "zone.stratos.feed.post"
ENROLLMENT: Final = "zone.stratos.actor.enrollment"
CREATE, GET_RECORD, LIST = (f"zone.stratos.repo.{name}" for name in ("createRecord", "getRecord", "listRecords"))
HYDRATE: Final = "zone.stratos.repo.hydrateRecords"
TIMELINE: Final = "zone.stratos.feed.getTimeline"
MEMBERS_LOOKUPS: Final = "stratos_outgoing_members_plc_requests_total"
UNENROLL: Final = "zone.stratos.enrollment.unenroll"

Ask: TypeAlias = Callable[..., httpx.Response]
"""One of a person's two ways to call the service: verb, method, arguments."""


@dataclass
class Stratos:
    """The three programs, and the network that they stand in."""

    network: PdsNetwork
    did: str
    service: Program
    appview: Program

    @property
    def appview_did(self) -> str:
        """What the AppView is called, for tokens and for the PDS's proxy."""
        return f"did:web:localhost%3A{self.appview.appview_port}"

    @property
    def rkey(self) -> str:
        """Under which an account's record for this service stands."""
        return self.did.replace("%3A", ":")

    def boundaries(self, *names: str) -> list[dict[str, str]]:
        """Boundaries of this service, as records list them."""
        return [{"value": f"{self.did}/{name}"} for name in names]


@dataclass
class Person:
    """Somebody with an account, who can call us directly, with tokens that the PDS mints, or through the PDS."""

    stratos: Stratos
    account: Account

    def enroll(self) -> Mapping[str, object]:
        """Type one's handle, sign in and consent, and come back to the service; what it answers."""
        browser = Browser(self.stratos.network, self.account, self.stratos.service.service)
        back = self.stratos.network.person(self.account).consent(browser.authorize(self.account.handle))
        told: Mapping[str, object] = browser.ask("GET", back).json()
        return told

    def direct(self, verb: str, nsid: str, **arguments: object) -> httpx.Response:
        """Call the service with a token that is good for this method alone."""
        token = self.stratos.network.service_auth(self.account, audience=self.stratos.did, method=nsid)
        params = {name: str(value) for name, value in arguments.items()} if verb == "GET" else None
        body = arguments if verb == "POST" else None
        url = f"{self.stratos.service.service}/xrpc/{nsid}"
        return httpx.request(verb, url, params=params, json=body, headers={"authorization": f"Bearer {token}"})

    def through_the_pds(self, verb: str, nsid: str, **arguments: object) -> httpx.Response:
        """Call the PDS with one's everyday session, and have it pass the call on."""
        params = {name: str(value) for name, value in arguments.items()} if verb == "GET" else None
        body = arguments if verb == "POST" else None
        to_us = {"atproto-proxy": f"{self.stratos.did}#atproto_pns"}
        return self.stratos.network.ask(verb, nsid, account=self.account, params=params, json_body=body, headers=to_us)

    def post(self, text: str, *boundaries: str) -> Mapping[str, object]:
        """What has to be sent to write a post."""
        record = {
            "$type": POST,
            "text": text,
            "createdAt": "2026-05-28T12:00:00.000Z",
            "boundary": {"$type": "zone.stratos.boundary.defs#Domains", "values": self.stratos.boundaries(*boundaries)},
        }
        return {"repo": self.account.did, "collection": POST, "record": record}

    def timelines(self) -> list[set[str]]:
        """The texts that the AppView shows, asked with a token that the PDS mints, and through the PDS, which mints its own."""
        appview, network = self.stratos.appview_did, self.stratos.network
        token = network.service_auth(self.account, audience=appview, method=TIMELINE)
        directly = timeline_of(self.stratos, {"authorization": f"Bearer {token}"})
        to_appview = {"atproto-proxy": f"{appview}#stratos_appview"}
        through_the_pds = network.ask("GET", TIMELINE, account=self.account, headers=to_appview)
        return [
            {item["post"]["record"]["text"] for item in answer.raise_for_status().json()["feed"]}
            for answer in (directly, through_the_pds)
        ]


@pytest.fixture
def stratos(pds_network: PdsNetwork, postgres_url: str, postgres_schema: str, tmp_path: Path) -> Iterator[Stratos]:
    """The programs, running; the service's DID is one that the PDS can resolve, and so pass calls on to."""
    (port,) = free_ports(1)
    did = f"did:web:localhost%3A{port}"
    with directory(pds_network) as plc_url:
        settings = settings_of(pds_network, STRATOS_SERVICE_DID=did, STRATOS_PLC_URL=plc_url)
        outside_dev_mode = {"STRATOS_DEV_MODE": "false", "STRATOS_ALLOW_PRIVATE_NETWORK": "true", "STRATOS_PLC_URL": plc_url}
        database = {"BSKY_DB_POSTGRES_URL": postgres_url, "BSKY_DB_POSTGRES_SCHEMA": postgres_schema}
        with running("serve", tmp_path, settings, service_port=port) as service:
            followed = {**outside_dev_mode, **database, "STRATOS_SERVICE_URL": service.service}
            with running("index", tmp_path, followed), running("appview", tmp_path, followed) as appview:
                yield Stratos(pds_network, did, service, appview)


async def test_three_people_enroll_write_read_each_other_and_leave_nothing(
    stratos: Stratos, postgres_url: str, postgres_schema: str, tmp_path: Path
) -> None:
    network = stratos.network
    rei, sakura, kaoruko = (Person(stratos, network.new_account(name)) for name in ("rei", "sakura", "kaoruko"))
    people = (rei, sakura, kaoruko)

    # They type their handles, sign in at their own server, consent, and are enrolled: the world can see that, and verify it.
    for person in people:
        async with pds_firehose(network, person.account.did) as firehose:
            assert (await trio.to_thread.run_sync(person.enroll))["enrolled"] is True
            told = await firehose.until("create", f"{ENROLLMENT}/{stratos.rkey}")
            assert told.record is not None
            assert told.record["boundaries"] == stratos.boundaries("writers")
    for person, granted in ((rei, ["writers", "editors"]), (kaoruko, ["editors"])):
        async with pds_firehose(network, person.account.did) as firehose:
            admin(stratos.service, "setBoundaries", {"did": person.account.did, "boundaries": granted})
            await firehose.until("update", f"{ENROLLMENT}/{stratos.rkey}")
    for person, granted in ((rei, ["editors", "writers"]), (sakura, ["writers"]), (kaoruko, ["editors"])):
        record = network.record(person.account.did, ENROLLMENT, stratos.rkey)
        assert record is not None
        assert record["boundaries"] == stratos.boundaries(*granted)
        assert_attested(record, person.account, stratos.service.service)

    # Each writes, with a token that the PDS mints and through the PDS itself; the world is told that, and where, but not what.
    written: dict[str, str] = {}
    for person, ask, text, names in (
        (rei, rei.direct, "rei to both", ("writers", "editors")),
        (rei, rei.through_the_pds, "rei to the editors", ("editors",)),
        (sakura, sakura.direct, "sakura to the writers", ("writers",)),
        (sakura, sakura.through_the_pds, "sakura again", ("writers",)),
        (kaoruko, kaoruko.direct, "kaoruko to the editors", ("editors",)),
        (kaoruko, kaoruko.through_the_pds, "kaoruko again", ("editors",)),
    ):
        async with pds_firehose(network, person.account.did) as firehose:
            answer = ask("POST", CREATE, **person.post(text, *names))
            assert answer.status_code == 200, answer.text
            written[text] = answer.json()["uri"]
            told = await firehose.until("create", written[text].removeprefix(f"at://{person.account.did}/"))
            subject = {"uri": written[text], "cid": answer.json()["cid"]}
            source = {"vary": "authenticated", "subject": subject, "service": f"{stratos.did}#atproto_pns"}
            assert told.record == {"$type": POST, "createdAt": "2026-05-28T12:00:00.000Z", "source": source}

    # Each reads what the others may show, and nothing else: directly, hydrated, through the PDS, and in the AppView.
    of_rei, of_sakura, of_kaoruko = ({text for text in written if text.startswith(name)} for name in ("rei", "sakura", "kaoruko"))
    for person, visible in (
        (rei, set(written)),
        (sakura, of_sakura | {"rei to both"}),
        (kaoruko, of_kaoruko | of_rei),
    ):
        for ask in (person.direct, person.through_the_pds):
            assert read_one_by_one(ask, written) == visible
            assert listed(ask, people) == visible
            hydrated = ask("POST", HYDRATE, uris=list(written.values())).raise_for_status().json()
            assert {record["value"]["text"] for record in hydrated["records"]} == visible
            assert {*hydrated["blocked"]} == {uri for text, uri in written.items() if text not in visible}
        await eventually(partial(shows, person, visible))
    assert hydrated_for_nobody(stratos, written) == ([], [])
    by_word_alone = {"authorization": f"Bearer {rei.account.did}"}
    assert timeline_of(stratos, by_word_alone).status_code == 401

    # A stranger with a good token gets nothing, and takes none of the room and none of the ways out that members have.
    stranger, service = Person(stratos, network.new_account("stranger")), stratos.service
    room, ways = figure(service, "stratos_credentials_used_tokens"), figure(service, MEMBERS_LOOKUPS)
    assert (room > 0, ways > 0) == (True, True)
    refused = stranger.direct("POST", CREATE, **stranger.post("let me in", "writers"))
    assert (refused.status_code, refused.json()["error"]) == (400, "NotEnrolled")
    assert figure(service, "stratos_credentials_used_tokens") <= room
    assert figure(service, MEMBERS_LOOKUPS) == ways

    # They leave, one by one; whoever is left sees nothing of them, and in the end nothing of anybody is anywhere.
    await leave(sakura)
    await eventually(partial(shows, rei, of_rei | of_kaoruko))
    assert listed(rei.direct, people) == of_rei | of_kaoruko
    await leave(rei)
    await leave(kaoruko)
    await eventually(lambda: status(stratos.service)["accounts"] == [])
    assert sessions_kept(stratos.service) == []
    for person in people:
        for collection in (ENROLLMENT, POST):
            params = {"repo": person.account.did, "collection": collection}
            assert network.xrpc("GET", "com.atproto.repo.listRecords", params=params)["records"] == []
    await eventually(lambda: rows_left(postgres_url, postgres_schema) == {})
    assert stratos.service.stop() == 0
    kept = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if any(text.encode() in path.read_bytes() for text in written)]


def timeline_of(stratos: Stratos, headers: Mapping[str, str]) -> httpx.Response:
    """What the AppView answers to whoever asks it with these headers."""
    return httpx.get(f"{stratos.appview.appview}/xrpc/{TIMELINE}", headers=headers)


def shows(person: Person, texts: set[str]) -> bool:
    """Whether a timeline is just these texts, whichever way it is asked for."""
    return person.timelines() == [texts, texts]


async def leave(person: Person) -> None:
    """Leave for good; the world sees the record go."""
    async with pds_firehose(person.stratos.network, person.account.did) as firehose:
        person.direct("POST", UNENROLL).raise_for_status()
        await firehose.until("delete", f"{ENROLLMENT}/{person.stratos.rkey}")


def read_one_by_one(ask: Ask, written: Mapping[str, str]) -> set[str]:
    """The texts that a reader gets by asking for each record; what is refused looks like what is not there."""
    seen: set[str] = set()
    for uri in written.values():
        did, collection, rkey = uri.removeprefix("at://").split("/")
        answer = ask("GET", GET_RECORD, repo=did, collection=collection, rkey=rkey)
        if answer.status_code == 200:
            seen.add(answer.json()["value"]["text"])
        else:
            assert (answer.status_code, answer.json()["error"]) == (400, "RecordNotFound")
    return seen


def listed(ask: Ask, people: tuple[Person, ...]) -> set[str]:
    """The texts that a reader gets by listing everybody's posts."""
    answers = [ask("GET", LIST, repo=person.account.did, collection=POST).raise_for_status().json() for person in people]
    return {record["value"]["text"] for answer in answers for record in answer["records"]}


def hydrated_for_nobody(stratos: Stratos, written: Mapping[str, str]) -> tuple[object, object]:
    """What somebody without a credential gets: records, and what is said to be there but not for them."""
    answer = httpx.post(f"{stratos.service.service}/xrpc/{HYDRATE}", json={"uris": list(written.values())}).raise_for_status()
    return answer.json()["records"], answer.json()["blocked"]


def rows_left(url: str, schema: str) -> dict[str, int]:
    """How many rows about accounts the AppView's tables still have, by table."""
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT DISTINCT table_name FROM information_schema.columns"
            " WHERE table_schema = %s AND column_name IN ('did', 'uri', 'creator')",
            (schema,),
        ).fetchall()
        assert tables
        counts: dict[str, int] = {}
        for (table,) in tables:
            row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table))).fetchone()
            assert row is not None
            counts[table] = row[0]
    return {table: count for table, count in counts.items() if count}


@contextmanager
def directory(network: PdsNetwork) -> Iterator[str]:
    """The network's directory as one that also knows whose handle is whose (service spec §3.9): handles here are not in DNS."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            handle = self.path.removeprefix("/did-by-handle/")
            if handle == self.path:
                self.send_response(302)
                self.send_header("location", network.plc_url + self.path)
                self.end_headers()
                return
            answer = network.ask("GET", "com.atproto.identity.resolveHandle", params={"handle": handle})
            self.send_response(200 if answer.is_success else 404)
            self.end_headers()
            self.wfile.write(answer.json().get("did", "").encode())

        def log_message(self, *_: object) -> None:
            """Not of interest."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
