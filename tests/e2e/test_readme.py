"""The README's shell blocks under "First posts" are run as they stand, but for the addresses."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.e2e.programs import running

README = Path(__file__).parents[2] / "README.md"

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def test_the_first_posts_by_hand_do_what_the_readme_says(tmp_path: Path) -> None:
    section = README.read_text().split("## First posts", 1)[1].split("\n## ", 1)[0]
    example, *by_hand = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    assert "first_posts.py" in example
    with running("dev", tmp_path, {"STRATOS_ADMIN_PASSWORD": "stratos-dev"}) as system:
        script = "\n".join(by_hand)
        assert "http://localhost:3100" in script
        script = script.replace("http://localhost:3100", system.service).replace("http://localhost:3200", system.appview)
        run = subprocess.run(["bash", "-eu", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    *_, rei, kaoruko = run.stdout.strip().splitlines()
    assert "hello, writers" in rei
    assert '"feed":[]' in kaoruko
    assert "error" not in run.stdout
