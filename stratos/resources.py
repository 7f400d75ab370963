"""Where the SQL files and lexicons lie: inside the installed package, or beside it in a checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_PACKAGE: Final = Path(__file__).parent


class MissingResource(Exception):
    """The installation is incomplete: a folder that is shipped with the package is not there."""


def sql_directory() -> Path:
    """The folder of schemas and statements, by database and dialect. Raises MissingResource."""
    return _directory("sql")


def lexicon_directory() -> Path:
    """The folder of lexicon documents. Raises MissingResource."""
    return _directory("lexicons")


def _directory(name: str) -> Path:
    for parent in (_PACKAGE, _PACKAGE.parent):
        directory = parent / name
        if directory.is_dir():
            return directory
    raise MissingResource(f"the folder {name!r} is neither in {_PACKAGE} nor in {_PACKAGE.parent}")
