"""The external list of accounts that may enroll: a text at an address of the operator's, and a Valkey set beside it.

Source: service spec §4.1.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Protocol

import structlog
import trio
from structlog.typing import FilteringBoundLogger

from stratos.atproto.syntax import Did
from stratos.engine.identity import Answer, OutgoingError

REFRESH_SECONDS: Final = 600.0
RETRY_SECONDS: Final = 60.0
"""Until the next attempt after one that failed."""
LOAD_SECONDS: Final = 30.0
MAX_LIST_BYTES: Final = 16 * 1024 * 1024
"""Some half a million DIDs."""
_OK: Final = 200
_DID_PREFIX: Final = "did:"

_log: FilteringBoundLogger = structlog.get_logger(__name__)


class ListFault(Exception):
    """The list could not be fetched, or the shared set not be asked; the message says why."""


class ListSource(Protocol):
    """Requests for the list; `OutgoingHttp` is one."""

    async def request(self, method: str, url: str, *, max_bytes: int | None = None, total_timeout: float | None = None) -> Answer:
        """Ask and read the whole answer, whatever its status. Raises OutgoingError."""
        ...


class SharedSet(Protocol):
    """A set of DIDs that several programs share; `ValkeySet` is one."""

    async def replace(self, dids: Collection[Did]) -> None:
        """Make these its members. Raises ListFault."""
        ...

    async def contains(self, did: Did) -> bool:
        """Whether it has this member. Raises ListFault."""
        ...


class AllowList:
    """Knows the list as it was last read. An outage keeps it; before the first success it is empty, so that nobody is on it."""

    def __init__(self, *, url: str | None = None, http: ListSource | None = None, shared: SharedSet | None = None) -> None:
        """`url` is where the list is, asked over `http`; without it the list is what `shared` holds."""
        if url is not None and http is None:
            raise ValueError("a list at an address needs requests to it")
        self._url = url
        self._http = http
        self._shared = shared
        self._dids: frozenset[Did] = frozenset()
        self._loads = self._failures = self._shared_failures = 0

    async def contains(self, did: Did) -> bool:
        """Whether the account is on the list, or in the shared set where there is one; False while that cannot be asked."""
        if did in self._dids:
            return True
        if self._shared is None:
            return False
        try:
            return await self._shared.contains(did)
        except ListFault as fault:
            self._shared_failures += 1
            _log.warning("the shared allow list cannot be asked", error=str(fault))
            return False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read the list again and again until cancelled; reports its start after the first attempt, whatever came of it."""
        if self._url is None:
            task_status.started()
            await trio.sleep_forever()
        loaded = await self._load()
        task_status.started()
        while True:
            await trio.sleep(REFRESH_SECONDS if loaded else RETRY_SECONDS)
            loaded = await self._load()

    def statistics(self) -> Mapping[str, int]:
        """Gauges and counters: accounts on the list, the limit of its size, how often it was read, and what failed."""
        return {
            "accounts": len(self._dids),
            "bytes_limit": MAX_LIST_BYTES,
            "loads_total": self._loads,
            "failures_total": self._failures,
            "shared_failures_total": self._shared_failures,
        }

    async def _load(self) -> bool:
        try:
            dids = await self._fetch()
        except ListFault as fault:
            self._failures += 1
            _log.warning("the allow list could not be read; the last one stands", accounts=len(self._dids), error=str(fault))
            return False
        self._dids = dids
        self._loads += 1
        _log.info("allow list read", accounts=len(dids))
        if self._shared is not None and dids:
            try:
                await self._shared.replace(dids)
            except ListFault as fault:
                self._shared_failures += 1
                _log.warning("the shared allow list could not be written", error=str(fault))
        return True

    async def _fetch(self) -> frozenset[Did]:
        """The list as it is now. Raises ListFault."""
        if self._url is None or self._http is None:
            raise AssertionError("asked only where there is an address")
        try:
            answer = await self._http.request("GET", self._url, max_bytes=MAX_LIST_BYTES, total_timeout=LOAD_SECONDS)
        except OutgoingError as error:
            raise ListFault(str(error)) from error
        if answer.status != _OK:
            raise ListFault(f"the list's address answers {answer.status}")
        return read_list(answer.body)


def read_list(body: bytes) -> frozenset[Did]:
    """The DIDs of a list: one a line, trimmed; lines that do not begin with `did:` say nothing. Raises ListFault."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise ListFault("the list is not UTF-8") from error
    lines = (line.strip() for line in text.splitlines())
    return frozenset(Did(line) for line in lines if line.startswith(_DID_PREFIX))
