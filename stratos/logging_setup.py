"""Logging: one line of JSON per event on standard output (dev mode: a readable line), with secrets taken out.

Everything goes one way: structlog's events directly, the standard library's records (hypercorn, quart, httpx) through a handler.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
import threading
from collections.abc import Mapping
from typing import BinaryIO, Final, TypeAlias

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

REDACTED: Final = "[redacted]"
LEVELS: Final[Mapping[str, int]] = {
    "fatal": logging.CRITICAL,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": logging.NOTSET,
    "silent": logging.CRITICAL,
}
"""Least level that is logged, by the names of the setting LOG_LEVEL; `silent` also drops what remains."""
QUIET_LIBRARIES: Final = ("httpx", "httpcore", "hpack", "asyncio")
"""They log each request at info or debug level: from warning upwards only, unless everything is wanted."""
LOG_DEPTH: Final = 8
"""Values nested deeper than this are left out of a line."""
LOG_TEXT_CHARACTERS: Final = 16_384
"""A longer text (of a traceback, say) loses its middle."""

_LEVEL_NAMES: Final = {"warning": "warn", "critical": "fatal", "exception": "error"}
_SECRET_NAMES: Final = (
    "authorization", "cookie", "token", "secret", "passw", "passphrase", "credentials", "assertion", "jwt", "dpop",
    "api_key", "apikey", "private_key", "privatekey", "master_key", "masterkey", "sealed_key", "sealedkey", "access_key",
    "accesskey", "raw_key", "key_hex", "keyhex", "dsn", "postgres_url", "database_url", "valkey_url",
)  # fmt: skip
# A line without any of these holds no secret. Searching it for them is several times faster than looking at each value.
_HINTS: Final = (
    b"auth", b"cookie", b"token", b"secret", b"pass", b"credential", b"assert", b"jwt", b"dpop", b"key", b"dsn", b"_url",
    b"bearer", b"basic", b"eyj", b"@",
)  # fmt: skip
# Repetitions are bounded, so that no text takes more than linear time.
_SECRET_IN_TEXT: Final = re.compile(
    r"(?P<header>\b(?:cookie|authorization)\b[\"']?\s?[=:,]\s?b?[\"']?)[^\r\n\"']+"
    r"|(?P<scheme>\b(?:bearer|dpop|basic)\s{1,4})(?!did:)[^\s\"',;]+"
    r"|(?P<pair>(?:token|secret|password|assertion|master_key|key_hex)[\"']?\s?[=:]\s?[\"']?)[^\s&\"',;)}\]]+"
    r"|(?P<url>://[^\s/:@\"']{0,200}:)[^\s/@\"']{1,400}(?=@)"
    r"|\beyJ[\w-]{8,4000}\.[\w-]{1,8000}\.[\w-]*",
    re.IGNORECASE,
)

Loggable: TypeAlias = bool | int | float | str | list["Loggable"] | dict[str, "Loggable"] | None


def configure_logging(level: str, *, readable: bool = False, output: BinaryIO | None = None) -> None:
    """Send the whole process's log to `output` (standard output if None) from `level` upwards.

    `level` is a value of the setting LOG_LEVEL. `readable` gives lines for a person instead of JSON. Call it once, at start;
    a later call replaces the earlier one.
    """
    least = LEVELS[level]
    stream = sys.stdout.buffer if output is None else output
    first: list[Processor] = [_drop] if level == "silent" else []
    structlog.configure(
        processors=[
            *first,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_logger_name,
            _add_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            *(_readable_lines() if readable else [_json_line]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=_LineLoggers(stream),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_ToStructlog()]
    root.setLevel(least)
    for library in QUIET_LIBRARIES:
        logging.getLogger(library).setLevel(max(least, logging.WARNING) if level != "trace" else least)


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: replace whatever is, or looks like, a credential, however deep in the event it lies."""
    return {name: _redacted(name, value, LOG_DEPTH) for name, value in event.items()}


def _redacted(name: str, value: object, depth: int) -> Loggable:
    if isinstance(value, bool | int | float | None):
        return value
    lowered = name.lower()
    if any(word in lowered for word in _SECRET_NAMES):
        return REDACTED
    if isinstance(value, str):
        return _without_secrets(value)
    if depth == 0:
        return "…"
    if isinstance(value, Mapping):
        return {str(key): _redacted(str(key), item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted_item(item, depth - 1) for item in value]
    return _without_secrets(str(_plain(value)))


def _redacted_item(item: object, depth: int) -> Loggable:
    """An item of a sequence; a pair that begins with a name is treated like an entry of a mapping, as headers come in pairs."""
    if isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[0], str | bytes):
        name = item[0].decode("latin-1") if isinstance(item[0], bytes) else item[0]
        return [name, _redacted(name, item[1], depth)]
    return _redacted("", item, depth)


def _without_secrets(text: str) -> str:
    if len(text) > LOG_TEXT_CHARACTERS:
        half = LOG_TEXT_CHARACTERS // 2
        # The end begins with a whole line, so that no secret is parted from what introduces it.
        text = f"{text[:half]} … {text[-half:].partition(chr(10))[2]}"
    return _SECRET_IN_TEXT.sub(_keep_what_introduced_it, text)


def _keep_what_introduced_it(match: re.Match[str]) -> str:
    return f"{match.group(match.lastgroup) if match.lastgroup else ''}{REDACTED}"


def _drop(_logger: WrappedLogger, _method: str, _event: EventDict) -> EventDict:
    raise structlog.DropEvent


def _add_level(_logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    event["level"] = _LEVEL_NAMES.get(method, method)
    return event


def _json_line(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
    """A line of JSON without secrets; only a line that may hold one is looked at value by value."""
    with contextlib.suppress(orjson.JSONEncodeError):
        line = orjson.dumps(event, default=_plain, option=orjson.OPT_PASSTHROUGH_DATACLASS)
        lowered = line.lower()
        if len(line) <= LOG_TEXT_CHARACTERS and not any(hint in lowered for hint in _HINTS):
            return line
    safe = redact(logger, method, event)
    try:
        return orjson.dumps(safe)
    except orjson.JSONEncodeError:  # lone surrogates and integers above 64 bits, which the standard library can write
        return json.dumps(safe).encode()


def _plain(value: object) -> Loggable:
    """What a value that JSON does not know looks like in a line."""
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return list(value)
    return str(value)


def _readable_lines() -> list[Processor]:
    console = structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback)

    def encoded(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
        return console(logger, method, redact(logger, method, event)).encode(errors="backslashreplace")

    return [encoded]


class _LineLogger:
    """Writes lines, and knows the name of the module that asked for it. Any thread may write."""

    def __init__(self, stream: BinaryIO, lock: threading.Lock, name: str) -> None:
        self.name = name
        self._stream = stream
        self._lock = lock

    def msg(self, line: bytes) -> None:
        """Write one line; a reader that has gone away stops the log, not the service."""
        with self._lock, contextlib.suppress(OSError):
            self._stream.write(line + b"\n")
            self._stream.flush()

    debug = info = warning = error = critical = msg


class _LineLoggers:
    """Gives every module its own logger upon the same stream."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def __call__(self, *names: str) -> _LineLogger:
        return _LineLogger(self._stream, self._lock, names[0] if names else "stratos")


class _ToStructlog(logging.Handler):
    """Hands the standard library's records to structlog, so that they pass the same processors."""

    def emit(self, record: logging.LogRecord) -> None:
        level = max((known for known in LEVELS.values() if known <= record.levelno), default=logging.DEBUG)
        structlog.get_logger(record.name).log(level or logging.DEBUG, record.getMessage(), exc_info=record.exc_info)
