"""`stratos admin blocked`, `reindex`, `verify` and `prune`: the operator's commands upon the AppView's database.

They read the indexer's settings and may run while it runs: what they want changed they have it, or its own statements, do.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Sequence
from dataclasses import asdict
from functools import partial
from typing import Annotated, Final

import trio
import typer
from rich.console import Console

from stratos.admin import AsJson
from stratos.appview_side import AppViewSide, run_beside
from stratos.atproto.syntax import Did, InvalidSyntax, parse_did
from stratos.indexer.actor_rows import Difference, Kind
from stratos.indexer.appview_db import Connection
from stratos.indexer.blocked_actors import Mending
from stratos.indexer.verification import Verifier
from stratos.terminal import as_it_stands, counting_bar, give_up, table

appview_commands = typer.Typer()

WAIT_POLL_SECONDS: Final = 0.5
NOT_TO_BE_MENDED: Final = frozenset({Kind.UNVERIFIED, Kind.REPOSITORY})
"""Fetching once more would bring nothing that is known to be better."""


@appview_commands.command()
def blocked(as_json: AsJson = False) -> None:
    """Show which accounts wait for being fetched anew, since when, and why they have not been yet."""

    async def work(side: AppViewSide) -> None:
        reports = await side.database.run(side.actors.report)
        if as_json:
            typer.echo(json.dumps([asdict(report) for report in reports], indent=2))
            return
        shown = table("DID", "since", "attempts", "next attempt", "why")
        for report in reports:
            shown.add_row(*map(as_it_stands, (report.did, report.since, report.attempts, report.next_attempt, report.reason)))
        Console().print(shown)

    run_beside(work)


@appview_commands.command()
def reindex(
    dids: Annotated[list[str] | None, typer.Argument(help="The accounts' DIDs.")] = None,
    everybody: Annotated[bool, typer.Option("--all", help="Everybody whom the service lists or who has rows.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Until all of them are mended; the indexer has to run.")] = False,
    as_json: AsJson = False,
) -> None:
    """Have the indexer fetch accounts anew, whatever their rows show. The rows stay readable until they are replaced."""
    named = _named(dids)
    if bool(named) is everybody:
        raise typer.BadParameter("needed: either DIDs or --all")

    async def work(side: AppViewSide) -> None:
        known = await side.known()
        for did in named - known:
            if await side.service.status(did) is None:
                give_up(f"{did} has no rows here and is not active at {side.service.url}. Nothing was marked")
        asked = await side.ask_for(known | await side.listed() if everybody else named)
        if wait:
            await _wait(side, {actor.did for actor in asked}, quiet=as_json)
        if as_json:
            typer.echo(json.dumps({"reindexed" if wait else "marked": sorted(actor.did for actor in asked)}, indent=2))
        else:
            typer.echo(f"{len(asked)} accounts {'are fetched anew' if wait else 'will be fetched anew by the indexer'}")

    run_beside(work)


@appview_commands.command()
def verify(
    dids: Annotated[list[str] | None, typer.Argument(help="The accounts' DIDs; none: everybody.")] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Have the indexer fetch anew whoever differs.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare rows, boundaries and CIDs with the service's signed repositories; status 1 where they differ.

    May run while accounts are written to: each is compared at one rev.
    """

    async def work(side: AppViewSide) -> bool:
        chosen = sorted(_named(dids) or await side.known() | await side.listed())
        verifier = Verifier(side.database, side.service, clock=side.clock)
        found: list[Difference] = []
        with counting_bar(quiet=as_json) as bar:
            for did in bar.track(chosen, description="accounts"):
                found += await verifier.verify(did)
        mended = {difference.did for difference in found if difference.kind not in NOT_TO_BE_MENDED} if repair else set()
        if mended:
            await side.ask_for(mended)
        if as_json:
            differences = [asdict(difference) for difference in found]
            typer.echo(json.dumps({"verified": len(chosen), "differences": differences, "marked": sorted(mended)}, indent=2))
        else:
            _print_differences(found, len(chosen), len(mended) if repair else None)
        return not found

    if not run_beside(work):
        sys.exit(1)


@appview_commands.command()
def prune(
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it they are only listed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete the rows of accounts that the service no longer lists; each is asked for once more before."""

    async def work(side: AppViewSide) -> None:
        known, listed = await side.known(), await side.listed()
        if known and not listed:
            give_up(f"{side.service.url} lists no account at all: is STRATOS_SERVICE_URL right? Nothing is deleted")
        gone = known - listed
        posts = await side.database.run(partial(_count_posts, side, gone))
        pruned = await _prune(side, gone) if yes else []
        if as_json:
            answer = {"unlisted": [{"did": did, "posts": posts.get(did, 0)} for did in sorted(gone)], "pruned": pruned}
            typer.echo(json.dumps(answer, indent=2))
            return
        shown = table("DID", "posts", "")
        for did in sorted(gone):
            shown.add_row(did, str(posts.get(did, 0)), "deleted" if did in pruned else "")
        Console().print(shown)
        typer.echo(f"{len(pruned)} deleted" if yes else f"{len(gone)} would be deleted: --yes does it")

    run_beside(work)


async def _wait(side: AppViewSide, dids: Collection[Did], *, quiet: bool) -> None:
    """Until none of them is blocked; shows how many are done."""
    with counting_bar(quiet=quiet) as bar:
        task = bar.add_task("accounts", total=len(dids))
        while True:
            left = [report for report in await side.database.run(side.actors.report) if report.did in dids]
            bar.update(task, completed=len(dids) - len(left))
            if not left:
                return
            await trio.sleep(WAIT_POLL_SECONDS)


async def _prune(side: AppViewSide, dids: Collection[Did]) -> list[Did]:
    """Purge whom the service does not have; the others have come in the meantime, and the indexer fetches them."""
    pruned: list[Did] = []
    for actor in await side.ask_for(dids):
        if await side.service.status(actor.did) is not None:
            continue
        outcome = await side.database.run(partial(side.actors.purge, actor=actor))
        if outcome is not Mending.OVERTAKEN:  # a block that is gone was the indexer's turn, which does the same
            pruned.append(actor.did)
    return pruned


def _count_posts(side: AppViewSide, dids: Collection[Did], connection: Connection) -> dict[Did, int]:
    rows = connection.execute(side.database.queries.count_actor_posts, {"dids": sorted(dids)}).fetchall()
    return {Did(did): count for did, count in rows}


def _print_differences(found: Sequence[Difference], verified: int, marked: int | None) -> None:
    shown = table("DID", "what", "post", "detail")
    for difference in found:
        shown.add_row(*map(as_it_stands, (difference.did, difference.kind, difference.uri or "", difference.detail)))
    if found:
        Console().print(shown)
    typer.echo(f"{verified} accounts compared, {len(found)} differences" + ("" if marked is None else f", {marked} to be mended"))


def _named(dids: Sequence[str] | None) -> set[Did]:
    try:
        return {parse_did(did) for did in dids or ()}
    except InvalidSyntax as error:
        raise typer.BadParameter(str(error)) from error
