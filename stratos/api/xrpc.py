"""XRPC: methods by NSID, and the steps from a request to an answer. Handlers know neither HTTP nor the framework.

How to add a method: write `async def name(self, call: XrpcCall) -> Reply` in the module of its family, list it in that family's
`methods()` with its verb and access, and put its lexicon into `lexicons/`; parameters and body arrive checked. Source: service
spec §0.5.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final

import orjson
import structlog
from structlog.typing import FilteringBoundLogger

from stratos.api.auth import AdminGate, Anonymous, Authenticator, Credential, User, UserGate
from stratos.api.config import ApiConfig
from stratos.api.errors import (
    NOT_IMPLEMENTED,
    UNSUPPORTED_MEDIA_TYPE,
    XrpcError,
    internal_error,
    invalid_request,
    not_authenticated,
    unavailable,
    unknown_outcome,
)
from stratos.api.fields import Fields
from stratos.api.request import RequestBody, RequestHead
from stratos.atproto.data_model import InvalidData, Json, object_from_json
from stratos.atproto.lexicon import LexiconError, Lexicons, MethodKind, UnknownLexicon
from stratos.atproto.syntax import Did, InvalidSyntax, parse_nsid
from stratos.storage.ports import OutcomeUnknown, StorageFault

XRPC_PREFIX: Final = "/xrpc/"
JSON: Final = "application/json"
_REPO_PREFIXES: Final = ("com.atproto.repo", "zone.stratos.repo")

_log: FilteringBoundLogger = structlog.get_logger(__name__)


class Verb(StrEnum):
    """How a method is called."""

    GET = "GET"
    POST = "POST"


class Access(Enum):
    """Which callers a method takes. A credential that does not hold is refused by all but PUBLIC."""

    PUBLIC = "public"
    """Anybody; credentials are not looked at."""
    OPTIONAL = "optional"
    """Anybody; who is unknown is anonymous."""
    IDENTIFIED = "identified"
    """Anybody who is known: a user or a service."""
    USER = "user"
    """A user with an enrollment here."""
    ADMIN = "admin"
    """The operator."""


@dataclass(frozen=True, slots=True)
class Bytes:
    """An answer that is not JSON."""

    content_type: str
    body: bytes


SendChunk = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Streamed:
    """An answer that is produced while it is sent.

    An XrpcError raised before the first chunk becomes the answer; any error after it breaks the connection off, so that the
    caller cannot take the part for the whole. `produce` is cancelled when the caller goes away.
    """

    content_type: str
    produce: Callable[[SendChunk], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Rendered:
    """An answer that is JSON already."""

    json: bytes


def rendered_list(name: str, items: Sequence[bytes], more: Mapping[str, Json]) -> Rendered:
    """An object with one list, whose items are JSON already, before its other members."""
    head = b"{%s:[%s]" % (orjson.dumps(name), b",".join(items))
    return Rendered(head + b"," + orjson.dumps(more)[1:] if more else head + b"}")


Reply = dict[str, Json] | Rendered | Bytes | Streamed


@dataclass(frozen=True, slots=True)
class XrpcCall:
    """A checked call: typed parameters with their defaults, the body in the data model, and who is calling."""

    nsid: str
    params: Fields
    input: Fields
    credential: Credential
    trace_id: str

    @property
    def user(self) -> Did:
        """The calling user, for methods of Access.USER."""
        if not isinstance(self.credential, User):
            raise not_authenticated("Authorization required")
        return self.credential.did


Handler = Callable[[XrpcCall], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Method:
    """One XRPC method; its lexicon is found by its NSID.

    `checks_input` is false where the handler makes sense of the body by itself, because the contract names errors that a lexicon
    does not know. `fault` is the name and message of an unexpected error on the wire.
    """

    verb: Verb
    access: Access
    handler: Handler
    checks_input: bool = True
    fault: tuple[str, str] = ("InternalServerError", "Internal Server Error")


def under_both_names(methods: Mapping[str, Method]) -> dict[str, Method]:
    """Repository methods by their short names, under the official name and under ours.

    A PDS answers the official names itself, whatever `atproto-proxy` says; only ours travel through a proxy (design §5).
    """
    return {f"{prefix}.{name}": method for prefix in _REPO_PREFIXES for name, method in methods.items()}


class XrpcDispatcher:
    """Takes a call through its steps: path, verb, parameters, authentication, body, handler."""

    def __init__(
        self,
        methods: Mapping[str, Method],
        *,
        lexicons: Lexicons,
        authenticator: Authenticator,
        gate: UserGate,
        config: ApiConfig,
        checks_output: bool = False,
    ) -> None:
        """`checks_output` holds every JSON answer against its lexicon, as the tests do.

        Raises UnknownLexicon where a method has no lexicon, or one of another kind.
        """
        for nsid, method in methods.items():
            described = lexicons.method(nsid)
            if described is None or described.kind is not _KINDS[method.verb]:
                raise UnknownLexicon(nsid)
        self._methods = methods
        self._lexicons = lexicons
        self._authenticator = authenticator
        self._gate = gate
        self._admin = AdminGate(config.admin_password)
        self._config = config
        self._checks_output = checks_output

    def knows(self, nsid: str) -> bool:
        """Whether there is a method of that name."""
        return nsid in self._methods

    async def answer(self, head: RequestHead, body: RequestBody, trace_id: str) -> Bytes | Streamed:
        """Answer a call. Raises XrpcError for every answer that is not success."""
        try:
            return await self._answer(head, body, trace_id)
        except Exception as error:
            raise self.explain(error, head, trace_id) from error

    def explain(self, error: Exception, head: RequestHead, trace_id: str) -> XrpcError:
        """What the caller is told of an error; a fault is logged here, once, and its details stay in the log."""
        if isinstance(error, XrpcError):
            return error
        nsid = _nsid(head)
        if isinstance(error, StorageFault):
            _log.error("storage fault", method=nsid, traceId=trace_id, exc_info=error)
            return unknown_outcome() if isinstance(error, OutcomeUnknown) else unavailable()
        _log.error("request failed", method=nsid, traceId=trace_id, exc_info=error)
        method = self._methods.get(nsid)
        return internal_error() if method is None else internal_error(*method.fault)

    async def _answer(self, head: RequestHead, body: RequestBody, trace_id: str) -> Bytes | Streamed:
        nsid = _nsid(head)
        method = self._find(nsid, head.verb)
        params = self._params(nsid, head)
        credential = await self._credential(method.access, head, nsid)
        value = await self._input(nsid, method, head, body)
        reply = await method.handler(XrpcCall(nsid, params, value, credential, trace_id))
        if isinstance(reply, Bytes | Streamed):
            return reply
        json = reply.json if isinstance(reply, Rendered) else orjson.dumps(reply)
        if self._checks_output:
            self._lexicons.check_output(nsid, object_from_json(orjson.loads(json)))
        return Bytes(_JSON_UTF8, json)

    def _find(self, nsid: str, verb: str) -> Method:
        method = self._methods.get(nsid)
        if method is None:
            try:
                parse_nsid(nsid)
            except InvalidSyntax:
                raise invalid_request("invalid xrpc path") from None
            raise XrpcError(NOT_IMPLEMENTED, "MethodNotImplemented", "Method Not Implemented")
        if verb != method.verb and not (verb == "HEAD" and method.verb is Verb.GET):
            raise invalid_request(f"Incorrect HTTP method ({verb}) expected {method.verb}")
        return method

    def _params(self, nsid: str, head: RequestHead) -> Fields:
        try:
            return Fields(self._lexicons.check_params(nsid, head.query))
        except LexiconError as error:
            raise invalid_request(str(error)) from None

    async def _credential(self, access: Access, head: RequestHead, nsid: str) -> Credential:
        if access is Access.PUBLIC:
            return Anonymous()
        if access is Access.ADMIN:
            return self._admin.admit(head)
        credential = await self._authenticator.authenticate(head, nsid)
        if access is Access.USER:
            return await self._gate.require_user(credential)
        if access is Access.IDENTIFIED and isinstance(credential, Anonymous):
            raise not_authenticated("Authorization required")
        return credential

    async def _input(self, nsid: str, method: Method, head: RequestHead, body: RequestBody) -> Fields:
        if method.verb is Verb.GET:
            if body.has_content:
                raise invalid_request("A request body was provided when none was expected")
            return _NOTHING
        if not body.present:
            raise invalid_request("A request body is expected but none was provided")
        _check_encoding(head)
        raw = await body.read(max_bytes=self._config.max_json_bytes, seconds=self._config.body_seconds)
        try:
            value = object_from_json(orjson.loads(raw))
            if method.checks_input:
                self._lexicons.check_input(nsid, value)
        except orjson.JSONDecodeError as error:
            raise invalid_request(f"The request body is not JSON: {error}") from None
        except InvalidData as error:
            raise invalid_request(f"Invalid request body: {error}") from None
        except LexiconError as error:
            raise invalid_request(str(error)) from None
        return Fields(value)


_KINDS: Final = {Verb.GET: MethodKind.QUERY, Verb.POST: MethodKind.PROCEDURE}
_NOTHING: Final = Fields({})
_JSON_UTF8: Final = f"{JSON}; charset=utf-8"


def _nsid(head: RequestHead) -> str:
    """What the path calls; one trailing slash is forgiven."""
    return head.path.removeprefix(XRPC_PREFIX).removesuffix("/")


def _check_encoding(head: RequestHead) -> None:
    """Refuse a body that is not plain JSON, by what its headers say."""
    stated = head.header(b"content-type")
    if not stated:
        raise invalid_request("Request encoding (Content-Type) required but not provided")
    content_type = stated.partition(";")[0].strip().lower()
    if content_type != JSON:
        raise invalid_request(f"Wrong request encoding (Content-Type): {content_type}")
    coding = head.header(b"content-encoding")
    if coding is not None and coding.strip().lower() not in ("", "identity"):
        raise XrpcError(UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", "unsupported content-encoding")
