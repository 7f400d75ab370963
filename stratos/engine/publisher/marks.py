"""From entries of the log to marks in the outbox: where on a PDS something may have to be done."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from stratos.atproto.dag_cbor import DataModel, InvalidDagCbor
from stratos.atproto.syntax import Did, InvalidSyntax, parse_datetime
from stratos.core.enrollment_record import service_did_to_rkey
from stratos.core.log_codec import body_of, purges
from stratos.core.log_entry import EnrollmentAction, EntryKind, LoggedEntry
from stratos.core.record_rules import ENROLLMENT
from stratos.engine.oauth.registration import SCOPE
from stratos.storage.outbox_port import Mark

SWEEP: Final = "*"
"""In place of a path: whatever stubs of ours an account's PDS has without a record behind them."""
SESSION: Final = "-"
"""In place of a path: our OAuth session of an account, which ends when nothing is left to do for one that is not enrolled."""

_REPO_SCOPE: Final = "repo:"
STUB_COLLECTIONS: Final = frozenset(
    scope.removeprefix(_REPO_SCOPE) for scope in SCOPE.split() if scope.startswith(_REPO_SCOPE)
) - {ENROLLMENT}
"""Where accounts let us write stubs: a PDS refuses them everywhere else."""


def enrollment_path(service: Did) -> str:
    """Where on its PDS an account's enrollment record for a service stands."""
    return f"{ENROLLMENT}/{service_did_to_rkey(service)}"


def marks_of(entries: Iterable[LoggedEntry], *, service: Did, stubs: bool) -> list[Mark]:
    """What the entries, in their order, may change on PDSes: one mark per account and path.

    Commits only matter where `stubs` are published. An account that is gone for good leaves nothing to do but to look for what is
    left of it. Raises InvalidDagCbor where the log is damaged.
    """
    marks: dict[tuple[Did, str], Mark] = {}
    for entry in entries:
        if entry.kind is EntryKind.ENROLLMENT:
            if purges(entry):
                marks = {key: mark for key, mark in marks.items() if mark.did != entry.did}
            for mark in _enrollment_marks(entry, enrollment_path(service)):
                marks[mark.did, mark.path] = mark
        elif stubs:
            body = body_of(entry)
            for path in _paths(entry, body):
                if path.partition("/")[0] in STUB_COLLECTIONS:
                    marks[entry.did, path] = Mark(entry.did, path, _time(entry, body))
    return list(marks.values())


def _enrollment_marks(entry: LoggedEntry, path: str) -> list[Mark]:
    body = body_of(entry)
    at = _time(entry, body)
    marks = [Mark(entry.did, path, at, wake=True)]
    if body.get("action") == EnrollmentAction.UNENROLL.value:
        marks.append(Mark(entry.did, SESSION, at, wake=True))
    if purges(entry):
        marks.insert(0, Mark(entry.did, SWEEP, at, wake=True, only=True))
    return marks


def _paths(entry: LoggedEntry, body: dict[str, DataModel]) -> list[str]:
    ops = body.get("ops")
    paths = [op.get("path") if isinstance(op, dict) else None for op in ops] if isinstance(ops, list) else [None]
    found = [path for path in paths if isinstance(path, str)]
    if len(found) != len(paths):
        raise InvalidDagCbor(f"damaged: entry {entry.seq} has an operation without a path")
    return found


def _time(entry: LoggedEntry, body: dict[str, DataModel]) -> datetime:
    time = body.get("time")
    try:
        return parse_datetime(time if isinstance(time, str) else "")
    except InvalidSyntax as error:
        raise InvalidDagCbor(f"damaged: entry {entry.seq} has no time") from error
