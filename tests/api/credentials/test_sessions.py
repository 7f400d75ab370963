"""Cookie sessions of our own pages. Design §5."""

from __future__ import annotations

import hmac
import json
from http.cookies import SimpleCookie

import pytest

from stratos.api.auth import User
from stratos.api.credentials.jws import decode_base64url
from stratos.api.credentials.sessions import LIFETIME_SECONDS, CookieSessions, SessionVerifier
from stratos.api.errors import XrpcError
from stratos.api.request import RequestHead
from tests.api.credentials.builders import CREATE, GET, MASTER_KEY, PUBLIC_URL, REI, SAKURA, Clock, b64, head, refused


def sessions(clock: Clock, *, master_key: bytes = MASTER_KEY, public_url: str = PUBLIC_URL) -> CookieSessions:
    """Sessions of a service on https."""
    return CookieSessions(master_key, public_url, clock=clock)


def sent_back(set_cookie: str) -> str:
    """What a browser answers to `Set-Cookie`."""
    return set_cookie.partition(";")[0]


def request(cookie: str | None, nsid: str = GET, **headers: str) -> RequestHead:
    """A call with a cookie and further headers."""
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return head(nsid, headers=[*named, *([] if cookie is None else [("Cookie", cookie)])])


def test_cookie_is_kept_from_scripts_other_sites_and_plain_http(clock: Clock) -> None:
    morsel = next(iter(SimpleCookie(sessions(clock).issue(REI).set_cookie).values()))
    assert morsel.key == "__Host-stratos_session"
    assert (morsel["httponly"], morsel["samesite"], morsel["secure"], morsel["path"]) == (True, "Lax", True, "/")
    assert (morsel["domain"], morsel["max-age"]) == ("", str(LIFETIME_SECONDS))


def test_cookie_on_plain_http_is_not_marked_secure(clock: Clock) -> None:
    morsel = next(iter(SimpleCookie(sessions(clock, public_url="http://localhost:3100").issue(REI).set_cookie).values()))
    assert (morsel.key, morsel["secure"], morsel["httponly"]) == ("stratos_session", "", True)


def test_cookie_is_not_printed(clock: Clock) -> None:
    issued = sessions(clock).issue(REI)
    assert sent_back(issued.set_cookie) not in repr(issued)


async def test_session_is_the_user_that_signed_in(clock: Clock) -> None:
    issued = sessions(clock).issue(REI)
    verifier = SessionVerifier(sessions(clock))
    assert await verifier.verify(request(f"a=b; {sent_back(issued.set_cookie)}; c=d"), GET) == User(REI)


async def test_request_without_the_cookie_is_left_to_others(clock: Clock) -> None:
    verifier = SessionVerifier(sessions(clock))
    for cookie in (None, "", "other=value", "xstratos_session=1"):
        assert await verifier.verify(request(cookie), GET) is None


async def test_other_credential_goes_before_the_cookie(clock: Clock) -> None:
    verifier = SessionVerifier(sessions(clock))
    cookie = sent_back(sessions(clock).issue(REI).set_cookie)
    assert await verifier.verify(request(cookie, Authorization="Bearer x"), GET) is None
    assert await verifier.verify(head(headers=[("Cookie", cookie)], syncToken="x"), GET) is None


async def test_session_ends(clock: Clock) -> None:
    cookie = sent_back(sessions(clock).issue(REI).set_cookie)
    verifier = SessionVerifier(sessions(clock))
    clock.advance(LIFETIME_SECONDS - 1)
    assert await verifier.verify(request(cookie), GET) == User(REI)
    clock.advance(1)
    error = await refused(verifier, request(cookie))
    assert (error.status, error.message) == (401, "Session expired")
    assert error.headers["Set-Cookie"] == sessions(clock).clear()


def test_cookies_and_csrf_tokens_have_keys_of_their_own(clock: Clock) -> None:
    def by_hand(purpose: bytes) -> bytes:
        """HKDF of RFC 5869 with SHA-256, no salt and one block."""
        return hmac.digest(hmac.digest(bytes(32), MASTER_KEY, "sha256"), purpose + b"\x01", "sha256")

    issued = sessions(clock).issue(REI)
    content, _, mac = sent_back(issued.set_cookie).partition("=")[2].partition(".")
    assert mac == b64(hmac.digest(by_hand(b"stratos cookie session"), content.encode(), "sha256"))
    csrf = b64(hmac.digest(by_hand(b"stratos csrf token"), issued.session.id.encode(), "sha256"))
    assert sessions(clock).csrf_token(issued.session) == csrf


def test_cleared_cookie_is_empty_and_gone_at_once(clock: Clock) -> None:
    morsel = next(iter(SimpleCookie(sessions(clock).clear()).values()))
    assert (morsel.value, morsel["max-age"], morsel["path"], morsel["secure"]) == ("", "0", "/", True)


async def test_cookie_that_is_not_ours_is_refused_and_cleared(clock: Clock) -> None:
    good = sent_back(sessions(clock).issue(REI).set_cookie)
    name, _, value = good.partition("=")
    content, _, mac = value.partition(".")
    claims = json.loads(decode_base64url(content))
    assert claims[0] == REI
    longer = b64(json.dumps([claims[0], claims[1], claims[2] + 1]).encode())
    forgeries = [
        f"{name}={content}.",
        f"{name}={content}",
        f"{name}=",
        f"{name}={content}.{mac[:-1]}",
        f"{name}={content}.{mac}=",
        f"{name}={b64(json.dumps([SAKURA, *claims[1:]]).encode())}.{mac}",
        f"{name}={longer}.{mac}",
        f"{name}={'x' * 5000}.{mac}",
        f"{name}=\xff.{mac}",
        sent_back(sessions(clock, master_key=bytes(32)).issue(REI).set_cookie),
    ]
    for forged in forgeries:
        error = await refused(SessionVerifier(sessions(clock)), request(forged))
        assert (error.status, error.headers["Set-Cookie"]) == (401, sessions(clock).clear()), forged


async def test_planted_second_cookie_is_refused(clock: Clock) -> None:
    mine, theirs = (sent_back(sessions(clock).issue(did).set_cookie) for did in (REI, SAKURA))
    error = await refused(SessionVerifier(sessions(clock)), request(f"{theirs}; {mine}"))
    assert error.status == 401


async def test_cookies_in_headers_of_their_own_are_read_alike(clock: Clock) -> None:
    mine, theirs = (sent_back(sessions(clock).issue(did).set_cookie) for did in (REI, SAKURA))
    verifier = SessionVerifier(sessions(clock))
    assert await verifier.verify(head(headers=[("Cookie", "theme=dark"), ("Cookie", mine)]), GET) == User(REI)
    error = await refused(verifier, head(headers=[("Cookie", theirs), ("Cookie", mine)]))
    assert error.status == 401


async def test_change_needs_the_csrf_token_of_the_session(clock: Clock) -> None:
    issued, other = sessions(clock).issue(REI), sessions(clock).issue(REI)
    cookie = sent_back(issued.set_cookie)
    verifier = SessionVerifier(sessions(clock))
    token = sessions(clock).csrf_token(issued.session)
    assert await verifier.verify(request(cookie, CREATE, X_CSRF_Token=token), CREATE) == User(REI)
    mac = cookie.rpartition(".")[2]
    for wrong in ({}, *({"X_CSRF_Token": text} for text in ("", token[:-1], mac, sessions(clock).csrf_token(other.session)))):
        error = await refused(verifier, request(cookie, CREATE, **wrong), CREATE)
        assert (error.status, error.name) == (403, "InvalidCsrfToken"), wrong


@pytest.mark.parametrize("verb", ["POST", "PUT", "PATCH", "DELETE", "QUERY"])
async def test_every_verb_that_is_not_known_as_safe_needs_it(clock: Clock, verb: str) -> None:
    cookie = sent_back(sessions(clock).issue(REI).set_cookie)
    error = await refused(SessionVerifier(sessions(clock)), head(verb=verb, headers=[("Cookie", cookie)]))
    assert error.status == 403


def test_csrf_token_of_a_form_is_checked_alike(clock: Clock) -> None:
    pages = sessions(clock)
    session = pages.issue(REI).session
    pages.check_csrf(session, pages.csrf_token(session))
    for presented in (None, "", "x"):
        with pytest.raises(XrpcError) as caught:
            pages.check_csrf(session, presented)
        assert caught.value.status == 403


async def test_another_site_may_not_use_the_session_even_to_read(clock: Clock) -> None:
    cookie = sent_back(sessions(clock).issue(REI).set_cookie)
    verifier = SessionVerifier(sessions(clock))
    for origin in (PUBLIC_URL, "https://stratos.test:443"):
        assert await verifier.verify(request(cookie, Origin=origin), GET) == User(REI)
    for origin in ("https://evil.test", "http://stratos.test", "https://stratos.test:8443", "null", ""):
        error = await refused(verifier, request(cookie, Origin=origin))
        assert (error.status, error.name) == (403, "InvalidOrigin")


async def test_on_localhost_pages_may_come_by_name_or_by_address(clock: Clock) -> None:
    local = sessions(clock, public_url="http://localhost:3100")
    cookie = sent_back(local.issue(REI).set_cookie)
    for origin in ("http://localhost:3100", "http://127.0.0.1:3100"):
        assert await SessionVerifier(local).verify(request(cookie, Origin=origin), GET) == User(REI)
    for origin in ("http://127.0.0.1", "http://127.0.0.1:3200", "https://127.0.0.1:3100", "http://localhost.evil.test:3100"):
        assert (await refused(SessionVerifier(local), request(cookie, Origin=origin))).name == "InvalidOrigin"
    named = sessions(clock, public_url="http://localhost.evil.test:3100")
    cookie = sent_back(named.issue(REI).set_cookie)
    assert (await refused(SessionVerifier(named), request(cookie, Origin="http://127.0.0.1:3100"))).name == "InvalidOrigin"
