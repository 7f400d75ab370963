"""Leadership where there is only one process."""

from __future__ import annotations


class Unrivalled:
    """Implements `ports.Leadership`: always to be had, never lost."""

    def acquire(self) -> bool:
        """Had at once."""
        return True

    def held(self) -> bool:
        """Never lost."""
        return True

    def release(self) -> None:
        """Nobody waits for it."""
