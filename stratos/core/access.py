"""The access predicate: the one place that decides who may read a record (invariant I4)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from stratos.atproto.syntax import Did
from stratos.core.boundaries import Boundary, named_by


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who is asking: nobody (`did` is None) or an account. `enrolled` is true only while its enrollment is active."""

    did: Did | None
    boundaries: frozenset[Boundary]
    enrolled: bool


ANONYMOUS: Final = Viewer(did=None, boundaries=frozenset(), enrolled=False)


def viewer_towards(viewer: Viewer, owner: Did, *, owner_active: bool) -> Viewer:
    """What a viewer is to the records of `owner`: nobody, while the owner has left for a while (soft unenroll)."""
    return viewer if owner_active or viewer.did == owner else ANONYMOUS


def may_read(viewer: Viewer, owner: Did, boundaries: Collection[Boundary]) -> bool:
    """Whether the viewer may read a record of `owner` that carries these boundaries.

    `boundaries` comes from `record_boundaries`. The owner always may. Nobody else may who is anonymous or not actively enrolled.
    An enrolled viewer may read a record without boundaries, and one with which it shares a boundary. Source: spec §3.6, §6.1.
    """
    if viewer.did is None:
        return False
    if viewer.did == owner:
        return True
    if not viewer.enrolled:
        return False
    return not boundaries or named_by(viewer.boundaries, boundaries)


def may_learn_of(viewer: Viewer, owner: Did) -> bool:
    """Whether the viewer may learn that `owner` has a record which the viewer may not read; to others it is not there.

    Source: design §5.
    """
    return viewer.enrolled or (viewer.did is not None and viewer.did == owner)
