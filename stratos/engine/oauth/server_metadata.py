"""From a PDS to its authorization server, and what that server offers.

Sources: RFC 9728 (protected resource metadata), RFC 8414 (server metadata), https://atproto.com/specs/oauth (what atproto adds).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

import orjson

from stratos.engine.identity import OutgoingError
from stratos.engine.oauth.dpop import ALGORITHM
from stratos.engine.oauth.ports import Http

RESOURCE_PATH: Final = "/.well-known/oauth-protected-resource"
SERVER_PATH: Final = "/.well-known/oauth-authorization-server"
MAX_METADATA_BYTES: Final = 64 * 1024
METADATA_LIFETIME: Final = timedelta(minutes=10)
MAX_CACHED_SERVERS: Final = 256
MAX_ENDPOINT_CHARACTERS: Final = 2_048
_OK: Final = 200


class DiscoveryFailed(Exception):
    """The authorization server cannot be found, or is none that we can use; the message says why.

    `permanent` is false where nobody could be asked, and asking later may help.
    """

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


@dataclass(frozen=True, slots=True)
class AuthorizationServer:
    """What we need to know of an authorization server."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    pushed_request_endpoint: str
    revocation_endpoint: str | None
    authentication_methods: frozenset[str]
    signing_algorithms: frozenset[str]

    def accepts(self, method: str) -> bool:
        """Whether a client may authenticate itself in this way."""
        return method in self.authentication_methods and (method == "none" or ALGORITHM in self.signing_algorithms)


class Discovery:
    """Finds authorization servers. Their metadata is remembered for ten minutes; which server a PDS has is asked each time."""

    def __init__(self, http: Http, *, clock: Callable[[], datetime]) -> None:
        self._http = http
        self._clock = clock
        self._known: OrderedDict[str, tuple[datetime, AuthorizationServer]] = OrderedDict()

    async def of_pds(self, pds: str) -> AuthorizationServer:
        """The authorization server of a PDS. Raises DiscoveryFailed."""
        resource = origin_of(pds)
        if resource is None:
            raise DiscoveryFailed(f"{pds} is not the address of a PDS", permanent=True)
        metadata = await self._metadata(resource + RESOURCE_PATH)
        if origin_of(metadata.get("resource")) != resource:
            raise DiscoveryFailed(f"{resource} speaks for another resource", permanent=True)
        servers = metadata.get("authorization_servers")
        if not isinstance(servers, list) or len(servers) != 1 or not isinstance(servers[0], str):
            raise DiscoveryFailed(f"{resource} does not name one authorization server", permanent=True)
        return await self.of_issuer(servers[0])

    async def of_issuer(self, issuer: str) -> AuthorizationServer:
        """An authorization server by its issuer. Raises DiscoveryFailed."""
        now = self._clock()
        known = self._known.get(issuer)
        if known is not None and now - known[0] < METADATA_LIFETIME:
            return known[1]
        if origin_of(issuer) != issuer:
            raise DiscoveryFailed(f"{issuer} is not an issuer: it has to be an origin", permanent=True)
        server = _parse(issuer, await self._metadata(issuer + SERVER_PATH))
        self._known[issuer] = (now, server)
        self._known.move_to_end(issuer)
        if len(self._known) > MAX_CACHED_SERVERS:
            self._known.popitem(last=False)
        return server

    async def _metadata(self, url: str) -> dict[str, object]:
        try:
            answer = await self._http.request(
                "GET", url, headers={"Accept": "application/json"}, max_bytes=MAX_METADATA_BYTES, max_redirects=0
            )
        except OutgoingError as error:
            raise DiscoveryFailed(str(error), permanent=False) from error
        if answer.status != _OK:
            raise DiscoveryFailed(f"{url} answers {answer.status}", permanent=False)
        try:
            value = orjson.loads(answer.body)
        except orjson.JSONDecodeError as error:
            raise DiscoveryFailed(f"{url} answers no JSON", permanent=True) from error
        if not isinstance(value, dict):
            raise DiscoveryFailed(f"{url} answers no JSON object", permanent=True)
        return value


def origin_of(url: object) -> str | None:
    """The origin of an address of a server: scheme, host and port; None where it is more than an origin or not http(s).

    One trailing slash is ignored, as PDSes and DID documents differ in it.
    """
    if not isinstance(url, str):
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        return None
    if parts.path not in {"", "/"} or parts.query or parts.fragment or "?" in url or "#" in url:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + ("" if port is None else f":{port}")


def _is_endpoint(url: str, *, of: str) -> bool:
    """Whether browsers and we may be sent there and read the same address out of it; plain http only where the issuer is."""
    if len(url) > MAX_ENDPOINT_CHARACTERS or not url.isascii() or not url.isprintable() or set(url) & set(' \\#"<>^`{|}'):
        return False
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in {"https", urlsplit(of).scheme} and bool(parts.hostname) and "@" not in parts.netloc


def _parse(issuer: str, metadata: dict[str, object]) -> AuthorizationServer:
    """Read and check a server's metadata. Raises DiscoveryFailed naming what is missing."""

    def refuse(what: str) -> DiscoveryFailed:
        return DiscoveryFailed(f"{issuer} cannot be used: {what}", permanent=True)

    def endpoint(name: str) -> str:
        url = metadata.get(name)
        if not isinstance(url, str) or not _is_endpoint(url, of=issuer):
            raise refuse(f"no {name} that is an address of a server")
        return url

    def listed(name: str) -> frozenset[str]:
        values = metadata.get(name)
        return frozenset(value for value in values if isinstance(value, str)) if isinstance(values, list) else frozenset()

    if metadata.get("issuer") != issuer:
        raise refuse("its metadata names another issuer")
    demanded = {
        "response_types_supported": "code",
        "grant_types_supported": "authorization_code",
        "code_challenge_methods_supported": "S256",
        "dpop_signing_alg_values_supported": ALGORITHM,
        "scopes_supported": "atproto",
    }
    for name, value in demanded.items():
        if value not in listed(name):
            raise refuse(f"{name} lacks {value}")
    for name in ("authorization_response_iss_parameter_supported", "client_id_metadata_document_supported"):
        if metadata.get(name) is not True:
            raise refuse(f"{name} is not true")
    return AuthorizationServer(
        issuer=issuer,
        authorization_endpoint=endpoint("authorization_endpoint"),
        token_endpoint=endpoint("token_endpoint"),
        pushed_request_endpoint=endpoint("pushed_authorization_request_endpoint"),
        revocation_endpoint=endpoint("revocation_endpoint") if "revocation_endpoint" in metadata else None,
        authentication_methods=listed("token_endpoint_auth_methods_supported"),
        signing_algorithms=listed("token_endpoint_auth_signing_alg_values_supported"),
    )
