"""The README's walk-through against the whole system: one process, real sockets, real PostgreSQL."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.e2e.programs import ADMIN_PASSWORD, running

EXAMPLE = Path(__file__).parents[2] / "examples" / "first_posts.py"

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def test_each_account_sees_exactly_what_it_should_and_sigterm_ends_it_cleanly(tmp_path: Path) -> None:
    with running("dev", tmp_path) as system:
        walk = subprocess.run(
            [
                sys.executable, str(EXAMPLE), "--service", system.service, "--appview", system.appview,
                "--admin-password", ADMIN_PASSWORD,
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )  # fmt: skip
        assert walk.returncode == 0, walk.stdout + walk.stderr + system.log.read_text()[-4000:]
        assert walk.stdout.endswith("Everybody saw exactly what they should.\n")
        ready = httpx.get(f"{system.indexer}/ready")
        assert (ready.status_code, ready.json()["status"]) == (200, "healthy")
        gauges = httpx.get(f"{system.service}/metrics").text
        for bounded in ("log_queue", "log_tail_bytes", "identity_documents_entries", "outgoing_waiting", "outgoing_plc_waiting"):
            assert f"\nstratos_{bounded}_limit " in gauges
        lag = re.search(
            r'^stratos_indexer_lag_seconds_count{service="[^"]+"} ([0-9.]+)$', httpx.get(f"{system.indexer}/metrics").text, re.M
        )
        assert lag is not None
        assert float(lag[1]) > 0
        assert system.stop() == 0
    log = system.log.read_text()
    assert "Traceback" not in log
    assert " error " not in log.lower(), log[-4000:]
    assert ADMIN_PASSWORD not in log
