"""Reading the body of an HTTP answer piece by piece, so that a limit can end it early."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import trio


async def read_chunks(chunks: AsyncIterator[bytes], take: Callable[[bytes], None]) -> None:
    """Give every chunk of a body to `take`; what it raises is raised here, and the rest of the body is left unread.

    httpx reads through nested generators, which only an error from the innermost one closes in order: hence the cancellation.
    """
    fault: Exception | None = None
    with trio.CancelScope() as reading:
        async for chunk in chunks:
            if fault is None:
                try:
                    take(chunk)
                except Exception as error:  # noqa: BLE001 - raised again below, once the reading has ended in order
                    fault = error
                    reading.cancel()
    if fault is not None:
        raise fault
