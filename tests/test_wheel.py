"""The built wheel, alone in an empty environment: it holds what it needs, starts, serves and stops."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest

ROOT: Final = Path(__file__).parents[1]
INSTALL_SECONDS: Final = 300
STOP_SECONDS: Final = 10
NO_NETWORK: Final = ("Retrying (", "Temporary failure in name resolution", "Network is unreachable")
"""What pip says when it cannot reach a package index."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(INSTALL_SECONDS + 60), pytest.mark.xdist_group("wheel")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built with the tools of this environment."""
    target = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(target), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (path,) = target.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of an environment that holds the wheel and what it asks for, nothing else."""
    home = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    command = [str(home / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", str(wheel)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS)
    said = answer.stdout + answer.stderr
    if answer.returncode and any(phrase in said for phrase in NO_NETWORK):
        pytest.skip("no package index can be reached, so the wheel's dependencies cannot be installed")
    assert answer.returncode == 0, said
    return home / "bin"


def own_environment(**variables: str) -> dict[str, str]:
    """Nothing of this process's environment but what every program needs."""
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **variables}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def test_the_wheel_holds_every_sql_file_and_lexicon_and_no_test(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    shipped = [path for folder in ("sql", "lexicons") for path in (ROOT / folder).rglob("*") if path.is_file()]
    assert shipped
    assert {f"stratos/{path.relative_to(ROOT).as_posix()}" for path in shipped} <= inside
    assert "stratos/py.typed" in inside
    assert {name.partition("/")[0] for name in inside if ".dist-info/" not in name} == {"stratos"}


def test_the_installed_package_uses_nothing_of_the_checkout(installed: Path, tmp_path: Path) -> None:
    program = "import stratos.resources as r; print(r.__file__, r.sql_directory(), r.lexicon_directory(), sep='\\n')"
    printed = subprocess.run(
        [str(installed / "python"), "-c", program],
        cwd=tmp_path,
        env=own_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    for line in printed.stdout.splitlines():
        assert Path(line).is_relative_to(installed.parent)


@pytest.fixture
def server(installed: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`stratos serve` from the wheel, listening, in a folder of its own; and its base URL."""
    port = free_port()
    environment = own_environment(
        STRATOS_SERVICE_DID="did:web:stratos.test",
        STRATOS_HOST="127.0.0.1",
        STRATOS_PORT=str(port),
        STRATOS_ALLOWED_DOMAINS="writers,editors",
        STRATOS_DATA_DIR=str(tmp_path / "data"),
    )
    errors = tmp_path / "stderr"
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            [str(installed / "stratos"), "serve"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["event"] == "stratos server started":
                break
        else:
            pytest.fail(f"the server ended with {process.wait()}: {errors.read_text()}")
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate()


def test_the_installed_service_starts_answers_and_stops_on_sigterm(server: tuple[subprocess.Popen[str], str]) -> None:
    process, url = server
    health = httpx.get(f"{url}/health")
    assert (health.status_code, health.json()["status"]) == (200, "ok")
    domains = httpx.get(f"{url}/xrpc/zone.stratos.server.listDomains")
    assert domains.status_code == 200
    assert [item.rpartition("/")[2] for item in domains.json()["domains"]] == ["writers", "editors"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=STOP_SECONDS) == 0


def test_a_start_without_settings_names_them_and_ends_with_1(installed: Path, tmp_path: Path) -> None:
    environment = own_environment(STRATOS_DEV_MODE="perhaps")
    answer = subprocess.run(
        [str(installed / "stratos"), "serve"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 1
    assert "  - STRATOS_SERVICE_DID: is required" in answer.stderr
    assert "  - STRATOS_DEV_MODE: must be true" in answer.stderr
