"""Fetching a repository whole: what is believed of it, and what is refused and why."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import httpx
import pytest

from stratos.atproto.car import encode_block, encode_header, read_car
from stratos.atproto.cid import Cid
from stratos.atproto.commit import sign_commit
from stratos.atproto.dag_cbor import encode
from stratos.atproto.keys import SigningKey
from stratos.atproto.mst import Mst
from stratos.atproto.syntax import Did
from stratos.core.key_history import SigningKeyPeriod
from stratos.core.log_entry import Action
from stratos.indexer.repo_snapshot import InvalidSnapshot, Snapshot, read_snapshot
from stratos.indexer.service_client import ListedRepo, RepoBlocks, ServiceClient, ServiceConfig, ServiceFault
from tests.indexer.stratos_model import SERVICE_URL, SYNC_TOKEN, ModelService, Repo, post
from tests.vectors import reference

ANN = Did("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
BOB = Did("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")
TIME = "2026-03-01T00:00:00.000Z"


def key(number: int) -> str:
    return f"3mgaaaaaaaaa{chr(ord('a') + number)}"


@pytest.fixture
def service() -> ModelService:
    """An account with a few posts and a record of another collection."""
    service = ModelService()
    service.enroll(ANN, "writers")
    service.write(ANN, *((Action.CREATE, key(number), post(f"post {number}", "writers")) for number in range(12)))
    service.write(ANN, (Action.CREATE, "app.test.thing/self", {"$type": "app.test.thing"}))
    return service


def blocks(repo: Repo) -> RepoBlocks:
    car = read_car(repo.car())
    return RepoBlocks(car.roots[0], car.blocks)


def read(service: ModelService, fetched: RepoBlocks) -> Snapshot:
    return read_snapshot(ANN, fetched, service.repos[ANN].keys, TIME)


def test_posts_of_a_sound_repository_are_read(service: ModelService) -> None:
    snapshot = read(service, blocks(service.repos[ANN]))
    assert snapshot.rev == service.revs()[ANN]
    assert {row.uri: (row.cid, row.text, row.boundaries) for row in snapshot.posts} == service.posts()
    assert {row.indexed_at for row in snapshot.posts} == {TIME}


def test_an_empty_repository_is_sound() -> None:
    service = ModelService()
    service.enroll(ANN)
    assert read(service, blocks(service.repos[ANN])).posts == ()


@pytest.mark.parametrize("step", [1, 2, 3])
def test_recorded_repositories_of_the_reference_are_sound(step: int) -> None:
    keys = json.loads(reference("valid/keys.json").read_text())
    car = read_car(reference(f"valid/repo-after-step{step}.car").read_bytes())
    fetched = RepoBlocks(car.roots[0], car.blocks)
    snapshot = read_snapshot(Did(keys["did"]), fetched, [SigningKeyPeriod(keys["signingKeyDid"], None, TIME)], TIME)
    assert len(snapshot.posts) == {1: 30, 2: 54, 3: 52}[step]
    with pytest.raises(InvalidSnapshot, match="not signed with"):
        read_snapshot(Did(keys["did"]), fetched, [SigningKeyPeriod(SigningKey.generate_p256().did_key, None, TIME)], TIME)


def test_another_accounts_repository_is_refused(service: ModelService) -> None:
    service.enroll(BOB)
    with pytest.raises(InvalidSnapshot, match=f"of {BOB}"):
        read(service, blocks(service.repos[BOB]))


def test_a_missing_block_of_any_kind_is_refused(service: ModelService) -> None:
    whole = blocks(service.repos[ANN])
    for missing in whole.blocks:
        rest = {cid: block for cid, block in whole.blocks.items() if cid != missing}
        with pytest.raises(InvalidSnapshot, match="missing"):
            read(service, RepoBlocks(whole.root, rest))


def test_a_tree_that_is_not_canonical_is_refused(service: ModelService) -> None:
    repo = service.repos[ANN]
    node = encode({"l": None, "e": [{"p": 0, "k": b"zone.stratos.feed.post/x", "v": Cid.of_dag_cbor(b"\xa0"), "t": None}] * 2})
    forged = sign_commit(ANN, service.revs()[ANN], Cid.of_dag_cbor(node), repo.key)
    fetched = RepoBlocks(forged.cid, {forged.cid: forged.block, forged.data: node})
    with pytest.raises(InvalidSnapshot):
        read(service, fetched)


@pytest.mark.parametrize("block", [b"\xff", b"\x01", encode(["not", "a", "map"])])
def test_a_post_that_is_not_a_record_is_refused(service: ModelService, block: bytes) -> None:
    repo = service.repos[ANN]
    tree = Mst.empty()
    cid = Cid.of_dag_cbor(block)
    tree.put(f"zone.stratos.feed.post/{key(0)}", cid)
    change = tree.change()
    forged = sign_commit(ANN, service.revs()[ANN], change.root, repo.key)
    with pytest.raises(InvalidSnapshot):
        read(service, RepoBlocks(forged.cid, {forged.cid: forged.block, cid: block, **dict(change.created)}))


def test_a_repository_is_checked_with_the_key_that_signed_at_its_rev(service: ModelService) -> None:
    before = blocks(service.repos[ANN])
    service.rotate_key(ANN)
    after = blocks(service.repos[ANN])
    for fetched in (before, after):
        assert len(read(service, fetched).posts) == 12
    retired, current = service.repos[ANN].keys
    for fetched, wrong in ((before, replace(current, first_rev=None)), (after, retired)):
        with pytest.raises(InvalidSnapshot, match="is not signed with"):
            read_snapshot(ANN, fetched, [wrong], TIME)
    with pytest.raises(InvalidSnapshot, match="is not signed with None"):
        read_snapshot(ANN, before, [current], TIME)


@pytest.mark.parametrize("keys", [{}, ["did:key:z"], [{"key": "did:key:z"}], [{"key": "k", "createdAt": "t", "firstRev": "x"}]])
async def test_a_history_of_keys_that_is_none_is_a_fault(keys: object) -> None:
    body = {"did": ANN, "enrolled": True, "enrolledAt": TIME, "signingKey": "did:key:z", "signingKeys": keys}
    http, asked = client(lambda _request: httpx.Response(200, json=body))
    async with http:
        with pytest.raises(ServiceFault, match="the status of"):
            await asked.status(ANN)


@pytest.mark.parametrize("signing_key", ["", "did:key:nonsense", "did:plc:x"])
def test_a_signing_key_that_is_none_is_refused(service: ModelService, signing_key: str) -> None:
    with pytest.raises(InvalidSnapshot):
        read_snapshot(ANN, blocks(service.repos[ANN]), [SigningKeyPeriod(signing_key, None, TIME)], TIME)


def client(answer: Callable[[httpx.Request], httpx.Response], **limits: int) -> tuple[httpx.AsyncClient, ServiceClient]:
    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return http, ServiceClient(replace(ServiceConfig(SERVICE_URL, SYNC_TOKEN), **limits), http)  # type: ignore[arg-type]


async def body(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 100):
        yield data[start : start + 100]


async def test_a_repository_arrives_in_any_pieces(service: ModelService) -> None:
    async with service.http() as http:
        fetched = await ServiceClient(ServiceConfig(SERVICE_URL, SYNC_TOKEN), http).repo(ANN)
        assert fetched is not None
        assert read(service, fetched).posts == read(service, blocks(service.repos[ANN])).posts
        assert await ServiceClient(ServiceConfig(SERVICE_URL, SYNC_TOKEN), http).repo(BOB) is None


async def test_broken_truncated_forged_and_endless_repositories_are_faults(service: ModelService) -> None:
    whole = service.repos[ANN].car()
    commit = service.repos[ANN].commit
    assert commit is not None
    forged = encode_header(commit.cid) + encode_block(commit.cid, b"another block")
    two_roots = encode({"version": 1, "roots": [commit.cid, commit.cid]})
    bad = [b"", b"\x00", whole[:-1], whole[: len(whole) // 2], forged, bytes((len(two_roots),)) + two_roots]
    for data in bad:
        http, asked = client(lambda _request, data=data: httpx.Response(200, content=body(data)))  # type: ignore[misc]
        async with http:
            with pytest.raises(ServiceFault):
                await asked.repo(ANN)
    http, asked = client(lambda _request: httpx.Response(200, content=body(whole)), max_repo_bytes=1_000)
    async with http:
        with pytest.raises(ServiceFault, match="larger than 1000"):
            await asked.repo(ANN)


@pytest.mark.parametrize("status", [400, 401, 404, 500, 503])
async def test_other_refusals_of_a_repository_are_faults_and_not_absence(status: int) -> None:
    http, asked = client(lambda _request: httpx.Response(status, json={"error": "InvalidRequest", "message": ""}))
    async with http:
        with pytest.raises(ServiceFault, match=str(status)):
            await asked.repo(ANN)


async def test_a_service_that_cannot_be_reached_is_a_fault() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    http, asked = client(refuse)
    async with http:
        for call in (asked.status(ANN), asked.boundaries(ANN), asked.repo(ANN), asked.repos(None)):
            with pytest.raises(ServiceFault, match="refused"):
                await call
    assert asked.statistics()["faults_total"] == 4


async def test_an_inactive_or_unknown_account_has_no_status(service: ModelService) -> None:
    async with service.http() as http:
        asked = ServiceClient(ServiceConfig(SERVICE_URL, SYNC_TOKEN), http)
        status = await asked.status(ANN)
        assert status is not None
        assert [period.key for period in status.signing_keys] == [service.repos[ANN].key.did_key]
        assert await asked.status(BOB) is None
    http, asked = client(lambda _request: httpx.Response(200, json={"did": ANN, "enrolled": True, "active": False}))
    async with http:
        assert await asked.status(ANN) is None
        assert await asked.boundaries(ANN) is None


async def test_the_list_of_repositories_is_read_page_by_page(service: ModelService) -> None:
    for letter in "bcdef":
        service.enroll(Did(f"did:plc:{letter * 24}"))
    found: list[ListedRepo] = []
    async with service.http() as http:
        asked = ServiceClient(ServiceConfig(SERVICE_URL, SYNC_TOKEN, repos_page=2), http)
        cursor: str | None = None
        while True:
            page = await asked.repos(cursor)
            found += page.repos
            cursor = page.cursor
            if cursor is None:
                break
    assert {repo.did: repo.rev for repo in found} == service.revs()


@pytest.mark.parametrize("repos", [None, {}, [1], [{"did": "x", "rev": "3mgaaaaaaaaaa"}], [{"did": str(ANN), "rev": "x"}]])
async def test_a_list_that_makes_no_sense_is_a_fault(repos: object) -> None:
    http, asked = client(lambda _request: httpx.Response(200, json={"repos": repos}))
    async with http:
        with pytest.raises(ServiceFault):
            await asked.repos(None)
