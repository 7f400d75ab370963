"""Settings of the AppView (`stratos appview`): design §9."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field

from stratos.atproto.syntax import Did
from stratos.settings.base import AppviewDatabaseSettings, IdentitySettings
from stratos.settings.values import DidText, NonEmptyWebUrls, Port, Positive, PostgresUrl, Secret, Switch, WebUrl


def _did_web(known: Mapping[str, str]) -> Did:
    return Did("did:web:" + urlsplit(known.get("public_url", "")).netloc.replace(":", "%3A"))


class AppviewSettings(IdentitySettings, AppviewDatabaseSettings):
    """Everything that `stratos appview` can be told; some variables fall back upon the indexer's."""

    port: Port = Field(3200, alias="APPVIEW_PORT", description="Port to listen on")
    public_url: WebUrl = Field(
        "http://localhost:3200", alias="APPVIEW_PUBLIC_URL", description="Base URL that others reach the AppView by"
    )
    did: DidText = Field(
        default_factory=_did_web,
        validate_default=True,
        alias="APPVIEW_DID",
        description="DID of the AppView; unset: the `did:web` of its public URL",
    )
    postgres_url: PostgresUrl = Field(
        validation_alias=AliasChoices("APPVIEW_PG_URL", "BSKY_DB_POSTGRES_URL"), description="The AppView's database"
    )
    service_urls: NonEmptyWebUrls = Field(
        validation_alias=AliasChoices("STRATOS_URL", "STRATOS_SERVICE_URL"),
        description="Services to ask for a viewer's boundaries",
    )
    sync_token: Secret | None = Field(
        None,
        validation_alias=AliasChoices("APPVIEW_SYNC_TOKEN", "STRATOS_SYNC_TOKEN"),
        description="Token for these services",
    )
    max_staleness_seconds: Positive = Field(
        60, alias="APPVIEW_MAX_STALENESS_SECONDS", description="Age at which a viewer's boundaries are asked for again"
    )
    hide_boundary_mismatch: Switch = Field(
        False,
        alias="APPVIEW_HIDE_BOUNDARY_MISMATCH",
        description="`getPost` says `PostNotFound` to a viewer who shares no boundary with the post",
    )
