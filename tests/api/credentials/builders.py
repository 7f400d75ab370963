"""Accounts, tokens and requests, made by hand and with joserfc: nothing here is signed or encoded by the code under test."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypercorn.typing import ConnectionState, HTTPScope
from joserfc import jws
from joserfc.jwk import ECKey

from stratos.api.auth import Authenticator, SyncTokenVerifier, Verifier
from stratos.api.credentials.credentials import Credentials, CredentialSettings
from stratos.api.credentials.dpop import OnAllowlist
from stratos.api.credentials.grants import AppviewGrants, Grant
from stratos.api.credentials.replay import UsedTokens
from stratos.api.credentials.service_token import ServiceTokens, ServiceTokenVerifier
from stratos.api.credentials.standing import IsKnown, WayOut, everybody
from stratos.api.errors import XrpcError
from stratos.api.request import RequestHead
from stratos.atproto.syntax import Did
from stratos.core.boundaries import Boundary
from stratos.engine.identity import DidDocument, DidNotFound, Identity, IdentityUnavailable, OutgoingHttp

SERVICE: Final = Did("did:web:stratos.test")
PUBLIC_URL: Final = "https://stratos.test"
REI, SAKURA = Did("did:plc:rei"), Did("did:plc:sakura")
APPVIEW: Final = Did("did:web:appview.test")
GET: Final = "zone.stratos.repo.getRecord"
CREATE: Final = "zone.stratos.repo.createRecord"
SUBSCRIBE: Final = "zone.stratos.sync.subscribeRecords"
LIST_REPOS: Final = "zone.stratos.sync.listRepos"
MASTER_KEY: Final = bytes(range(32))
SYNC_TOKEN: Final = "sync-token-of-the-tests"

P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
K256_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


@dataclass
class Clock:
    """A wall clock that stands still until it is moved."""

    now: datetime = field(default_factory=lambda: datetime(2026, 5, 28, 12, 0, 7, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.now

    @property
    def seconds(self) -> int:
        """Now, as tokens say it."""
        return int(self.now.timestamp())

    def monotonic(self) -> float:
        """Now, as time-outs count it."""
        return self.now.timestamp()

    def advance(self, seconds: float) -> None:
        """Move on."""
        self.now += timedelta(seconds=seconds)


class Key:
    """A key pair on one of AT Protocol's two curves; signs as JOSE does, with low s unless told otherwise."""

    def __init__(self, curve: str = "secp256k1") -> None:
        self.curve = curve
        self.private = ec.generate_private_key(ec.SECP256K1() if curve == "secp256k1" else ec.SECP256R1())
        self.algorithm = "ES256K" if curve == "secp256k1" else "ES256"
        self._order = K256_ORDER if curve == "secp256k1" else P256_ORDER

    @property
    def compressed(self) -> bytes:
        """The public point in 33 bytes."""
        return self.private.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)

    @property
    def multikey(self) -> str:
        """The public key as DID documents publish it."""
        return "z" + base58((b"\xe7\x01" if self.curve == "secp256k1" else b"\x80\x24") + self.compressed)

    def sign(self, message: bytes, *, high_s: bool = False) -> bytes:
        """64 bytes, r and s."""
        r, s = decode_dss_signature(self.private.sign(message, ec.ECDSA(SHA256())))
        low = min(s, self._order - s)
        return r.to_bytes(32, "big") + (self._order - low if high_s else low).to_bytes(32, "big")


@dataclass
class Account:
    """An account or a service with a DID document."""

    did: Did
    key: Key = field(default_factory=Key)
    pds: str | None = None
    fragments: Mapping[str, Key] = field(default_factory=dict)
    """Further keys, beside `#atproto`."""

    def document(self) -> DidDocument:
        """Its document, as it would arrive."""
        keys = {"atproto": self.key, **self.fragments}
        methods = [
            {"id": f"{self.did}#{name}", "type": "Multikey", "controller": self.did, "publicKeyMultibase": key.multikey}
            for name, key in keys.items()
        ]
        service = [{"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": self.pds}]
        body = {"id": self.did, "verificationMethod": methods, "service": service if self.pds else []}
        return DidDocument.parse(self.did, json.dumps(body).encode())


class Directory:
    """The network's identities: what is published, and what we know of it until we ask anew."""

    def __init__(self, *accounts: Account) -> None:
        self.published: dict[Did, DidDocument] = {}
        self.known: dict[Did, DidDocument] = {}
        self.refreshes: list[Did] = []
        self.down = False
        for account in accounts:
            self.publish(account)

    def publish(self, account: Account) -> None:
        """Let an account's document be as it is now; whoever has an older one keeps that until a refresh."""
        self.published[account.did] = account.document()

    async def resolve_did(self, did: Did, *, refresh: bool = False) -> DidDocument:
        """As Identity says."""
        if self.down:
            raise IdentityUnavailable(f"{did} cannot be resolved")
        if did not in self.published:
            raise DidNotFound(f"{did} does not exist")
        if refresh:
            self.refreshes.append(did)
        if refresh or did not in self.known:
            self.known[did] = self.published[did]
        return self.known[did]

    async def resolve_handle(self, handle: str) -> Did | None:
        """Nobody has a handle here."""
        return None

    async def verified_handle(self, document: DidDocument) -> str | None:
        """Nobody has a handle here."""
        return None


@dataclass(frozen=True)
class GrantOf:
    """An entry of STRATOS_ALLOWED_APPVIEWS."""

    did: Did | None
    boundaries: tuple[Boundary, ...] | None = None


def credentials(
    directory: Directory,
    http: OutgoingHttp,
    clock: Clock,
    *,
    grants: Iterable[Grant] = (),
    require_nonce: bool = True,
    nonce_secret: str | None = None,
    on_allowlist: OnAllowlist | None = None,
    is_known: IsKnown = everybody,
    members: Directory | None = None,
) -> Credentials:
    """The service's credentials, upon a directory and a clock of the tests'; everybody is known unless said otherwise."""
    settings = CredentialSettings(
        service=SERVICE,
        fragments=("stratos", "atproto_pns"),
        public_url=PUBLIC_URL,
        master_key=MASTER_KEY,
        grants=tuple(grants),
        nonce_secret=nonce_secret,
        require_nonce=require_nonce,
    )
    return Credentials(
        settings,
        known=WayOut(directory if members is None else members, http),
        strangers=WayOut(directory, http),
        is_known=is_known,
        clock=clock,
        monotonic=clock.monotonic,
        on_allowlist=on_allowlist,
    )


def service_verifier(
    identity: Identity,
    clock: Clock,
    used: UsedTokens,
    *,
    fragments: tuple[str, ...] = (),
    grants: Iterable[Grant] = (),
    is_known: IsKnown = everybody,
    used_by_services: UsedTokens | None = None,
) -> ServiceTokenVerifier:
    """A verifier of service JWTs alone; services have the accounts' memory where they are given none."""
    return ServiceTokenVerifier(
        ServiceTokens(SERVICE, fragments, identity=identity, clock=clock),
        AppviewGrants(grants),
        used=used,
        used_by_services=used if used_by_services is None else used_by_services,
        is_known=is_known,
    )


def authenticator(verifiers: Iterable[Verifier]) -> Authenticator:
    """As the service puts it together."""
    return Authenticator([SyncTokenVerifier(SYNC_TOKEN), *verifiers])


def head(
    nsid: str = GET,
    *,
    verb: str | None = None,
    path: str | None = None,
    headers: Iterable[tuple[str, str]] = (),
    **query: str,
) -> RequestHead:
    """The head of a call, as it comes from the server."""
    scope: HTTPScope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": verb or ("POST" if nsid == CREATE else "GET"),
        "scheme": "http",
        "path": f"/xrpc/{nsid}" if path is None else path,
        "raw_path": b"",
        "query_string": urlencode(query).encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
        "client": None,
        "server": None,
        "state": ConnectionState({}),
        "extensions": {},
    }
    return RequestHead(scope)


def bearer(token: str, nsid: str = GET) -> RequestHead:
    """A call with a bearer token."""
    return head(nsid, headers=[("Authorization", f"Bearer {token}")])


async def refused(verifier: Verifier | Authenticator, request: RequestHead, nsid: str = GET) -> XrpcError:
    """The refusal of a request; fails the test where it is let in."""
    asked = verifier.authenticate if isinstance(verifier, Authenticator) else verifier.verify
    with pytest.raises(XrpcError) as caught:
        await asked(request, nsid)
    return caught.value


def service_claims(issuer: str, clock: Clock, nsid: str = GET, **changes: object) -> dict[str, object]:
    """The claims that a PDS puts into a service JWT; a change to None leaves a claim out."""
    claims: dict[str, object] = {
        "iss": issuer,
        "aud": SERVICE,
        "lxm": nsid,
        "iat": clock.seconds,
        "exp": clock.seconds + 60,
        "jti": sha256(repr((issuer, nsid, changes)).encode()).hexdigest()[:16],
    }
    return {name: value for name, value in {**claims, **changes}.items() if value is not None}


def minted(key: Key, claims: Mapping[str, object], *, high_s: bool = False, **header: object) -> str:
    """A token with these claims; `header` changes or adds header parameters."""
    signing_input = f"{part({'typ': 'JWT', 'alg': key.algorithm, **header})}.{part(claims)}"
    return f"{signing_input}.{b64(key.sign(signing_input.encode(), high_s=high_s))}"


def service_token(account: Account, clock: Clock, nsid: str = GET, **changes: object) -> str:
    """A service JWT of an account for one method."""
    return minted(account.key, service_claims(account.did, clock, nsid, **changes))


@dataclass
class Client:
    """A client application: its DPoP key, and proofs made with joserfc."""

    clock: Clock
    key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256"))
    algorithm: str = "ES256"
    proofs: int = 0

    def proof(self, token: str, nonce: object, nsid: str = GET, /, **changes: object) -> str:
        """A proof for a call of `nsid`; a change to None leaves a claim out."""
        self.proofs += 1
        claims: dict[str, object] = {
            "jti": f"{self.key.thumbprint()}-{self.proofs}",
            "htm": "POST" if nsid == CREATE else "GET",
            "htu": f"{PUBLIC_URL}/xrpc/{nsid}",
            "iat": self.clock.seconds,
            "ath": b64(sha256(token.encode()).digest()),
            "nonce": nonce,
        }
        return self.signed({name: value for name, value in {**claims, **changes}.items() if value is not None})

    def signed(self, claims: Mapping[str, object], **header: object) -> str:
        """A proof with exactly these claims; a header parameter changed to None is left out."""
        parameters = {"typ": "dpop+jwt", "alg": self.algorithm, "jwk": self.key.as_dict(private=False), **header}
        kept = {name: value for name, value in parameters.items() if value is not None}
        return jws.serialize_compact(kept, json.dumps(claims), self.key, algorithms=[self.algorithm])


def dpop(token: str, *proofs: str, nsid: str = GET, **query: str) -> RequestHead:
    """A call with an access token and proofs."""
    return head(nsid, headers=[("Authorization", f"DPoP {token}"), *(("DPoP", proof) for proof in proofs)], **query)


def part(value: object) -> str:
    """A JSON value as a part of a token."""
    return b64(json.dumps(value).encode())


def b64(raw: bytes) -> str:
    """Base64url without padding."""
    return urlsafe_b64encode(raw).decode().rstrip("=")


def base58(raw: bytes) -> str:
    """Base 58 in bitcoin's alphabet; for bytes that do not begin with zero."""
    number, digits = int.from_bytes(raw, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        digits = _BASE58[digit] + digits
    return digits
