"""The firehose: every subscriber is a cursor plus a wake-up (design §4).

Frames are encoded once, at append; a subscriber reads them from the log's tail in memory, or from the log where it lies further
back. What a boundary-scoped subscriber may see is decided by `core.view` alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
import trio

from stratos.atproto.frames import encode_info
from stratos.atproto.syntax import Did
from stratos.core.boundaries import Boundary
from stratos.core.log_codec import entry_frame
from stratos.core.log_entry import EnrollmentAction, EnrollmentEntry, EntryKind, LoggedEntry
from stratos.core.view import in_view
from stratos.engine.commit_log import CommitLog
from stratos.engine.store_reads import StoreReads
from stratos.storage.ports import Backend, StorageFault

_log = structlog.get_logger(__name__)

SendFrame = Callable[[bytes], Awaitable[None]]

_CHUNK_FRAMES: Final = 50
"""Frames per send deadline; so many may still be sent of an account that leaves meanwhile."""
_PAGE_ENTRIES: Final = 250
_PAGE_BYTES: Final = 1024 * 1024
_REPLAY_PAGE: Final = 50


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """What a subscriber asks for; who may ask was decided before.

    `did`: this actor's commits. Without it: enrollments, and with `include_commits` every actor's commits too.
    `cursor`: the last `seq` seen; None and 0 are the beginning. `domains`: only what lies in these boundaries; None for all.
    """

    did: Did | None = None
    cursor: int | None = None
    domains: frozenset[Boundary] | None = None
    include_commits: bool = False


@dataclass(frozen=True, slots=True)
class _Page:
    """Entries from the log, the position after them, and whether entries after the position before them have been trimmed."""

    entries: list[LoggedEntry]
    position: int
    outdated: bool


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """Why a stream ended: `error` is the name for the error frame; None at shutdown of the service."""

    error: str | None
    message: str


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Subscribers at once, and the seconds within which a subscriber must take a chunk of frames."""

    max_subscribers: int = 1_000
    send_timeout: float = 30.0


class Firehose:
    """Serves subscribers from the log; each runs in its caller's task."""

    def __init__(self, backend: Backend, log: CommitLog, *, reads: StoreReads, service_url: str, limits: StreamLimits) -> None:
        self._backend = backend
        self._log = log
        self._reads = reads
        self._service_url = service_url
        self._limits = limits
        self._open: set[trio.CancelScope] = set()
        self._closing = False
        self._frames = self._too_slow = 0

    async def serve(self, request: StreamRequest, send: SendFrame) -> StreamEnd:
        """Send frames until the subscriber is refused, falls behind, or the service closes its streams.

        Errors of `send` pass through to the caller. Cancellation ends the stream at once.
        """
        if self._closing:
            return StreamEnd(None, "the service is shutting down")
        if len(self._open) >= self._limits.max_subscribers:
            return StreamEnd("TooManySubscribers", "No more subscribers are served at the moment")
        with trio.CancelScope() as scope:
            # Before anything is waited for, so that those who come together count each other.
            self._open.add(scope)
            try:
                return await self._refusal(request) or await self._stream(request, send)
            except StorageFault as fault:
                _log.warning("a stream ends with a fault of the store", error=str(fault))
                return StreamEnd("ServiceUnavailable", "The log cannot be read at the moment, try again in a few seconds")
            finally:
                self._open.discard(scope)
        return StreamEnd(None, "the service is shutting down")

    def close(self) -> None:
        """End every open stream and refuse new ones: the service is shutting down."""
        self._closing = True
        for scope in list(self._open):
            scope.cancel()

    def statistics(self) -> Mapping[str, int]:
        """Gauges and counters: subscribers and their limit, frames sent, subscribers dropped for slowness."""
        return {
            "subscribers": len(self._open),
            "subscribers_limit": self._limits.max_subscribers,
            "frames_total": self._frames,
            "too_slow_total": self._too_slow,
        }

    async def _refusal(self, request: StreamRequest) -> StreamEnd | None:
        if request.did is not None and await self._reads(partial(self._backend.log.repo_head, request.did)) is None:
            return StreamEnd("NotFound", "Account not found")
        if request.cursor is not None and request.cursor > self._log.head and request.cursor > await self._latest_head():
            return StreamEnd("FutureCursor", "Cursor is in the future")
        return None

    async def _latest_head(self) -> int:
        """The log's head by the store: a cursor from another process may be ahead of what this one has heard of yet."""
        if self._backend.shared:
            await self._log.catch_up()
        return self._log.head

    async def _stream(self, request: StreamRequest, send: SendFrame) -> StreamEnd:
        if request.did is None and not request.include_commits:
            position = self._log.head
            ended = await self._replay_enrollments(position, request, send)
            if ended is not None:
                return ended
        else:
            position = request.cursor or 0
        live = False
        while True:
            purges = self._log.purges
            entries = self._log.tail_after(position, _PAGE_ENTRIES)
            if entries is None:
                if live:
                    return self._slow("The subscriber fell behind the recent part of the log")
                page = await self._reads(partial(self._page_from_log, position, request))
                if page.outdated:
                    text = f"Cursor {position} is too old, some events may be missed"
                    await self._send_chunk([encode_info("OutdatedCursor", text)], send)
                entries = page.entries
                if not entries:
                    position = page.position
            elif not entries:
                live = True
                await self._log.wait_beyond(position)
            for start in range(0, len(entries), _CHUNK_FRAMES):
                if self._log.purges != purges:
                    break  # What was read may be of an account that has left meanwhile: it is read again, without that (I7).
                chunk = entries[start : start + _CHUNK_FRAMES]
                ended = await self._send_entries(chunk, request, send)
                if ended is not None:
                    return ended
                position = chunk[-1].seq

    def _page_from_log(self, position: int, request: StreamRequest) -> _Page:
        """A page of the log. The position after it is its last entry, or the head where nothing more is of interest.

        What was trimmed is asked for with each page, after it was read: retention goes on while a long backlog is replayed.
        """
        log, head = self._backend.log, self._log.head
        kind = None if request.did is not None or request.include_commits else EntryKind.ENROLLMENT
        page = log.after(position, limit=_PAGE_ENTRIES, max_bytes=_PAGE_BYTES, did=request.did, kind=kind)
        return _Page(page, page[-1].seq if page else max(position, head), log.outdated(position, request.did))

    async def _send_entries(self, entries: list[LoggedEntry], request: StreamRequest, send: SendFrame) -> StreamEnd | None:
        frames: list[bytes] = []
        unenrolled = False
        for entry in entries:
            if request.did is not None:
                if entry.did != request.did:
                    continue
                if entry.kind is EntryKind.ENROLLMENT:
                    unenrolled = unenrolled or await self._reads(partial(self._backend.log.repo_head, request.did)) is None
                    continue
            elif entry.kind is EntryKind.COMMIT and not request.include_commits:
                continue
            frame = entry.frame if request.domains is None else in_view(entry, request.domains)
            if frame is not None:
                frames.append(frame)
        if not await self._send_chunk(frames, send):
            return self._slow("The subscriber did not take its frames in time")
        await trio.lowlevel.checkpoint()
        return StreamEnd("NotFound", "Account is no longer enrolled") if unenrolled else None

    async def _replay_enrollments(self, seq: int, request: StreamRequest, send: SendFrame) -> StreamEnd | None:
        """Every active enrollment as an `enroll`, in DID order; changes since `seq` follow from the log."""
        after: Did | None = None
        while enrollments := await self._reads(
            partial(self._backend.enrollments.page, after=after, limit=_REPLAY_PAGE, active_only=True)
        ):
            after = enrollments[-1].did
            page = [
                LoggedEntry(seq, enrollment.did, EntryKind.ENROLLMENT, entry_frame(entry, seq, enrollment.enrolled_at))
                for enrollment in enrollments
                for entry in [EnrollmentEntry(enrollment.did, EnrollmentAction.ENROLL, self._service_url, enrollment)]
            ]
            ended = await self._send_entries(page, request, send)
            if ended is not None:
                return ended
        return None

    async def _send_chunk(self, frames: list[bytes], send: SendFrame) -> bool:
        """Send frames within one deadline; False when the subscriber did not take them."""
        with trio.move_on_after(self._limits.send_timeout):
            for frame in frames:
                await send(frame)
            self._frames += len(frames)
            return True
        return False

    def _slow(self, message: str) -> StreamEnd:
        self._too_slow += 1
        return StreamEnd("ConsumerTooSlow", message)
