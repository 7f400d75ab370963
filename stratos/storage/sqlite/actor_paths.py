"""Where an actor's files lie. The only place where a DID becomes a path (spec service.md §8.2)."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import Final

from stratos.atproto.syntax import Did
from stratos.storage.names import check_nameable

DATABASE_NAME: Final = "stratos.sqlite"
_MAX_NAME_BYTES: Final = 255
"""What the usual file systems allow for one name."""


def actor_directory(actors: Path, did: Did) -> Path:
    """The directory of one actor below `actors`: `<first two hex digits of SHA-256(did)>/<did>`.

    A DID too long for a file name stands there as its whole SHA-256. Raises InvalidSyntax as `check_nameable` does.
    """
    check_nameable(did)
    digest = sha256(did.encode("ascii")).hexdigest()
    return actors / digest[:2] / (did if len(did) <= _MAX_NAME_BYTES else digest)


def sync_directories(lowest: Path, *, highest: Path) -> None:
    """Make the entries of the directories from `lowest` up to `highest` durable."""
    directory = lowest
    while True:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if directory == highest:
            return
        directory = directory.parent
