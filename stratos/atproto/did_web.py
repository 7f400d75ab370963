"""did:web as this network uses it: where a host publishes its document.

Source: https://atproto.com/specs/did#blessed-did-methods.
"""

from __future__ import annotations

import re
from typing import Final

from stratos.atproto.syntax import Did, InvalidSyntax, parse_handle

_LOCALHOST: Final = "localhost"
_web_parts = re.compile(r"did:web:([A-Za-z0-9.-]+)(?:%3[Aa]([0-9]{1,5}))?").fullmatch


class UnsupportedDid(ValueError):
    """A DID that we do not resolve: another method, or not of the form that its method has in this network."""


def web_document_url(did: Did, *, allow_private: bool) -> str:
    """Where a did:web's document lies. Raises UnsupportedDid.

    The network knows neither paths nor, but for localhost, ports in did:web; localhost is for developers, and asked without TLS.
    """
    parts = _web_parts(did)
    if parts is None:
        raise UnsupportedDid(f"{did} is neither a did:plc nor a did:web of this network")
    host, port = parts.groups()
    if host == _LOCALHOST and allow_private:
        return f"http://{host}{'' if port is None else f':{port}'}/.well-known/did.json"
    if port is not None:
        raise UnsupportedDid(f"{did} has a port")
    try:
        parse_handle(host)  # a handle's syntax is a host's
    except InvalidSyntax as error:
        raise UnsupportedDid(f"{did} names no host of the public network") from error
    return f"https://{host}/.well-known/did.json"
