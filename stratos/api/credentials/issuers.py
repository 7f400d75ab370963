"""Whether an access token is genuine: from the account to its PDS, to that one's authorization server, to the keys it publishes.

Only this chain, every link of it, makes an access token worth anything: whoever forges one also chooses what it claims. Most
PDSes publish no keys and sign symmetrically; their access tokens are refused here, and their users come with service JWTs.
Source: service spec §2.3.1 DO 1; RFC 9728, RFC 8414, https://atproto.com/specs/oauth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import urlsplit

import orjson

from stratos.api.credentials.access_token import AccessToken
from stratos.api.credentials.challenge import invalid_token
from stratos.api.credentials.jws import ASYMMETRIC, PublicKey, Token, UnusableKey
from stratos.api.credentials.origins import web_origin
from stratos.api.errors import busy
from stratos.atproto.syntax import Did
from stratos.engine.identity import (
    AddressRefused,
    AnswerRefused,
    CacheLimits,
    DidDocument,
    Identity,
    IdentityError,
    IdentityUnavailable,
    OutgoingError,
    OutgoingHttp,
)
from stratos.engine.identity.answer_cache import Absent, AnswerCache, Failed, Found, Outcome

RESOURCE_METADATA: Final = "/.well-known/oauth-protected-resource"
SERVER_METADATA: Final = "/.well-known/oauth-authorization-server"
MAX_METADATA_BYTES: Final = 64 * 1024
METADATA_SECONDS: Final = 3.0
"""For one document. A caller's first token may need three of them, one after the other."""
OUTAGE_RETRY_SECONDS: Final = 10
MAX_KEYS: Final = 32
"""Of one authorization server; further ones are not looked at."""
DEFAULT_LIMITS: Final = CacheLimits(
    fresh=600.0, stale=3_600.0, absent=30.0, retry=10.0, refresh=30.0, max_entries=1_000, max_bytes=4 * 1024 * 1024
)
"""Shorter than for DID documents: a key that is withdrawn here was stolen, as a rule."""
_OK: Final = 200
_SERVER_ERRORS: Final = range(500, 600)
_COME_BACK_LATER: Final = frozenset({408, 425, 429})
_BARE: Final = frozenset({("", "", ""), ("/", "", "")})
"""Path, query and fragment of an issuer: none, since its metadata lie at the root of its origin."""

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class AuthorizationServer:
    """An authorization server by its own account."""

    issuer: str
    jwks_uri: str | None


class Issuers:
    """Knows authorization servers and their keys; everything is fetched when a token needs it, without redirects, and cached."""

    def __init__(
        self,
        *,
        identity: Identity,
        http: OutgoingHttp,
        monotonic: Callable[[], float],
        limits: CacheLimits = DEFAULT_LIMITS,
    ) -> None:
        """`monotonic` gives seconds; `limits` are those of each cache, of servers and of keys."""
        self._identity = identity
        self._http = http
        self._servers = AnswerCache(self._server_of, limits, clock=monotonic)
        self._keys = AnswerCache(self._keys_at, limits, clock=monotonic)

    async def check(self, access: AccessToken) -> None:
        """Pass a token that the authorization server of its subject's PDS has signed. Raises Refused for every other one, and
        XrpcError 503 where somebody who has to be asked does not answer.

        Keys are asked for anew, now and then, where none matches: they are rotated.
        """
        if access.token.algorithm not in ASYMMETRIC:
            raise invalid_token("Token is signed in a way that nobody but its issuer can verify")
        server = await self._server(access)
        if server.jwks_uri is None:
            raise invalid_token("Token issuer publishes no keys")
        for anew in (False, True):
            if _signed(access.token, _found(await self._keys.get(server.jwks_uri, refresh=anew))):
                return
        raise invalid_token("Token signature is invalid")

    def statistics(self) -> Mapping[str, int]:
        """Gauges and counters of the caches of authorization servers and of keys."""
        parts = {"servers": self._servers.statistics(), "keys": self._keys.statistics()}
        return {f"{part}_{name}": figure for part, figures in parts.items() for name, figure in figures.items()}

    async def _server(self, access: AccessToken) -> AuthorizationServer:
        """The authorization server of the subject's PDS, which must be the issuer. Raises as `check`.

        Where it is not, document and metadata are asked for anew, now and then: accounts move.
        """
        for anew in (False, True):
            origin = web_origin((await self._document(access.did, refresh=anew)).pds or "")
            if origin is None:
                raise invalid_token("Token subject has no PDS")
            server = _found(await self._servers.get(origin, refresh=anew))
            if server.issuer == access.issuer:
                return server
        raise invalid_token("Token issuer is not the authorization server of the subject's PDS")

    async def _document(self, did: Did, *, refresh: bool) -> DidDocument:
        try:
            return await self._identity.resolve_did(did, refresh=refresh)
        except IdentityUnavailable:
            raise busy("The subject DID cannot be resolved at the moment", OUTAGE_RETRY_SECONDS) from None
        except IdentityError:
            raise invalid_token("Could not resolve subject DID") from None

    async def _server_of(self, pds: str) -> Outcome[AuthorizationServer]:
        """The authorization server that a PDS names."""
        resource = await self._object_at(pds + RESOURCE_METADATA)
        if not isinstance(resource, Found):
            return resource
        origin = _named_server(resource.value, pds)
        if origin is None:
            return Absent(f"{pds} names no authorization server")
        metadata = await self._object_at(origin + SERVER_METADATA)
        if not isinstance(metadata, Found):
            return metadata
        issuer, jwks_uri = metadata.value.get("issuer"), metadata.value.get("jwks_uri")
        if not isinstance(issuer, str) or web_origin(issuer) != origin or urlsplit(issuer)[2:] not in _BARE:
            return Absent(f"{origin} calls itself something else")
        return Found(AuthorizationServer(issuer, jwks_uri if isinstance(jwks_uri, str) else None), metadata.size)

    async def _keys_at(self, jwks_uri: str) -> Outcome[tuple[PublicKey, ...]]:
        """The keys of a set that can be used; others are passed over."""
        key_set = await self._object_at(jwks_uri)
        if not isinstance(key_set, Found):
            return key_set
        listed = key_set.value.get("keys")
        if not isinstance(listed, list):
            return Absent(f"{jwks_uri} answers no key set")
        return Found(tuple(key for key in map(_usable, listed[:MAX_KEYS]) if key is not None), key_set.size)

    async def _object_at(self, url: str) -> Outcome[Mapping[str, object]]:
        try:
            answer = await self._http.request(
                "GET",
                url,
                headers={"Accept": "application/json"},
                max_bytes=MAX_METADATA_BYTES,
                max_redirects=0,
                total_timeout=METADATA_SECONDS,
            )
        except (AddressRefused, AnswerRefused) as error:
            return Absent(str(error))
        except OutgoingError as error:
            return Failed(str(error))
        if answer.status in _SERVER_ERRORS or answer.status in _COME_BACK_LATER:
            return Failed(f"{url} answers {answer.status}")
        if answer.status != _OK:
            return Absent(f"{url} answers {answer.status}")
        try:
            value: object = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            return Absent(f"{url} answers no JSON")
        return Found(value, len(answer.body)) if isinstance(value, dict) else Absent(f"{url} answers no JSON object")


def _found(outcome: Outcome[_Value]) -> _Value:
    """What others publish, or the refusal of whatever hangs on it. Which address did not answer is not for the caller to know."""
    if isinstance(outcome, Found):
        return outcome.value
    if isinstance(outcome, Failed):
        raise busy("The token's issuer cannot be verified at the moment", OUTAGE_RETRY_SECONDS)
    raise invalid_token("Token issuer could not be verified")


def _named_server(resource: Mapping[str, object], pds: str) -> str | None:
    """The origin of the first authorization server in a PDS's metadata; None where they are not this PDS's, or name none."""
    stated, servers = resource.get("resource"), resource.get("authorization_servers")
    if not isinstance(stated, str) or web_origin(stated) != pds:
        return None
    first = servers[0] if isinstance(servers, list) and servers else None
    return web_origin(first) if isinstance(first, str) else None


def _usable(jwk: object) -> PublicKey | None:
    try:
        return PublicKey(jwk) if isinstance(jwk, dict) else None
    except UnusableKey:
        return None


def _signed(token: Token, keys: tuple[PublicKey, ...]) -> bool:
    """Whether one of the keys made the signature; a token that names its key is checked against no other."""
    kid = token.text_header("kid")
    return any(key.signed(token) for key in keys if kid is None or key.kid == kid)
