"""Reads the catalogue: `I1.toml` to `I9.toml`, a file of mutants for each invariant of docs/INVARIANTS.md."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).parents[2]
INVARIANTS: Final = tuple(f"I{number}" for number in range(1, 10))


@dataclass(frozen=True, slots=True)
class Mutant:
    """One deliberate fault: `old`, which stands in `file` exactly once, becomes `new`, and one of `tests` (pytest's names) fails.

    `breaks` is the invariant that does not hold any more.
    """

    breaks: str
    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def apply(self, tree: Path) -> str:
        """Change the file below `tree`; returns what it was. Raises ValueError where `old` does not stand there exactly once."""
        path = tree / self.file
        before = path.read_text()
        if before.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.file} has {before.count(self.old)} times {self.old!r}")
        path.write_text(before.replace(self.old, self.new))
        return before


def mutants() -> list[Mutant]:
    """Every mutant, by invariant."""
    return [
        Mutant(invariant, entry["name"], entry["file"], entry["old"], entry["new"], tuple(entry["tests"]))
        for invariant in INVARIANTS
        for entry in tomllib.loads(Path(__file__).with_name(f"{invariant}.toml").read_text())["mutant"]
    ]
