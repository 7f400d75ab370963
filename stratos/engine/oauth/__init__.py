"""OAuth towards other people's servers: they authorize us, and we act on their PDS in their name.

Decisions: docs/adr/0008-oauth.md.
"""

from stratos.engine.oauth.authorization import Begun, Completed
from stratos.engine.oauth.client import OAuthClient
from stratos.engine.oauth.errors import (
    AuthorizationFailed,
    Failure,
    InvalidRegistration,
    OAuthError,
    PdsUnavailable,
    SessionGone,
)
from stratos.engine.oauth.ports import OAuthStore, Sealer
from stratos.engine.oauth.registration import ClientSettings, Registration
from stratos.engine.oauth.sessions import PdsAnswer

__all__ = [
    "AuthorizationFailed",
    "Begun",
    "ClientSettings",
    "Completed",
    "Failure",
    "InvalidRegistration",
    "OAuthClient",
    "OAuthError",
    "OAuthStore",
    "PdsAnswer",
    "PdsUnavailable",
    "Registration",
    "Sealer",
    "SessionGone",
]
