"""Who we are as an OAuth client: our id, our keys, and the metadata document that others fetch.

Sources: service spec §4.2; https://atproto.com/specs/oauth (client id metadata documents, the loopback form); RFC 7591, RFC 7523.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, TypeAlias
from urllib.parse import urlencode, urlsplit, urlunsplit

import orjson
from authlib.oauth2.rfc7523 import private_key_jwt_sign
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from stratos.core.record_rules import ENROLLMENT, POST
from stratos.engine.oauth.dpop import ALGORITHM
from stratos.engine.oauth.errors import InvalidRegistration
from stratos.engine.oauth.server_metadata import origin_of

SCOPE: Final = f"atproto repo:{ENROLLMENT} repo:{POST}"
NEEDED_SCOPES: Final = frozenset({"atproto", f"repo:{ENROLLMENT}"})
"""Without these an enrollment cannot be written down; a server may drop others."""
METADATA_PATH: Final = "/client-metadata.json"
CALLBACK_PATH: Final = "/oauth/callback"
KEY_ID: Final = "key-1"
ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_LIFETIME: Final = timedelta(seconds=60)
_LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_CURVE: Final = "P-256"

Document: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """What the operator says about the client; see the settings `STRATOS_PUBLIC_URL` and `STRATOS_OAUTH_*`.

    `private_key` is a P-256 key as PKCS#8 or SEC 1 PEM (line breaks may be written as `\\n`) or as JWK: with it the client is
    confidential. `allow_loopback` permits the form without a public address (dev mode).
    """

    public_url: str
    name: str
    client_id: str | None = None
    private_key: str | None = field(default=None, repr=False)
    logo_uri: str | None = None
    tos_uri: str | None = None
    policy_uri: str | None = None
    allow_loopback: bool = False


@dataclass(frozen=True, slots=True)
class Registration:
    """The client as servers see it. `document` is served at both metadata paths; `redirect_uri` is where our callback answers."""

    client_id: str
    redirect_uri: str
    scope: str
    document: Document
    _key: ECKey | None = field(default=None, repr=False)

    @classmethod
    def of(cls, settings: ClientSettings) -> Registration:
        """Work out the client's form: confidential with a key, public without one, loopback where the address is this machine's.

        Raises InvalidRegistration.
        """
        origin = origin_of(settings.public_url)
        if origin is None:
            raise InvalidRegistration(f"STRATOS_PUBLIC_URL: must be an origin for OAuth to work, not {settings.public_url}")
        if origin.startswith("https://"):
            return _public_or_confidential(settings, origin)
        return _loopback(settings, origin)

    @property
    def authentication_method(self) -> str:
        """How the client proves that it is the client."""
        return "none" if self._key is None else "private_key_jwt"

    def credentials(self, issuer: str, *, jti: str, now: datetime) -> dict[str, str]:
        """The form fields by which a request to this server says, and where there is a key proves, whose it is."""
        fields = {"client_id": self.client_id}
        if self._key is not None:
            fields["client_assertion_type"] = ASSERTION_TYPE
            fields["client_assertion"] = private_key_jwt_sign(
                self._key,
                self.client_id,
                issuer,  # the audience: atproto wants the issuer, not the endpoint
                alg=ALGORITHM,
                claims={"jti": jti},
                header={"kid": KEY_ID},
                issued_at=int(now.timestamp()),
                expires_at=int((now + ASSERTION_LIFETIME).timestamp()),
            )
        return fields


def _public_or_confidential(settings: ClientSettings, origin: str) -> Registration:
    key = None if settings.private_key is None else _read_key(settings.private_key)
    client_id = settings.client_id or origin + METADATA_PATH
    redirect_uri = origin + CALLBACK_PATH
    document = {**_common(settings, client_id, redirect_uri), "application_type": "web"}
    if key is not None:
        public = {**key.as_dict(private=False), "kid": KEY_ID, "use": "sig", "alg": ALGORITHM}
        document |= {
            "token_endpoint_auth_method": "private_key_jwt",
            "token_endpoint_auth_signing_alg": ALGORITHM,
            "jwks": {"keys": [public]},
        }
    return Registration(client_id, redirect_uri, SCOPE, document, key)


def _loopback(settings: ClientSettings, origin: str) -> Registration:
    """The form without a document that anybody could fetch: the id itself says what the document would."""
    parts = urlsplit(origin)
    if parts.hostname not in _LOOPBACK_HOSTS or not settings.allow_loopback:
        raise InvalidRegistration(
            "STRATOS_PUBLIC_URL: must begin with https:// for OAuth to work; in dev mode http://localhost is enough"
        )
    if settings.private_key is not None:
        raise InvalidRegistration("STRATOS_OAUTH_CLIENT_SECRET: needs a STRATOS_PUBLIC_URL that begins with https://")
    # A redirect to `localhost` is refused by servers (RFC 8252 §8.3), so the browser comes back by address.
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.netloc.rpartition(":")[0] if parts.port else parts.netloc
    netloc = host if parts.port is None else f"{host}:{parts.port}"
    redirect_uri = urlunsplit(("http", netloc, CALLBACK_PATH, "", ""))
    client_id = settings.client_id or "http://localhost?" + urlencode({"redirect_uri": redirect_uri, "scope": SCOPE})
    document = {**_common(settings, client_id, redirect_uri), "application_type": "native"}
    return Registration(client_id, redirect_uri, SCOPE, document)


def _common(settings: ClientSettings, client_id: str, redirect_uri: str) -> dict[str, object]:
    optional = {"logo_uri": settings.logo_uri, "tos_uri": settings.tos_uri, "policy_uri": settings.policy_uri}
    return {
        "client_id": client_id,
        "client_name": settings.name,
        "client_uri": settings.public_url.removesuffix("/"),
        **{name: value for name, value in optional.items() if value is not None},
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "scope": SCOPE,
        "token_endpoint_auth_method": "none",
        "dpop_bound_access_tokens": True,
        "subject_type": "public",
        "authorization_signed_response_alg": "RS256",
    }


def _read_key(text: str) -> ECKey:
    text = text.strip().replace("\\n", "\n")
    try:
        key = ECKey.import_key(orjson.loads(text) if text.startswith("{") else text)
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise InvalidRegistration("STRATOS_OAUTH_CLIENT_SECRET: must be a private key as PEM or JWK") from error
    if not key.is_private or key.curve_name != _CURVE:
        raise InvalidRegistration(f"STRATOS_OAUTH_CLIENT_SECRET: must be a private key on {_CURVE}")
    return key
