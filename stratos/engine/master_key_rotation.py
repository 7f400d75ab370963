"""Changing the master key, so that a death at any step leaves a store that opens. Decisions: docs/adr/0013-key-rotation.md."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stratos.engine.key_files import KEY_BYTES, KeyFault, read_or_create, replace_keys
from stratos.engine.keyring import Keyring
from stratos.engine.resealing import Progress, Resealed, reseal
from stratos.engine.service import LED_TASKS
from stratos.storage.ports import Backend, Leadership

ASKING_ATTEMPTS: Final = 10
ASKING_SECONDS: Final = 0.2
"""Between two questions for a right: that of a service which ended a moment ago is free when the server has noticed."""


def rotate_master_key(
    file: Path | None,
    keyring: Callable[[], Keyring],
    backend: Backend,
    *,
    progress: Progress,
    pause: Callable[[float], None] = time.sleep,
) -> Resealed:
    """Seal everything under a new master key; what an earlier run left undone is gone on with.

    With the key in a `file`: a new key goes before the former one there, and when nothing hangs on the former one any more it is
    dropped; nobody else may use the store meanwhile, since whoever runs knows the keys of its start. None where settings hold
    both keys. `keyring` reads the keys anew. Values that no key opens keep the former key where it is.

    Raises KeyFault, StorageFault, StillSealing.
    """
    if file is None:
        return reseal(backend.sealed, keyring(), progress=progress)
    with _alone(backend, pause):
        ring = read_or_create(file, os.urandom(KEY_BYTES))
        if not ring.former:
            replace_keys(file, os.urandom(KEY_BYTES), ring.current)
        outcome = reseal(backend.sealed, keyring(), progress=progress)
        if not outcome.unreadable:
            replace_keys(file, read_or_create(file, b"").current)
        return outcome


@contextmanager
def _alone(backend: Backend, pause: Callable[[float], None]) -> Iterator[None]:
    """Hold what every running service of a shared store has in turn. Raises KeyFault where one runs."""
    rights = [backend.leadership(name) for name in LED_TASKS]
    try:
        if not all(_acquired(right, pause) for right in rights):
            raise KeyFault(
                "a service is running upon this store: stop it, or give it both keys by STRATOS_MASTER_KEY and "
                "STRATOS_MASTER_KEY_PREVIOUS"
            )
        yield
    finally:
        for right in rights:
            right.release()


def _acquired(right: Leadership, pause: Callable[[float], None]) -> bool:
    for _ in range(ASKING_ATTEMPTS):
        if right.acquire():
            return True
        pause(ASKING_SECONDS)
    return False
