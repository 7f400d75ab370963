"""`stratos admin lag`: how far the AppView is behind each service, from its database and from what both sides measure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Final

import httpx
import typer
from prometheus_client.parser import text_string_to_metric_families
from psycopg.rows import TupleRow
from rich.console import Console

from stratos.admin import AsJson
from stratos.appview_side import AppViewSide, run_beside
from stratos.terminal import as_it_stands, printable, table

lag_commands = typer.Typer()

ASK_SECONDS: Final = 10.0
QUANTILES: Final = (0.5, 0.99)
SEQ_PER_SECOND: Final = 1_000_000
"""A seq is at least the microseconds since 1970 at its entry, and hardly ever more."""
_SERVICE_HEAD: Final = "stratos_log_head"
_CONNECTED: Final = "stratos_indexer_stream_connected"
_LAG: Final = "stratos_indexer_lag_seconds_bucket"

Figures = Mapping[tuple[str, str], float]
"""Figures of a `/metrics` page by name and by their `le` label, '' where they have none."""


@dataclass(frozen=True, slots=True)
class SourceLag:
    """How far the rows are behind one source; None where it is not known.

    `behind_seconds` is the time between the entries at `position` and at `head`. `half_within` and `nearly_all_within`: seconds
    from the write request to the row, for half and for 99 of 100 posts since the indexer's start, rounded up to a bucket.
    """

    source: str
    position: int
    moved: str
    head: int | None
    behind_seconds: float | None
    connected: bool | None
    half_within: float | None
    nearly_all_within: float | None
    blocked: int
    comparison_wanted: bool


@lag_commands.command()
def lag(
    indexer: Annotated[str | None, typer.Option(help="The indexer's health server; else this host at HEALTH_PORT.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show how far the AppView is behind the service. What cannot be asked is left open, and said on standard error."""
    run_beside(lambda side: _show(side, indexer or f"http://127.0.0.1:{side.settings.health_port}", as_json=as_json))


async def _show(side: AppViewSide, indexer: str, *, as_json: bool) -> None:
    statement = side.database.queries.select_sources
    rows = await side.database.run(lambda connection: connection.execute(statement).fetchall())
    blocked = len(await side.database.run(side.actors.report))
    figures = await _figures(side.http, indexer)
    service = await _figures(side.http, side.service.url)
    sources = [_source(row, blocked, figures, service if row[0] == side.service.url else {}) for row in rows]
    if as_json:
        typer.echo(json.dumps([asdict(source) for source in sources], indent=2))
        return
    shown = table("source", "position", "head", "behind", "connected", "half within", "99 % within", "blocked", "last moved")
    for source in sources:
        cells = (
            source.source, source.position, _told(source.head), _seconds(source.behind_seconds), _told(source.connected),
            _seconds(source.half_within), _seconds(source.nearly_all_within), source.blocked, source.moved,
        )  # fmt: skip
        shown.add_row(*map(as_it_stands, cells))
    Console().print(shown)


def _source(row: TupleRow, blocked: int, indexer: Figures, service: Figures) -> SourceLag:
    name, position, moved, wishes = row
    head = service.get((_SERVICE_HEAD, ""))
    connected = indexer.get((_CONNECTED, ""))
    half, nearly_all = (_quantile(indexer, share) for share in QUANTILES)
    return SourceLag(
        source=name,
        position=position,
        moved=moved,
        head=None if head is None else int(head),
        # A position of 0 is before everything: nobody knows how long ago that was.
        behind_seconds=None if head is None or not position else max(0.0, (head - position) / SEQ_PER_SECOND),
        connected=None if connected is None else bool(connected),
        half_within=half,
        nearly_all_within=nearly_all,
        blocked=blocked,
        comparison_wanted=bool(wishes),
    )


def _quantile(figures: Figures, share: float) -> float | None:
    """The least bound that so large a share of the observations is within; None where there are none, or it is above all."""
    buckets = {le: count for (name, le), count in figures.items() if name == _LAG}
    total = buckets.pop("+Inf", 0.0)
    return min((float(le) for le, count in buckets.items() if total and count >= share * total), default=None)


async def _figures(http: httpx.AsyncClient, url: str) -> Figures:
    """The figures of a program's `/metrics`; none where it does not answer, which is told."""
    address = f"{url.rstrip('/')}/metrics"
    try:
        answer = await http.get(address, timeout=ASK_SECONDS)
        answer.raise_for_status()
        families = list(text_string_to_metric_families(answer.text))
    except (httpx.HTTPError, ValueError) as error:
        typer.echo(f"{address}: {printable(str(error))}", err=True)
        return {}
    return {(sample.name, sample.labels.get("le", "")): sample.value for family in families for sample in family.samples}


def _told(value: object) -> str:
    return "?" if value is None else str(value)


def _seconds(value: float | None) -> str:
    return "?" if value is None else f"{value:g} s"
