"""Hosts that answer from a script, and real bytes for them: proofs, enrollments, stubs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import orjson

from stratos.atproto import dag_cbor
from stratos.atproto.car import encode_block, encode_header
from stratos.atproto.cid import Cid
from stratos.atproto.commit import SignedCommit, sign_commit
from stratos.atproto.dag_cbor import DataModel
from stratos.atproto.keys import Curve, SigningKey
from stratos.atproto.mst import Mst
from stratos.atproto.syntax import Did, Rkey, Tid
from stratos.client import Boundary, Credentials, HttpxFetch, StratosEnrollment, XrpcHost
from stratos.core.attestation import attest

ALICE, BOB = Did("did:plc:aliceaaaaaaaaaaaaaaaaaaa"), Did("did:plc:bobbbbbbbbbbbbbbbbbbbbbb")
SERVICE = Did("did:web:stratos.example.com")
SERVICE_URL, PDS_URL = "https://stratos.example.com", "https://pds.example.com"
POST = "zone.stratos.feed.post"
WRITERS, EDITORS = Boundary(f"{SERVICE}/writers"), Boundary(f"{SERVICE}/editors")
SERVICE_KEY = SigningKey.from_raw(Curve.SECP256K1, bytes(31) + b"\x07")
USER_KEY = SigningKey.from_raw(Curve.P256, bytes(31) + b"\x09")
OTHER_KEY = SigningKey.from_raw(Curve.P256, bytes(31) + b"\x0b")
REV = Tid("3mgaaaaaaaa2a")
TIME = "2026-05-28T20:26:41.000Z"

Handler = Callable[[httpx.Request], httpx.Response]


@dataclass
class Script:
    """A host on no network: remembers what it was asked and answers by a function."""

    answer: Handler
    asked: list[httpx.Request] = field(default_factory=list)

    def fetch(self) -> HttpxFetch:
        """The way to it."""
        return HttpxFetch(httpx.AsyncClient(transport=httpx.MockTransport(self._handle)))

    def host(self, url: str = PDS_URL, *, credentials: Credentials | None = None, proxy: str | None = None) -> XrpcHost:
        """Its methods."""
        return XrpcHost(url, self.fetch(), credentials=credentials, proxy=proxy)

    def body(self, number: int = -1) -> dict[str, object]:
        """The JSON of a request."""
        value = orjson.loads(self.asked[number].content)
        assert isinstance(value, dict)
        return value

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return self.answer(request)


def answering(body: object, status: int = 200, **headers: str) -> Script:
    """A host that always answers this JSON."""
    return Script(lambda _request: httpx.Response(status, json=body, headers=headers))


def enrollment(
    boundaries: tuple[Boundary, ...] = (WRITERS, EDITORS), did: Did = ALICE, key: SigningKey = SERVICE_KEY
) -> StratosEnrollment:
    """An enrollment that the service has signed."""
    signed = attest(key, did, boundaries, USER_KEY.did_key)
    return StratosEnrollment(SERVICE_URL, boundaries, USER_KEY.did_key, signed, TIME, Rkey(SERVICE))


def post(text: str = "hello") -> dict[str, DataModel]:
    """A record."""
    return {"$type": POST, "text": text, "createdAt": TIME}


@dataclass
class Proof:
    """A repository with some posts, and the parts of the proof of one of them; tests break them."""

    rkey: str = "3mgaaaaaaaa2c"
    did: Did = ALICE
    key: SigningKey = USER_KEY
    record: dict[str, DataModel] = field(default_factory=post)
    others: int = 40

    def __post_init__(self) -> None:
        tree = Mst.empty()
        self.block = dag_cbor.encode(self.record)
        self.cid = Cid.of_dag_cbor(self.block)
        for number in range(self.others):
            tree.put(f"{POST}/3mgaaaaaaa{number:03d}".translate(str.maketrans("01", "yz")), Cid.of_dag_cbor(bytes([number])))
        tree.put(f"{POST}/{self.rkey}", self.cid)
        tree.change()
        self.nodes = dict(tree.proof(f"{POST}/{self.rkey}"))
        self.commit: SignedCommit = sign_commit(self.did, REV, tree.change().root, self.key)

    def car(self) -> bytes:
        """The proof as a service sends it."""
        return car_of(self.commit.cid, {self.commit.cid: self.commit.block, **self.nodes, self.cid: self.block})


def car_of(root: Cid, blocks: dict[Cid, bytes]) -> bytes:
    """A CAR file with one root."""
    return encode_header(root) + b"".join(encode_block(cid, block) for cid, block in blocks.items())
