"""A PDS and an authorization server that publishes its keys, on loopback: metadata, key set, and DPoP-bound tokens.

They share nothing with the code under test: proofs are checked and tokens signed with joserfc.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final
from urllib.parse import parse_qs, urlencode

import trio
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

from stratos.engine.identity import OutgoingHttp
from tests.api.credentials.builders import Client, Clock

ELSEWHERE: Final = "/elsewhere"
"""Where every redirect of a host points to."""

Json = Mapping[str, object]
Respond = Callable[[], tuple[int, Json]]


@dataclass
class Host:
    """A web server on loopback with an answer for each path; counts what it is asked."""

    pages: dict[str, Respond] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    url: str = ""

    async def serve(self, *, task_status: trio.TaskStatus[list[trio.SocketListener]]) -> None:
        """Answer on a free port until cancelled."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        await trio.serve_listeners(self._converse, listeners, task_status=task_status)

    def publish(self, path: str, document: Json, status: int = 200) -> None:
        """Answer a path with a document."""
        self.pages[path] = lambda: (status, document)

    async def post(self, path: str, headers: Mapping[str, str], form: Mapping[str, list[str]]) -> tuple[int, Json]:
        """Answer a POST; this host takes none."""
        return 404, {}

    async def _converse(self, stream: trio.SocketStream) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            received += await stream.receive_some()
        top, _, body = received.partition(b"\r\n\r\n")
        request_line, *lines = top.decode().split("\r\n")
        verb, path, _ = request_line.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        while len(body) < int(headers.get("content-length", "0")):
            body += await stream.receive_some()
        self.asked.append(path)
        if verb == "POST":
            status, document = await self.post(path, headers, parse_qs(body.decode()))
        else:
            status, document = self.pages.get(path, lambda: (404, {}))()
        answer = json.dumps(document).encode()
        await stream.send_all(
            f"HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nLocation: {ELSEWHERE}\r\n"
            f"Content-Length: {len(answer)}\r\nConnection: close\r\n\r\n".encode()
            + answer
        )
        await stream.aclose()


@dataclass
class AuthorizationServer(Host):
    """Gives tokens for any account to whoever proves a key; signs them with `key`."""

    clock: Clock = field(default_factory=Clock)
    key: ECKey | RSAKey = field(default_factory=lambda: ECKey.generate_key("P-256", {"kid": "first", "use": "sig"}))
    algorithm: str = "ES256"

    def open(self) -> None:
        """Publish metadata and keys."""
        self.publish("/.well-known/oauth-authorization-server", {"issuer": self.url, "jwks_uri": f"{self.url}/oauth/jwks"})
        self.publish_keys(self.key.as_dict(private=False))

    def publish_keys(self, *keys: Json) -> None:
        """Let the key set be these."""
        self.publish("/oauth/jwks", {"keys": list(keys)})

    async def post(self, path: str, headers: Mapping[str, str], form: Mapping[str, list[str]]) -> tuple[int, Json]:
        """The token endpoint."""
        if path != "/oauth/token":
            return 404, {}
        token = jws.extract_compact(headers["dpop"].encode())
        key = ECKey.import_key(token.headers()["jwk"])
        jws.deserialize_compact(headers["dpop"], key, algorithms=["ES256"])
        claims = json.loads(token.payload)
        assert (claims["htm"], claims["htu"]) == ("POST", f"{self.url}/oauth/token")
        return 200, {"token_type": "DPoP", "access_token": self.token(form["account"][0], key.thumbprint())}

    def token(self, did: str, thumbprint: str | None, **changes: object) -> str:
        """An access token; a change to None leaves a claim out, `header` replaces header parameters."""
        header = {"typ": "at+jwt", "alg": self.algorithm, "kid": self.key.kid}
        replaced = changes.pop("header", {})
        assert isinstance(replaced, dict)
        header.update(replaced)
        claims: dict[str, object] = {
            "iss": self.url,
            "sub": did,
            "aud": "did:web:pds.test",
            "client_id": "https://app.test/client-metadata.json",
            "scope": "atproto",
            "iat": self.clock.seconds,
            "exp": self.clock.seconds + 3_600,
            "jti": "access-token",
            "cnf": None if thumbprint is None else {"jkt": thumbprint},
        }
        kept = {name: value for name, value in {**claims, **changes}.items() if value is not None}
        parameters = {name: value for name, value in header.items() if value is not None}
        return jws.serialize_compact(parameters, json.dumps(kept), self.key, algorithms=[str(header["alg"])])


@dataclass
class Network:
    """A PDS, its authorization server, and a stranger's authorization server that belongs to no PDS here."""

    pds: Host
    server: AuthorizationServer
    stranger: AuthorizationServer

    def open(self) -> None:
        """Publish everything."""
        self.server.open()
        self.stranger.open()
        self.point_pds_to(self.server)

    def point_pds_to(self, server: AuthorizationServer) -> None:
        """Let the PDS name this authorization server."""
        document = {"resource": self.pds.url, "authorization_servers": [server.url]}
        self.pds.publish("/.well-known/oauth-protected-resource", document)

    def asked(self) -> list[str]:
        """What the PDS and its server were asked, in order."""
        return [*self.pds.asked, *self.server.asked]


@asynccontextmanager
async def network(clock: Clock) -> AsyncIterator[Network]:
    """Serve them for the block."""
    served = Network(Host(), AuthorizationServer(clock=clock), AuthorizationServer(clock=clock))
    async with trio.open_nursery() as nursery:
        for host in (served.pds, served.server, served.stranger):
            await nursery.start(partial(host.serve))
        served.open()
        yield served
        nursery.cancel_scope.cancel()


async def sign_in(server: AuthorizationServer, client: Client, did: str, http: OutgoingHttp) -> str:
    """Get an access token over HTTP, bound to the client's key."""
    url = f"{server.url}/oauth/token"
    proof = client.signed({"jti": "sign-in", "htm": "POST", "htu": url, "iat": client.clock.seconds})
    headers = {"DPoP": proof, "Content-Type": "application/x-www-form-urlencoded"}
    answer = await http.request("POST", url, headers=headers, body=urlencode({"account": did}).encode())
    assert answer.status == 200, answer
    return str(json.loads(answer.body)["access_token"])
