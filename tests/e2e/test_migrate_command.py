"""`stratos admin migrate` as an operator runs it: killed in the middle, several at once, beside services."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from stratos.storage.ports import SchemaCounts
from tests.e2e.programs import bare_environment, running
from tests.storage.builders import POSTS, RepoBuilder, did_of, post
from tests.storage.conftest import PostgresStorage, SqliteStorage, Storage
from tests.storage.steps import append, fill, picture
from tests.storage.test_migrations import newer_sql

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

ACCOUNTS = 12
DEATH = 5


class Command:
    """The command of a later version, upon storage that an earlier one has written."""

    def __init__(self, storage: Storage, folder: Path) -> None:
        newer_sql(folder / "sql")
        self._folder = folder
        self._settings = settings_of(storage)

    def start(self, *options: str, die_in: int = 0) -> subprocess.Popen[str]:
        """Begin to migrate."""
        program = [sys.executable, "-m", "tests.e2e.later_version", str(self._folder / "sql"), str(die_in)]
        return subprocess.Popen(
            [*program, "admin", "migrate", *options],
            env=bare_environment(self._settings), cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, *options: str, die_in: int = 0) -> tuple[int, str, str]:
        """Migrate; gives exit status, standard output and error."""
        process = self.start(*options, die_in=die_in)
        output, errors = process.communicate(timeout=60)
        return process.returncode, output, errors


def settings_of(storage: Storage) -> Mapping[str, str]:
    """What names this storage to our programs."""
    settings = {"STRATOS_SERVICE_DID": "did:web:stratos.test"}
    if isinstance(storage, PostgresStorage):
        return settings | {"STORAGE_BACKEND": "postgres", "STRATOS_POSTGRES_URL": storage.url}
    assert isinstance(storage, SqliteStorage)
    return settings | {"STRATOS_DATA_DIR": str(storage.directory)}


@pytest.fixture
def repos(storage: Storage) -> list[RepoBuilder]:
    """What an earlier version has written."""
    repos = [RepoBuilder(did_of(letter)) for letter in "abcdefghijkl"]
    backend = storage.open()
    append(backend, *(repo.enrolled() for repo in repos))
    for repo in repos:
        fill(backend, repo, repo.create(POSTS, "a", post("before")))
    storage.close()
    return repos


def test_a_run_that_is_killed_in_the_middle_is_taken_up_by_the_next(
    storage: Storage, repos: list[RepoBuilder], tmp_path: Path
) -> None:
    command = Command(storage, tmp_path)
    assert command.run(die_in=DEATH)[0] == -9
    status, output, _ = command.run("--json")
    assert (status, json.loads(output)) == (0, {"migrated": ACCOUNTS - DEATH + 1, "failed": {}})
    status, output, errors = command.run()
    assert (status, output) == (0, "0 stores migrated, 0 failed\n")
    assert "stores" in errors
    storage.close()
    backend = storage.open(sql=newer_sql(tmp_path / "same"))
    assert backend.actors.schemas() == SchemaCounts(outdated=0, newer=0)
    for repo in repos:
        held = picture(backend, repo.did)
        assert held is not None
        assert held.blocks == repo.blocks


def test_several_at_once_share_the_work(postgres_storage: PostgresStorage, tmp_path: Path) -> None:
    backend = postgres_storage.open()
    append(backend, *(RepoBuilder(did_of(letter)).enrolled() for letter in "abcdefghijkl"))
    command = Command(postgres_storage, tmp_path)
    both = [command.start("--json") for _ in range(2)]
    answers = [json.loads(process.communicate(timeout=60)[0]) for process in both]
    assert sum(answer["migrated"] for answer in answers) == ACCOUNTS
    assert [answer["failed"] for answer in answers] == [{}, {}]


def test_what_a_newer_version_wrote_is_refused_with_the_reason(
    storage: Storage, repos: list[RepoBuilder], tmp_path: Path
) -> None:
    assert Command(storage, tmp_path).run()[0] == 0
    earlier = subprocess.run(
        [sys.executable, "-m", "stratos.cli", "admin", "migrate"],
        env=bare_environment(settings_of(storage)), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert earlier.returncode == 1
    assert f"{ACCOUNTS} accounts' stores were written by a newer version of Stratos" in earlier.stderr
    assert "Traceback" not in earlier.stderr


def test_a_data_directory_that_a_service_has_is_left_alone(tmp_path: Path) -> None:
    with running("serve", tmp_path):
        command = Command(SqliteStorage(tmp_path / "data"), tmp_path)
        status, output, errors = command.run("--json")
    assert (status, output) == (1, "")
    assert "is in use by another Stratos process" in errors
