"""Settings of the indexer (`stratos index`): indexer spec §4.1, design §9."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from stratos.settings.base import AppviewDatabaseSettings
from stratos.settings.values import (
    Kind,
    NonEmptyWebUrls,
    NotNegative,
    Port,
    Positive,
    PostgresUrl,
    Secret,
    StreamUrls,
    Switch,
    WebUrl,
    refusal,
)


class IndexerSettings(AppviewDatabaseSettings):
    """Everything that `stratos index` can be told. A variable whose feature is not there yet is known and checked already."""

    postgres_url: PostgresUrl = Field(alias="BSKY_DB_POSTGRES_URL", description="The AppView's database")
    service_urls: NonEmptyWebUrls = Field(
        alias="STRATOS_SERVICE_URL", description="Stratos service to subscribe to; a second one is refused yet"
    )
    sync_token: Secret = Field(alias="STRATOS_SYNC_TOKEN", description="Token for their streams and exports")
    plc_url: WebUrl = Field(
        "https://plc.directory", alias="BSKY_DID_PLC_URL", description="Where `did:plc` DIDs are resolved (no effect yet)"
    )
    stream_mode: Annotated[Literal["multiplexed", "per-actor"], Kind("`multiplexed` or `per-actor`")] = Field(
        "multiplexed", alias="STRATOS_STREAM_MODE", description="One stream per service, or one per account"
    )
    repo_providers: StreamUrls = Field(
        (),
        alias="BSKY_REPO_PROVIDER",
        description="PDSes or relays to watch; empty: enrollments come from the services' streams alone",
    )
    backfill_enrolled_only: Switch = Field(
        False,
        alias="BACKFILL_ENROLLED_ONLY",
        description="Back-fill enrolled accounts, and whom they refer to, only (no effect yet)",
    )
    health_port: Port = Field(3002, alias="HEALTH_PORT", description="Port of `/health`, `/ready` and `/metrics`")
    worker_concurrency: Positive = Field(4, alias="WORKER_CONCURRENCY", description="Handlers of provider events (no effect yet)")
    worker_max_queue_size: Positive = Field(
        100, alias="WORKER_MAX_QUEUE_SIZE", description="Provider events waiting (no effect yet)"
    )
    cursor_flush_interval_ms: Positive = Field(
        5_000, alias="CURSOR_FLUSH_INTERVAL_MS", description="How often provider cursors are saved (no effect yet)"
    )
    actor_sync_concurrency: Positive = Field(
        8, alias="ACTOR_SYNC_CONCURRENCY", description="Accounts worked on at once (no effect yet)"
    )
    actor_sync_queue_per_actor: Positive = Field(
        10, alias="ACTOR_SYNC_QUEUE_PER_ACTOR", description="Frames waiting per account, else resumed later (no effect yet)"
    )
    actor_sync_global_max_pending: Positive = Field(
        500, alias="ACTOR_SYNC_GLOBAL_MAX_PENDING", description="Frames waiting in all (no effect yet)"
    )
    actor_sync_drain_delay_ms: NotNegative = Field(
        5, alias="ACTOR_SYNC_DRAIN_DELAY_MS", description="Wait when too much is pending (no effect yet)"
    )
    actor_sync_max_connections: Positive = Field(
        20, alias="ACTOR_SYNC_MAX_CONNECTIONS", description="Per-account streams (no effect yet)"
    )
    actor_sync_connect_delay_ms: NotNegative = Field(
        200, alias="ACTOR_SYNC_CONNECT_DELAY_MS", description="Time between new per-account streams (no effect yet)"
    )
    actor_sync_idle_eviction_ms: Positive = Field(
        60_000, alias="ACTOR_SYNC_IDLE_EVICTION_MS", description="Idle time until a per-account stream makes room (no effect yet)"
    )
    reconnect_base_delay_ms: Positive = Field(
        1_000,
        alias="ACTOR_SYNC_RECONNECT_BASE_DELAY_MS",
        description="First wait before a stream is opened again (no effect yet)",
    )
    reconnect_max_delay_ms: Positive = Field(
        60_000,
        alias="ACTOR_SYNC_RECONNECT_MAX_DELAY_MS",
        description="Longest wait before a stream is opened again (no effect yet)",
    )
    reconnect_jitter_ms: NotNegative = Field(
        1_000, alias="ACTOR_SYNC_RECONNECT_JITTER_MS", description="Up to this much is added to a wait (no effect yet)"
    )
    reconnect_max_attempts: Positive = Field(
        20, alias="ACTOR_SYNC_RECONNECT_MAX_ATTEMPTS", description="Failures in a row until a stream is given up (no effect yet)"
    )
    background_queue_concurrency: Positive = Field(
        10, alias="BACKGROUND_QUEUE_CONCURRENCY", description="Background jobs at once (no effect yet)"
    )
    background_queue_max_size: Positive = Field(
        1_000, alias="BACKGROUND_QUEUE_MAX_SIZE", description="Background jobs waiting (no effect yet)"
    )
    mem_limit: Positive | None = Field(None, alias="MEM_LIMIT", description="Accepted, without effect")

    @field_validator("service_urls")
    @classmethod
    def _one_service(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        """The rows do not tell services apart yet: what one of them says of an account would replace what another has said."""
        if len(urls) > 1:
            raise refusal("more than one service cannot be followed into one database yet")
        return urls
