"""zone.stratos.sync.subscribeRecords: who may subscribe to what; refusals are in-band.

Source: service spec §7.1–7.3; design §4.
"""

from __future__ import annotations

from typing import Final

import structlog
from structlog.typing import FilteringBoundLogger

from stratos.api.auth import Anonymous, Authenticator, Credential, EnrollmentGate, ServiceCaller
from stratos.api.credentials import AppView
from stratos.api.errors import UNAUTHORIZED, XrpcError, invalid_request, unavailable
from stratos.api.fields import Fields
from stratos.api.request import RequestHead
from stratos.api.websocket import GOING_AWAY, POLICY_VIOLATION, Farewell, SendFrame
from stratos.atproto.frames import encode_error
from stratos.atproto.lexicon import LexiconError, Lexicons
from stratos.atproto.syntax import Did
from stratos.core.boundaries import Boundary
from stratos.core.outcomes import Reason
from stratos.engine.firehose import Firehose, StreamRequest
from stratos.storage.ports import StorageFault

NSID: Final = "zone.stratos.sync.subscribeRecords"
AUTH_REQUIRED: Final = "AuthRequired"
_NOT_ABOUT_THE_CALLER: Final = frozenset({Reason.INVALID_REQUEST, Reason.UNAVAILABLE})
"""Refusals that a subscriber is told as they are: the one to mend, the other to try again after."""

_log: FilteringBoundLogger = structlog.get_logger(__name__)


class Subscriptions:
    """Turns an upgrade into a stream request, or into a refusal that the subscriber can read."""

    def __init__(self, firehose: Firehose, *, lexicons: Lexicons, authenticator: Authenticator, gate: EnrollmentGate) -> None:
        self._firehose = firehose
        self._lexicons = lexicons
        self._authenticator = authenticator
        self._gate = gate

    async def serve(self, head: RequestHead, send: SendFrame) -> Farewell:
        """Serve one subscriber until its stream ends."""
        try:
            request = await self._admitted(head)
        except XrpcError as error:
            return _refusal(error.name if error.name in _NOT_ABOUT_THE_CALLER else AUTH_REQUIRED, error.message)
        except StorageFault as fault:
            _log.warning("who subscribes cannot be found out", error=str(fault))
            told = unavailable()
            return _refusal(told.name, told.message)
        end = await self._firehose.serve(request, send)
        return Farewell(GOING_AWAY, end.message) if end.error is None else _refusal(end.error, end.message)

    async def _admitted(self, head: RequestHead) -> StreamRequest:
        """What the subscriber asks for and may have. Raises XrpcError."""
        try:
            params = Fields(self._lexicons.check_params(NSID, head.query))
        except LexiconError as error:
            raise invalid_request(str(error)) from None
        did = params.did("did") if params.has("did") else None
        include_commits = params.boolean("includeCommits", False)
        if did is not None and include_commits:
            raise invalid_request("includeCommits is only for the stream without did")
        credential = await self._authenticator.authenticate(head, NSID)
        await self._authorize(credential, did)
        names = params.texts("domain")
        chosen = None if names is None else frozenset(map(Boundary, names))
        granted = credential.domains if isinstance(credential, AppView) else None
        return StreamRequest(
            did=did,
            cursor=params.integer("cursor", 0) if params.has("cursor") else None,
            domains=chosen if granted is None else granted if chosen is None else chosen & granted,
            include_commits=include_commits,
        )

    async def _authorize(self, credential: Credential, did: Did | None) -> None:
        if isinstance(credential, ServiceCaller):
            return
        if isinstance(credential, Anonymous):
            raise _not_admitted("syncToken query param or Authorization header required")
        if did is None:
            raise _not_admitted("Service auth required for service-level subscription")
        if (await self._gate.require_user(credential)).did != did:
            raise _not_admitted("Service auth or owner authentication required")


def _not_admitted(message: str) -> XrpcError:
    return XrpcError(UNAUTHORIZED, AUTH_REQUIRED, message)


def _refusal(name: str, message: str) -> Farewell:
    return Farewell(POLICY_VIOLATION, name, encode_error(name, message))
