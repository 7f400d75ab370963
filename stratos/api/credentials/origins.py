"""Origins of web addresses, in the one spelling in which they can be compared."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def web_origin(url: str) -> str | None:
    """Scheme, host and port of an http(s) URL; None for any other text, and where it carries a user name."""
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        return None
    if scheme not in _DEFAULT_PORTS or not host or "@" in parts.netloc:
        return None
    name = f"[{host}]" if ":" in host else host
    return f"{scheme}://{name}" if port in (None, _DEFAULT_PORTS[scheme]) else f"{scheme}://{name}:{port}"


def own_origins(public_url: str) -> frozenset[str]:
    """The origins of our own pages: the public one, and with `localhost` the same by address, to which sign-ins return."""
    origin = web_origin(public_url)
    if origin is None:
        return frozenset()
    parts = urlsplit(origin)
    if parts.scheme != "http" or parts.hostname != "localhost":
        return frozenset({origin})
    return frozenset({origin, origin.replace("localhost", "127.0.0.1")})
