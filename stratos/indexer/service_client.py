"""What the indexer and the AppView ask of a Stratos service over HTTP, beside the stream. Every answer is bounded and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import httpx
import orjson
import trio

from stratos.atproto.car import CarDecoder, InvalidCar
from stratos.atproto.cid import Cid
from stratos.atproto.syntax import Did, InvalidSyntax, Tid, parse_did, parse_tid
from stratos.core.fault_text import describe
from stratos.core.key_history import InvalidKeyHistory, SigningKeyPeriod
from stratos.transport.http_body import read_chunks

_XRPC: Final = "/xrpc/"
_OK: Final = 200
_BAD_REQUEST: Final = 400
_REPO_NOT_FOUND: Final = "RepoNotFound"


class ServiceFault(Exception):
    """The service cannot be reached, refuses us, or answers what it should not; asking again later may help."""


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """Where the service is, our credential, and the bounds of its answers. Durations are seconds.

    `timeout` bounds each wait for the network and the whole of a JSON answer; `repo_timeout` the whole of a repository.
    """

    url: str
    sync_token: str
    timeout: float = 10.0
    repo_timeout: float = 300.0
    max_json_bytes: int = 2 * 1024 * 1024
    max_repo_bytes: int = 256 * 1024 * 1024
    repos_page: int = 500


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """What the service says of an account that is enrolled and active: every key that it has signed with, and since when."""

    signing_keys: tuple[SigningKeyPeriod, ...]
    enrolled_at: str


@dataclass(frozen=True, slots=True)
class RepoBlocks:
    """A repository as it was exported: the root and every block, hashes checked, nothing else."""

    root: Cid
    blocks: Mapping[Cid, bytes]


@dataclass(frozen=True, slots=True)
class ListedRepo:
    """A line of the service's list of repositories."""

    did: Did
    rev: Tid
    active: bool


@dataclass(frozen=True, slots=True)
class RepoPage:
    """A page of the list; `cursor` for the next, None at the end."""

    repos: tuple[ListedRepo, ...]
    cursor: str | None


class ServiceClient:
    """Asks one Stratos service, with the shared sync token."""

    def __init__(self, config: ServiceConfig, http: httpx.AsyncClient) -> None:
        """`http` is the caller's to close."""
        self._config = config
        self._http = http
        self._requests = self._faults = 0

    @property
    def url(self) -> str:
        """The service's address."""
        return self._config.url

    async def status(self, did: Did) -> AccountStatus | None:
        """The account's standing; None where it is not enrolled or not active. Raises ServiceFault."""
        answer = await self._json("zone.stratos.enrollment.status", {"did": did})
        if answer.get("enrolled") is not True or answer.get("active") is False:
            return None
        key, enrolled_at = answer.get("signingKey"), answer.get("enrolledAt")
        if not isinstance(key, str) or not isinstance(enrolled_at, str):
            raise ServiceFault(f"the status of {did} lacks signingKey or enrolledAt")
        listed = answer.get("signingKeys", [])
        if not isinstance(listed, list):
            raise ServiceFault(f"the status of {did} has no list of signing keys")
        try:
            keys = tuple(SigningKeyPeriod.from_json(item) for item in listed)
        except InvalidKeyHistory as error:
            raise ServiceFault(f"the status of {did}: {error}") from error
        # Services that never rotate keys tell the one that there is.
        return AccountStatus(keys or (SigningKeyPeriod(key, None, enrolled_at),), enrolled_at)

    async def boundaries(self, did: Did) -> tuple[str, ...] | None:
        """The boundaries that an account holds now; None where it is not enrolled or not active. Raises ServiceFault."""
        answer = await self._json("zone.stratos.identity.resolveEnrollments", {"did": did})
        if answer.get("enrolled") is not True or answer.get("active") is False:
            return None
        boundaries = answer.get("boundaries")
        if not isinstance(boundaries, list):
            raise ServiceFault(f"the enrollment of {did} has no list of boundaries")
        return tuple(sorted({value for value in boundaries if isinstance(value, str)}))

    async def repos(self, cursor: str | None) -> RepoPage:
        """A page of all repositories. Raises ServiceFault."""
        params = {"limit": str(self._config.repos_page)} | ({} if cursor is None else {"cursor": cursor})
        answer = await self._json("zone.stratos.sync.listRepos", params)
        repos, following = answer.get("repos"), answer.get("cursor")
        if not isinstance(repos, list):
            raise ServiceFault("listRepos has no list of repositories")
        return RepoPage(tuple(_listed(item) for item in repos), following if isinstance(following, str) else None)

    async def repo(self, did: Did, copy: Callable[[bytes], object] | None = None) -> RepoBlocks | None:
        """The whole repository of an account; None where it has none. Raises ServiceFault.

        `copy` is given the CAR file's bytes as they arrive; what it raises is raised here.
        """
        decoder = CarDecoder()
        blocks: dict[Cid, bytes] = {}
        size = 0

        def take(chunk: bytes) -> None:
            nonlocal size
            size += len(chunk)
            if size > self._config.max_repo_bytes:
                raise ServiceFault(f"the repository of {did} is larger than {self._config.max_repo_bytes} bytes")
            blocks.update(decoder.feed(chunk))
            if copy is not None:
                copy(chunk)

        try:
            with trio.fail_after(self._config.repo_timeout):
                async with self._http.stream(
                    "GET",
                    self._address("zone.stratos.sync.getRepo"),
                    params={"did": did},
                    headers=self._headers(),
                    timeout=self._config.timeout,
                ) as response:
                    self._requests += 1
                    if response.status_code != _OK:
                        if await self._error_name(response) == _REPO_NOT_FOUND:
                            return None
                        raise ServiceFault(f"getRepo of {did} answers {response.status_code}")
                    await read_chunks(response.aiter_raw(), take)
            roots = decoder.finish()
        except (httpx.HTTPError, trio.TooSlowError, InvalidCar) as error:
            raise self._fault(f"getRepo of {did}", error) from error
        if len(roots) != 1:
            raise ServiceFault(f"the repository of {did} has {len(roots)} roots")
        return RepoBlocks(roots[0], blocks)

    def statistics(self) -> Mapping[str, int]:
        """Counters: requests sent and those that failed."""
        return {"requests_total": self._requests, "faults_total": self._faults}

    async def _json(self, method: str, params: Mapping[str, str]) -> Mapping[str, object]:
        try:
            with trio.fail_after(self._config.timeout):
                async with self._http.stream(
                    "GET", self._address(method), params=dict(params), headers=self._headers(), timeout=self._config.timeout
                ) as response:
                    self._requests += 1
                    body = await self._body(response)
                    if response.status_code != _OK:
                        raise ServiceFault(f"{method} answers {response.status_code}: {body[:200]!r}")
            answer = orjson.loads(body)
        except (httpx.HTTPError, trio.TooSlowError, orjson.JSONDecodeError) as error:
            raise self._fault(method, error) from error
        if not isinstance(answer, dict):
            raise ServiceFault(f"{method} answers something else than an object")
        return answer

    async def _body(self, response: httpx.Response) -> bytes:
        body = bytearray()

        def take(chunk: bytes) -> None:
            body.extend(chunk)
            if len(body) > self._config.max_json_bytes:
                raise ServiceFault(f"an answer is larger than {self._config.max_json_bytes} bytes")

        await read_chunks(response.aiter_bytes(), take)
        return bytes(body)

    async def _error_name(self, response: httpx.Response) -> str | None:
        if response.status_code != _BAD_REQUEST:
            return None
        try:
            answer = orjson.loads(await self._body(response))
        except orjson.JSONDecodeError:
            return None
        name = answer.get("error") if isinstance(answer, dict) else None
        return name if isinstance(name, str) else None

    def _address(self, method: str) -> str:
        return self._config.url.rstrip("/") + _XRPC + method

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._config.sync_token}", "Accept-Encoding": "identity"}

    def _fault(self, what: str, error: Exception) -> ServiceFault:
        self._faults += 1
        return ServiceFault(f"{what}: {describe(error)}")


def _listed(item: object) -> ListedRepo:
    match item:
        case {"did": str(did), "rev": str(rev), **others}:
            try:
                return ListedRepo(parse_did(did), parse_tid(rev), others.get("active", True) is not False)
            except InvalidSyntax as error:
                raise ServiceFault(f"listRepos: {error}") from error
    raise ServiceFault("listRepos lists something else than repositories")
