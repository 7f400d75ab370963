"""Proof CARs, repository exports, listRepos. Service spec §1.3.8–9; design §4."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from stratos.api.config import ApiConfig
from stratos.atproto.car import Car, read_car
from stratos.atproto.commit import SignedCommit
from stratos.atproto.dag_cbor import decode
from stratos.atproto.keys import VerifyingKey
from stratos.atproto.mst import MappingSource, Mst, check_tree, verify_proof
from stratos.atproto.syntax import Did
from stratos.storage.ports import StorageFault
from tests.api.builders import SYNC_TOKEN, Api, authorized, serving
from tests.engine.builders import EDITORS, KAORUKO, POST, REI, SAKURA, WRITERS, post

PROOF = "/xrpc/com.atproto.sync.getRecord"
EXPORT = "/xrpc/zone.stratos.sync.getRepo"
CAR = "application/vnd.ipld.car"
RKEY = "3kaaaaaaaaa2a"


def key_of(api: Api, did: Did) -> VerifyingKey:
    """The key that signs a repository."""
    enrollment = api.engine.service.backend.enrollments.get(did)
    assert enrollment is not None
    return VerifyingKey.from_did_key(enrollment.signing_key)


def commit_of(car: Car) -> SignedCommit:
    """The commit that the file's one root names."""
    (root,) = car.roots
    return SignedCommit.decode(car.blocks[root])


async def proof(api: Api, as_: str | None, **changes: str) -> tuple[int, bytes]:
    """Ask for the proof of a record of Rei's."""
    params = {"did": REI, "collection": POST, "rkey": RKEY, **changes}
    response = await api.client.get(PROOF, params=params, headers=authorized(as_))
    if response.status_code == 200:
        assert response.headers["content-type"] == CAR
    return response.status_code, response.content


async def export(api: Api, as_: str | None, did: str = REI, **more: str) -> Car:
    """A repository's export."""
    response = await api.client.get(EXPORT, params={"did": did, **more}, headers=authorized(as_))
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == CAR
    return read_car(response.content)


async def test_proof_shows_the_record_under_a_signed_commit(api: Api) -> None:
    for n in range(40):
        await api.create(REI, f"{n}", WRITERS)
    await api.create(REI, "proven", WRITERS, rkey=RKEY)
    _, content = await proof(api, SAKURA)
    car = read_car(content)
    commit = commit_of(car)
    assert commit.verify(key_of(api, REI))
    cid = verify_proof(commit.data, car.blocks, f"{POST}/{RKEY}")
    assert cid is not None
    record = decode(car.blocks[cid])
    assert isinstance(record, dict)
    assert record["text"] == "proven"


async def test_proof_holds_the_commit_first_the_record_last_and_nothing_beside_the_path(api: Api) -> None:
    for n in range(40):
        await api.create(REI, f"{n}", WRITERS)
    await api.create(REI, "proven", WRITERS, rkey=RKEY)
    car = read_car((await proof(api, REI))[1])
    cids = list(car.blocks)
    commit = commit_of(car)
    assert cids[0] == car.roots[0]
    assert cids[1] == commit.data
    assert cids[-1] == verify_proof(commit.data, car.blocks, f"{POST}/{RKEY}")
    assert len(cids) < 10


@pytest.mark.parametrize("viewer", [None, KAORUKO, "did:plc:newcomer", SYNC_TOKEN])
async def test_proof_is_only_for_whom_the_record_is(api: Api, viewer: str | None) -> None:
    await api.create(REI, "hello", WRITERS, rkey=RKEY)
    status, content = await proof(api, viewer)
    assert status == 400
    assert b'"RecordNotFound"' in content


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"did": "did:plc:unknown"}, b'"RepoNotFound"'),
        ({"rkey": "nowhere"}, b'"RecordNotFound"'),
        ({"did": "rei.example.com"}, b'"InvalidRequest"'),
        ({"collection": ""}, b'"InvalidRequest"'),
    ],
)
async def test_proof_of_nothing_is_refused(api: Api, changes: dict[str, str], error: bytes) -> None:
    await api.create(REI, "hello", WRITERS, rkey=RKEY)
    status, content = await proof(api, REI, **changes)
    assert status == 400
    assert error in content


@pytest.mark.expects_error_log
async def test_a_record_that_is_not_what_the_tree_says_is_never_proven_in_a_version_that_was_not_checked(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record table is one write behind the tree, as in a damaged store: the stale row must not let the newer block out."""
    await api.create(REI, "readable", WRITERS, rkey=RKEY)
    stores = api.engine.service.backend.actors
    with stores.open(REI) as store:
        assert store is not None
        stale = store.record(POST, RKEY)
    body = {"repo": REI, "collection": POST, "rkey": RKEY}
    record = post("secret", EDITORS)
    assert (await api.post("zone.stratos.repo.putRecord", REI, {**body, "record": record})).status == 200
    with stores.open(REI) as store:
        assert store is not None
        monkeypatch.setattr(type(store), "record", lambda *_: stale)
        status, content = await proof(api, SAKURA)
    assert status == 503
    assert b'"ServiceUnavailable"' in content


async def test_owner_exports_the_whole_reachable_repository(api: Api) -> None:
    uris = [await api.create(REI, f"{n}", WRITERS) for n in range(30)]
    await api.post("zone.stratos.repo.deleteRecord", REI, {"repo": REI, "collection": POST, "rkey": uris[0].rpartition("/")[2]})
    car = await export(api, REI)
    commit = commit_of(car)
    assert next(iter(car.blocks)) == car.roots[0]
    assert commit.verify(key_of(api, REI))
    source = MappingSource(car.blocks)
    check_tree(commit.data, source)
    tree = Mst.open(commit.data, source)
    entries = dict(tree.entries())
    assert set(entries) == {uri.removeprefix(f"at://{REI}/") for uri in uris[1:]}
    reachable = {car.roots[0], *entries.values(), *(cid for cid, _ in tree.nodes())}
    assert set(car.blocks) == reachable


async def test_trusted_service_exports_any_repository(api: Api) -> None:
    for credential in ({"as_": SYNC_TOKEN}, {"as_": None, "syncToken": SYNC_TOKEN}):
        car = await export(api, **credential)
        assert commit_of(car).did == REI


@pytest.mark.parametrize(
    ("viewer", "message"),
    [(None, "Authorization required"), (SAKURA, "Service auth or owner authentication required")],
)
async def test_nobody_else_exports(api: Api, viewer: str | None, message: str) -> None:
    answer = await api.get("zone.stratos.sync.getRepo", viewer, did=REI)
    assert (answer.status, answer.body["error"]) == (401, "AuthenticationRequired")
    assert answer.body["message"] == message


async def test_unknown_repository_is_not_exported(api: Api) -> None:
    answer = await api.get("zone.stratos.sync.getRepo", SYNC_TOKEN, did="did:plc:unknown")
    assert answer.status == 400
    assert answer.body == {"error": "RepoNotFound", "message": "Could not find repo"}


async def test_export_since_a_rev_holds_what_came_after_it(api: Api) -> None:
    old = await api.create(REI, "old", WRITERS)
    since = commit_of(await export(api, REI)).rev
    new = await api.create(REI, "new", WRITERS)
    whole, rest = await export(api, REI), await export(api, REI, since=since)
    tree = Mst.open(commit_of(whole).data, MappingSource(whole.blocks))
    entries = {f"at://{REI}/{path}": cid for path, cid in tree.entries()}
    assert rest.roots == whole.roots
    assert entries[new] in rest.blocks
    assert entries[old] not in rest.blocks
    assert set(rest.blocks) < set(whole.blocks)


@pytest.mark.parametrize("params", [{}, {"did": "rei.example.com"}, {"did": REI, "since": "yesterday"}])
async def test_malformed_export_is_an_invalid_request(api: Api, params: dict[str, str]) -> None:
    answer = await api.get("zone.stratos.sync.getRepo", SYNC_TOKEN, **params)
    assert (answer.status, answer.body["error"]) == (400, "InvalidRequest")


async def test_head_of_an_export_sends_no_body(api: Api) -> None:
    response = await api.client.head(EXPORT, params={"did": REI}, headers=authorized(REI))
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-type"] == CAR
    assert api.app.statistics()["exports"]["exports"] == 0


async def test_exports_under_way_are_bounded(data_dir: Path) -> None:
    async with serving(data_dir, config=ApiConfig(sync_token=SYNC_TOKEN, max_exports=0)) as api:
        await api.engine.enroll(REI, WRITERS)
        answer = await api.get("zone.stratos.sync.getRepo", SYNC_TOKEN, did=REI)
    assert (answer.status, answer.body["error"]) == (503, "ServiceUnavailable")
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.expects_error_log
async def test_export_that_fails_on_its_way_is_broken_off(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller must not take the part for the whole: the answer has no end."""
    with api.engine.service.backend.actors.export(REI) as running:
        assert running is not None

        def pages(*_: object) -> object:
            yield []
            raise StorageFault("disk on fire")

        monkeypatch.setattr(type(running), "pages", pages)
    stream = await api.raw()
    async with stream:
        request = f"GET {EXPORT}?did={REI} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {REI}\r\n\r\n"
        await stream.send_all(request.encode())
        received = b"".join([chunk async for chunk in stream])
    assert received.startswith(b"HTTP/1.1 200")
    assert not received.endswith(b"0\r\n\r\n")
    assert api.app.statistics()["exports"]["exports"] == 0


async def test_export_whose_caller_leaves_is_ended(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    left = trio.Event()
    with api.engine.service.backend.actors.export(REI) as running:
        assert running is not None
        pages = type(running).pages

        def endless(self: object, since: object) -> object:
            try:
                while True:
                    yield from pages(self, since)  # type: ignore[arg-type]  # the real export
            finally:
                trio.from_thread.run_sync(left.set)

        monkeypatch.setattr(type(running), "pages", endless)
    async with api.client.stream("GET", EXPORT, params={"did": REI}, headers=authorized(REI)) as response:
        assert response.status_code == 200
    await left.wait()
    api.app.stopping.set()
    await api.stopped.wait()
    assert api.engine.service.backend.actors.statistics()["exports"] == 0


async def test_repositories_are_listed_with_their_heads(api: Api) -> None:
    await api.create(REI, "hello", WRITERS)
    answer = await api.get("zone.stratos.sync.listRepos", SYNC_TOKEN)
    heads = {did: api.engine.service.backend.log.repo_head(did) for did in (REI, SAKURA, KAORUKO)}
    assert answer.body == {
        "repos": [
            {"did": did, "head": str(head.commit), "rev": head.rev, "active": True}
            for did, head in sorted(heads.items())
            if head is not None
        ]
    }


async def test_listed_head_is_what_the_export_gives(api: Api) -> None:
    await api.create(REI, "hello", WRITERS)
    repos = (await api.get("zone.stratos.sync.listRepos", SYNC_TOKEN)).body["repos"]
    assert isinstance(repos, list)
    (listed,) = [repo for repo in repos if repo["did"] == REI]
    car = await export(api, SYNC_TOKEN)
    assert (listed["head"], listed["rev"]) == (str(car.roots[0]), commit_of(car).rev)


async def test_repositories_are_paged_in_did_order(api: Api) -> None:
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(4):
        page = await api.get("zone.stratos.sync.listRepos", SYNC_TOKEN, limit=1, **cursor)
        repos = page.body["repos"]
        assert isinstance(repos, list)
        seen += [repo["did"] for repo in repos]
        if "cursor" not in page.body:
            break
        cursor = {"cursor": str(page.body["cursor"])}
    assert seen == sorted([REI, SAKURA, KAORUKO])


@pytest.mark.parametrize("viewer", [None, REI])
async def test_repositories_are_listed_to_trusted_services_only(api: Api, viewer: str | None) -> None:
    assert (await api.get("zone.stratos.sync.listRepos", viewer)).status == 401


@pytest.mark.parametrize("params", [{"limit": 0}, {"limit": 1001}, {"limit": "many"}, {"cursor": "nonsense"}])
async def test_malformed_listing_is_an_invalid_request(api: Api, params: dict[str, str | int]) -> None:
    answer = await api.get("zone.stratos.sync.listRepos", SYNC_TOKEN, **params)
    assert (answer.status, answer.body["error"]) == (400, "InvalidRequest")
