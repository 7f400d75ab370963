"""The pages by which an account enrolls itself and leaves. Source: service spec §2.10, §4.2–4.7."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import orjson
from quart import Response
from quart import request as current_request

from stratos.api.auth import Authenticator, Credential, EnrollmentGate, User
from stratos.api.credentials import CookieSessions
from stratos.api.errors import (
    FORBIDDEN,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    UNAUTHORIZED,
    XrpcError,
    invalid_request,
    refused,
)
from stratos.api.oauth_errors import callback_failure, denied, start_failure
from stratos.api.oauth_return import ReturnAddresses, beginning, enrolled_at
from stratos.api.request import RequestHead
from stratos.api.xrpc import JSON
from stratos.api.xrpc_app import XrpcApp
from stratos.core.outcomes import Reason, Refusal
from stratos.engine.eligibility import Ineligible
from stratos.engine.enrollment import EnrollmentDesk
from stratos.engine.oauth import OAuthError, Registration
from stratos.engine.self_enrollment import SelfEnrolled, SelfEnrollment

AUTHORIZE_PATH: Final = "/oauth/authorize"
CALLBACK_PATH: Final = "/oauth/callback"
STATUS_PATH: Final = "/oauth/status"
REVOKE_PATH: Final = "/oauth/revoke"
METADATA_PATHS: Final = ("/client-metadata.json", "/.well-known/oauth-client-metadata.json")
STATUS_METHOD: Final = "zone.stratos.enrollment.status"
REVOKE_METHOD: Final = "zone.stratos.enrollment.revoke"
"""What a service JWT for these two routes names as its method."""
BROWSER_SECONDS: Final = 3_600
"""How long a browser may take to come back: as long as its state lives."""
MAX_PARAMETER_CHARACTERS: Final = 4_096
_CALLBACK_PARAMETERS: Final = ("state", "code", "iss", "error", "error_description")
_BEGUN_HERE: Final = frozenset({"none", "same-origin", None})
"""`Sec-Fetch-Site` where no other site has sent the browser; older browsers do not say."""
_FOUND: Final = 302
_PRIVATE: Final = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
"""The addresses of these pages hold codes, and their answers are for one browser."""


@dataclass(frozen=True, slots=True)
class SignInPages:
    """What signing in needs beside the rest: the flow, who we are as a client, where browsers may be sent."""

    enrolling: SelfEnrollment
    registration: Registration
    returns: ReturnAddresses


class OAuthPages:
    """The routes. Without `sign_in` (no OAuth client can be had) there are only status and revocation."""

    def __init__(
        self,
        desk: EnrollmentDesk,
        gate: EnrollmentGate,
        authenticator: Authenticator,
        *,
        sign_in: SignInPages | None,
        sessions: CookieSessions | None,
        dev_mode: bool,
    ) -> None:
        """`sessions` are those of our own pages; without them nobody is signed in by signing in. `dev_mode` tells causes."""
        self._desk = desk
        self._gate = gate
        self._authenticator = authenticator
        self._sign_in = sign_in
        self._sessions = sessions
        self._dev_mode = dev_mode

    def add_to(self, app: XrpcApp) -> None:
        """Add the routes."""
        app.get(STATUS_PATH)(self.status)
        app.post(REVOKE_PATH)(self.revoke)
        if self._sign_in is not None:
            pages = _SignIn(self._sign_in, self._sessions, dev_mode=self._dev_mode)
            app.get(AUTHORIZE_PATH)(pages.authorize)
            app.get(CALLBACK_PATH)(pages.callback)
            for path in METADATA_PATHS:
                app.get(path)(pages.metadata)

    async def status(self) -> Response:
        """Whether the caller is enrolled, since when and with which boundaries; a browser also gets its CSRF token."""
        head = _head()
        user = await self._user(head, STATUS_METHOD)
        enrollment = await self._gate.enrollment(user.did)
        body: dict[str, object] = {"did": user.did, "enrolled": False}
        if enrollment is not None and enrollment.active:
            boundaries = [{"value": boundary} for boundary in enrollment.boundaries]
            body |= {"enrolled": True, "enrolledAt": enrollment.enrolled_at, "boundaries": boundaries}
        session = None if self._sessions is None or head.authorization_count else self._sessions.read(head)
        if session is not None and self._sessions is not None:
            body["csrfToken"] = self._sessions.csrf_token(session)
        return _json(body)

    async def revoke(self) -> Response:
        """Leave, and keep one's records and keys for a return; the browser's session ends."""
        head = _head()
        user = await self._user(head, REVOKE_METHOD)
        refusal = await self._desk.revoke(user.did)
        if refusal is not None and refusal.reason is Reason.NOT_FOUND:
            raise XrpcError(NOT_FOUND, "NotFound", "User is not enrolled")
        if refusal is not None:
            raise refused(refusal)
        answer = _json({"did": user.did, "revoked": True, "message": "Successfully unenrolled from Stratos"})
        if self._sessions is not None:
            answer.headers.add("Set-Cookie", self._sessions.clear())
        return answer

    async def _user(self, head: RequestHead, method: str) -> User:
        """The calling user, by any credential. Raises XrpcError 401 Unauthorized, in the words of these routes (spec §2.10)."""
        try:
            credential: Credential = await self._authenticator.authenticate(head, method)
        except XrpcError as error:
            if error.status != UNAUTHORIZED:
                raise
            raise XrpcError(UNAUTHORIZED, "Unauthorized", error.message, error.headers) from error
        if not isinstance(credential, User):
            raise XrpcError(UNAUTHORIZED, "Unauthorized", "Authorization required")
        return credential


class _SignIn:
    """The pages between which the browser goes to the account's own server and back."""

    def __init__(self, parts: SignInPages, sessions: CookieSessions | None, *, dev_mode: bool) -> None:
        self._parts = parts
        self._sessions = sessions
        self._dev_mode = dev_mode
        self._secure = parts.registration.redirect_uri.startswith("https://")
        self._cookie = "__Host-stratos_sign_in" if self._secure else "stratos_sign_in"

    async def metadata(self) -> Response:
        """Who we are as an OAuth client."""
        return Response(orjson.dumps(dict(self._parts.registration.document)), content_type=JSON)

    async def authorize(self) -> Response:
        """Send the browser to the account's own server."""
        head = _flow_head()
        handle = _parameter(head, "handle")
        if not handle:
            raise invalid_request("Handle parameter required")
        redirect_uri = _parameter(head, "redirect_uri")
        return_to = None if redirect_uri is None else self._parts.returns.checked(redirect_uri)
        elsewhere = beginning(self._parts.registration.redirect_uri, head.header(b"host"), current_request.full_path)
        if elsewhere is not None:
            return _redirect(elsewhere)
        try:
            begun = await self._parts.enrolling.begin(handle, return_to=return_to)
        except OAuthError as error:
            raise start_failure(error, dev_mode=self._dev_mode) from error
        answer = _redirect(begun.url)
        if self._begins_here(head):
            answer.headers.add("Set-Cookie", self._set_cookie(begun.browser, BROWSER_SECONDS))
        return answer

    async def callback(self) -> Response:
        """The browser is back: enroll its account, sign the browser in, and send it on."""
        head = _flow_head()
        query = {name: value for name in _CALLBACK_PARAMETERS if (value := _parameter(head, name)) is not None}
        for name in ("state", "iss"):
            if not query.get(name):
                raise invalid_request(f"{name} parameter required")
        try:
            outcome = await self._parts.enrolling.finish(query, browser=current_request.cookies.get(self._cookie))
        except OAuthError as error:
            raise callback_failure(error) from error
        match outcome:
            case SelfEnrolled():
                return self._welcome(outcome)
            case Ineligible():
                raise XrpcError(FORBIDDEN, "EnrollmentDenied", denied(outcome))
            case Refusal():
                raise refused(outcome)

    def _begins_here(self, head: RequestHead) -> bool:
        """Whether the person began, by their own hand or on a page of ours; else some other page sent the browser.

        That page could name an account of its own, whose server asks nothing; who consented to nothing is not signed in.
        On loopback our own page may stand at another name of this machine.
        """
        return not self._secure or head.header(b"sec-fetch-site") in _BEGUN_HERE

    def _welcome(self, enrolled: SelfEnrolled) -> Response:
        completed = enrolled.completed
        message = "Successfully enrolled in Stratos" if enrolled.newly else "Already enrolled in Stratos"
        body = {"success": True, "did": completed.did, "enrolled": enrolled.newly, "message": message}
        answer = _json(body) if completed.return_to is None else _redirect(enrolled_at(completed.return_to))
        answer.headers.add("Set-Cookie", self._set_cookie("", 0))
        if completed.same_browser and self._sessions is not None:
            answer.headers.add("Set-Cookie", self._sessions.issue(completed.did).set_cookie)
        return answer

    def _set_cookie(self, value: str, max_age: int) -> str:
        secure = "; Secure" if self._secure else ""
        return f"{self._cookie}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax{secure}"


def _head() -> RequestHead:
    return RequestHead(current_request.scope)


def _flow_head() -> RequestHead:
    """The head of a request that changes something although it is a GET: a HEAD, sent by a preview of a link, must not."""
    head = _head()
    if head.verb == "HEAD":
        raise XrpcError(METHOD_NOT_ALLOWED, "MethodNotAllowed", "Only GET is allowed", {"Allow": "GET"})
    return head


def _parameter(head: RequestHead, name: str) -> str | None:
    """A parameter of the query. Raises XrpcError 400 where it is there twice, too long or not printable."""
    values = head.query.get(name)
    if not values:
        return None
    if len(values) > 1:
        raise invalid_request(f"{name} is given more than once")
    if len(values[0]) > MAX_PARAMETER_CHARACTERS or not values[0].isprintable():
        raise invalid_request(f"{name} is too long or not printable")
    return values[0]


def _json(body: Mapping[str, object]) -> Response:
    return Response(orjson.dumps(dict(body)), headers=_PRIVATE, content_type=JSON)


def _redirect(address: str) -> Response:
    return Response(b"", _FOUND, {**_PRIVATE, "Location": address})
