"""`stratos keys` beside real services: on SQLite, and on PostgreSQL while the service runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from tests.e2e.programs import ADMIN_PASSWORD, running
from tests.e2e.test_enrollment import POST, post_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

SERVICE = "did:web:stratos.test"


def stratos(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command beside the data of a service."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STRATOS_")}
    settings = {"STRATOS_SERVICE_DID": SERVICE, "STRATOS_DATA_DIR": str(folder / "data"), **more}
    return subprocess.run(
        [sys.executable, "-m", "stratos.cli", *arguments],
        cwd=folder, env={**inherited, **settings}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def told(folder: Path, *arguments: str, **more: str) -> Mapping[str, object]:
    """What a command prints as JSON; fails the test where it fails."""
    done = stratos(folder, *arguments, "--json", **more)
    assert done.returncode == 0, done.stderr
    facts: Mapping[str, object] = json.loads(done.stdout)
    return facts


def test_a_master_key_that_is_not_the_store_s_ends_the_start_by_name(tmp_path: Path) -> None:
    with running("serve", tmp_path) as program:
        body = {"did": "did:web:rei.example"}
        url = f"{program.service}/xrpc/zone.stratos.admin.enroll"
        httpx.post(url, json=body, auth=("admin", ADMIN_PASSWORD)).raise_for_status()
    (tmp_path / "data" / "master_key").chmod(0o644)
    refused = stratos(tmp_path, "serve")
    assert (refused.returncode, "master_key: others than its owner" in refused.stderr) == (1, True), refused.stderr
    (tmp_path / "data" / "master_key").unlink()
    refused = stratos(tmp_path, "serve")
    assert (refused.returncode, "master_key: is not the key" in refused.stderr) == (1, True), refused.stderr


def test_the_master_key_of_settings_is_rotated_while_the_service_runs(postgres_database: str, tmp_path: Path) -> None:
    old, new = "0a" * 32, "0b" * 32
    store = {"STORAGE_BACKEND": "postgres", "STRATOS_POSTGRES_URL": postgres_database, "STRATOS_PG_ACTOR_POOL_SIZE": "8"}
    did = "did:web:rei.example"
    url, headers = "/xrpc/zone.stratos.repo.createRecord", {"authorization": f"Bearer {did}"}
    body = {"repo": did, "collection": POST, "record": post_of("written with whichever key")}
    with running("serve", tmp_path, {**store, "STRATOS_MASTER_KEY": old}) as program:
        enroll = f"{program.service}/xrpc/zone.stratos.admin.enroll"
        httpx.post(enroll, json={"did": did}, auth=("admin", ADMIN_PASSWORD)).raise_for_status()
        httpx.post(program.service + url, json=body, headers=headers).raise_for_status()
    both = {**store, "STRATOS_MASTER_KEY": new, "STRATOS_MASTER_KEY_PREVIOUS": old}
    unset = stratos(tmp_path, "keys", "rotate-master", **{**store, "STRATOS_MASTER_KEY": old})
    assert (unset.returncode, "STRATOS_MASTER_KEY_PREVIOUS" in unset.stderr) == (1, True)
    with running("serve", tmp_path, both) as program:
        httpx.post(program.service + url, json=body, headers=headers).raise_for_status()
        assert told(tmp_path, "keys", "rotate-master", **both)["resealed"] == 1
        httpx.post(program.service + url, json=body, headers=headers).raise_for_status()
        assert told(tmp_path, "keys", "rotate-master", **both)["resealed"] == 0
    with running("serve", tmp_path, {**store, "STRATOS_MASTER_KEY": new}) as program:
        httpx.post(program.service + url, json=body, headers=headers).raise_for_status()
    refused = stratos(tmp_path, "serve", **{**store, "STRATOS_MASTER_KEY": old})
    assert (refused.returncode, "STRATOS_MASTER_KEY: is not the key" in refused.stderr) == (1, True), refused.stderr
