"""An enrollment: the fact that a DID uses this service, and with which boundaries."""

from __future__ import annotations

from dataclasses import dataclass

from stratos.atproto.syntax import Did
from stratos.core.boundaries import Boundary


@dataclass(frozen=True, slots=True)
class Enrollment:
    """One enrolled account. `enrolled_at` is a datetime text with milliseconds, `signing_key` a did:key."""

    did: Did
    boundaries: tuple[Boundary, ...]
    enrolled_at: str
    active: bool
    signing_key: str
    enrollment_rkey: str | None = None
    pds_endpoint: str | None = None
