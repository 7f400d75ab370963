"""Every credential of users and AppViews that the service takes, put together."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from stratos.api.auth import Verifier
from stratos.api.credentials.allowlisted import AllowlistedVerifier
from stratos.api.credentials.derived_keys import KEY_BYTES, derive_key
from stratos.api.credentials.dpop import DpopVerifier, OnAllowlist
from stratos.api.credentials.dpop_proof import DpopProofs
from stratos.api.credentials.grants import AppviewGrants, Grant
from stratos.api.credentials.issuers import Issuers
from stratos.api.credentials.nonces import DpopNonces
from stratos.api.credentials.replay import UsedTokens
from stratos.api.credentials.service_token import ServiceTokens, ServiceTokenVerifier
from stratos.api.credentials.sessions import CookieSessions, SessionVerifier
from stratos.api.credentials.standing import IsKnown, KnownFirst, WayOut
from stratos.atproto.syntax import Did

MAX_SERVICES_TOKENS: Final = 20_000
"""Remembered of services; one uses a token for each connection."""


@dataclass(frozen=True, slots=True)
class CredentialSettings:
    """Who we are to callers, and the secrets that credentials hang on.

    `fragments` are the entries of our DID document by which a service JWT may name us. Without `nonce_secret` nonces are good for
    this process only.
    """

    service: Did
    fragments: tuple[str, ...]
    public_url: str
    master_key: bytes = field(repr=False)
    grants: Sequence[Grant] = ()
    nonce_secret: str | None = field(default=None, repr=False)
    require_nonce: bool = True


class Credentials:
    """Verifiers in the order in which they are to be asked, and the parts that pages need by themselves."""

    def __init__(
        self,
        settings: CredentialSettings,
        *,
        known: WayOut,
        strangers: WayOut,
        is_known: IsKnown,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        on_allowlist: OnAllowlist | None = None,
    ) -> None:
        """`is_known` tells who is enrolled; they and the services that grants name are asked about by `known`, others by
        `strangers`. `clock` is the wall clock, `monotonic` gives seconds. `on_allowlist` is asked for every user, where given.
        """
        grants = AppviewGrants(settings.grants)

        async def belongs(did: Did) -> bool:
            return grants.names(did) or await is_known(did)

        self._used = UsedTokens(clock=clock)
        self._used_by_services = UsedTokens(clock=clock, max_tokens=MAX_SERVICES_TOKENS)
        identity = KnownFirst(known.identity, strangers.identity, belongs)
        tokens = ServiceTokens(settings.service, settings.fragments, identity=identity, clock=clock)
        nonces = DpopNonces(_nonce_secret(settings.nonce_secret), clock=clock)
        self.dpop = DpopVerifier(
            DpopProofs(settings.public_url, nonces=nonces, require_nonce=settings.require_nonce, clock=clock),
            Issuers(identity=known.identity, http=known.http, monotonic=monotonic),
            strangers=Issuers(identity=strangers.identity, http=strangers.http, monotonic=monotonic),
            is_known=is_known,
            nonces=nonces,
            used=self._used,
            clock=clock,
            on_allowlist=on_allowlist,
        )
        self.sessions = CookieSessions(settings.master_key, settings.public_url, clock=clock)
        self._service_tokens = ServiceTokenVerifier(
            tokens, grants, used=self._used, used_by_services=self._used_by_services, is_known=is_known
        )
        tokens_verifier: Verifier = self._service_tokens
        sessions_verifier: Verifier = SessionVerifier(self.sessions)
        if on_allowlist is not None:
            tokens_verifier = AllowlistedVerifier(tokens_verifier, on_allowlist)
            sessions_verifier = AllowlistedVerifier(sessions_verifier, on_allowlist)
        self.verifiers: tuple[Verifier, ...] = (tokens_verifier, self.dpop, sessions_verifier)

    def statistics(self) -> Mapping[str, float]:
        """Gauges and counters of service JWTs, of DPoP with its authorization servers, and of the memories of used tokens."""
        parts = {
            "service": self._service_tokens.statistics(),
            "dpop": self.dpop.statistics(),
            "used": self._used.statistics(),
            "used_by_services": self._used_by_services.statistics(),
        }
        return {f"{part}_{name}": figure for part, figures in parts.items() for name, figure in figures.items()}


def _nonce_secret(configured: str | None) -> bytes:
    return secrets.token_bytes(KEY_BYTES) if configured is None else derive_key(configured.encode(), "dpop nonces")
