"""The AppView's application: feed queries, and the pages around them. Source: indexer spec §3; design §9."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson
from quart import Response, request

from stratos.api.auth import Authenticator, Credential, DevVerifier, Verifier
from stratos.api.config import ApiConfig
from stratos.api.credentials import AccountCredentials
from stratos.api.errors import (
    RETRY_LATER,
    SERVICE_UNAVAILABLE,
    UNAUTHORIZED,
    XrpcError,
    invalid_request,
    not_authenticated,
    unavailable,
)
from stratos.api.feeds import AnyUser, FeedMethods
from stratos.api.metrics import CONTENT_TYPE, RequestStatistics, StratosCollector, render
from stratos.api.request import RequestHead
from stratos.api.xrpc import JSON, XrpcDispatcher
from stratos.api.xrpc_app import HEALTH_PATH, XrpcApp
from stratos.atproto.lexicon import Lexicons
from stratos.atproto.syntax import Did, InvalidSyntax, parse_did
from stratos.indexer.appview_db import AppViewDatabase, DatabaseUnavailable
from stratos.indexer.viewers import BoundariesUnknown, ViewerDirectory

APPVIEW_FRAGMENT: Final = "stratos_appview"
"""Entry of our DID document by which PDSes find us, and tokens may name us."""
DIAGNOSTICS_ROWS: Final = 1_000


@dataclass(frozen=True, slots=True)
class AppviewIdentity:
    """Who this AppView is; what its DID document says."""

    did: Did
    public_url: str
    version: str


class AppviewAuthenticator(Authenticator):
    """As the service's, but every refusal has the name that the feed lexicons declare."""

    async def authenticate(self, head: RequestHead, nsid: str) -> Credential:
        """The verified caller, or Anonymous where no credential was presented. Raises XrpcError 401 AuthRequired."""
        try:
            return await super().authenticate(head, nsid)
        except XrpcError as error:
            if error.status != UNAUTHORIZED:
                raise
            raise XrpcError(UNAUTHORIZED, "AuthRequired", error.message, error.headers) from error


class AppviewApp(XrpcApp):
    """Everything that the AppView answers over HTTP."""

    def __init__(
        self,
        identity: AppviewIdentity,
        database: AppViewDatabase,
        viewers: ViewerDirectory,
        *,
        lexicons: Lexicons,
        config: ApiConfig,
        credentials: AccountCredentials,
        hide_boundary_mismatch: bool,
        monotonic: Callable[[], float] = time.perf_counter,
        checks_output: bool = False,
    ) -> None:
        """`credentials` are those of accounts, for this AppView's DID.

        Dev mode adds `Bearer did:…` credentials and the support pages of indexer spec §3.6.
        """
        self._identity = identity
        self._database = database
        self._viewers = viewers
        self._credentials = credentials
        dev: Sequence[Verifier] = (DevVerifier(),) if config.dev_mode else ()
        dispatcher = XrpcDispatcher(
            FeedMethods(database, viewers, hide_boundary_mismatch=hide_boundary_mismatch).methods(),
            lexicons=lexicons,
            authenticator=AppviewAuthenticator(
                [*credentials.verifiers, *dev], unknown=lambda: not_authenticated("Authentication required")
            ),
            gate=AnyUser(),
            config=config,
            checks_output=checks_output,
        )
        requests = RequestStatistics()
        super().__init__(dispatcher, sockets={}, requests=requests, clock=monotonic, tells_causes=config.dev_mode)
        self._collector = StratosCollector(self.statistics, requests=requests, tasks=lambda: (), version=identity.version)
        self.get("/health")(self.health)
        self.get("/ready")(self.health)
        self.get(HEALTH_PATH)(self.health)
        self.get("/.well-known/did.json")(self.did_document)
        self.get("/metrics")(self.metrics)
        if config.dev_mode:
            self.get("/diagnostics")(self.diagnostics)
            self.post("/admin/enroll")(self.enroll)

    def statistics(self) -> Mapping[str, Mapping[str, float]]:
        """The figures of every part, by name."""
        return {
            **self.server_statistics(),
            "appview_db": self._database.statistics(),
            "viewers": self._viewers.statistics(),
            "credentials": self._credentials.statistics(),
        }

    async def health(self) -> Response:
        """Whether the database answers: 200, else 503."""
        healthy = await self._database.reachable()
        body = {"status": "ok" if healthy else "error", "version": self._identity.version}
        return _json(body) if healthy else _json(body, SERVICE_UNAVAILABLE, RETRY_LATER)

    async def did_document(self) -> Response:
        """The AppView's DID document."""
        identity = self._identity
        entry = {"id": f"#{APPVIEW_FRAGMENT}", "type": "StratosAppView", "serviceEndpoint": identity.public_url}
        return _json({"@context": ["https://www.w3.org/ns/did/v1"], "id": identity.did, "service": [entry]})

    async def metrics(self) -> Response:
        """The figures of every part, for Prometheus."""
        return Response(render(self._collector), content_type=CONTENT_TYPE)

    async def diagnostics(self) -> Response:
        """Row counts, enrollments, and the positions of actors and of the service's stream, for tests.

        One stream carries every actor: the subscribed ones are those that have a position.
        """
        statement, parameters = self._database.queries.diagnostics, {"limit": DIAGNOSTICS_ROWS}
        try:
            row = await self._database.run(lambda connection: connection.execute(statement, parameters).fetchone())
        except DatabaseUnavailable as error:
            raise unavailable() from error
        posts, boundaries, enrollments, cursors, following = row or (0, 0, [], [], False)
        return _json(
            {
                "posts": posts,
                "boundaries": boundaries,
                "enrollments": enrollments,
                "cursors": cursors,
                "actorSubscriptions": [cursor["did"] for cursor in cursors],
                "serviceStreamConnected": following,
            }
        )

    async def enroll(self) -> Response:
        """Look an account's boundaries up at the service now, for tests."""
        body = await request.get_json(force=True, silent=True)
        try:
            did = parse_did(body["did"] if isinstance(body, dict) and isinstance(body.get("did"), str) else "")
        except InvalidSyntax as error:
            raise invalid_request(f"did: {error}") from None
        try:
            viewer = await self._viewers.ask(did)
        except (BoundariesUnknown, DatabaseUnavailable) as error:
            raise unavailable() from error
        return _json({"did": did, "boundaries": sorted(viewer.boundaries), "subscribed": viewer.enrolled})


def _json(value: Mapping[str, object], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, dict(headers or {}), content_type=JSON)
