"""One process per data directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from stratos.storage.ports import DataDirectoryInUse


class DirectoryLock:
    """An advisory lock on `<directory>/lock`; the operating system releases it when the process ends, however it ends."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        """Use `DirectoryLock.acquire`."""
        self._descriptor: int | None = descriptor

    @classmethod
    def acquire(cls, directory: Path) -> DirectoryLock:
        """Lock a directory. Raises DataDirectoryInUse, naming it, when another opener has it."""
        path = directory / "lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            by = f" (process {holder})" if holder else ""
            raise DataDirectoryInUse(
                f"the data directory {directory} is in use by another Stratos process{by}; "
                "stop that one, or give this one a directory of its own"
            ) from error
        except BaseException:
            os.close(descriptor)
            raise
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        return cls(descriptor)

    def release(self) -> None:
        """Give the directory free; a second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
