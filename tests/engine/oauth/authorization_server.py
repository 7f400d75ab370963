"""A network of the tests' own: a PDS and its authorization server in memory, as strict as real ones, with faults on demand."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from urllib.parse import parse_qsl, urlsplit

import orjson
import trio
from joserfc import jwt
from joserfc.jwk import ECKey

from stratos.atproto.syntax import Did
from stratos.engine.identity import Answer, DidDocument, DidNotFound, Unreachable
from tests.engine.oauth.memory import WallClock

PDS = "https://pds.test"
ISSUER = "https://auth.test"
REI = Did("did:plc:rei")
SAKURA = Did("did:plc:sakura")
HANDLES = {"rei.test": REI, "sakura.test": SAKURA}

Handler = Callable[["Request"], Awaitable[Answer]]


@dataclass
class Request:
    """One request as it arrived."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), strict_parsing=True))

    @property
    def path(self) -> str:
        return urlsplit(self.url).path


@dataclass
class Grant:
    """What the server knows of one session."""

    did: Did
    client_id: str
    thumbprint: str
    access: str = ""
    refresh: str = ""
    spent: set[str] = field(default_factory=set)
    alive: bool = True


class People:
    """The identities of the network, as an `Identity`."""

    def __init__(self) -> None:
        self.documents: dict[Did, dict[str, object]] = {did: document(did, handle) for handle, did in HANDLES.items()}
        self.remembered: dict[Did, dict[str, object]] = {}
        """What a cache would answer that is not told to refresh."""

    async def resolve_did(self, did: Did, *, refresh: bool = False) -> DidDocument:
        await trio.lowlevel.checkpoint()
        if did not in self.documents:
            raise DidNotFound(f"{did} does not exist")
        current = self.documents[did]
        return DidDocument.parse(did, orjson.dumps(current if refresh else self.remembered.get(did, current)))

    async def resolve_handle(self, handle: str) -> Did | None:
        await trio.lowlevel.checkpoint()
        return HANDLES.get(handle.lower())

    async def verified_handle(self, document: DidDocument) -> str | None:
        return document.claimed_handle


def document(did: Did, handle: str) -> dict[str, object]:
    """A DID document that claims a handle and names the PDS."""
    service = {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": PDS}
    return {"id": did, "alsoKnownAs": [f"at://{handle}"], "service": [service]}


class Network:
    """Answers as an `Http`. `before` holds handlers by path that go first; one that gives None lets the request through."""

    def __init__(self, clock: WallClock) -> None:
        self._clock = clock
        self._numbers = count(1)
        self._proofs_seen: set[str] = set()
        self._pushed: dict[str, tuple[dict[str, str], str]] = {}
        self._codes: dict[str, tuple[dict[str, str], str, Did]] = {}
        self.grants: list[Grant] = []
        self.requests: list[Request] = []
        self.nonces = {PDS: "pds-nonce-1", ISSUER: "auth-nonce-1"}
        self.client_key: ECKey | None = None
        self.scope: str | None = None
        self.token_extras: dict[str, object] = {}
        self.before: dict[str, Callable[[Request], Awaitable[Answer | None]]] = {}
        self.resource: dict[str, object] = {"resource": PDS, "authorization_servers": [ISSUER]}
        self.metadata: dict[str, object] = {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}/authorize",
            "token_endpoint": f"{ISSUER}/token",
            "pushed_authorization_request_endpoint": f"{ISSUER}/par",
            "revocation_endpoint": f"{ISSUER}/revoke",
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "dpop_signing_alg_values_supported": ["ES256"],
            "scopes_supported": ["atproto"],
            "token_endpoint_auth_methods_supported": ["none", "private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": ["ES256"],
            "authorization_response_iss_parameter_supported": True,
            "client_id_metadata_document_supported": True,
        }

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        max_bytes: int | None = None,
        max_redirects: int | None = None,
        total_timeout: float | None = None,
    ) -> Answer:
        """As `OutgoingHttp.request`, to this network alone."""
        assert max_redirects == 0, "redirects must never be followed"
        assert max_bytes is not None
        request = Request(method, url, {name.lower(): value for name, value in (headers or {}).items()}, body or b"")
        self.requests.append(request)
        await trio.lowlevel.checkpoint()
        first = self.before.get(request.path)
        answer = await first(request) if first is not None else None
        return answer if answer is not None else self._answer(request)

    def asked(self, path: str) -> list[Request]:
        """The requests to a path so far."""
        return [request for request in self.requests if request.path == path]

    def consent(self, url: str, did: Did) -> dict[str, str]:
        """What the browser of somebody who signs in with this account and agrees brings back."""
        pushed, thumbprint = self._pushed.pop(dict(parse_qsl(urlsplit(url).query))["request_uri"])
        code = f"code-{next(self._numbers)}"
        self._codes[code] = (pushed, thumbprint, did)
        return {"code": code, "state": pushed["state"], "iss": ISSUER}

    def _answer(self, request: Request) -> Answer:
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(request.url))
        match origin, request.path:
            case _, "/.well-known/oauth-protected-resource":
                return json_answer(200, self.resource)
            case _, "/.well-known/oauth-authorization-server":
                return json_answer(200, self.metadata)
        refusal, thumbprint = self._check_proof(request, origin)
        if refusal is not None:
            return refusal
        if origin == PDS:
            return self._resource(request, thumbprint)
        refusal = self._check_client(request.form)
        if refusal is not None:
            return refusal
        match request.path:
            case "/par":
                uri = f"urn:request:{next(self._numbers)}"
                self._pushed[uri] = (request.form, thumbprint)
                return json_answer(201, {"request_uri": uri, "expires_in": 300})
            case "/token":
                return self._token(request.form, thumbprint)
            case "/revoke":
                for grant in self.grants:
                    grant.alive &= request.form["token"] not in {grant.access, grant.refresh}
                return json_answer(200, {})
        raise Unreachable(f"{request.url} is not in this network")

    def _check_proof(self, request: Request, origin: str) -> tuple[Answer | None, str]:
        """RFC 9449 §4.3, the whole list."""
        proof = request.headers["dpop"]
        header = orjson.loads(unpadded(proof.split(".")[0]))
        key = ECKey.import_key(header["jwk"])
        claims = jwt.decode(proof, key, algorithms=["ES256"]).claims
        assert header["typ"] == "dpop+jwt"
        assert not key.is_private
        assert (claims["htm"], claims["htu"]) == (request.method, request.url.split("?")[0])
        assert abs(claims["iat"] - self._clock().timestamp()) < 10
        assert claims["jti"] not in self._proofs_seen, "a proof was used twice"
        self._proofs_seen.add(claims["jti"])
        if claims.get("nonce") != self.nonces[origin]:
            status = 401 if origin == PDS else 400
            demand = json_answer(status, {"error": "use_dpop_nonce"}, {"dpop-nonce": self.nonces[origin]})
            return demand, ""
        if "authorization" in request.headers:
            token = request.headers["authorization"].removeprefix("DPoP ")
            assert claims["ath"] == s256(token)
        return None, key.thumbprint()

    def _check_client(self, form: Mapping[str, str]) -> Answer | None:
        """RFC 7523 §3, where the client is a confidential one."""
        if self.client_key is None:
            return None
        claims = jwt.decode(form["client_assertion"], self.client_key, algorithms=["ES256"]).claims
        assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        assert claims["iss"] == claims["sub"] == form["client_id"]
        assert claims["aud"] == ISSUER
        assert claims["iat"] <= self._clock().timestamp() < claims["exp"] <= claims["iat"] + 60
        if claims["jti"] in self._proofs_seen:
            return json_answer(400, {"error": "invalid_client", "error_description": "replayed"})
        self._proofs_seen.add(claims["jti"])
        return None

    def _token(self, form: Mapping[str, str], thumbprint: str) -> Answer:
        if form["grant_type"] == "refresh_token":
            grant = next((grant for grant in self.grants if form["refresh_token"] in {grant.refresh, *grant.spent}), None)
            if grant is None or not grant.alive or grant.thumbprint != thumbprint or form["refresh_token"] in grant.spent:
                if grant is not None:
                    grant.alive = False
                return json_answer(400, {"error": "invalid_grant", "error_description": "Refresh token replayed"})
            return self._issue(grant)
        pushed, bound, did = self._codes.pop(form["code"], ({}, "", REI))
        if not pushed or bound != thumbprint or s256(form["code_verifier"]) != pushed["code_challenge"]:
            return json_answer(400, {"error": "invalid_grant", "error_description": "no such code"})
        assert form["redirect_uri"] == pushed["redirect_uri"]
        grant = Grant(did, form["client_id"], thumbprint)
        self.grants.append(grant)
        self.scope = self.scope or pushed["scope"]
        return self._issue(grant)

    def _issue(self, grant: Grant) -> Answer:
        grant.spent |= {grant.refresh} - {""}
        number = next(self._numbers)
        grant.access, grant.refresh = f"access-{number}", f"refresh-{number}"
        tokens = {"access_token": grant.access, "refresh_token": grant.refresh, "token_type": "DPoP"}
        return json_answer(200, {**tokens, "expires_in": 3600, "scope": self.scope, "sub": grant.did, **self.token_extras})

    def _resource(self, request: Request, thumbprint: str) -> Answer:
        token = request.headers["authorization"].removeprefix("DPoP ")
        grant = next((grant for grant in self.grants if grant.alive and grant.access == token), None)
        if grant is None or grant.thumbprint != thumbprint:
            challenge = {"www-authenticate": 'DPoP error="invalid_token"'}
            return json_answer(401, {"error": "invalid_token", "message": "Invalid token"}, challenge)
        return json_answer(200, {"did": grant.did})


def json_answer(status: int, value: object, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer with a JSON body."""
    return Answer(status, dict(headers or {}), orjson.dumps(value), "")


def s256(text: str) -> str:
    """The S256 transformation of RFC 7636."""
    return urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def unpadded(text: str) -> bytes:
    """Base64 for URLs without padding, decoded."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
