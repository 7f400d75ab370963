"""Credentials that are verified: service JWTs, DPoP-bound access tokens, cookie sessions.

Each verifier has the shape of `stratos.api.auth.Verifier`. Decisions: docs/adr/0007-credentials.md.
"""

from stratos.api.credentials.accounts import AccountCredentials
from stratos.api.credentials.credentials import Credentials, CredentialSettings
from stratos.api.credentials.dpop import DpopVerifier
from stratos.api.credentials.grants import AppView, AppviewGrants, Grant
from stratos.api.credentials.replay import UsedTokens
from stratos.api.credentials.service_token import ServiceTokens, ServiceTokenVerifier
from stratos.api.credentials.sessions import CookieSessions, NewSession, Session, SessionVerifier
from stratos.api.credentials.standing import IsKnown, WayOut

__all__ = [
    "AccountCredentials",
    "AppView",
    "AppviewGrants",
    "CookieSessions",
    "CredentialSettings",
    "Credentials",
    "DpopVerifier",
    "Grant",
    "IsKnown",
    "NewSession",
    "ServiceTokenVerifier",
    "ServiceTokens",
    "Session",
    "SessionVerifier",
    "UsedTokens",
    "WayOut",
]
