"""Settings of the service (`stratos serve`): service spec §9.2, design §9."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import quote, urlencode

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from stratos.atproto.syntax import Did
from stratos.core.boundaries import Boundary
from stratos.settings.base import IdentitySettings
from stratos.settings.values import (
    AppviewGrant,
    Dids,
    DidText,
    HexKey,
    Kind,
    Names,
    NotNegative,
    Origins,
    Port,
    Positive,
    PostgresSslMode,
    PostgresUrl,
    Seconds,
    Secret,
    Switch,
    Text,
    ValkeyUrl,
    WebUrl,
    appview_grants,
    qualified,
    refusal,
)

LOCAL_URL: Final = "http://localhost:3100"
UNSET_URLS: Final = frozenset({"https://stratos.example.com", LOCAL_URL, "undefined"})
"""Public URLs that say nothing about this machine; dev mode looks for a better one (service spec §9.3)."""
UNDEFINED: Final = "undefined"
VALKEY_CLIENT: Final = "coredis"


class ServiceSettings(IdentitySettings):
    """Everything that `stratos serve` can be told. A variable whose feature is not there yet is known and checked already."""

    # Identity and addresses
    service_did: DidText = Field(alias="STRATOS_SERVICE_DID", description="DID of this service, such as `did:web:<host>`")
    service_fragment: Text = Field(
        "atproto_pns", alias="STRATOS_SERVICE_FRAGMENT", description="Fragment of the key id in the DID document, and of stubs"
    )
    port: Port = Field(3100, alias="STRATOS_PORT", description="Port to listen on")
    worker_port: Port | None = Field(
        None,
        alias="STRATOS_WORKER_PORT",
        description="With `--workers`: each worker also answers on 127.0.0.1 at this port plus its number, for its own metrics",
    )
    read_threads: Positive = Field(
        8, alias="STRATOS_READ_THREADS", description="PostgreSQL: reads under way at the same time, a thread each"
    )
    repo_url: Text = Field(LOCAL_URL, alias="STRATOS_REPO_URL", description="Named in the banner and the User-Agent")
    vite_stratos_url: Text | None = Field(
        None, alias="VITE_STRATOS_URL", description="Dev mode: the public URL if `STRATOS_PUBLIC_URL` is a sample"
    )
    public_url: WebUrl = Field(
        LOCAL_URL,
        alias="STRATOS_PUBLIC_URL",
        validate_default=True,
        description="Base URL that others reach this service by",
    )
    operator_contact: Text | None = Field(
        None, alias="STRATOS_OPERATOR_CONTACT", description="Named in the User-Agent; unset: `unknown`"
    )

    # Boundaries and enrollment
    allowed_domains: Names = Field(
        (), alias="STRATOS_ALLOWED_DOMAINS", description="Boundaries that posts may name, bare or qualified"
    )
    auto_enroll_domains: Names = Field(
        (), alias="STRATOS_AUTO_ENROLL_DOMAINS", description="Boundaries of a new account; empty: all allowed ones"
    )
    enrollment_mode: Annotated[Literal["open", "allowlist"], Kind("`open` or `allowlist`")] = Field(
        "allowlist", alias="STRATOS_ENROLLMENT_MODE", description="Who may enroll: anybody, or who is on a list"
    )
    allowed_dids: Dids = Field((), alias="STRATOS_ALLOWED_DIDS", description="Accounts that may enroll")
    allowed_pds_endpoints: Names = Field(
        (), alias="STRATOS_ALLOWED_PDS_ENDPOINTS", description="Accounts on these PDSes may enroll"
    )
    allow_list_uri: WebUrl | None = Field(
        None,
        alias="STRATOS_ALLOW_LIST_URI",
        description="External list of accounts that may enroll, and go on: a DID per line",
    )
    allow_list_bootstrap_name: Text | None = Field(
        None,
        alias="STRATOS_ALLOW_LIST_BOOTSTRAP_NAME",
        description="Valkey set that holds the external list too, and may hold more",
    )
    valkey_url: ValkeyUrl | None = Field(
        None, alias="STRATOS_VALKEY_URL", description="Valkey, for the allow list; needs the extra `valkey`"
    )
    public_enrollment_lookup: Switch = Field(
        True,
        alias="STRATOS_PUBLIC_ENROLLMENT_LOOKUP",
        description="Anybody may ask `resolveEnrollments` who is enrolled and with which boundaries",
    )
    pds_stubs: Switch = Field(True, alias="STRATOS_PDS_STUBS", description="Write a public stub to the PDS per record")

    # Credentials and keys
    admin_password: Secret | None = Field(
        None, alias="STRATOS_ADMIN_PASSWORD", description="Opens the admin methods; unset: they are shut"
    )
    sync_token: Secret | None = Field(
        None, alias="STRATOS_SYNC_TOKEN", description="Shared token for streams and exports; unset: none is valid"
    )
    allowed_appviews: Names = Field(
        (),
        alias="STRATOS_ALLOWED_APPVIEWS",
        description="Who may subscribe and export with a service JWT: `did`, `*` (anybody), `did#name|name` (these "
        "boundaries only); empty: nobody",
    )
    signing_key_hex: HexKey | None = Field(
        None, alias="STRATOS_SIGNING_KEY_HEX", description="The service's secp256k1 key; unset: a generated file"
    )
    signing_key_previous: Text | None = Field(
        None,
        alias="STRATOS_SIGNING_KEY_PREVIOUS",
        description="The `did:key` of the service key before, while attestations by it stand",
    )
    master_key: HexKey | None = Field(
        None, alias="STRATOS_MASTER_KEY", description="Seals users' keys and OAuth sessions; unset: a generated file"
    )
    master_key_previous: HexKey | None = Field(
        None, alias="STRATOS_MASTER_KEY_PREVIOUS", description="Opens what was sealed before the master key was changed"
    )
    dpop_require_nonce: Switch = Field(
        True, alias="STRATOS_DPOP_REQUIRE_NONCE", description="DPoP proofs must carry a nonce of ours"
    )
    dpop_nonce_secret: Secret | None = Field(
        None, alias="STRATOS_DPOP_NONCE_SECRET", description="Shared by several processes; unset: random at each start"
    )
    oauth_client_id: Text | None = Field(
        None, alias="STRATOS_OAUTH_CLIENT_ID", description="Unset: `<public URL>/client-metadata.json`"
    )
    oauth_client_secret: Secret | None = Field(
        None, alias="STRATOS_OAUTH_CLIENT_SECRET", description="Private key of the OAuth client; unset: public client"
    )
    oauth_client_name: Text = Field(
        "Stratos Service", alias="STRATOS_OAUTH_CLIENT_NAME", description="Shown by the PDS when it asks for consent"
    )
    oauth_logo_uri: Text | None = Field(None, alias="STRATOS_OAUTH_LOGO_URI", description="In the client metadata")
    oauth_tos_uri: Text | None = Field(None, alias="STRATOS_OAUTH_TOS_URI", description="In the client metadata")
    oauth_policy_uri: Text | None = Field(None, alias="STRATOS_OAUTH_POLICY_URI", description="In the client metadata")
    allowed_redirects: Origins = Field(
        (), alias="STRATOS_ALLOWED_REDIRECTS", description="Where OAuth may send the browser beside our own origin"
    )

    # Storage
    storage_backend: Annotated[Literal["sqlite", "postgres"], Kind("`sqlite` or `postgres`")] = Field(
        "sqlite", alias="STORAGE_BACKEND", description="Where records live"
    )
    data_dir: Annotated[Path, Kind("path")] = Field(
        Path("./data"), alias="STRATOS_DATA_DIR", description="Databases, blobs and key files; one process at a time"
    )
    pg_host: Text | None = Field(
        None, alias="STRATOS_PG_HOST", description="With the variables below an alternative to `STRATOS_POSTGRES_URL`"
    )
    pg_port: Port = Field(5432, alias="STRATOS_PG_PORT", description="Port of PostgreSQL")
    pg_username: Text = Field("stratos", alias="STRATOS_PG_USERNAME", description="User of PostgreSQL")
    pg_password: Secret | None = Field(None, alias="STRATOS_PG_PASSWORD", description="Password of PostgreSQL")
    pg_dbname: Text = Field("stratos", alias="STRATOS_PG_DBNAME", description="Database of PostgreSQL")
    pg_sslmode: Annotated[PostgresSslMode, Kind("libpq mode")] = Field(
        "require", alias="STRATOS_PG_SSLMODE", description="How PostgreSQL is reached, `disable` to `verify-full`"
    )
    postgres_url: PostgresUrl | None = Field(
        None,
        alias="STRATOS_POSTGRES_URL",
        validate_default=True,
        description="PostgreSQL of the service; wins over the parts above",
    )
    pg_actor_pool_size: Positive = Field(
        200, alias="STRATOS_PG_ACTOR_POOL_SIZE", description="PostgreSQL: connections of the pool, at most; made when needed"
    )
    pg_answer_timeout_seconds: Seconds = Field(
        20.0,
        alias="STRATOS_PG_ANSWER_TIMEOUT_SECONDS",
        description="How long PostgreSQL may leave a statement unanswered before its connection is given up",
    )
    pg_admin_pool_size: Positive = Field(
        3, alias="STRATOS_PG_ADMIN_POOL_SIZE", description="PostgreSQL connections for housekeeping (no effect yet)"
    )
    block_cache_size: Positive = Field(
        50_000, alias="STRATOS_BLOCK_CACHE_SIZE", description="Blocks cached with PostgreSQL (no effect yet)"
    )
    blob_storage: Annotated[Literal["local", "s3"], Kind("`local` or `s3`")] = Field(
        "local", alias="STRATOS_BLOB_STORAGE", description="Where blobs live (no effect yet)"
    )
    s3_bucket: Text | None = Field(
        None, alias="STRATOS_S3_BUCKET", validate_default=True, description="Bucket for blobs; required for `s3` (no effect yet)"
    )
    s3_region: Text | None = Field(None, alias="STRATOS_S3_REGION", description="Region of the bucket (no effect yet)")
    s3_endpoint: WebUrl | None = Field(
        None, alias="STRATOS_S3_ENDPOINT", description="S3 API other than Amazon's (no effect yet)"
    )
    s3_access_key: Secret | None = Field(
        None, alias="STRATOS_S3_ACCESS_KEY", description="Used if the secret key is set too, else ambient ones (no effect yet)"
    )
    s3_secret_key: Secret | None = Field(None, alias="STRATOS_S3_SECRET_KEY", description="See the access key (no effect yet)")
    redis_host: Text | None = Field(None, alias="REDIS_HOST", description="Accepted, without effect")
    redis_port: Port | None = Field(None, alias="REDIS_PORT", description="Accepted, without effect")
    redis_password: Secret | None = Field(None, alias="REDIS_PASSWORD", description="Accepted, without effect")

    # Limits
    retention_days: Positive = Field(30, alias="STRATOS_RETENTION_DAYS", description="Accepted, without effect")
    log_retention_hours: Positive = Field(
        72, alias="STRATOS_LOG_RETENTION_HOURS", description="Age at which log entries may be trimmed"
    )
    write_rate_max_writes: Positive = Field(
        300, alias="STRATOS_WRITE_RATE_MAX_WRITES", description="Writes of one account in a window"
    )
    write_rate_window_ms: Positive = Field(60_000, alias="STRATOS_WRITE_RATE_WINDOW_MS", description="The window")
    write_rate_cooldown_ms: NotNegative = Field(
        10_000, alias="STRATOS_WRITE_RATE_COOLDOWN_MS", description="Rest after too many writes"
    )
    write_rate_cooldown_jitter_ms: NotNegative = Field(
        1_000, alias="STRATOS_WRITE_RATE_COOLDOWN_JITTER_MS", description="Up to this much is added to the rest"
    )
    max_json_bytes: Positive = Field(2 * 1024**2, alias="STRATOS_MAX_JSON_BYTES", description="Largest JSON body")
    max_blob_bytes: Positive = Field(100 * 1024**2, alias="STRATOS_MAX_BLOB_BYTES", description="Largest blob (no effect yet)")
    import_max_bytes: Positive = Field(
        268_435_456, alias="STRATOS_IMPORT_MAX_BYTES", description="Largest import (no effect yet)"
    )
    max_open_actors: Positive = Field(128, alias="STRATOS_MAX_OPEN_ACTORS", description="Repositories open at once")
    node_cache_nodes: Positive = Field(
        1_024, alias="STRATOS_NODE_CACHE_NODES", description="Tree nodes cached for each open repository"
    )
    record_view_bytes: Positive = Field(
        16 * 1024**2, alias="STRATOS_RECORD_VIEW_BYTES", description="Records kept in memory as JSON, in bytes"
    )
    log_queue: Positive = Field(1_000, alias="STRATOS_LOG_QUEUE", description="Writes waiting for the log's writer")
    log_tail_entries: Positive = Field(
        10_000, alias="STRATOS_LOG_TAIL_ENTRIES", description="Newest log entries kept in memory for subscribers"
    )
    log_tail_bytes: Positive = Field(16 * 1024**2, alias="STRATOS_LOG_TAIL_BYTES", description="The same, in bytes of frames")
    stream_max_subscribers: Positive = Field(
        1_000, alias="STRATOS_STREAM_MAX_SUBSCRIBERS", description="Subscribers at once; further ones are refused"
    )
    stream_send_timeout_seconds: Seconds = Field(
        30.0,
        alias="STRATOS_STREAM_SEND_TIMEOUT_SECONDS",
        description="How long a subscriber may take to accept frames before it is closed",
    )

    @property
    def allowed_boundaries(self) -> tuple[Boundary, ...]:
        """The allowed domains, qualified."""
        return qualified(self.service_did, self.allowed_domains)

    @property
    def auto_enroll_boundaries(self) -> tuple[Boundary, ...]:
        """What a new account gets: the auto-enroll domains, qualified, or everything allowed."""
        return qualified(self.service_did, self.auto_enroll_domains) or self.allowed_boundaries

    @property
    def appview_grants(self) -> tuple[AppviewGrant, ...]:
        """Who may subscribe with a service JWT."""
        return appview_grants(self.service_did, self.allowed_appviews)

    @property
    def postgres_dsn(self) -> SecretStr | None:
        """The PostgreSQL URL, given whole or built from its parts."""
        if self.postgres_url is not None or self.pg_host is None:
            return self.postgres_url
        password = "" if self.pg_password is None else f":{quote(self.pg_password.get_secret_value(), safe='')}"
        user = quote(self.pg_username, safe="")
        query = urlencode({"sslmode": self.pg_sslmode})
        return SecretStr(f"postgresql://{user}{password}@{self.pg_host}:{self.pg_port}/{quote(self.pg_dbname, safe='')}?{query}")

    @field_validator("public_url", mode="before")
    @classmethod
    def _find_public_url(cls, value: str, info: ValidationInfo) -> str:
        """Dev mode: a better public URL than a sample value (service spec §9.3)."""
        if not info.data.get("dev_mode") or value.rstrip("/") not in UNSET_URLS:
            return value
        from_web = info.data.get("vite_stratos_url")
        from_repo = info.data.get("repo_url") or ""
        if from_web and from_web != UNDEFINED:
            return str(from_web)
        if "ngrok" in from_repo:
            return str(from_repo)
        return LOCAL_URL if value == UNDEFINED else value

    @field_validator("allowed_domains", "auto_enroll_domains")
    @classmethod
    def _belong_here(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        service: Did | None = info.data.get("service_did")
        if service is not None:
            qualified(service, names)
        return names

    @field_validator("allowed_appviews")
    @classmethod
    def _readable_grants(cls, items: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        service: Did | None = info.data.get("service_did")
        if service is not None:
            appview_grants(service, items)
        return items

    @field_validator("valkey_url")
    @classmethod
    def _valkey_has_its_client(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and find_spec(VALKEY_CLIENT) is None:
            raise refusal("needs an extra: pip install 'stratos[valkey]'")
        return value

    @field_validator("postgres_url")
    @classmethod
    def _postgres_has_an_address(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None and info.data.get("storage_backend") == "postgres" and info.data.get("pg_host") is None:
            raise refusal("STRATOS_POSTGRES_URL is required when backend is postgres")
        return value

    @field_validator("s3_bucket")
    @classmethod
    def _s3_has_a_bucket(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("blob_storage") == "s3":
            raise refusal("STRATOS_S3_BUCKET is required when STRATOS_BLOB_STORAGE=s3")
        return value
