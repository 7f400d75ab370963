"""What STRATOS_ALLOWED_APPVIEWS grants: which services may subscribe and export with a service JWT, and what they see.

Source: design §4 "Who may subscribe", §9.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from stratos.api.auth import ServiceCaller
from stratos.atproto.syntax import Did
from stratos.core.boundaries import Boundary


class Grant(Protocol):
    """One entry of the setting."""

    @property
    def did(self) -> Did | None:
        """Whom it is for; None for anybody."""

    @property
    def boundaries(self) -> tuple[Boundary, ...] | None:
        """The boundaries that it is limited to; None for all."""


@dataclass(frozen=True, slots=True)
class AppView(ServiceCaller):
    """A service that proved its DID and was granted access; `domains` are the boundaries that it is limited to, None is no limit.

    Whoever lets a ServiceCaller see records, or learn about them, has to honour `domains`.
    """

    domains: frozenset[Boundary] | None


class AppviewGrants:
    """All entries together. Entries add up: what is granted to anybody is granted to those with an entry of their own, too."""

    def __init__(self, grants: Iterable[Grant] = ()) -> None:
        self._domains: dict[Did | None, frozenset[Boundary] | None] = {}
        for grant in grants:
            granted = None if grant.boundaries is None else frozenset(grant.boundaries)
            self._domains[grant.did] = _both(self._domains[grant.did], granted) if grant.did in self._domains else granted

    def names(self, did: Did) -> bool:
        """Whether an entry names this very DID; what is granted to anybody makes nobody known."""
        return did in self._domains

    def appview(self, did: Did) -> AppView | None:
        """The DID as a granted service; None where nothing is granted to it."""
        granted = [self._domains[who] for who in (did, None) if who in self._domains]
        if not granted:
            return None
        domains = granted[0]
        for other in granted[1:]:
            domains = _both(domains, other)
        return AppView(did, domains)


def _both(one: frozenset[Boundary] | None, other: frozenset[Boundary] | None) -> frozenset[Boundary] | None:
    return None if one is None or other is None else one | other
