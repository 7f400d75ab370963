"""What every consumer of a service's stream reads alike: enrollment changes, notices, and the fields of messages.

Reads the shapes that producers have sent: revs that are absent, null or empty, enrollments without `seq`. Sources: spec
indexer.md §1.3.3–1.3.5, design §4.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias, TypeVar

from stratos.atproto.dag_cbor import MAX_INTEGER, DataModel
from stratos.atproto.frames import MessageFrame
from stratos.atproto.syntax import Did, InvalidSyntax, Tid, format_datetime, parse_datetime, parse_did, parse_tid
from stratos.core.log_entry import EnrollmentAction

OUTDATED_CURSOR: Final = "OutdatedCursor"
_is_normal_datetime: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z").fullmatch

Record: TypeAlias = dict[str, DataModel]
_Commit = TypeVar("_Commit")


@dataclass(frozen=True, slots=True)
class EnrollmentEvent:
    """An enrollment change. `seq` is None in old shapes; `rev` is the head of the actor's repository at that moment, if told."""

    seq: int | None
    did: Did
    action: EnrollmentAction
    time: str
    service_url: str | None
    boundaries: tuple[str, ...]
    rev: Tid | None


@dataclass(frozen=True, slots=True)
class MalformedEvent:
    """A frame that cannot be applied: an actor (or, without `did`, the source) must be fetched anew."""

    seq: int | None
    did: Did | None
    problem: str


@dataclass(frozen=True, slots=True)
class OutdatedCursor:
    """Events between the cursor that was asked for and the next event are gone: actors must be compared with the service."""

    message: str


class MalformedMessage(ValueError):
    """Something in a message is not what an event needs; the message says what."""


def event_of(
    message: MessageFrame, read_commit: Callable[[Record], _Commit]
) -> _Commit | EnrollmentEvent | MalformedEvent | OutdatedCursor | None:
    """The event of a message; None for what a consumer ignores. Never raises.

    `read_commit` makes of the body of a `#commit` what the consumer needs of it; it may raise MalformedMessage and InvalidSyntax.
    """
    try:
        if message.kind == "#commit":
            return read_commit(message.body)
        if message.kind == "#enrollment":
            return read_enrollment(message.body)
    except (MalformedMessage, InvalidSyntax) as error:
        return MalformedEvent(seq_of(message.body), did_if_any(message.body), f"{message.kind}: {error}")
    if message.kind == "#info" and message.body.get("name") == OUTDATED_CURSOR:
        return OutdatedCursor(str(message.body.get("message", "")))
    return None


def read_enrollment(body: Record) -> EnrollmentEvent:
    """The event of an `#enrollment` body. Raises MalformedMessage and InvalidSyntax."""
    enrolled = body.get("action") == "enroll"
    boundaries = body.get("boundaries", [])
    if not isinstance(boundaries, list):
        raise MalformedMessage("boundaries is not a list")
    service = body.get("service")
    return EnrollmentEvent(
        seq=seq_of(body),
        did=parse_did(text_of(body, "did")),
        action=EnrollmentAction.ENROLL if enrolled else EnrollmentAction.UNENROLL,
        time=time_of(body),
        service_url=service if isinstance(service, str) else None,
        boundaries=tuple(sorted({value for value in boundaries if isinstance(value, str)})),
        rev=read_tid(body.get("rev")),
    )


def seq_of(body: Record) -> int | None:
    """The place in the log; None where the producer names none."""
    seq = body.get("seq")
    return seq if type(seq) is int and 0 <= seq <= MAX_INTEGER else None


def did_if_any(body: Record) -> Did | None:
    """The account that a message is about; None where it names none properly."""
    try:
        return parse_did(text_of(body, "did"))
    except ValueError:
        return None


def text_of(body: Record, name: str) -> str:
    """A text that must be there. Raises MalformedMessage."""
    value = body.get(name)
    if not isinstance(value, str):
        raise MalformedMessage(f"{name} is not text")
    return value


def normal_datetime(text: str) -> str:
    """A datetime as UTC text with milliseconds; one that is so already is only checked. Raises InvalidSyntax."""
    if _is_normal_datetime(text) is not None:
        try:
            datetime.fromisoformat(text)
        except ValueError:
            pass
        else:
            return text
    return format_datetime(parse_datetime(text))


def time_of(body: Record) -> str:
    """The normalised `time`. Raises MalformedMessage and InvalidSyntax."""
    return normal_datetime(text_of(body, "time"))


def read_tid(value: DataModel) -> Tid | None:
    """A rev; an absent, null or (old producers) empty one is None. Raises MalformedMessage and InvalidSyntax."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise MalformedMessage("a rev is not text")
    return parse_tid(value)
