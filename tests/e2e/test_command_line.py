"""The `stratos` command as an operator meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.e2e.programs import ADMIN_PASSWORD, Program, running

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

REI = "did:web:rei.example"


def run_stratos(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, with these settings and none of the environment."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("STRATOS_", "BSKY_"))}
    return subprocess.run(
        [sys.executable, "-m", "stratos.cli", *arguments],
        cwd=folder, env={**inherited, **environment}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_every_wrong_setting_of_a_start_is_named_at_once(tmp_path: Path) -> None:
    run = run_stratos(
        tmp_path, "serve", STRATOS_DEV_MODE="perhaps", STRATOS_PORT="http", STRATOS_BLOB_STORAGE="s3", STRATOS_SYNC_TOKEN="hush"
    )
    assert run.returncode == 1
    for name in ("STRATOS_SERVICE_DID", "STRATOS_DEV_MODE", "STRATOS_PORT", "STRATOS_S3_BUCKET"):
        assert f"  - {name}: " in run.stderr
    assert "hush" not in run.stderr


def test_a_second_service_on_a_data_directory_is_refused_with_the_reason(tmp_path: Path) -> None:
    with running("serve", tmp_path) as service:
        run = run_stratos(
            tmp_path, "serve", STRATOS_SERVICE_DID="did:web:stratos.test", STRATOS_DATA_DIR=str(tmp_path / "data"),
            STRATOS_PORT="1", STRATOS_HOST="127.0.0.1",
        )  # fmt: skip
        assert run.returncode == 1
        assert str(tmp_path / "data") in run.stderr
        assert httpx.get(f"{service.service}/health").status_code == httpx.codes.OK


def test_a_data_directory_that_cannot_be_made_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    run = run_stratos(
        tmp_path, "serve", STRATOS_SERVICE_DID="did:web:stratos.test", STRATOS_DATA_DIR=str(tmp_path / "file" / "data")
    )
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert line.startswith("Fatal error: ")
    assert str(tmp_path / "file") in line


def test_the_operator_enrolls_lists_changes_and_removes(tmp_path: Path) -> None:
    with running("serve", tmp_path) as service:
        enrolled = _admin(service, tmp_path, "enroll", REI, "writers", "--json")
        assert json.loads(enrolled.stdout)[0]["boundaries"] == ["did:web:stratos.test/writers"]
        changed = _admin(service, tmp_path, "boundaries", REI, "editors", "--json")
        assert json.loads(changed.stdout)[0]["boundaries"] == ["did:web:stratos.test/editors"]
        listed = json.loads(_admin(service, tmp_path, "list", "--json").stdout)
        assert [(each["did"], each["boundaries"]) for each in listed] == [(REI, ["did:web:stratos.test/editors"])]
        assert REI in _admin(service, tmp_path, "list").stdout
        assert _admin(service, tmp_path, "unenroll", REI, "--yes").returncode == 0
        assert json.loads(_admin(service, tmp_path, "list", "--json").stdout) == []


def test_what_the_service_refuses_is_said_in_its_own_words(tmp_path: Path) -> None:
    with running("serve", tmp_path) as service:
        wrong = _admin(service, tmp_path, "unenroll", REI, "--yes")
        assert wrong.returncode == 1
        assert f"user {REI} is not enrolled" in wrong.stderr
        locked = _admin(service, tmp_path, "list", password="wrong")
        assert locked.returncode == 1
        assert "Admin auth required" in locked.stderr
    unreachable = _admin(service, tmp_path, "list")
    assert unreachable.returncode == 1
    assert "does not answer" in unreachable.stderr


def _admin(service: Program, folder: Path, *arguments: str, password: str = ADMIN_PASSWORD) -> subprocess.CompletedProcess[str]:
    return run_stratos(
        folder, "admin", *arguments, STRATOS_PUBLIC_URL=service.service, STRATOS_ADMIN_PASSWORD=password, COLUMNS="200"
    )
