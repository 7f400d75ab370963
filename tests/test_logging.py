"""Logging: lines that machines can read, at the wanted level, from every library, and never with a secret in them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from stratos.logging_setup import _HINTS, _SECRET_NAMES, LEVELS, LOG_TEXT_CHARACTERS, configure_logging, redact
from tests.conftest import ErrorLog

SECRET = "correct-horse-battery-staple"

Lines = Callable[[], list[dict[str, object]]]


@pytest.fixture(autouse=True)
def logging_of_the_tests(error_log: ErrorLog) -> Iterator[None]:
    """Put the tests' own logging back after each test here."""
    handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
    yield
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
    structlog.reset_defaults()
    error_log.configure_structlog()


def logging_at(level: str, *, readable: bool = False) -> Lines:
    output = io.BytesIO()
    configure_logging(level, readable=readable, output=output)
    return lambda: [json.loads(line) for line in output.getvalue().splitlines()]


def test_an_event_is_one_line_of_json_with_level_logger_and_time() -> None:
    lines = logging_at("info")
    structlog.get_logger("stratos.engine").info("record created", did="did:plc:a", bytes=b"abc", seconds=0.5)
    (line,) = lines()
    assert str(line.pop("timestamp")).endswith("Z")
    assert line == {
        "event": "record created",
        "level": "info",
        "logger": "stratos.engine",
        "did": "did:plc:a",
        "bytes": "<3 bytes>",
        "seconds": 0.5,
    }


@pytest.mark.parametrize(
    ("level", "logged"),
    [
        ("fatal", ["fatal"]),
        ("error", ["error", "fatal"]),
        ("warn", ["warn", "error", "fatal"]),
        ("info", ["info", "warn", "error", "fatal"]),
        ("debug", ["debug", "info", "warn", "error", "fatal"]),
        ("trace", ["debug", "info", "warn", "error", "fatal"]),
        ("silent", []),
    ],
)
@pytest.mark.parametrize("source", ["structlog", "standard library"])
def test_only_what_is_at_least_of_the_level_is_logged(level: str, logged: list[str], source: str) -> None:
    lines = logging_at(level)
    log = structlog.get_logger("somewhere") if source == "structlog" else logging.getLogger("somewhere")
    log.debug("event")
    log.info("event")
    log.warning("event")
    log.error("event")
    log.critical("event")
    assert [line["level"] for line in lines()] == logged


def test_every_level_of_the_setting_is_known() -> None:
    assert list(LEVELS) == ["fatal", "error", "warn", "info", "debug", "trace", "silent"]


def test_the_standard_library_s_records_pass_the_same_way() -> None:
    lines = logging_at("info")
    logging.getLogger("hypercorn.error").info("Running on %s", "http://127.0.0.1:3100?syncToken=" + SECRET)
    (line,) = lines()
    assert line["logger"] == "hypercorn.error"
    assert line["event"] == "Running on http://127.0.0.1:3100?syncToken=[redacted]"


def test_a_level_between_the_known_ones_counts_as_the_one_below() -> None:
    lines = logging_at("info")
    logging.getLogger("somewhere").log(logging.INFO + 5, "notice")
    assert [line["level"] for line in lines()] == ["info"]


def test_requests_of_the_http_client_are_not_logged_one_by_one() -> None:
    lines = logging_at("info")
    logging.getLogger("httpx").info("HTTP Request: GET https://pds.test")
    assert lines() == []


@pytest.mark.parametrize("source", ["structlog", "standard library"])
def test_an_exception_is_logged_with_its_traceback_and_without_local_values(source: str) -> None:
    lines = logging_at("info")
    log = structlog.get_logger("somewhere") if source == "structlog" else logging.getLogger("somewhere")
    try:
        raise_with_a_local_value(SECRET)
    except ValueError:
        log.exception("request failed")
    (line,) = lines()
    assert line["level"] == "error"
    assert "ValueError: refused" in str(line["exception"])
    assert "raise_with_a_local_value" in str(line["exception"])
    assert SECRET not in json.dumps(line)


def raise_with_a_local_value(value: str) -> None:
    kept = value
    raise ValueError("refused" if kept else "")


NAMED_SECRETS = [
    "Authorization",
    "authorization",
    "Proxy-Authorization",
    "cookie",
    "Set-Cookie",
    "syncToken",
    "sync_token",
    "access_token",
    "DPoP",
    "admin_password",
    "client_secret",
    "dpop_nonce_secret",
    "client_assertion",
    "jwt",
    "master_key",
    "signing_key_hex",
    "privateKey",
    "sealed_key",
    "postgres_url",
]

SECRETS_IN_TEXT = [
    f"Authorization: Bearer {SECRET}",
    f"authorization=Basic {SECRET}",
    f"sent DPoP {SECRET} to us",
    f"wss://host/xrpc/zone.stratos.sync.subscribeRecords?cursor=0&syncToken={SECRET}&did=did:plc:a",
    f'{{"password": "{SECRET}"}}',
    f"STRATOS_ADMIN_PASSWORD={SECRET}",
    f"connection to postgres://stratos:{SECRET}@db:5432/bsky failed",
    f"Cookie: session={SECRET}; other={SECRET}",
    f"[(b'cookie', b'session={SECRET}'), (b'host', b'a')]",
    "token eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJkaWQ6cGxjOmEifQ." + SECRET,
]


@pytest.mark.parametrize("readable", [False, True])
@pytest.mark.parametrize("name", NAMED_SECRETS)
def test_a_value_with_a_secret_s_name_is_never_logged(name: str, readable: bool) -> None:
    output = io.BytesIO()
    configure_logging("info", readable=readable, output=output)
    log = structlog.get_logger("somewhere")
    log.info("event", **{name: SECRET})
    log.info("event", headers={name: SECRET}, other=1)
    log.info("event", headers=[(name, SECRET), ("host", "here")])
    log.info("event", deep={"a": [{"b": {name: [SECRET]}}]})
    assert SECRET.encode() not in output.getvalue()
    assert output.getvalue().count(b"[redacted]") == 4
    assert b"here" in output.getvalue()


@pytest.mark.parametrize("readable", [False, True])
def test_a_header_of_bytes_is_never_logged_when_it_is_a_secret(readable: bool) -> None:
    output = io.BytesIO()
    configure_logging("info", readable=readable, output=output)
    structlog.get_logger("somewhere").info("event", headers=[(b"authorization", SECRET.encode())], token=b"x")
    assert SECRET.encode() not in output.getvalue()


@pytest.mark.parametrize("readable", [False, True])
@pytest.mark.parametrize("text", SECRETS_IN_TEXT)
def test_a_secret_inside_a_text_is_never_logged(text: str, readable: bool) -> None:
    output = io.BytesIO()
    configure_logging("info", readable=readable, output=output)
    log = structlog.get_logger("somewhere")
    log.info(text)
    log.info("event", detail=text)
    log.info("event", details=[{"line": text}])
    logging.getLogger("somewhere").warning("%s", text)
    try:
        raise ValueError(text)
    except ValueError:
        log.warning("event", exc_info=True)
    assert SECRET.encode() not in output.getvalue()
    assert output.getvalue().count(b"[redacted]") >= 5


def test_what_is_no_secret_stays() -> None:
    lines = logging_at("info")
    event = {
        "did": "did:web:stratos.test",
        "signing_key": "did:key:zDnaeTmV4DKrpzvEoSBRAJ1ZLzDnaeTmV4DKrpzvEoSBRAJ1ZL",
        "dev_credential": "Bearer did:plc:a",
        "uri": "at://did:plc:a/zone.stratos.feed.post/3k",
        "url": "https://stratos.test:3100/xrpc/com.atproto.repo.getRecord?repo=a@b",
        "cursor": 12,
        "tokens_left": 3,
        "nothing": None,
    }
    structlog.get_logger("somewhere").info("event", **event)
    (line,) = lines()
    assert {name: line[name] for name in event} == event


def test_every_secret_s_name_has_a_hint_so_that_no_line_with_it_takes_the_short_way() -> None:
    assert [name for name in _SECRET_NAMES if not any(hint.decode() in name for hint in _HINTS)] == []


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.frozensets(st.integers()),
        max_leaves=20,
    )
)
def test_any_value_can_be_logged_as_one_line(value: object) -> None:
    lines = logging_at("info")
    structlog.get_logger("somewhere").info("event", value=value, token="x")
    (line,) = lines()
    assert line["event"] == "event"


@pytest.mark.parametrize("value", ["\ud800", 2**70, {"\udfff": 1}, {b"bytes": 1}, float("nan")])
def test_what_json_cannot_say_is_logged_all_the_same(value: object) -> None:
    lines = logging_at("info")
    structlog.get_logger("somewhere").info("event", value=value)
    assert len(lines()) == 1


def test_a_value_that_contains_itself_is_logged_to_a_bounded_depth() -> None:
    lines = logging_at("info")
    value: list[object] = []
    value.append(value)
    structlog.get_logger("somewhere").info("event", value=value)
    assert len(lines()) == 1


def test_a_long_text_loses_its_middle_and_no_half_secret_is_left() -> None:
    lines = logging_at("info")
    text = "begin" + "x" * LOG_TEXT_CHARACTERS + f"\ntoken={SECRET}\nend"
    structlog.get_logger("somewhere").info("event", text=text)
    kept = str(lines()[0]["text"])
    assert len(kept) <= LOG_TEXT_CHARACTERS + 100
    assert kept.startswith("begin")
    assert kept.endswith("token=[redacted]\nend")


@pytest.mark.parametrize("pattern", ["a-", "-eyJ", "://", "x:", "eyJa.", "Bearer ", "token='", "cookie,", "@", "://a:"])
@pytest.mark.timeout(20)
def test_no_text_takes_long_to_redact(pattern: str) -> None:
    event = redact(None, "info", {"event": pattern * (1_000_000 // len(pattern))})
    assert len(str(event["event"])) <= 12 * LOG_TEXT_CHARACTERS


def test_an_output_that_is_gone_does_not_stop_the_program() -> None:
    class Gone(io.BytesIO):
        def write(self, data: object) -> int:
            raise BrokenPipeError

    configure_logging("info", output=Gone())
    structlog.get_logger("somewhere").info("event")
    logging.getLogger("somewhere").warning("event")


def test_a_logger_made_before_the_set_up_follows_it() -> None:
    early = structlog.get_logger("stratos.early")
    lines = logging_at("info")
    early.info("event")
    assert lines()[0]["logger"] == "stratos.early"
