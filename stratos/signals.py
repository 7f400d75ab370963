"""Stopping: the first SIGTERM or SIGINT asks for a clean stop, a second one does not wait for it."""

from __future__ import annotations

import signal

import structlog
import trio

log = structlog.stdlib.get_logger(__name__)


async def watch_signals(
    stop: trio.Event, deadline_seconds: float, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Set `stop` at the first signal.

    Raises StopOverdue when the process still runs `deadline_seconds` later, or at a second signal.
    """
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            log.info("stopping", signal=signal.Signals(number).name)
            stop.set()
            break
        with trio.move_on_after(deadline_seconds):
            async for _ in signals:
                break
        raise StopOverdue


class StopOverdue(Exception):
    """The clean stop took too long, or was asked for twice."""
