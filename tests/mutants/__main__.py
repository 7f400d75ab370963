"""`make mutants`: applies each mutant to a copy of the checkout and runs its tests there, which must fail.

Arguments name the mutants to run; none means all. Ends with status 1 when one survives.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.mutants.catalogue import CHECKOUT, Mutant, mutants

COPIED: Final = ("stratos", "sql", "lexicons", "tests", "examples", "pyproject.toml", "docs")
MUTANT_SECONDS: Final = 180
"""For the tests of one mutant; one that keeps them busy for longer is taken for noticed."""
SOUND_SECONDS: Final = 1800
"""For all tests together, without any mutant."""
_FAILED: Final = 1
"""pytest's status where tests ran and failed; any other one is no verdict."""


def main(wanted: Iterable[str]) -> int:
    """Run the mutants of these names, or all."""
    names = set(wanted)
    chosen = [mutant for mutant in mutants() if not names or mutant.name in names]
    survivors: list[str] = []
    with TemporaryDirectory(prefix="stratos-mutants-") as folder:
        tree = Path(folder)
        for part in COPIED:
            source = CHECKOUT / part
            if source.is_dir():
                shutil.copytree(source, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, tree / part)
        if not _passes(tree, sorted({test for mutant in chosen for test in mutant.tests})):
            print("the tests fail without any mutant")
            return 1
        for mutant in chosen:
            killer = _killer(tree, mutant)
            print(f"{mutant.breaks}  {mutant.name}: {killer or 'SURVIVED'}", flush=True)
            if killer is None:
                survivors.append(mutant.name)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} killed")
    return 1 if survivors else 0


def _passes(tree: Path, tests: Iterable[str]) -> bool:
    return _pytest(tree, tests, SOUND_SECONDS).returncode == 0


def _killer(tree: Path, mutant: Mutant) -> str | None:
    """The test that noticed the mutant first; None where it survives."""
    before = mutant.apply(tree)
    try:
        run = _pytest(tree, mutant.tests, MUTANT_SECONDS)
    except subprocess.TimeoutExpired:
        return f"still busy after {MUTANT_SECONDS} s"
    finally:
        (tree / mutant.file).write_text(before)
    failed = [line.split()[1] for line in run.stdout.splitlines() if line.startswith("FAILED ")]
    return failed[0] if run.returncode == _FAILED and failed else None


def _pytest(tree: Path, tests: Iterable[str], seconds: float) -> subprocess.CompletedProcess[str]:
    """Run tests in a tree, whose packages come before the installed ones."""
    # SQLite alone of the two storage twins, whose one suite is the same: no mutant waits for a PostgreSQL that it does not need.
    options = ["-n", "0", "-x", "-q", "-p", "no:cacheprovider", "-k", "not [postgres]"]
    command = [sys.executable, "-m", "pytest", *options, *tests]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_PROFILE": "fast"}
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=seconds, check=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
