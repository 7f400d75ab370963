"""What the three models share: how they are read, and the variables that all of them know."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from stratos.settings.values import Kind, LogLevel, Positive, SchemaName, Seconds, Switch, Text, WebUrl


class StratosSettings(BaseSettings):
    """Frozen settings, read from what `load` hands in and from nowhere else; secrets print as stars."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    log_level: Annotated[LogLevel, Kind("level")] = Field(
        "info",
        alias="LOG_LEVEL",
        description="Least level that is logged: `fatal`, `error`, `warn`, `info`, `debug`, `trace` or `silent`",
    )
    host: Text = Field(
        "0.0.0.0",  # noqa: S104 - a server is there to be reached; `stratos dev` binds the loopback interface
        alias="STRATOS_HOST",
        description="Address to listen on; default: all interfaces (`stratos dev`: `127.0.0.1`)",
    )
    shutdown_seconds: Seconds = Field(
        10.0,
        alias="STRATOS_SHUTDOWN_SECONDS",
        description="How long a stop may wait for requests and writes in flight",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings passes all of these
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is passed in: the process's environment is an argument of `load`, so that tests can hold it."""
        return (init_settings,)


class ListenerSettings(StratosSettings):
    """For the deployables that answer people's requests."""

    dev_mode: Switch = Field(
        False,
        alias="STRATOS_DEV_MODE",
        description="Believe `Authorization: Bearer did:…`. For one's own machine only",
    )
    max_connections: Positive = Field(
        2_000,
        alias="STRATOS_MAX_CONNECTIONS",
        description="Connections open at once, streams included; further ones wait for a place",
    )


class IdentitySettings(ListenerSettings):
    """For the deployables that look up who is calling."""

    plc_url: WebUrl = Field("https://plc.directory", alias="STRATOS_PLC_URL", description="Where `did:plc` DIDs are resolved")
    allow_private_network: Switch = Field(
        default_factory=lambda known: bool(known.get("dev_mode")),
        alias="STRATOS_ALLOW_PRIVATE_NETWORK",
        description="Outgoing requests may go to private and loopback addresses; unset: only in dev mode",
    )


class AppviewDatabaseSettings(StratosSettings):
    """For the two deployables that share the AppView's database."""

    postgres_schema: SchemaName = Field("bsky", alias="BSKY_DB_POSTGRES_SCHEMA", description="First schema on the search path")
    pool_size: Positive = Field(20, alias="BSKY_DB_POOL_SIZE", description="Connections to the AppView's database")
