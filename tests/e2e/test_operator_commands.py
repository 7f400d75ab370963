"""`stratos admin` on the AppView's side, upon a real service and a real indexer that go on meanwhile."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg
import pytest

from stratos.indexer.appview_db import AppViewDbConfig
from tests.e2e.programs import ADMIN_PASSWORD, SYNC_TOKEN, Program, bare_environment, running
from tests.e2e.test_enrollment import POST, post_of

PAGE = (Path(__file__).parents[2] / "docs" / "OPERATIONS.md").read_text()

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

REI, SAKURA, KAORUKO, GHOST = (f"did:web:{name}.example" for name in ("rei", "sakura", "kaoruko", "ghost"))
WRITERS, EDITORS = "did:web:stratos.test/writers", "did:web:stratos.test/editors"
COLUMNS = 'uri, cid, rkey, creator, text, "replyRoot", "replyParent", embed, facets, langs, labels, tags, "createdAt"'


@dataclass
class System:
    """A service, an indexer that follows it, and a shell beside them."""

    folder: Path
    service: Program
    indexer: Program
    config: AppViewDbConfig
    environment: dict[str, str] = field(repr=False)

    def admin(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of `stratos admin`."""
        return subprocess.run(
            [sys.executable, "-m", "stratos.cli", "admin", *arguments],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip

    def shell(self, script: str, status: int = 0) -> str:
        """Run a block of the page as it stands; what it prints."""
        environment = {**self.environment, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "ACCOUNT": REI}
        done = subprocess.run(
            ["bash", "-euc", script],
            cwd=self.folder, env=environment, capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def told(self, *arguments: str, status: int = 0) -> dict[str, object]:
        """What a command prints as JSON."""
        done = self.admin(*arguments, "--json")
        assert done.returncode == status, done.stdout + done.stderr
        answer = json.loads(done.stdout)
        return answer if isinstance(answer, dict) else {"items": answer}

    def enroll(self, did: str, *boundaries: str) -> None:
        self._post("zone.stratos.admin.enroll", {"did": did, "boundaries": boundaries}, ADMIN_PASSWORD)

    def write(self, did: str, text: str) -> str:
        """A post to the writers; its URI."""
        return str(
            self._post("zone.stratos.repo.createRecord", {"repo": did, "collection": POST, "record": post_of(text)}, did)["uri"]
        )

    def sql(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        """Run a statement in the AppView's schema."""
        options = f"-c search_path={self.config.schema}"
        with psycopg.connect(self.config.url, options=options, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def rows(self, did: str) -> list[tuple[object, ...]]:
        """Everything of an account but when it was indexed."""
        held = "ARRAY(SELECT (boundary, b.creator) FROM stratos_post_boundary b WHERE b.uri = p.uri ORDER BY 1)"
        return self.sql(f"SELECT {COLUMNS}, {held} FROM stratos_post p WHERE uri LIKE %s ORDER BY uri", f"at://{did}/%")  # noqa: S608

    def blocked_after_an_attempt(self) -> dict[str, object]:
        """The one blocked account, as soon as the indexer has tried to mend it."""
        while True:  # another process's work can only be looked at again; the test's time limit ends this
            items = self.told("blocked")["items"]
            assert isinstance(items, list)
            (item,) = items
            if item["attempts"]:
                return dict(item)

    def _post(self, method: str, body: Mapping[str, object], bearer: str) -> dict[str, object]:
        url = f"{self.service.service}/xrpc/{method}"
        answer = httpx.post(url, json=body, headers={"Authorization": f"Bearer {bearer}"}).raise_for_status().json()
        assert isinstance(answer, dict)
        return answer

    @contextmanager
    def busy(self, *dids: str) -> Iterator[None]:
        """These accounts write one post after the other during the block, at least one each."""
        done, begun = threading.Event(), threading.Barrier(len(dids) + 1)

        def work(did: str) -> None:
            self.write(did, "first of many")
            begun.wait(30)
            while not done.wait(0.02):
                self.write(did, "one of many")

        threads = [threading.Thread(target=work, args=(did,)) for did in dids]
        for thread in threads:
            thread.start()
        begun.wait(30)
        try:
            yield
        finally:
            done.set()
            for thread in threads:
                thread.join()


@pytest.fixture
def system(tmp_path: Path, appview_db_config: AppViewDbConfig) -> Iterator[System]:
    (tmp_path / "index").mkdir()
    with running("serve", tmp_path, {"STRATOS_WRITE_RATE_MAX_WRITES": "100000"}) as service:
        settings = {
            "BSKY_DB_POSTGRES_URL": appview_db_config.url,
            "BSKY_DB_POSTGRES_SCHEMA": appview_db_config.schema,
            "STRATOS_SERVICE_URL": service.service,
            "STRATOS_SYNC_TOKEN": SYNC_TOKEN,
        }
        with running("index", tmp_path / "index", settings) as indexer:
            environment = {
                **bare_environment(settings),
                "STRATOS_PUBLIC_URL": service.service,
                "HEALTH_PORT": str(indexer.indexer_port),
                "COLUMNS": "250",
            }
            yield System(tmp_path, service, indexer, appview_db_config, environment)


def found(answer: Mapping[str, object]) -> set[tuple[str, str, str | None]]:
    differences = answer["differences"]
    assert isinstance(differences, list)
    return {(item["did"], item["kind"], item["uri"]) for item in differences}


def test_verify_finds_exactly_what_was_damaged_and_repair_mends_it_while_posts_keep_coming(system: System) -> None:
    system.enroll(REI, "writers", "editors")
    system.enroll(SAKURA, "writers")
    system.enroll(KAORUKO, "editors")
    edited, deleted, hidden, shown, changed, stolen = (system.write(REI, f"post {number}") for number in range(6))
    with system.busy(SAKURA):
        assert system.told("verify") == {"verified": 3, "differences": [], "marked": []}
        before = system.rows(REI)
        system.sql("UPDATE stratos_post SET text = 'forged' WHERE uri = %s", edited)
        system.sql("DELETE FROM stratos_post WHERE uri = %s", deleted)
        system.sql("DELETE FROM stratos_post_boundary WHERE uri = %s", hidden)
        system.sql(
            'INSERT INTO stratos_post_boundary SELECT uri, %s, creator, "sortAt" FROM stratos_post WHERE uri = %s', EDITORS, shown
        )
        system.sql("UPDATE stratos_post SET cid = 'bafyforged' WHERE uri = %s", changed)
        system.sql("UPDATE stratos_post SET creator = %s WHERE uri = %s", GHOST, stolen)
        surplus = f"at://{REI}/{POST}/3zzzzzzzzzzzz"
        system.sql(
            "INSERT INTO stratos_post (uri, rkey, creator, text) VALUES (%s, '3zzzzzzzzzzzz', %s, 'no such post')", surplus, REI
        )
        system.sql("UPDATE stratos_enrollment SET boundaries = %s WHERE did = %s", json.dumps([WRITERS]), KAORUKO)
        damage = {
            (REI, "different", edited),
            (REI, "missing", deleted),
            (REI, "boundaries", hidden),
            (REI, "boundaries", shown),
            (REI, "different", changed),
            (REI, "different", stolen),
            (REI, "boundaries", stolen),
            (REI, "surplus", surplus),
            (KAORUKO, "enrollment", None),
        }  # fmt: skip
        assert found(system.told("verify", REI, SAKURA, KAORUKO, status=1)) == damage
        assert found(system.told("verify", SAKURA)) == set()
        mending = system.told("verify", REI, SAKURA, KAORUKO, "--repair", status=1)
        assert (found(mending), mending["marked"]) == (damage, [KAORUKO, REI])
        assert system.told("reindex", REI, "--wait") == {"reindexed": [REI]}
        assert system.told("verify", REI, SAKURA, KAORUKO) == {"verified": 3, "differences": [], "marked": []}
    assert system.rows(REI) == before
    printed = system.admin("verify")
    assert (printed.returncode, "3 accounts compared, 0 differences" in printed.stdout) == (0, True), (
        printed.stdout + printed.stderr
    )


def test_reindex_of_all_mends_what_nobody_reported_while_posts_keep_coming(system: System) -> None:
    for did in (REI, SAKURA, KAORUKO):
        system.enroll(did, "writers")
        system.write(did, "the first")
    assert system.told("verify")["differences"] == []
    before = system.rows(REI)
    with system.busy(SAKURA):
        system.sql("UPDATE stratos_post SET text = 'forged' WHERE creator = %s", REI)
        system.sql("DELETE FROM stratos_enrollment WHERE did = %s", KAORUKO)
        system.sql("DELETE FROM stratos_sync_cursor WHERE did = %s", KAORUKO)
        system.sql("DELETE FROM stratos_post WHERE creator = %s", KAORUKO)
        assert system.told("reindex", "--all", "--wait") == {"reindexed": [KAORUKO, REI, SAKURA]}
        assert system.told("verify") == {"verified": 3, "differences": [], "marked": []}
    assert system.rows(REI) == before
    assert len(system.rows(KAORUKO)) == 1


def test_a_position_that_is_not_the_repository_s_is_found_and_repaired(system: System) -> None:
    for did in (REI, SAKURA):
        system.enroll(did, "writers")
        system.write(did, "the first")
    assert system.told("verify")["differences"] == []
    mistyped = system.admin("reindex", REI, GHOST)
    assert (mistyped.returncode, "Nothing was marked" in mistyped.stderr) == (1, True)
    assert system.told("blocked")["items"] == []
    system.sql("UPDATE stratos_sync_cursor SET rev = '3zzzzzzzzzzz2' WHERE did = %s", REI)
    assert found(system.told("verify", "--repair", status=1)) == {(REI, "ahead", None)}
    system.told("reindex", REI, "--wait")
    assert system.told("verify")["differences"] == []


def test_who_is_blocked_is_shown_with_the_reason_and_mended_when_the_service_is_back(system: System) -> None:
    system.enroll(REI, "writers")
    system.write(REI, "the first")
    assert system.told("verify")["differences"] == []
    assert system.service.stop() == 0
    assert system.told("reindex", REI) == {"marked": [REI]}
    waiting = system.blocked_after_an_attempt()
    assert (waiting["did"], str(waiting["since"]) < str(waiting["next_attempt"])) == (REI, True)
    assert "zone.stratos.enrollment.status" in str(waiting["reason"])
    shown = system.admin("blocked")
    assert shown.returncode == 0
    assert REI in shown.stdout
    assert "zone.stratos.enrollment.status" in shown.stdout
    refused = system.admin("verify", REI)
    assert refused.returncode == 1
    assert "unverified" in refused.stdout
    with running("serve", system.folder, service_port=system.service.port):
        assert system.told("reindex", REI, "--wait") == {"reindexed": [REI]}
        assert system.told("blocked")["items"] == []


def test_prune_deletes_whom_the_service_does_not_list_only_when_told_to(system: System) -> None:
    uri = f"at://{GHOST}/{POST}/3zzzzzzzzzzzz"
    system.sql("INSERT INTO stratos_post (uri, rkey, creator) VALUES (%s, '3zzzzzzzzzzzz', %s)", uri, GHOST)
    system.sql("INSERT INTO stratos_enrollment (did) VALUES (%s)", GHOST)
    refused = system.admin("prune", "--yes")
    assert (refused.returncode, "lists no account at all" in refused.stderr) == (1, True)
    assert len(system.rows(GHOST)) == 1
    system.enroll(REI, "writers")
    system.write(REI, "stays")
    assert system.told("verify", REI)["differences"] == []
    assert found(system.told("verify", status=1)) == {(GHOST, "surplus", None)}
    listed = [{"did": GHOST, "posts": 1}]
    assert system.told("prune") == {"unlisted": listed, "pruned": []}
    assert len(system.rows(GHOST)) == 1
    assert system.told("prune", "--yes") == {"unlisted": listed, "pruned": [GHOST]}
    assert system.rows(GHOST) == []
    assert system.sql("SELECT did FROM stratos_enrollment") == [(REI,)]
    assert len(system.rows(REI)) == 1


def test_lag_names_position_and_head_of_the_source(system: System) -> None:
    system.enroll(REI, "writers")
    system.write(REI, "the first")
    assert system.told("verify")["differences"] == []
    items = system.told("lag")["items"]
    assert isinstance(items, list)
    (source,) = items
    assert source["source"] == system.service.service
    assert source["position"] == source["head"] > 0
    assert (source["behind_seconds"], source["connected"], source["blocked"]) == (0, True, 0)
    assert source["half_within"] <= source["nearly_all_within"] <= 10
    assert system.indexer.stop() == 0
    system.write(REI, "nobody indexes it")
    unasked = system.admin("lag", "--json")
    assert f"{system.indexer.indexer}/metrics" in unasked.stderr
    (source,) = json.loads(unasked.stdout)
    assert source["behind_seconds"] > 0
    assert (source["connected"], source["half_within"]) == (None, None)


def test_a_command_in_the_wrong_place_says_what_it_needs(tmp_path: Path, postgres_url: str) -> None:
    settings = {
        "BSKY_DB_POSTGRES_URL": postgres_url,
        "BSKY_DB_POSTGRES_SCHEMA": "nobody_has_indexed_here",
        "STRATOS_SERVICE_URL": "http://127.0.0.1:9",
        "STRATOS_SYNC_TOKEN": SYNC_TOKEN,
    }

    def told(command: str, environment: Mapping[str, str]) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "stratos.cli", "admin", command],
            cwd=tmp_path, env=bare_environment(environment), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        return done.stderr

    assert "BSKY_DB_POSTGRES_URL: is required" in told("blocked", {})
    assert "BSKY_DB_POSTGRES_SCHEMA" in told("blocked", settings)


def test_the_page_for_operators_shows_and_mends_what_is_wrong(system: System) -> None:
    section = PAGE.split("## When the AppView is wrong\n", 1)[1].split("\n## ", 1)[0]
    look, mend, reindex, service_side = re.findall(r"^```sh\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    system.enroll(REI, "writers")
    uri = system.write(REI, "the first")
    system.shell(look)
    system.sql("UPDATE stratos_post SET text = 'forged' WHERE uri = %s", uri)
    system.shell(look, status=1)
    assert f" {uri} " in system.shell(mend)
    assert system.told("verify")["differences"] == []
    system.sql("UPDATE stratos_post SET text = 'forged' WHERE uri = %s", uri)
    system.shell(reindex)
    assert system.told("verify")["differences"] == []
    assert "account.car: 1 records" in system.shell(service_side)
