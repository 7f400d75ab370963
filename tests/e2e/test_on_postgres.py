"""The whole system upon PostgreSQL alone: service, indexer and AppView as processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from psycopg.conninfo import make_conninfo

from tests.e2e.programs import ADMIN_PASSWORD, running
from tests.e2e.test_command_line import run_stratos
from tests.e2e.test_first_posts import EXAMPLE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def test_three_processes_show_each_account_what_it_should_see_and_end_cleanly(
    postgres_database: str, postgres_url: str, postgres_schema: str, tmp_path: Path
) -> None:
    """The service has a database of its own, the indexer and the AppView share a schema of another one."""
    service_settings = {"STORAGE_BACKEND": "postgres", "STRATOS_POSTGRES_URL": postgres_database}
    feeds = {"BSKY_DB_POSTGRES_URL": postgres_url, "BSKY_DB_POSTGRES_SCHEMA": postgres_schema, "BSKY_DB_POOL_SIZE": "8"}
    with running("serve", tmp_path, service_settings) as service:
        follows = {
            **feeds,
            "STRATOS_SERVICE_URL": service.service,
            "STRATOS_PUBLIC_URL": f"http://localhost:{service.port}",
        }
        with running("index", tmp_path, follows) as indexer, running("appview", tmp_path, follows) as appview:
            walk = subprocess.run(
                [
                    sys.executable, str(EXAMPLE), "--service", service.service, "--appview", appview.appview,
                    "--admin-password", ADMIN_PASSWORD,
                ],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )  # fmt: skip
            logs = [program.log for program in (service, indexer, appview)]
            assert walk.returncode == 0, walk.stdout + walk.stderr + "".join(log.read_text()[-4000:] for log in logs)
            assert walk.stdout.endswith("Everybody saw exactly what they should.\n")
            assert httpx.get(f"{indexer.indexer}/ready").status_code == httpx.codes.OK
            assert [program.stop() for program in (appview, indexer, service)] == [0, 0, 0]
    assert not list((tmp_path / "data").rglob("*.sqlite*")), "nothing is kept beside the database"
    for log in logs:
        text = log.read_text()
        assert "Traceback" not in text
        assert " error " not in text.lower(), text[-4000:]
        assert ADMIN_PASSWORD not in text


def test_a_start_upon_a_database_that_will_not_do_ends_with_one_line_that_says_why(
    postgres_database: str, tmp_path: Path
) -> None:
    run = run_stratos(
        tmp_path, "serve", STRATOS_SERVICE_DID="did:web:stratos.test", STRATOS_DATA_DIR=str(tmp_path / "data"),
        STRATOS_HOST="127.0.0.1", STORAGE_BACKEND="postgres",
        STRATOS_POSTGRES_URL=make_conninfo(postgres_database, options="-c search_path=nowhere"),
    )  # fmt: skip
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert line.startswith("Fatal error: PostgreSQL startup preflight failed: no schema of the search path exists. database=")
    assert line.endswith("hasSchemaUsage=false, hasSchemaCreate=false")
