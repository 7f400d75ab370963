"""The guards around every test: what `tests/conftest.py` must notice."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]

pytestmark = pytest.mark.xdist_group("guards")

SUSPECTS: Final = """
import logging, socket, threading, warnings

import pytest
import structlog

log = structlog.get_logger("suspect")


def test_logs_a_warning():
    log.warning("harmless")


def test_logs_an_error():
    log.error("bad")


def test_logs_an_exception_by_the_standard_library():
    try:
        raise ValueError
    except ValueError:
        logging.getLogger("suspect").exception("bad")


@pytest.mark.expects_error_log
def test_expects_the_error_that_it_logs():
    log.error("bad")


@pytest.mark.expects_error_log
def test_expects_an_error_that_never_comes():
    log.warning("harmless")


def test_logs_an_error_in_a_thread():
    thread = threading.Thread(target=log.error, args=("bad",))
    thread.start()
    thread.join()


def test_leaves_a_thread():
    threading.Thread(target=threading.Event().wait, args=(3.0,)).start()


def test_warns():
    warnings.warn("old")


def test_leaves_a_socket_open():
    socket.socket()


@pytest.mark.misspelt
def test_has_an_unknown_mark():
    pass
"""


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Test name to what pytest said about it: the worst of its phases."""
    folder = tmp_path_factory.mktemp("suspects")
    (folder / "conftest.py").write_text("from tests.conftest import error_log, no_left_over_threads\n")
    unknown_mark = SUSPECTS.index("@pytest.mark.misspelt")
    (folder / "test_suspects.py").write_text(SUSPECTS[:unknown_mark])
    (folder / "test_mark.py").write_text("import pytest\n\n\n" + SUSPECTS[unknown_mark:])
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        str(ROOT / "pyproject.toml"),
        "-rA",
        "-p",
        "no:randomly",
        "-p",
        "no:cacheprovider",
    ]
    output = subprocess.run(
        [*command, "--continue-on-collection-errors", str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    found: dict[str, str] = {}
    for verdict, name in re.findall(r"^(PASSED|FAILED|ERROR) \S*?(\w+)(?:\.py)?(?: - .*)?$", output, re.MULTILINE):
        if found.get(name, "PASSED") == "PASSED":
            found[name] = verdict
    return found


@pytest.mark.parametrize("name", ["test_logs_a_warning", "test_expects_the_error_that_it_logs"])
def test_what_is_right_passes(verdicts: dict[str, str], name: str) -> None:
    assert verdicts[name] == "PASSED"


@pytest.mark.parametrize(
    "name",
    [
        "test_logs_an_error",
        "test_logs_an_exception_by_the_standard_library",
        "test_expects_an_error_that_never_comes",
        "test_logs_an_error_in_a_thread",
        "test_leaves_a_thread",
        "test_warns",
        "test_leaves_a_socket_open",
        "test_mark",
    ],
)
def test_what_is_wrong_is_noticed(verdicts: dict[str, str], name: str) -> None:
    assert verdicts[name] in {"FAILED", "ERROR"}
