"""What `stratos.client` offers is listed, documented, and shown by examples that run."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import stratos.client

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "CLIENT.md").read_text()
EXAMPLES = [(ROOT / "examples" / name).read_text() for name in ("client_tour.py", "verify_record.py")]


def test_everything_that_the_package_imports_is_listed_once() -> None:
    tree = ast.parse(Path(str(stratos.client.__file__)).read_text())
    imported = [alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(imported) == sorted(stratos.client.__all__)


def test_the_page_s_list_is_complete() -> None:
    listed = re.findall(r"`(\w+)`", PAGE.split("## Everything by name", 1)[1])
    assert sorted(listed) == sorted(stratos.client.__all__)


@pytest.mark.parametrize("name", stratos.client.__all__)
def test_every_name_says_what_it_is(name: str) -> None:
    thing = getattr(stratos.client, name)
    if not (inspect.isclass(thing) or inspect.isfunction(thing)):
        return  # a constant or a type alias
    assert thing.__doc__
    for method, value in vars(thing).items() if inspect.isclass(thing) else ():
        if not method.startswith("_") and inspect.isfunction(value):
            assert value.__doc__ or name in {"Fetch", "Did"}, f"{name}.{method}"


@pytest.mark.parametrize(
    "block", re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL), ids=lambda text: text.split("(")[0].split()[-1]
)
def test_the_page_shows_what_the_examples_run(block: str) -> None:
    assert any(block.strip() in example for example in EXAMPLES)


def test_the_library_brings_no_server_along() -> None:
    servers = {"quart", "hypercorn", "psycopg", "sqlite3", "authlib", "pydantic", "typer"}
    code = f"import sys, stratos.client; print(sorted({servers!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
