"""Types of settings: how the text of a variable becomes a value, and what is refused.

A validator raises with a reason that never repeats a value that may be secret.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_core import PydanticCustomError

from stratos.atproto.syntax import Did, InvalidSyntax, parse_did
from stratos.core.boundaries import Boundary, ensure_qualified
from stratos.core.outcomes import Refusal

_TRUE: Final = frozenset({"true", "1", "yes", "on"})
_FALSE: Final = frozenset({"false", "0", "no", "off", ""})
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,15}", re.ASCII)
_DECIMAL: Final = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{1,9})?", re.ASCII)
_HEX_KEY: Final = re.compile(r"[0-9a-fA-F]{64}")
_SCHEMA_NAME: Final = re.compile(r"[A-Za-z_]+")
_WEB: Final = frozenset({"http", "https"})
_STREAM: Final = frozenset({"http", "https", "ws", "wss"})
_POSTGRES: Final = frozenset({"postgres", "postgresql"})
_VALKEY: Final = frozenset({"redis", "rediss", "valkey", "valkeys", "unix"})


@dataclass(frozen=True, slots=True)
class Kind:
    """The words for a type in the table of settings."""

    text: str


@dataclass(frozen=True, slots=True)
class AppviewGrant:
    """Who may subscribe with a service JWT: one DID, or anybody (`did` None); all boundaries (None), or only these."""

    did: Did | None
    boundaries: tuple[Boundary, ...] | None


def refusal(reason: str) -> PydanticCustomError:
    """What a validator raises; the reason follows the variable's name."""
    return PydanticCustomError("setting", "{reason}", {"reason": reason})


def _switch(value: object) -> object:
    if not isinstance(value, str):
        return value
    word = value.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise refusal("must be true, 1, yes or on, or false, 0, no, off or empty")


def _whole(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not _WHOLE.fullmatch(value.strip()):
        raise refusal("must be a whole number")
    return int(value)


def _decimal(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not _DECIMAL.fullmatch(value.strip()):
        raise refusal("must be a number")
    return float(value)


def _items(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(item for item in (part.strip() for part in value.split(",")) if item)


def _did(value: str) -> Did:
    try:
        return parse_did(value.strip())
    except InvalidSyntax as error:
        raise refusal("must be a DID") from error


def check_url(value: str, schemes: Collection[str]) -> str:
    """A URL of one of these schemes with a host, without a trailing slash. Raises for anything else."""
    text = value.strip()
    try:
        parts = urlsplit(text)
        usable = parts.scheme in schemes and parts.hostname and parts.port != 0 and not re.search(r"\s", text)
    except ValueError:
        usable = False
    if not usable:
        raise refusal(f"must be a URL that begins with {' or '.join(f'{scheme}://' for scheme in sorted(schemes))}")
    return text.rstrip("/")


def _web_url(value: str) -> str:
    return check_url(value, _WEB)


def _web_urls(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(check_url(value, _WEB) for value in values)


def _not_empty(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        raise refusal("must name at least one")
    return values


def _stream_urls(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(check_url(value, _STREAM) for value in values)


def _origins(values: tuple[str, ...]) -> tuple[str, ...]:
    origins = _web_urls(values)
    if any(urlsplit(origin)[2:] != ("", "", "") or "@" in origin for origin in origins):
        raise refusal("must be origins: scheme, host and port only")
    return origins


def _postgres_url(secret: SecretStr) -> SecretStr:
    """A libpq connection string (`host=… dbname=…`) or a URL; the rest is for libpq to judge."""
    text = secret.get_secret_value()
    if "://" in text and text.partition("://")[0] not in _POSTGRES:
        raise refusal("must begin with postgres:// or postgresql://")
    if "=" not in text and "://" not in text:
        raise refusal("must be a PostgreSQL URL or connection string")
    return secret


def _valkey_url(secret: SecretStr) -> SecretStr:
    if urlsplit(secret.get_secret_value()).scheme not in _VALKEY:
        raise refusal("must be a redis://, rediss://, valkey://, valkeys:// or unix:// URL")
    return secret


def _hex_key(secret: SecretStr) -> SecretStr:
    if not _HEX_KEY.fullmatch(secret.get_secret_value()):
        raise refusal("must be 64 hexadecimal digits")
    return secret


def _schema_name(value: str) -> str:
    if not _SCHEMA_NAME.fullmatch(value):
        raise refusal("must consist of letters and _")
    return value


def qualified(service: Did, names: Collection[str]) -> tuple[Boundary, ...]:
    """The boundaries that bare or qualified names mean at this service. Raises for those of another service."""
    boundaries = []
    for name in names:
        boundary = ensure_qualified(service, name)
        if isinstance(boundary, Refusal):
            raise refusal(boundary.message)
        boundaries.append(boundary)
    return tuple(boundaries)


def appview_grants(service: Did, items: Collection[str]) -> tuple[AppviewGrant, ...]:
    """Read `did`, `*` and `did#name|name`. Raises for anything else."""
    grants = []
    for item in items:
        who, limited, names = item.partition("#")
        chosen = [name.strip() for name in names.split("|")]
        if limited and not all(chosen):
            raise refusal("must name boundaries after #, separated by |")
        grants.append(
            AppviewGrant(None if who == "*" else _did(who), qualified(service, chosen) if limited else None),
        )
    return tuple(grants)


Switch = Annotated[bool, BeforeValidator(_switch), Kind("boolean")]
Positive = Annotated[int, BeforeValidator(_whole), Field(gt=0), Kind("whole number > 0")]
NotNegative = Annotated[int, BeforeValidator(_whole), Field(ge=0), Kind("whole number ≥ 0")]
Port = Annotated[int, BeforeValidator(_whole), Field(gt=0, le=65_535), Kind("port")]
Seconds = Annotated[float, BeforeValidator(_decimal), Field(gt=0), Kind("seconds > 0")]
Text = Annotated[str, Kind("text")]
Secret = Annotated[SecretStr, Kind("secret text")]
HexKey = Annotated[SecretStr, AfterValidator(_hex_key), Kind("secret, 64 hex digits")]
DidText = Annotated[Did, BeforeValidator(str), AfterValidator(_did), Kind("DID")]
WebUrl = Annotated[str, AfterValidator(_web_url), Kind("URL")]
PostgresUrl = Annotated[SecretStr, AfterValidator(_postgres_url), Kind("secret PostgreSQL URL")]
ValkeyUrl = Annotated[SecretStr, AfterValidator(_valkey_url), Kind("secret Valkey URL")]
SchemaName = Annotated[str, AfterValidator(_schema_name), Kind("letters and _")]
Names = Annotated[tuple[str, ...], BeforeValidator(_items), Kind("comma list")]
Dids = Annotated[tuple[DidText, ...], BeforeValidator(_items), Kind("comma list of DIDs")]
NonEmptyWebUrls = Annotated[
    tuple[str, ...], BeforeValidator(_items), AfterValidator(_web_urls), AfterValidator(_not_empty), Kind("comma list of URLs")
]
StreamUrls = Annotated[tuple[str, ...], BeforeValidator(_items), AfterValidator(_stream_urls), Kind("comma list of URLs")]
Origins = Annotated[tuple[str, ...], BeforeValidator(_items), AfterValidator(_origins), Kind("comma list of origins")]
LogLevel = Literal["fatal", "error", "warn", "info", "debug", "trace", "silent"]
PostgresSslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
