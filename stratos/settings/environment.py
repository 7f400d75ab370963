"""The variables that a process starts with: its environment, and the `.env` files around it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dotenv import dotenv_values

DOTENV: Final = ".env"


def read_environment(environ: Mapping[str, str], directory: Path) -> dict[str, str]:
    """The variables of `environ`, completed from `.env` in the parent of `directory`, then in `directory` itself.

    What is set already is never overridden: the environment wins over both files, the parent's file over the directory's
    (service spec §9.1). Values are taken as they stand, without expansion of `$NAME`.
    """
    variables = dict(environ)
    for file in (directory.resolve().parent / DOTENV, directory / DOTENV):
        for name, value in dotenv_values(file, interpolate=False).items():
            if value is not None:
                variables.setdefault(name, value)
    return variables
