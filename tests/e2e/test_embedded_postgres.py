"""The PostgreSQL of `stratos dev` and of the benchmarks."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest

from stratos.dev import RUNTIME_FOLDER, embedded_postgres

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def test_servers_of_one_process_follow_each_other_and_leave_its_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RUNTIME_FOLDER, raising=False)
    for _ in range(2):
        with TemporaryDirectory(prefix="stratos-embedded-", ignore_cleanup_errors=True) as folder:
            with embedded_postgres(Path(folder) / "postgres") as url, psycopg.connect(url) as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)
            assert RUNTIME_FOLDER not in os.environ
