"""Naming an error in one line, for logs, statistics and whoever is told that something failed."""

from __future__ import annotations

from typing import Final

MAX_CHARACTERS: Final = 300


def describe(error: BaseException) -> str:
    """One line that names an error, or every error in a group; at most MAX_CHARACTERS."""
    line = "; ".join(f"{type(leaf).__name__}: {leaf}" for leaf in _leaves(error))
    return " ".join(line.split())[:MAX_CHARACTERS]


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for member in error.exceptions for leaf in _leaves(member)]
    return [error]
