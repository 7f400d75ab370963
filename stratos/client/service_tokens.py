"""Service-auth JWTs by which an account calls a Stratos service: its PDS mints them, one for each method.

Sources: design §5, https://atproto.com/specs/xrpc#inter-service-authentication-jwt.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import trio

from stratos.atproto.syntax import Did
from stratos.client.errors import NoAnswer
from stratos.client.xrpc import XrpcHost

GET_SERVICE_AUTH: Final = "com.atproto.server.getServiceAuth"
LIFETIME_SECONDS: Final = 60
"""What a PDS gives without being asked for more."""
MARGIN_SECONDS: Final = 10.0
"""A token is not used for so long before it expires: it has to arrive in time, at a clock that is not ours."""
MAX_METHODS: Final = 64
_is_token = re.compile(r"[\x21-\x7e]{1,8192}").fullmatch


@dataclass(slots=True)
class _Kept:
    """The token of one method; `lock` is held while it is minted."""

    token: str = ""
    good_until: float = 0.0
    lock: trio.Lock = field(default_factory=trio.Lock)


class ServiceTokens:
    """Credentials of the account that is signed in at `pds`, for one service.

    A token for reading is kept until shortly before it expires, one for each method, and minted once however many callers wait
    for it. A service takes a token for writing or subscribing only once, so these are minted for each call. Never log a token.
    """

    def __init__(
        self,
        pds: XrpcHost,
        audience: Did,
        *,
        clock: Callable[[], float],
        lifetime: int = LIFETIME_SECONDS,
        margin: float = MARGIN_SECONDS,
        max_methods: int = MAX_METHODS,
    ) -> None:
        """`pds` is the account's PDS with a fetch that is signed in there, `audience` the service's DID.

        `clock` gives seconds since 1970 (`time.time`); `lifetime` and `margin` are seconds; of more than `max_methods` methods
        the least recently called are forgotten.
        """
        if not 0 <= margin < lifetime:
            raise ValueError("margin must lie between 0 and lifetime")
        self._pds = pds
        self._audience = audience
        self._clock = clock
        self._lifetime = lifetime
        self._margin = margin
        self._max_methods = max_methods
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._minted = self._reused = 0

    async def authorization(self, nsid: str, *, once: bool) -> str:
        """The header for a call. Raises XrpcFailure where the PDS refuses, NoAnswer where it does not answer.

        Cancellation leaves it to the next caller to mint.
        """
        return f"Bearer {await (self._mint(nsid) if once else self.token(nsid))}"

    async def token(self, nsid: str) -> str:
        """A token for reading with this method, kept or new. Raises as `authorization` does."""
        kept = self._of(nsid)
        async with kept.lock:
            if self._clock() < kept.good_until:
                self._reused += 1
                return kept.token
            asked_at = self._clock()
            kept.token = await self._mint(nsid)
            kept.good_until = asked_at + self._lifetime - self._margin
            return kept.token

    def statistics(self) -> Mapping[str, int]:
        """Methods with a token and their limit, tokens minted and reused."""
        return {
            "methods": len(self._kept),
            "methods_limit": self._max_methods,
            "minted_total": self._minted,
            "reused_total": self._reused,
        }

    def _of(self, nsid: str) -> _Kept:
        kept = self._kept.setdefault(nsid, _Kept())
        self._kept.move_to_end(nsid)
        while len(self._kept) > self._max_methods:
            self._kept.popitem(last=False)
        return kept

    async def _mint(self, nsid: str) -> str:
        expires = int(self._clock()) + self._lifetime
        answer = await self._pds.query(GET_SERVICE_AUTH, {"aud": self._audience, "lxm": nsid, "exp": expires})
        token = answer.get("token")
        if not isinstance(token, str) or not _is_token(token):
            raise NoAnswer(f"{GET_SERVICE_AUTH} answers no token")
        self._minted += 1
        return token
