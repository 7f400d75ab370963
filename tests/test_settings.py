"""Settings: every variable known by its name and default, read strictly, all problems at once, secrets never shown."""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from pydantic_settings import BaseSettings

from stratos.atproto.syntax import Did
from stratos.core.boundaries import Boundary
from stratos.settings import (
    AppviewGrant,
    AppviewSettings,
    IndexerSettings,
    InvalidSettings,
    ServiceSettings,
    load,
    load_system,
    read_environment,
)
from stratos.settings.loading import variables
from stratos.settings.table import MODELS, settings_table

SERVICE = {"STRATOS_SERVICE_DID": "did:web:stratos.test"}
INDEXER = {
    "BSKY_DB_POSTGRES_URL": "postgres://stratos:hush@db/bsky",
    "STRATOS_SERVICE_URL": "http://localhost:3100",
    "STRATOS_SYNC_TOKEN": "hush",
}
APPVIEW = {"APPVIEW_PG_URL": "postgres://stratos:hush@db/bsky", "STRATOS_URL": "http://localhost:3100"}
SECRET = "correct-horse-battery-staple"

SERVICE_DEFAULTS = {
    "STRATOS_SERVICE_FRAGMENT": "atproto_pns",
    "STRATOS_PORT": 3100,
    "STRATOS_PUBLIC_URL": "http://localhost:3100",
    "STRATOS_REPO_URL": "http://localhost:3100",
    "STRATOS_OPERATOR_CONTACT": None,
    "STRATOS_ALLOWED_DOMAINS": (),
    "STRATOS_AUTO_ENROLL_DOMAINS": (),
    "STRATOS_RETENTION_DAYS": 30,
    "STRATOS_WRITE_RATE_MAX_WRITES": 300,
    "STRATOS_WRITE_RATE_WINDOW_MS": 60_000,
    "STRATOS_WRITE_RATE_COOLDOWN_MS": 10_000,
    "STRATOS_WRITE_RATE_COOLDOWN_JITTER_MS": 1_000,
    "STRATOS_ENROLLMENT_MODE": "allowlist",
    "STRATOS_ALLOWED_DIDS": (),
    "STRATOS_ALLOWED_PDS_ENDPOINTS": (),
    "STRATOS_ALLOW_LIST_URI": None,
    "STRATOS_ALLOW_LIST_BOOTSTRAP_NAME": None,
    "STRATOS_VALKEY_URL": None,
    "STRATOS_IMPORT_MAX_BYTES": 268_435_456,
    "STRATOS_SIGNING_KEY_HEX": None,
    "STRATOS_OAUTH_CLIENT_ID": None,
    "STRATOS_OAUTH_CLIENT_SECRET": None,
    "STRATOS_OAUTH_CLIENT_NAME": "Stratos Service",
    "STRATOS_OAUTH_LOGO_URI": None,
    "STRATOS_OAUTH_TOS_URI": None,
    "STRATOS_OAUTH_POLICY_URI": None,
    "STRATOS_PLC_URL": "https://plc.directory",
    "STRATOS_ADMIN_PASSWORD": None,
    "STRATOS_SYNC_TOKEN": None,
    "STRATOS_DEV_MODE": False,
    "STRATOS_DPOP_REQUIRE_NONCE": True,
    "STORAGE_BACKEND": "sqlite",
    "STRATOS_DATA_DIR": Path("./data"),
    "STRATOS_POSTGRES_URL": None,
    "STRATOS_PG_HOST": None,
    "STRATOS_PG_PORT": 5432,
    "STRATOS_PG_USERNAME": "stratos",
    "STRATOS_PG_PASSWORD": None,
    "STRATOS_PG_DBNAME": "stratos",
    "STRATOS_PG_SSLMODE": "require",
    "STRATOS_PG_ACTOR_POOL_SIZE": 200,
    "STRATOS_PG_ADMIN_POOL_SIZE": 3,
    "STRATOS_BLOCK_CACHE_SIZE": 50_000,
    "STRATOS_BLOB_STORAGE": "local",
    "STRATOS_S3_BUCKET": None,
    "STRATOS_S3_REGION": None,
    "STRATOS_S3_ENDPOINT": None,
    "STRATOS_S3_ACCESS_KEY": None,
    "STRATOS_S3_SECRET_KEY": None,
    "REDIS_HOST": None,
    "REDIS_PORT": None,
    "REDIS_PASSWORD": None,
    "LOG_LEVEL": "info",
    "STRATOS_ALLOWED_APPVIEWS": (),
    "STRATOS_ALLOW_PRIVATE_NETWORK": False,
    "STRATOS_ALLOWED_REDIRECTS": (),
    "STRATOS_PDS_STUBS": True,
    "STRATOS_MASTER_KEY": None,
    "STRATOS_DPOP_NONCE_SECRET": None,
    "STRATOS_LOG_RETENTION_HOURS": 72,
    "STRATOS_MAX_JSON_BYTES": 2 * 1024 * 1024,
    "STRATOS_MAX_BLOB_BYTES": 100 * 1024 * 1024,
    "STRATOS_PUBLIC_ENROLLMENT_LOOKUP": True,
    "STRATOS_HOST": "0.0.0.0",
    "STRATOS_SHUTDOWN_SECONDS": 10.0,
}

INDEXER_DEFAULTS = {
    "BSKY_DB_POSTGRES_SCHEMA": "bsky",
    "BSKY_DB_POOL_SIZE": 20,
    "BSKY_REPO_PROVIDER": (),
    "BACKFILL_ENROLLED_ONLY": False,
    "BSKY_DID_PLC_URL": "https://plc.directory",
    "HEALTH_PORT": 3002,
    "WORKER_CONCURRENCY": 4,
    "WORKER_MAX_QUEUE_SIZE": 100,
    "CURSOR_FLUSH_INTERVAL_MS": 5_000,
    "ACTOR_SYNC_CONCURRENCY": 8,
    "ACTOR_SYNC_QUEUE_PER_ACTOR": 10,
    "ACTOR_SYNC_GLOBAL_MAX_PENDING": 500,
    "ACTOR_SYNC_DRAIN_DELAY_MS": 5,
    "ACTOR_SYNC_MAX_CONNECTIONS": 20,
    "ACTOR_SYNC_CONNECT_DELAY_MS": 200,
    "ACTOR_SYNC_IDLE_EVICTION_MS": 60_000,
    "ACTOR_SYNC_RECONNECT_BASE_DELAY_MS": 1_000,
    "ACTOR_SYNC_RECONNECT_MAX_DELAY_MS": 60_000,
    "ACTOR_SYNC_RECONNECT_JITTER_MS": 1_000,
    "ACTOR_SYNC_RECONNECT_MAX_ATTEMPTS": 20,
    "BACKGROUND_QUEUE_CONCURRENCY": 10,
    "BACKGROUND_QUEUE_MAX_SIZE": 1_000,
    "LOG_LEVEL": "info",
    "MEM_LIMIT": None,
    "STRATOS_STREAM_MODE": "multiplexed",
}

APPVIEW_DEFAULTS = {
    "APPVIEW_PORT": 3200,
    "APPVIEW_PUBLIC_URL": "http://localhost:3200",
    "APPVIEW_DID": "did:web:localhost%3A3200",
    "STRATOS_PLC_URL": "https://plc.directory",
    "STRATOS_ALLOW_PRIVATE_NETWORK": False,
    "APPVIEW_SYNC_TOKEN": None,
    "APPVIEW_MAX_STALENESS_SECONDS": 60,
    "APPVIEW_HIDE_BOUNDARY_MISMATCH": False,
}


def service(**changes: str) -> ServiceSettings:
    return load(ServiceSettings, SERVICE | changes)


def problems(model: type[BaseSettings], environment: Mapping[str, str]) -> dict[str, str]:
    with pytest.raises(InvalidSettings) as raised:
        load(model, environment)
    return {problem.name: problem.reason for problem in raised.value.problems}


def by_variable(settings: BaseSettings) -> dict[str, object]:
    return {variables(field)[0]: getattr(settings, name) for name, field in type(settings).model_fields.items()}


@pytest.mark.parametrize(
    ("model", "required", "defaults"),
    [
        (ServiceSettings, SERVICE, SERVICE_DEFAULTS),
        (IndexerSettings, INDEXER, INDEXER_DEFAULTS),
        (AppviewSettings, APPVIEW, APPVIEW_DEFAULTS),
    ],
)
def test_every_specified_variable_has_its_specified_default(
    model: type[BaseSettings], required: dict[str, str], defaults: dict[str, object]
) -> None:
    loaded = by_variable(load(model, required))
    assert {name: loaded[name] for name in defaults} == defaults


@pytest.mark.parametrize(
    ("model", "environment", "required"),
    [
        (ServiceSettings, SERVICE, {"STRATOS_SERVICE_DID"}),
        (IndexerSettings, INDEXER, set(INDEXER)),
        (AppviewSettings, APPVIEW, set(APPVIEW)),
    ],
)
def test_required_variables_are_named_when_missing_or_empty(
    model: type[BaseSettings], environment: dict[str, str], required: set[str]
) -> None:
    load(model, environment)
    assert set(problems(model, {})) == required
    assert set(problems(model, dict.fromkeys(environment, " "))) == required


@pytest.mark.parametrize("word", ["true", "1", "yes", "on", "TRUE", "Yes", " on "])
def test_words_that_switch_on(word: str) -> None:
    assert service(STRATOS_DEV_MODE=word).dev_mode is True


@pytest.mark.parametrize("word", ["false", "0", "no", "off", "", "FALSE", "Off", " "])
def test_words_that_switch_off(word: str) -> None:
    assert service(STRATOS_DEV_MODE=word).dev_mode is False
    assert service(STRATOS_DPOP_REQUIRE_NONCE=word).dpop_require_nonce is False, "empty is false, not the default"
    assert service(STRATOS_DEV_MODE="1", STRATOS_ALLOW_PRIVATE_NETWORK=word).allow_private_network is False


@given(st.text().filter(lambda word: word.strip().lower() not in {"true", "1", "yes", "on", "false", "0", "no", "off", ""}))
def test_any_other_word_is_refused_as_a_boolean(word: str) -> None:
    assert "must be true, 1, yes or on" in problems(ServiceSettings, SERVICE | {"STRATOS_DEV_MODE": word})["STRATOS_DEV_MODE"]


@pytest.mark.parametrize("number", ["0", "-1", "1.5", "1e3", "0x10", "1_000", "many", "٣", "9" * 30])
def test_a_positive_number_must_be_written_as_one(number: str) -> None:
    assert set(problems(ServiceSettings, SERVICE | {"STRATOS_IMPORT_MAX_BYTES": number})) == {"STRATOS_IMPORT_MAX_BYTES"}


def test_zero_is_accepted_where_the_specification_says_so() -> None:
    assert service(STRATOS_WRITE_RATE_COOLDOWN_MS="0").write_rate_cooldown_ms == 0
    assert load(IndexerSettings, INDEXER | {"ACTOR_SYNC_DRAIN_DELAY_MS": "0"}).actor_sync_drain_delay_ms == 0


@pytest.mark.parametrize("port", ["0", "65536", "-3100", "http"])
def test_a_port_is_between_1_and_65535(port: str) -> None:
    assert set(problems(ServiceSettings, SERVICE | {"STRATOS_PORT": port})) == {"STRATOS_PORT"}


def test_seconds_may_have_a_fraction() -> None:
    assert service(STRATOS_SHUTDOWN_SECONDS="0.5").shutdown_seconds == 0.5
    assert set(problems(ServiceSettings, SERVICE | {"STRATOS_SHUTDOWN_SECONDS": "nan"})) == {"STRATOS_SHUTDOWN_SECONDS"}


@pytest.mark.parametrize("url", ["localhost:3100", "ftp://host", "http://", "http://a b", "http://host:port", "//host"])
def test_a_url_needs_scheme_and_host(url: str) -> None:
    assert set(problems(ServiceSettings, SERVICE | {"STRATOS_PLC_URL": url})) == {"STRATOS_PLC_URL"}


def test_a_trailing_slash_of_a_url_is_dropped() -> None:
    assert service(STRATOS_PUBLIC_URL="https://private.test/").public_url == "https://private.test"


def test_comma_lists_are_trimmed_and_empty_items_dropped() -> None:
    assert service(STRATOS_ALLOWED_DOMAINS=" writers, ,readers,,").allowed_domains == ("writers", "readers")


@pytest.mark.parametrize("level", ["fatal", "error", "warn", "info", "debug", "trace", "silent"])
def test_log_levels(level: str) -> None:
    assert service(LOG_LEVEL=level).log_level == level


def test_every_problem_is_reported_at_once_in_lines_by_name() -> None:
    environment = {
        "STRATOS_PORT": "x",
        "STRATOS_DEV_MODE": "perhaps",
        "STORAGE_BACKEND": "postgres",
        "STRATOS_BLOB_STORAGE": "s3",
        "LOG_LEVEL": "loud",
    }
    with pytest.raises(InvalidSettings) as raised:
        load(ServiceSettings, environment)
    assert sorted(str(raised.value).splitlines()[1:]) == [
        "  - LOG_LEVEL: must be 'fatal', 'error', 'warn', 'info', 'debug', 'trace' or 'silent'",
        "  - STRATOS_DEV_MODE: must be true, 1, yes or on, or false, 0, no, off or empty",
        "  - STRATOS_PORT: must be a whole number",
        "  - STRATOS_POSTGRES_URL: STRATOS_POSTGRES_URL is required when backend is postgres",
        "  - STRATOS_S3_BUCKET: STRATOS_S3_BUCKET is required when STRATOS_BLOB_STORAGE=s3",
        "  - STRATOS_SERVICE_DID: is required",
    ]


def test_the_whole_system_reports_the_problems_of_all_three_each_once() -> None:
    with pytest.raises(InvalidSettings) as raised:
        load_system({"LOG_LEVEL": "loud", "HEALTH_PORT": "x", "STRATOS_PORT": "y"})
    names = [problem.name for problem in raised.value.problems]
    assert sorted(set(names)) == sorted(names)
    assert {"LOG_LEVEL", "HEALTH_PORT", "STRATOS_PORT", "STRATOS_SERVICE_DID", "STRATOS_SYNC_TOKEN", "APPVIEW_PG_URL"} <= set(
        names
    )


def test_the_whole_system_loads_from_one_environment() -> None:
    system = load_system(SERVICE | INDEXER)
    assert system.service.sync_token == system.indexer.sync_token == system.appview.sync_token == SecretStr("hush")
    assert system.appview.postgres_url == system.indexer.postgres_url
    assert system.appview.service_urls == system.indexer.service_urls == ("http://localhost:3100",)


def test_the_appview_s_own_variables_win_over_the_indexer_s() -> None:
    settings = load(
        AppviewSettings, INDEXER | APPVIEW | {"STRATOS_URL": "https://a.test,https://b.test", "APPVIEW_SYNC_TOKEN": "own"}
    )
    assert settings.service_urls == ("https://a.test", "https://b.test")
    assert settings.sync_token == SecretStr("own")


SECRETS = [
    (ServiceSettings, SERVICE, "STRATOS_ADMIN_PASSWORD"),
    (ServiceSettings, SERVICE, "STRATOS_SYNC_TOKEN"),
    (ServiceSettings, SERVICE, "STRATOS_DPOP_NONCE_SECRET"),
    (ServiceSettings, SERVICE, "STRATOS_OAUTH_CLIENT_SECRET"),
    (ServiceSettings, SERVICE, "STRATOS_PG_PASSWORD"),
    (ServiceSettings, SERVICE, "STRATOS_S3_ACCESS_KEY"),
    (ServiceSettings, SERVICE, "STRATOS_S3_SECRET_KEY"),
    (ServiceSettings, SERVICE, "REDIS_PASSWORD"),
    (IndexerSettings, INDEXER, "STRATOS_SYNC_TOKEN"),
    (AppviewSettings, APPVIEW, "APPVIEW_SYNC_TOKEN"),
]


@pytest.mark.parametrize(("model", "required", "name"), SECRETS)
def test_a_secret_is_not_shown_by_the_settings_that_hold_it(
    model: type[BaseSettings], required: dict[str, str], name: str
) -> None:
    settings = load(model, required | {name: SECRET})
    assert by_variable(settings)[name] == SecretStr(SECRET)
    assert SECRET not in f"{settings!r} {settings}"


@pytest.mark.parametrize(
    ("model", "required", "name"),
    [
        (ServiceSettings, SERVICE, "STRATOS_POSTGRES_URL"),
        (ServiceSettings, SERVICE, "STRATOS_VALKEY_URL"),
        (ServiceSettings, SERVICE, "STRATOS_SIGNING_KEY_HEX"),
        (ServiceSettings, SERVICE, "STRATOS_MASTER_KEY"),
        (IndexerSettings, INDEXER, "BSKY_DB_POSTGRES_URL"),
        (AppviewSettings, APPVIEW, "APPVIEW_PG_URL"),
    ],
)
def test_a_refused_secret_is_not_in_the_report_nor_in_the_traceback(
    model: type[BaseSettings], required: dict[str, str], name: str
) -> None:
    with pytest.raises(InvalidSettings) as raised:
        load(model, required | {name: SECRET})
    assert [problem.name for problem in raised.value.problems] == [name]
    assert SECRET not in "".join(traceback.format_exception(raised.value))


def test_valkey_without_its_client_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    url = SERVICE | {"STRATOS_VALKEY_URL": "valkey://localhost"}
    assert load(ServiceSettings, url).valkey_url == SecretStr("valkey://localhost")
    monkeypatch.setattr("stratos.settings.service.VALKEY_CLIENT", "no_such_client")
    assert problems(ServiceSettings, url) == {"STRATOS_VALKEY_URL": "needs an extra: pip install 'stratos[valkey]'"}


def test_domains_become_boundaries_of_this_service() -> None:
    settings = service(STRATOS_ALLOWED_DOMAINS="writers,did:web:stratos.test/readers")
    assert settings.allowed_boundaries == ("did:web:stratos.test/writers", "did:web:stratos.test/readers")
    assert settings.auto_enroll_boundaries == settings.allowed_boundaries, "without a list of their own, new accounts get all"
    assert service(STRATOS_AUTO_ENROLL_DOMAINS="writers").auto_enroll_boundaries == ("did:web:stratos.test/writers",)


def test_a_domain_of_another_service_is_refused() -> None:
    found = problems(ServiceSettings, SERVICE | {"STRATOS_ALLOWED_DOMAINS": "did:web:other.test/writers"})
    assert "belongs to service did:web:other.test" in found["STRATOS_ALLOWED_DOMAINS"]


def test_appview_grants() -> None:
    settings = service(STRATOS_ALLOWED_APPVIEWS="did:web:a.test, *, did:plc:b#writers|readers")
    assert settings.appview_grants == (
        AppviewGrant(Did("did:web:a.test"), None),
        AppviewGrant(None, None),
        AppviewGrant(Did("did:plc:b"), (Boundary("did:web:stratos.test/writers"), Boundary("did:web:stratos.test/readers"))),
    )
    assert service().appview_grants == (), "nobody unless said so"


@pytest.mark.parametrize(
    "grant", ["somebody", "did:web:a.test#", "did:web:a.test#a||b", "#writers", "did:web:a.test#did:web:b.test/c"]
)
def test_an_unreadable_appview_grant_is_refused(grant: str) -> None:
    assert set(problems(ServiceSettings, SERVICE | {"STRATOS_ALLOWED_APPVIEWS": grant})) == {"STRATOS_ALLOWED_APPVIEWS"}


@pytest.mark.parametrize("origin", ["https://a.test/path", "https://a.test?q", "https://me@a.test", "a.test"])
def test_a_redirect_target_is_an_origin(origin: str) -> None:
    assert service(STRATOS_ALLOWED_REDIRECTS="https://a.test/").allowed_redirects == ("https://a.test",)
    assert set(problems(ServiceSettings, SERVICE | {"STRATOS_ALLOWED_REDIRECTS": origin})) == {"STRATOS_ALLOWED_REDIRECTS"}


def test_a_postgres_url_is_built_from_its_parts_with_user_and_password_encoded() -> None:
    settings = service(STORAGE_BACKEND="postgres", STRATOS_PG_HOST="db", STRATOS_PG_USERNAME="a@b", STRATOS_PG_PASSWORD="p/w:x")
    assert settings.postgres_dsn == SecretStr("postgresql://a%40b:p%2Fw%3Ax@db:5432/stratos?sslmode=require")


def test_a_postgres_url_wins_over_its_parts() -> None:
    settings = service(STRATOS_PG_HOST="db", STRATOS_POSTGRES_URL="postgres://elsewhere/x")
    assert settings.postgres_dsn == SecretStr("postgres://elsewhere/x")


def test_there_is_no_postgres_url_without_one() -> None:
    assert service().postgres_dsn is None


@pytest.mark.parametrize("sample", [None, "", "https://stratos.example.com", "http://localhost:3100", "undefined"])
def test_dev_mode_finds_a_better_public_url_than_a_sample(sample: str | None) -> None:
    given_url = {} if sample is None else {"STRATOS_PUBLIC_URL": sample}
    dev = SERVICE | {"STRATOS_DEV_MODE": "true"} | given_url
    web = {"VITE_STRATOS_URL": "https://web.test"}
    tunnel = {"STRATOS_REPO_URL": "https://x.ngrok.app"}
    assert load(ServiceSettings, dev | web | tunnel).public_url == "https://web.test"
    assert load(ServiceSettings, dev | tunnel | {"VITE_STRATOS_URL": "undefined"}).public_url == "https://x.ngrok.app"
    kept = "https://stratos.example.com" if sample == "https://stratos.example.com" else "http://localhost:3100"
    assert load(ServiceSettings, dev | {"STRATOS_REPO_URL": "https://repo.test"}).public_url == kept


def test_dev_mode_keeps_a_public_url_that_says_something() -> None:
    settings = service(STRATOS_DEV_MODE="1", STRATOS_PUBLIC_URL="https://mine.test", VITE_STRATOS_URL="https://web.test")
    assert settings.public_url == "https://mine.test"


def test_without_dev_mode_the_public_url_is_taken_as_it_is() -> None:
    assert service(VITE_STRATOS_URL="https://web.test").public_url == "http://localhost:3100"
    assert set(problems(ServiceSettings, SERVICE | {"STRATOS_PUBLIC_URL": "undefined"})) == {"STRATOS_PUBLIC_URL"}


def test_private_networks_are_open_in_dev_mode_only_unless_said_otherwise() -> None:
    assert service().allow_private_network is False
    assert service(STRATOS_DEV_MODE="1").allow_private_network is True
    assert service(STRATOS_ALLOW_PRIVATE_NETWORK="1").allow_private_network is True


def test_dotenv_files_add_what_is_not_set_the_parent_s_first(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=parent\nB=parent\nBARE\n")
    directory = tmp_path / "here"
    directory.mkdir()
    (directory / ".env").write_text("A=here\nB=here\nC='$A'\n")
    assert read_environment({"A": "set"}, directory) == {"A": "set", "B": "parent", "C": "$A"}


def test_an_empty_variable_that_is_set_is_not_overridden_by_a_dotenv_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("STRATOS_DEV_MODE=true\n")
    assert read_environment({"STRATOS_DEV_MODE": ""}, tmp_path)["STRATOS_DEV_MODE"] == ""


def test_nothing_is_read_from_the_process_s_environment_behind_the_caller_s_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRATOS_PORT", "4100")
    assert service().port == 3100


def test_a_second_service_is_refused_while_rows_do_not_tell_services_apart() -> None:
    several = problems(IndexerSettings, INDEXER | {"STRATOS_SERVICE_URL": "https://a.test,https://b.test"})
    assert several == {"STRATOS_SERVICE_URL": "more than one service cannot be followed into one database yet"}


def test_the_table_of_settings_is_up_to_date() -> None:
    page = Path(__file__).parents[1] / "docs" / "SETTINGS.md"
    assert page.read_text() == settings_table(), "run: python -m stratos.settings.table > docs/SETTINGS.md"


def test_the_table_is_printed_by_its_module() -> None:
    printed = subprocess.run([sys.executable, "-m", "stratos.settings.table"], capture_output=True, text=True, check=True)
    assert printed.stdout == settings_table()


@pytest.mark.parametrize("reader", MODELS)
def test_every_variable_is_explained(reader: str) -> None:
    assert [name for name, field in MODELS[reader].model_fields.items() if not field.description] == []


def test_a_variable_without_effect_says_so_and_no_other_does() -> None:
    package = Path(__file__).parents[1] / "stratos"
    code = "\n".join(path.read_text() for path in package.rglob("*.py"))
    fields = {name: field for model in MODELS.values() for name, field in model.model_fields.items()}
    silent = {name for name in fields if f".{name}" not in code}
    silent.remove("vite_stratos_url")  # speaks through the public URL
    said = {
        name
        for name, field in fields.items()
        if "no effect" in str(field.description) or "without effect" in str(field.description)
    }
    assert said == silent
