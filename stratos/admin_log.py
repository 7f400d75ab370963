"""`stratos admin log`: the commit log as the service's stream tells it, a line per entry; records only when asked for."""

from __future__ import annotations

import errno
import json
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Final

import trio
import typer

from stratos.admin import service_of
from stratos.atproto.data_model import Json, to_json
from stratos.atproto.syntax import format_datetime
from stratos.client import (
    BearerToken,
    CommitEvent,
    ConsumerTooSlow,
    EnrollmentEvent,
    Gap,
    MalformedEvent,
    NoAnswer,
    OutdatedCursor,
    RecordChange,
    StratosError,
    StreamEvent,
    Subscription,
    subscribe,
)
from stratos.engine.service import World
from stratos.terminal import printable

log_commands = typer.Typer()

CONNECT_SECONDS: Final = 10.0
"""How long the first entry may take to come, be it for connecting or because there is none."""
QUIET_SECONDS: Final = 1.0
"""After so long without a further entry the log counts as read to its end."""


@log_commands.command(name="log")
def show_log(
    context: typer.Context,
    sync_token: Annotated[str, typer.Option(envvar="STRATOS_SYNC_TOKEN", help="The service's sync token.", show_default=False)],
    cursor: Annotated[int, typer.Option(min=0, help="Begin after this seq; 0: with the oldest entry that is kept.")] = 0,
    did: Annotated[str | None, typer.Option(help="Only entries of this account.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with new entries until interrupted.")] = False,
    records: Annotated[bool, typer.Option("--records", help="With the records, which are private.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object per line.")] = False,
) -> None:
    """Print the commit log: seq, time, what, DID, rev, and each operation with its path."""

    def show(event: StreamEvent) -> None:
        facts = _facts(event, records=records)
        if did is None or facts.get("did") in (did, None):
            typer.echo(json.dumps(facts) if as_json else _line(facts))

    faults: list[Exception] = []
    try:
        trio.run(partial(_tail, service_of(context), sync_token, cursor, show, follow=follow))
    except* (StratosError, OSError) as group:
        faults += _leaves(group)
    for fault in faults:
        if isinstance(fault, OSError) and fault.errno == errno.EPIPE:
            raise fault  # whoever read has read enough, which typer knows how to end upon
        typer.echo(str(fault), err=True)
    sys.exit(1 if faults else 0)


async def _tail(service: str, sync_token: str, cursor: int, show: Callable[[StreamEvent], None], *, follow: bool) -> None:
    """Show entries up to the end of the log, or until SIGINT or SIGTERM. Raises StratosError, OSError."""
    world = World.real()
    started = format_datetime(world.clock())
    async with (
        trio.open_nursery() as nursery,
        subscribe(service, BearerToken(sync_token), cursor=cursor, rng=world.rng) as stream,
    ):
        if follow:
            await nursery.start(_until_interrupted, nursery.cancel_scope)
            await _show_for_ever(stream, show)
        else:
            await _show_to_the_end(stream, show, started)


async def _show_for_ever(stream: Subscription, show: Callable[[StreamEvent], None]) -> None:
    """Every entry; says on standard error why there is no connection, once for each reason."""
    told = ""
    while True:
        with trio.move_on_after(QUIET_SECONDS):
            batch = await anext(stream)
            for event in batch.events:
                show(event)
        if not stream.connected and stream.last_error != told:
            told = stream.last_error
            typer.echo(f"not connected, trying again: {printable(told)}", err=True)


async def _show_to_the_end(stream: Subscription, show: Callable[[StreamEvent], None], started: str) -> None:
    """Every entry up to one that came after `started`, or the last. Raises NoAnswer where there is no connection."""
    patience = CONNECT_SECONDS
    while True:
        with trio.move_on_after(patience) as waiting:
            batch = await anext(stream)
            for event in batch.events:
                if isinstance(event, CommitEvent | EnrollmentEvent) and event.time > started:
                    return
                show(event)
        if waiting.cancelled_caught:
            if not stream.connected:
                raise NoAnswer(f"no connection to the service: {stream.last_error}")
            return
        patience = QUIET_SECONDS


async def _until_interrupted(scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()


def _facts(event: StreamEvent, *, records: bool) -> dict[str, Json]:
    """An entry, or a notice of the stream, as JSON; `kind` says what it is."""
    match event:
        case CommitEvent():
            operations: list[Json] = [_operation(change, records=records) for change in event.changes]
            return {
                "seq": event.seq, "time": event.time, "kind": "commit", "did": event.did, "rev": event.rev,
                "operations": operations,
            }  # fmt: skip
        case EnrollmentEvent():
            return {
                "seq": event.seq, "time": event.time, "kind": event.action.value, "did": event.did, "rev": event.rev,
                "boundaries": list(event.boundaries),
            }  # fmt: skip
        case Gap():
            return {"seq": event.seq, "kind": "gap", "did": event.did, "note": f"nothing between {event.known} and {event.since}"}
        case MalformedEvent():
            return {"seq": event.seq, "kind": "malformed", "did": event.did, "note": event.problem}
        case OutdatedCursor():
            return {"kind": "outdated", "note": event.message}
        case ConsumerTooSlow():
            return {"kind": "too slow", "note": event.message}


def _operation(change: RecordChange, *, records: bool) -> Json:
    told: dict[str, Json] = {"action": change.action.value, "path": f"{change.collection}/{change.rkey}"}
    if change.cid is not None:
        told["cid"] = str(change.cid)
    if records and change.record is not None:
        told["record"] = to_json(change.record)
    return told


def _line(facts: Mapping[str, Json]) -> str:
    """One line, whatever others have put into it."""
    words = [str(facts.get(name) or "-") for name in ("seq", "time", "kind", "did", "rev")]
    operations, boundaries = facts.get("operations"), facts.get("boundaries")
    if isinstance(operations, list):
        words += [_operation_words(operation) for operation in operations if isinstance(operation, dict)]
    if isinstance(boundaries, list):
        words.append(",".join(map(str, boundaries)) or "-")
    if "note" in facts:
        words.append(str(facts["note"]))
    return printable("  ".join(words)).replace("\n", " ")


def _operation_words(operation: Mapping[str, Json]) -> str:
    words = f"{operation['action']} {operation['path']}"
    return f"{words} {json.dumps(operation['record'])}" if "record" in operation else words


def _leaves(group: BaseExceptionGroup[Exception]) -> list[Exception]:
    return [leaf for error in group.exceptions for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])]
