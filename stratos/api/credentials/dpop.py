"""Users with a DPoP-bound access token of their own PDS. Source: service spec §2.2, §2.3 with every DO, §2.8."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Final

from stratos.api.auth import Credential, User
from stratos.api.credentials.access_token import read_access_token
from stratos.api.credentials.challenge import (
    Refused,
    invalid_proof,
    invalid_token,
    missing_credential,
    missing_proof,
    unusable_claims,
)
from stratos.api.credentials.dpop_proof import DpopProofs, Proof
from stratos.api.credentials.issuers import Issuers
from stratos.api.credentials.nonces import DpopNonces
from stratos.api.credentials.replay import Use, UsedTokens
from stratos.api.credentials.standing import IsKnown
from stratos.api.errors import UNAUTHORIZED, XrpcError, busy
from stratos.api.request import RequestHead
from stratos.atproto.syntax import Did

NONCE_HEADER: Final = "DPoP-Nonce"
MEMORY_FULL_RETRY_SECONDS: Final = 5

OnAllowlist = Callable[[Did], Awaitable[bool]]
"""Whether an account is welcome by the lists of this moment; see `Eligibility.admits`."""


class DpopVerifier:
    """Verifies `Authorization: DPoP`. Whether the account is enrolled, and what that allows, is for the gates to say."""

    def __init__(
        self,
        proofs: DpopProofs,
        issuers: Issuers,
        *,
        strangers: Issuers,
        is_known: IsKnown,
        nonces: DpopNonces,
        used: UsedTokens,
        clock: Callable[[], datetime],
        on_allowlist: OnAllowlist | None = None,
    ) -> None:
        """`issuers` are asked about accounts that are known, `strangers` about all others.

        `on_allowlist` is None where no external list is configured.
        """
        self._proofs = proofs
        self._issuers = issuers
        self._strangers = strangers
        self._is_known = is_known
        self._nonces = nonces
        self._used = used
        self._clock = clock
        self._on_allowlist = on_allowlist
        self._verified = self._refused = 0

    async def verify(self, head: RequestHead, nsid: str) -> Credential | None:  # noqa: ARG002 - the proof names the address
        """The user; None where the scheme is not DPoP. Raises XrpcError with challenge and nonce where anything does not hold."""
        if not _is_dpop(head):
            return None
        try:
            user = await self._user(head)
        except Refused as refused:
            self._refused += 1
            raise self._error(refused) from None
        self._verified += 1
        return user

    def required(self) -> XrpcError:
        """The answer to a credential of no kind that is known."""
        return self._error(missing_credential("DPoP authorization required"))

    def answer_headers(self, head: RequestHead) -> Mapping[str, str]:
        """What every answer to this request carries beside its own headers: the next nonce, where DPoP was used."""
        return {NONCE_HEADER: self._nonces.next()} if _is_dpop(head) else {}

    def statistics(self) -> Mapping[str, int]:
        """Counters and gauges: requests verified and refused; those of the authorization servers."""
        strangers = {f"strangers_{name}": figure for name, figure in self._strangers.statistics().items()}
        return {"verified_total": self._verified, "refused_total": self._refused, **self._issuers.statistics(), **strangers}

    async def _user(self, head: RequestHead) -> User:
        _, _, token = (head.authorization or "").partition(" ")
        token = token.strip()
        if not token:
            raise invalid_token("Access token required")
        proof = self._proofs.check(_only_proof(head), verb=head.verb, path=head.path, access_token=token)
        access = read_access_token(token, thumbprint=proof.thumbprint, now=self._clock().timestamp())
        known = await self._is_known(access.did)
        await (self._issuers if known else self._strangers).check(access)
        if known:
            # Strangers' proofs are not remembered: there is nothing that a repeated one could do.
            self._check_first_use(access.did, proof)
        if self._on_allowlist is not None and not await self._on_allowlist(access.did):
            raise unusable_claims(f"User {access.did} is not on the allowlist")
        return User(access.did)

    def _check_first_use(self, did: Did, proof: Proof) -> None:
        match self._used.use(did, f"{proof.thumbprint} {proof.jti}", until=proof.until):
            case Use.AGAIN:
                raise invalid_proof('DPoP "jti" already used')
            case Use.UNKNOWN:
                raise busy("Too many of your proofs are in use", MEMORY_FULL_RETRY_SECONDS)
            case Use.FIRST:
                return

    def _error(self, refused: Refused) -> XrpcError:
        headers = {NONCE_HEADER: self._nonces.next()}
        if refused.challenge is not None:
            headers["WWW-Authenticate"] = refused.challenge
        return XrpcError(UNAUTHORIZED, "AuthenticationRequired", refused.message, headers)


def _is_dpop(head: RequestHead) -> bool:
    return (head.authorization or "").partition(" ")[0].lower() == "dpop"


def _only_proof(head: RequestHead) -> str:
    proofs = head.header_values(b"dpop")
    if len(proofs) != 1:
        raise missing_proof("Exactly one DPoP proof required" if proofs else "DPoP proof required")
    return proofs[0]
