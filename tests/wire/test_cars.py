"""Hostile repositories: whoever reads them refuses each with a reason, in bounded time, and believes nothing of it."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import httpx
import pytest
import trio

from stratos.atproto.car import InvalidCar, read_car
from stratos.atproto.cid import Cid
from stratos.core.key_history import SigningKeyPeriod
from stratos.indexer.repo_snapshot import InvalidSnapshot, Snapshot, read_snapshot
from stratos.indexer.service_client import RepoBlocks, ServiceClient, ServiceConfig, ServiceFault
from tests.wire import cars
from tests.wire.cars import ACTOR, KEY, HostileCar, repository
from tests.wire.cases import check_each, in_batches

INDEXED_AT = "2026-05-28T20:26:41.000Z"
KEYS = (SigningKeyPeriod(KEY.did_key, None, INDEXED_AT),)
BATCHES = in_batches(
    {
        "bytes": cars.byte_cases(),
        "headers": cars.header_cases(),
        "sections": cars.section_cases(),
        "commits": cars.commit_cases(),
        "trees": cars.tree_cases(),
    }
)
CARS = tuple(case for _, batch in BATCHES for case in batch)
# httpx leaves its generators to the garbage collector where a body is not read to its end.
leaves_generators = pytest.mark.filterwarnings("ignore:Async generator .* was garbage collected:ResourceWarning")


class NotOneRoot(ValueError):
    """A file with no root, or several."""


def snapshot(data: bytes) -> Snapshot:
    """Read a file as the resync does."""
    car = read_car(data)
    if len(car.roots) != 1:
        raise NotOneRoot(f"{len(car.roots)} roots")
    return read_snapshot(ACTOR, RepoBlocks(car.roots[0], car.blocks), KEYS, INDEXED_AT)


def test_the_repository_that_all_of_them_are_made_from_is_believed() -> None:
    assert len(snapshot(repository().car()).posts) == cars.POSTS


@pytest.mark.timeout(20)
@pytest.mark.parametrize("batch", [batch for _, batch in BATCHES], ids=[title for title, _ in BATCHES])
def test_hostile_repositories_are_refused_with_a_reason(batch: tuple[HostileCar, ...]) -> None:
    def check(case: HostileCar) -> None:
        with pytest.raises((InvalidCar, InvalidSnapshot, NotOneRoot)) as refusal:
            snapshot(case.data)
        assert any(name in str(refusal.value).lower() for name in case.names), refusal.value

    check_each(batch, check)


def test_a_block_that_is_not_what_its_cid_says_is_refused_even_when_hashes_were_not_checked_before() -> None:
    """A cycle of links can only be made from such blocks."""
    good = repository()
    for victim in (good.commit, *good.nodes):
        for content in (good.blocks[good.tree], good.blocks[good.records[0]], b""):
            if content == good.blocks[victim]:
                continue
            blocks = {**good.blocks, victim: content}
            with pytest.raises(InvalidSnapshot):
                read_snapshot(ACTOR, RepoBlocks(good.commit, blocks), KEYS, INDEXED_AT)


async def answer_with(answers: list[bytes], stream: trio.SocketStream) -> None:
    """Answer each request of one connection with the next of these bytes, then close."""
    async with stream:
        request = b""
        while b"\r\n\r\n" not in request:
            data = await stream.receive_some()
            if not data:
                return
            request += data
        with suppress(trio.BrokenResourceError):  # a client that has seen enough hangs up
            await stream.send_all(answers.pop(0))


def response(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """A response that ends with its connection."""
    lines = "".join(f"{header}\r\n" for header in headers or (f"Content-Length: {len(body)}",))
    return f"HTTP/1.1 {status}\r\nContent-Type: application/vnd.ipld.car\r\nConnection: close\r\n{lines}\r\n".encode() + body


async def fetch(answers: list[bytes]) -> list[Snapshot | str | None]:
    """Let a real client fetch a repository once for each answer: what it believed, or why not."""
    found: list[Snapshot | str | None] = []
    async with trio.open_nursery() as nursery, httpx.AsyncClient(trust_env=False) as http:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, partial(answer_with, answers), [listener])
        port = listener.socket.getsockname()[1]
        config = ServiceConfig(f"http://127.0.0.1:{port}", "token", timeout=5.0, repo_timeout=5.0, max_repo_bytes=1024 * 1024)
        client = ServiceClient(config, http)
        for _ in range(len(answers)):
            try:
                repo = await client.repo(ACTOR)
                found.append(None if repo is None else read_snapshot(ACTOR, repo, KEYS, INDEXED_AT))
            except (ServiceFault, InvalidSnapshot) as refusal:
                found.append(str(refusal))
        nursery.cancel_scope.cancel()
    return found


@leaves_generators
async def test_no_hostile_repository_is_believed_over_the_network() -> None:
    results = await fetch([response(case.data) for case in CARS])
    believed = [case.name for case, result in zip(CARS, results, strict=True) if not isinstance(result, str) or not result]
    assert believed == []


@leaves_generators
async def test_a_service_that_breaks_http_is_not_believed() -> None:
    car = repository().car()
    refused = [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"SSH-2.0-OpenSSH_9.0\r\n",
        bytes(1000),
        response(car, f"Content-Length: {len(car) + 1}"),
        response(car, f"Content-Length: {len(car) - 1}"),
        response(car, "Content-Length: -1"),
        response(car, "Transfer-Encoding: chunked"),
        response(b"5\r\nhello\r\n", "Transfer-Encoding: chunked"),
        response(b"zz\r\n" + car, "Transfer-Encoding: chunked"),
        response(b"", status="204 No Content"),
        response(b"", "Location: http://127.0.0.1:1/", status="302 Found"),
        response(b"{", status="400 Bad Request"),
        response(b"[]", status="400 Bad Request"),
        response(b'{"error": 1}', status="400 Bad Request"),
        response(b'{"error": "AuthRequired"}', status="401 Unauthorized"),
        response(b"x" * 100_000, status="500 Internal Server Error"),
        response(car + bytes(2 * 1024 * 1024)),
        response(b"\x1f\x8b\x08\x00" + bytes(100), "Content-Encoding: gzip", "Content-Length: 104"),
        response(car, "X: " + "y" * 200_000),
    ]
    results = await fetch(refused)
    assert all(isinstance(result, str) and result for result in results), results


async def test_what_is_said_of_an_absent_repository_is_understood() -> None:
    absent, there = response(b'{"error": "RepoNotFound"}', status="400 Bad Request"), response(repository().car())
    results = await fetch([absent, there])
    assert results[0] is None
    assert isinstance(results[1], Snapshot)


def test_there_are_hundreds_of_distinct_hostile_repositories() -> None:
    assert len({case.data for case in CARS}) == len(CARS) >= 300
    assert all(Cid.of_dag_cbor(block) == cid for cid, block in repository().blocks.items())
