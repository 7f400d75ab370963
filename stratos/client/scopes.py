"""OAuth scopes that an app asks for to work with Stratos. Source: spec service.md §10.4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from stratos.core.record_rules import ENROLLMENT, POST

Action: TypeAlias = Literal["create", "update", "delete"]

ALL_ACTIONS: Final[tuple[Action, ...]] = ("create", "update", "delete")
STRATOS_SCOPES: Final = {"enrollment": str(ENROLLMENT), "post": str(POST)}
"""The collections that an account keeps on its PDS for Stratos."""


def build_collection_scope(collection: str, actions: Sequence[Action] = ALL_ACTIONS) -> str:
    """The scope for these actions on a collection, in the order given; all three need no mention."""
    if set(actions) == set(ALL_ACTIONS):
        return f"repo:{collection}"
    return f"repo:{collection}?" + "&".join(f"action={action}" for action in actions)


def build_stratos_scopes() -> list[str]:
    """What an app asks for that enrolls accounts, and writes and deletes stubs in their name."""
    return [
        "atproto",
        build_collection_scope(STRATOS_SCOPES["enrollment"]),
        build_collection_scope(STRATOS_SCOPES["post"], ("create", "delete")),
    ]
