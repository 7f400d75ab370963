"""What a benchmark reports: a figure beside its target."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure. `target` is in the same unit; `at_most` tells which side of it is good."""

    name: str
    value: float
    unit: str
    target: float | None = None
    at_most: bool = False
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.target is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target

    def as_json(self) -> dict[str, object]:
        """For `--json`."""
        fields = ("name", "value", "unit", "target", "met", "note")
        return {name: getattr(self, name) for name in fields}


def percentile(values: Iterable[float], share: float) -> float:
    """The value below which `share` (0..1) of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def print_figures(figures: Sequence[Figure]) -> None:
    """A table for people."""
    table = Table("benchmark", "measured", "target", "", "note")
    for figure in figures:
        sign = "≤" if figure.at_most else "≥"
        target = "" if figure.target is None else f"{sign} {figure.target:g} {figure.unit}"
        verdict = {True: "met", False: "[red]missed[/red]", None: ""}[figure.met]
        table.add_row(figure.name, f"{figure.value:.4g} {figure.unit}", target, verdict, figure.note)
    Console(width=150).print(table)
