"""What the API is told by the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DEFAULT_MAX_JSON_BYTES: Final = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """Switches, secrets and bounds of the API.

    `dev_mode` believes `Authorization: Bearer did:…`. Without `admin_password` every admin call is refused, without `sync_token`
    no shared token is valid. `public_resolve` lets anybody ask for anybody's boundaries. `max_json_bytes` bounds a JSON body;
    `body_seconds` is how long a request's body may take to arrive; `max_exports` bounds repository exports under way.
    """

    dev_mode: bool = False
    admin_password: str | None = None
    sync_token: str | None = None
    public_resolve: bool = True
    max_json_bytes: int = DEFAULT_MAX_JSON_BYTES
    body_seconds: float = 30.0
    max_exports: int = 4
