"""Tasks that run in one process of several: retention, the publisher, the care of OAuth sessions (design §3).

The right to run is an advisory lock of the database, held by a connection: when its holder dies, the server gives it to the next
who asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import structlog
import trio

from stratos.engine.store_reads import StoreReads
from stratos.engine.supervisor import SupervisedTask
from stratos.storage.ports import Backend, Leadership, StorageFault

CHECK_SECONDS: Final = 1.0
"""Between two looks at whether the right is to be had, or still ours."""

log = structlog.get_logger(__name__)


class LedTask:
    """A task under the supervisor that runs while this process has the right to it, and waits for the right otherwise."""

    def __init__(self, name: str, task: SupervisedTask, *, backend: Backend, reads: StoreReads) -> None:
        self._name = name
        self._task = task
        self._backend = backend
        self._reads = reads
        self._leading = False
        self._taken = 0

    async def run(self, *, task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED) -> None:
        """Lead whenever nobody else does, until cancelled or until the task fails; what it raises passes through."""
        task_status.started()
        while True:
            right = self._backend.leadership(self._name)
            try:
                if await self._acquired(right):
                    await self._lead(right)
            finally:
                self._leading = False
                right.release()
            await trio.sleep(CHECK_SECONDS)

    def statistics(self) -> Mapping[str, int]:
        """Whether this process leads (1 or 0), and how often it began to."""
        return {"leading": int(self._leading), "taken_total": self._taken}

    async def _acquired(self, right: Leadership) -> bool:
        """Wait for the right, over one connection: to make one costs the server a process. False where it cannot be asked for."""
        try:
            while not await self._reads(right.acquire):  # noqa: ASYNC110 - the server is asked; nobody in this process knows
                await trio.sleep(CHECK_SECONDS)
        except StorageFault as fault:
            log.warning("leadership cannot be asked for", task=self._name, error=str(fault))
            return False
        return True

    async def _lead(self, right: Leadership) -> None:
        self._leading = True
        self._taken += 1
        log.info("leading", task=self._name)
        async with trio.open_nursery() as nursery:
            await nursery.start(self._run_task)
            while await self._still_held(right):  # noqa: ASYNC110 - the server is asked; nobody in this process knows
                await trio.sleep(CHECK_SECONDS)
            log.warning("leadership lost", task=self._name)
            nursery.cancel_scope.cancel()

    async def _run_task(self, *, task_status: trio.TaskStatus[object]) -> None:
        await self._task(task_status=task_status)

    async def _still_held(self, right: Leadership) -> bool:
        try:
            return await self._reads(right.held)
        except StorageFault:
            return False
