"""From an enrollment to the service that it names. Source: spec service.md §10.3."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urljoin

from stratos.client.discovery import StratosEnrollment
from stratos.client.http import Fetch, HttpAnswer, HttpRequest
from stratos.client.xrpc import MAX_JSON_BYTES


def resolve_service_url(enrollment: StratosEnrollment | None, fallback: str) -> str:
    """The enrollment's service, else the fall-back."""
    return fallback if enrollment is None else enrollment.service


def find_enrollment_by_service(enrollments: Iterable[StratosEnrollment], service_url: str) -> StratosEnrollment | None:
    """The first enrollment at the service with this URL; one slash at the end of either does not matter."""
    wanted = service_url.removesuffix("/")
    return next((enrollment for enrollment in enrollments if enrollment.service.removesuffix("/") == wanted), None)


@dataclass(frozen=True, slots=True)
class ServiceFetchHandler:
    """A signed-in session's fetch, pointed at one service.

    The session gets the absolute URL, so that a DPoP proof carries the right `htu`.
    """

    fetch: Fetch
    service_url: str

    async def handle(
        self,
        path: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        max_answer_bytes: int = MAX_JSON_BYTES,
    ) -> HttpAnswer:
        """Send a request to a path (with its query, if any) of the service. Raises ValueError for an address elsewhere."""
        url = urljoin(self.service_url, path)
        if not path.startswith("/") or path.startswith("//"):
            raise ValueError(f"not a path of the service: {path[:80]!r}")
        return await self.fetch(HttpRequest(method, url, max_answer_bytes, headers or {}, body))


def create_service_fetch_handler(fetch: Fetch, service_url: str) -> ServiceFetchHandler:
    """The session behind `fetch`, for the paths of one service."""
    return ServiceFetchHandler(fetch, service_url)
