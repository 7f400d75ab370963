"""Who may read the databases: the service's own user alone, whatever the umask says."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_OWNER_ONLY: Final = 0o600
_OWNER_ONLY_DIRECTORY: Final = 0o700
_BESIDE: Final = ("-wal", "-shm")
"""What SQLite keeps beside a database; it gives these files the database's own mode when it creates them."""


def private_directory(path: Path) -> Path:
    """Create a directory, or take one that is there, so that nobody else may look into it. Raises OSError."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(_OWNER_ONLY_DIRECTORY)
    return path


def private_database(path: Path) -> Path:
    """Create a database's file, empty, or take one that is there, so that nobody else may read it. Raises OSError."""
    path.touch(mode=_OWNER_ONLY)
    for file in (path, *(path.with_name(path.name + ending) for ending in _BESIDE)):
        if file.exists():
            file.chmod(_OWNER_ONLY)
    return path
