"""What may be written: the rules of posts and of their boundaries. Source: spec service.md §3.2, §3.3 and §3.7.

These hold whatever a client asks for; `validate=false` switches off the lexicon check only, which is the engine's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from stratos.atproto.dag_cbor import DataModel
from stratos.atproto.syntax import AtUri, Did, InvalidSyntax
from stratos.core.boundaries import MAX_VALUE_BYTES, MAX_VALUES, Boundary, belongs_to, mismatch_message, written_boundaries
from stratos.core.outcomes import Reason, Refusal

PRIVATE_NAMESPACE: Final = "zone.stratos."
POST: Final = "zone.stratos.feed.post"
ENROLLMENT: Final = "zone.stratos.actor.enrollment"
_BSKY_NAMESPACE: Final = "app.bsky."


@dataclass(frozen=True, slots=True)
class NoParent:
    """The record replies to nothing."""


@dataclass(frozen=True, slots=True)
class ParentOf:
    """The record that is replied to is visible to the author and carries these boundaries."""

    boundaries: tuple[Boundary, ...]


@dataclass(frozen=True, slots=True)
class ParentUnseen:
    """The record that is replied to does not exist here, or its author may not read it: the two must look alike."""


Parent: TypeAlias = NoParent | ParentOf | ParentUnseen
NO_PARENT: Final = NoParent()
PARENT_UNSEEN: Final = ParentUnseen()


@dataclass(frozen=True, slots=True)
class RecordRules:
    """The rules of one service, whose boundaries `allowed` are qualified."""

    service: Did
    allowed: tuple[Boundary, ...]

    def typed_record(self, collection: str, record: DataModel) -> dict[str, DataModel] | Refusal:
        """The record with its `$type`, which is the collection: inserted where absent, refused where different."""
        if not isinstance(record, dict):
            return _invalid("record must be an object")
        if "$type" not in record:
            return {"$type": collection, **record}
        if record["$type"] != collection:
            return _invalid(f"record's $type must be {collection}")
        return record

    def check(self, collection: str, record: Mapping[str, object], parent: Parent) -> Refusal | None:
        """The first rule that the record breaks, or None; never raises, whatever the record's shape.

        `parent` tells of the record that `reply.parent.uri` names; it counts for posts only. A post that names a parent of ours
        is refused when the caller says NO_PARENT, as if it were unseen.
        """
        if not collection.startswith(PRIVATE_NAMESPACE):
            return Refusal(Reason.INVALID_COLLECTION, "Only zone.stratos.* collections are supported")
        if collection == ENROLLMENT:
            return Refusal(Reason.INVALID_COLLECTION, f"{ENROLLMENT} records are written to the PDS by the service alone")
        if not self.allowed:
            return _invalid("Stratos namespace is not enabled on this service")
        if collection == POST:
            return self._check_post(record, parent)
        if "boundary" in record and written_boundaries(record["boundary"]) is None:
            return _malformed_boundary()
        return None

    def authorize(self, boundaries: Collection[Boundary], enrolled: Collection[Boundary]) -> Refusal | None:
        """Whether an account enrolled in `enrolled` may write a record with these boundaries; None if so."""
        for boundary in boundaries:
            if not belongs_to(self.service, boundary):
                return Refusal(Reason.SERVICE_MISMATCH, mismatch_message(self.service, boundary))
        missing = [boundary for boundary in boundaries if boundary not in enrolled]
        if not missing:
            return None
        held = ", ".join(enrolled) or "(none)"
        text = f"You do not have access to boundary domain(s): {', '.join(missing)}. Your enrolled domains: {held}"
        return Refusal(Reason.FORBIDDEN_BOUNDARY, text)

    def _check_post(self, record: Mapping[str, object], parent: Parent) -> Refusal | None:
        boundary = record.get("boundary")
        if not isinstance(boundary, dict) or not boundary.get("values"):
            return _invalid("must have a boundary")
        values = written_boundaries(boundary)
        if values is None:
            return _malformed_boundary()
        return (
            self._check_values(values) or _check_reply(record.get("reply"), values, parent) or _check_embed(record.get("embed"))
        )

    def _check_values(self, values: tuple[Boundary, ...]) -> Refusal | None:
        for value in values:
            if value.startswith("did:") and not belongs_to(self.service, value):
                return _invalid(f"Boundary '{value}' does not belong to this service")
            if value not in self.allowed:
                return _invalid(f"Domain '{value.removeprefix(f'{self.service}/')}' is not allowed")
        return None


def check_public_post(record: Mapping[str, object]) -> Refusal | None:
    """The opposite direction, for programs that write an `app.bsky.feed.post`: it must not embed a private record."""
    if _embeds(record.get("embed"), PRIVATE_NAMESPACE):
        return _invalid("cannot embed stratos content")
    return None


def _check_reply(reply: object, values: tuple[Boundary, ...], parent: Parent) -> Refusal | None:
    parent_uri, root_uri = _reference(reply, "parent"), _reference(reply, "root")
    if parent_uri is not None and not _lies_in(parent_uri, PRIVATE_NAMESPACE):
        return _invalid("cannot reply to a non-stratos record")
    if root_uri is not None and not _lies_in(root_uri, PRIVATE_NAMESPACE):
        return _invalid("cannot have a non-stratos root")
    if parent_uri is None:
        return None
    if not isinstance(parent, ParentOf):
        return _invalid("cannot reply to a record that you cannot see")
    beyond = [value for value in values if value not in parent.boundaries]
    if beyond:
        text = "Reply boundaries must be a subset of the parent's boundaries. Domains not in parent: "
        return _invalid(text + ", ".join(beyond))
    return None


def _check_embed(embed: object) -> Refusal | None:
    return _invalid("cannot embed bsky content") if _embeds(embed, _BSKY_NAMESPACE) else None


def _embeds(embed: object, namespace: str) -> bool:
    """Whether an embed refers to a record in a namespace: by itself, as a record with media, or in its media, however deep."""
    while isinstance(embed, dict):
        if _lies_in(_reference(embed, "record"), namespace) or _lies_in(_reference(embed.get("record"), "record"), namespace):
            return True
        embed = embed.get("media")
    return False


def _reference(container: object, name: str) -> object:
    """`container.name.uri` of whatever kind, or None where a part of that path is missing or null."""
    reference = container.get(name) if isinstance(container, dict) else None
    return reference.get("uri") if isinstance(reference, dict) else None


def _lies_in(uri: object, namespace: str) -> bool:
    """Whether this is an AT-URI into a collection of the namespace; anything else is not."""
    if not isinstance(uri, str):
        return False
    try:
        collection = AtUri.parse(uri).collection
    except InvalidSyntax:
        return False
    return collection is not None and collection.startswith(namespace)


def _invalid(message: str) -> Refusal:
    return Refusal(Reason.INVALID_RECORD, message)


def _malformed_boundary() -> Refusal:
    limits = f"at most {MAX_VALUES} objects, each with a text `value` of 1 to {MAX_VALUE_BYTES} bytes"
    return _invalid(f"boundary must be an object with a list `values` of {limits}")
