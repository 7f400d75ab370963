"""Where the browser may be sent after signing in, and from where it has to begin. Source: service spec §4.3, §4.4; design §9."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from stratos.api.credentials.origins import own_origins, web_origin
from stratos.api.errors import invalid_request

MAX_URL_CHARACTERS: Final = 2_048
ENROLLED_PARAMETER: Final = "stratos_enrolled"
_LOCALHOST: Final = "localhost"


class ReturnAddresses:
    """The origins to which we send browsers back: those that the operator names, and our own. Never any other."""

    def __init__(self, public_url: str, allowed: Sequence[str]) -> None:
        self._needs_https = public_url.startswith("https://")
        self._origins = own_origins(public_url) | {origin for origin in map(web_origin, allowed) if origin is not None}

    def checked(self, redirect_uri: str) -> str:
        """The address as it came. Raises XrpcError 400 where it is none, or leads elsewhere."""
        origin = web_origin(redirect_uri) if _is_plain(redirect_uri) else None
        if origin is None:
            raise invalid_request("Invalid redirect_uri")
        if self._needs_https and not origin.startswith("https://"):
            raise invalid_request("redirect_uri must use https")
        if origin not in self._origins:
            raise invalid_request("redirect_uri leads to an origin that is not allowed")
        return redirect_uri


def enrolled_at(address: str) -> str:
    """The address with the parameter that tells its page how it went."""
    parts = urlsplit(address)
    joint = "&" if parts.query else ""
    return urlunsplit(parts._replace(query=f"{parts.query}{joint}{ENROLLED_PARAMETER}=true"))


def beginning(callback: str, host: str | None, target: str) -> str | None:
    """Where the browser must go to begin, so that its cookie is there when it comes back; None where it is there already.

    On loopback it comes back by address, since servers refuse redirects to `localhost` (RFC 8252 §8.3). `callback` is our
    redirect URI, `host` the request's, `target` its path with query.
    """
    returns = urlsplit(callback)
    if returns.scheme != "http" or host is None or host.partition(":")[0].lower() != _LOCALHOST:
        return None
    return f"http://{returns.netloc}{target}"


def _is_plain(text: str) -> bool:
    """Whether browsers and this program read the same address out of it: no spaces, control characters, backslashes."""
    return len(text) <= MAX_URL_CHARACTERS and text.isascii() and text.isprintable() and not set(text) & {" ", "\\"}
