"""Frames between the socket and their decoder: bounded by count and by bytes, taken in lists."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import trio


class FrameInbox:
    """One putter, one taker. When it is full the putter waits, and with it the socket, and with that the sender."""

    def __init__(self, *, max_frames: int, max_bytes: int) -> None:
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._closed = False
        self._room = trio.lowlevel.ParkingLot()
        self._filled = trio.lowlevel.ParkingLot()

    async def put(self, frame: bytes) -> None:
        """Add a frame, waiting for room; a frame that is larger than the whole inbox goes in when it is empty."""
        while self._frames and (len(self._frames) >= self._max_frames or self._bytes + len(frame) > self._max_bytes):
            await self._room.park()
        self._frames.append(frame)
        self._bytes += len(frame)
        self._filled.unpark()

    def close(self) -> None:
        """No more frames will come; the taker gets what is left."""
        self._closed = True
        self._filled.unpark_all()

    async def take(self, limit: int) -> list[bytes]:
        """What is waiting, at most `limit` frames, at least one; empty only at the end."""
        while not self._frames and not self._closed:
            await self._filled.park()
        taken = [self._frames.popleft() for _ in range(min(limit, len(self._frames)))]
        self._bytes -= sum(map(len, taken))
        self._room.unpark()
        return taken

    def statistics(self) -> Mapping[str, int]:
        """Gauges: frames and bytes waiting, and their limits."""
        return {
            "pending_frames": len(self._frames),
            "pending_frames_limit": self._max_frames,
            "pending_bytes": self._bytes,
            "pending_bytes_limit": self._max_bytes,
        }
