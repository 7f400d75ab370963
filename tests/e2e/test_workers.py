"""`stratos serve --workers N`: one port, several processes, one PostgreSQL. Source: issue 4, part 3."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import httpx
import orjson
import pytest
import trio

from stratos.engine.supervisor import RESTART_BUDGET
from tests.crash.clients import Subscriber, actor, enroll
from tests.crash.load import Load
from tests.crash.processes import ADMIN_PASSWORD, SERVE, START_SECONDS, STOP_SECONDS, Home, Running
from tests.e2e.crew import Crew, get, serving
from tests.e2e.programs import free_ports

GOING_AWAY = 1001
CALLERS = 60
RUINED_SECONDS = 100

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def served_by(crew: Crew, number: int) -> Running:
    """One worker alone."""
    return Running(crew.process, crew.worker_url(number))


async def test_every_worker_serves_and_what_one_writes_the_other_tells(tmp_path: Path, postgres_database: str) -> None:
    async with serving(Home.below(tmp_path), postgres_database) as crew:
        assert len({crew.process.pid, *crew.pids(0), *crew.pids(1)}) == 3
        load = Load.of(3, seed=1)
        await load.enroll(served_by(crew, 0))
        acks = [await writer.write_once(crew.worker_url(1)) for writer in load.writers]
        await load.check_acknowledged(served_by(crew, 0))
        with trio.fail_after(START_SECONDS):
            await load.everything.follow(crew.worker_url(0), frozenset(ack.commit for ack in acks))
        assert await crew.count(0, "stratos_repository_committed_total") == 0
        assert await crew.count(1, "stratos_repository_committed_total") == len(acks)
        for task in ("retention", "publisher", "oauth"):
            leading = [await crew.count(number, f"stratos_leadership_{task}_leading") for number in range(2)]
            assert sorted(leading) == [0, 1], task


async def test_callers_are_spread_over_the_workers(tmp_path: Path, postgres_database: str) -> None:
    async with serving(Home.below(tmp_path), postgres_database) as crew:
        before = [await crew.count(number, "stratos_http_accepted_total") for number in range(2)]
        async with trio.open_nursery() as nursery:
            for _ in range(CALLERS):
                nursery.start_soon(get, f"{crew.url}/health")
        # Asking for the count is a connection too.
        served = [await crew.count(number, "stratos_http_accepted_total") - before[number] - 1 for number in range(2)]
        assert sum(served) == CALLERS
        assert min(served) >= CALLERS / 10, served


async def test_sigterm_under_load_drains_every_worker_in_time(tmp_path: Path, postgres_database: str) -> None:
    home, load = Home.below(tmp_path), Load.of(6, seed=2)
    idle = Subscriber(did=actor(2))
    async with serving(home, postgres_database) as crew:
        await load.enroll(crew.running)
        async with trio.open_nursery() as nursery:
            await nursery.start(idle.follow, crew.url)
            nursery.start_soon(load.run_until_death, crew.running)
            for writer in load.writers:
                await writer.first_answer.wait()
            # As a service manager does: to everybody of the group.
            with trio.fail_after(STOP_SECONDS):
                for pid in (crew.process.pid, *crew.pids(0), *crew.pids(1)):
                    os.kill(pid, signal.SIGTERM)
                assert await crew.process.wait() == 0
                await crew.ended.wait()
    for subscriber in (load.everything, load.first, idle):
        assert subscriber.close is not None
        assert subscriber.close.code == GOING_AWAY
    assert home.logged_errors() == []
    async with serving(home, postgres_database) as crew:
        await load.check_acknowledged(crew.running)
        await load.write_on(crew.running)


async def test_a_signal_to_the_whole_group_cuts_no_request_short(tmp_path: Path, postgres_database: str) -> None:
    body = orjson.dumps({"did": actor(0)})
    head = (
        f"POST /xrpc/zone.stratos.admin.enroll HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {ADMIN_PASSWORD}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    async with serving(Home.below(tmp_path), postgres_database) as crew:
        callers = [await trio.open_tcp_stream("127.0.0.1", crew.first_port + number) for number in range(2)]
        for caller in callers:
            await caller.send_all(head.encode() + body[:3])
        for pid in (*crew.pids(0), *crew.pids(1)):
            os.kill(pid, signal.SIGTERM)
        await crew.until(lambda: crew.said("stopping") == 2)
        crew.process.send_signal(signal.SIGTERM)
        await crew.until(lambda: crew.said("stopping") == 5)
        for caller in callers:
            await caller.send_all(body[3:])
            assert (await caller.receive_some()).startswith(b"HTTP/1.1 200 ")
            await caller.aclose()
        with trio.fail_after(STOP_SECONDS):
            assert await crew.process.wait() == 0


async def test_a_worker_that_dies_is_replaced_and_the_port_is_served_all_the_while(
    tmp_path: Path, postgres_database: str
) -> None:
    home = Home.below(tmp_path)
    async with serving(home, postgres_database) as crew:
        await enroll(crew.url, actor(0))
        writer = Load.of(1, seed=3).writers[0]
        (victim,) = crew.pids(0)
        os.kill(victim, signal.SIGKILL)
        answered = 0
        async with trio.open_nursery() as nursery:

            async def keep_asking() -> None:
                nonlocal answered
                while True:
                    answered += await health_answers(crew.url)
                    await writer.write_once(crew.worker_url(1))

            nursery.start_soon(keep_asking)
            assert await crew.replaced(0, victim) != victim
            nursery.cancel_scope.cancel()
        assert answered > 0
        assert (await get(f"{crew.worker_url(0)}/health")).status_code == httpx.codes.OK
        await Load([writer]).check_acknowledged(served_by(crew, 0))
        assert crew.pids(1) == crew.pids(1)[:1]


async def health_answers(url: str) -> bool:
    """Ask once; a connection that the dying process had accepted is reset, and nothing but that may happen."""
    try:
        return (await get(f"{url}/health")).is_success
    except (httpx.ReadError, httpx.RemoteProtocolError):
        return False


async def test_a_worker_that_dies_again_and_again_ends_the_whole_with_status_1(tmp_path: Path, postgres_database: str) -> None:
    home = Home.below(tmp_path)
    settings = {"STORAGE_BACKEND": "postgres", "STRATOS_POSTGRES_URL": postgres_database, "STRATOS_PG_ACTOR_POOL_SIZE": "8"}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        # The second worker finds the port taken that is to be its own.
        settings |= {"STRATOS_PORT": str(free_ports(1)[0]), "STRATOS_WORKER_PORT": str(taken.getsockname()[1] - 1)}
        async with home.command((*SERVE, "--workers", "2"), **settings) as (process, lines), trio.open_nursery() as nursery:
            nursery.start_soon(lines.drain)
            with trio.fail_after(RUINED_SECONDS):
                assert await process.wait() == 1
    said = home.log.read_text()
    assert f"Fatal error: task 'worker 1' failed again after {RESTART_BUDGET} restarts" in said
    assert "Traceback" not in said


async def test_workers_end_by_themselves_when_their_parent_is_killed(tmp_path: Path, postgres_database: str) -> None:
    home = Home.below(tmp_path)
    idle = Subscriber()
    async with serving(home, postgres_database) as crew:
        await enroll(crew.url, actor(0))
        async with trio.open_nursery() as nursery:
            await nursery.start(idle.follow, crew.url)
            os.kill(crew.process.pid, signal.SIGKILL)
            with trio.fail_after(STOP_SECONDS):
                await crew.ended.wait()
        assert crew.said("the parent process is gone, stopping") == 2
    assert idle.close is not None
    assert idle.close.code == GOING_AWAY
    assert home.logged_errors() == []


async def test_sqlite_is_refused_with_the_reason(tmp_path: Path) -> None:
    home = Home.below(tmp_path)
    async with home.command((*SERVE, "--workers", "2")) as (process, _):
        with trio.fail_after(START_SECONDS):
            assert await process.wait() == 1
    said = home.log.read_text()
    assert said == "Fatal error: --workers needs STORAGE_BACKEND=postgres: a SQLite data directory belongs to one process\n"
