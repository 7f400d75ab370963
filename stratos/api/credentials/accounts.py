"""The credentials of a deployable that accounts call and that holds nothing of its own: service JWTs, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime

from stratos.api.auth import Verifier
from stratos.api.credentials.grants import AppviewGrants
from stratos.api.credentials.replay import UsedTokens
from stratos.api.credentials.service_token import ServiceTokens, ServiceTokenVerifier
from stratos.api.credentials.standing import everybody
from stratos.atproto.syntax import Did
from stratos.engine.identity import Identity


class AccountCredentials:
    """Lets accounts in by the tokens that their PDSes mint for them, for one method of this audience. Nothing is granted to
    services here: what a service may see is for the Stratos service to say."""

    def __init__(self, audience: Did, fragments: Collection[str], *, identity: Identity, clock: Callable[[], datetime]) -> None:
        """`audience` is our DID, `fragments` the entries of our DID document by which a token may name us more closely."""
        self._used = UsedTokens(clock=clock)
        tokens = ServiceTokens(audience, fragments, identity=identity, clock=clock)
        # Whoever reads uses nothing up: strangers who fill this memory keep nobody from reading.
        self._service_tokens = ServiceTokenVerifier(
            tokens, AppviewGrants(), used=self._used, used_by_services=self._used, is_known=everybody
        )
        self.verifiers: tuple[Verifier, ...] = (self._service_tokens,)

    def statistics(self) -> Mapping[str, float]:
        """Gauges and counters of service JWTs and of the memory of used tokens."""
        parts = {"service": self._service_tokens.statistics(), "used": self._used.statistics()}
        return {f"{part}_{name}": figure for part, figures in parts.items() for name, figure in figures.items()}
