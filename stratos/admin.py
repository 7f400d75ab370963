"""`stratos admin`: the operator's commands, against a running service through the admin XRPC methods."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import httpx
import typer
from rich.console import Console

from stratos.migrate import migrate_all
from stratos.settings import InvalidSettings, read_environment
from stratos.storage.ports import DataDirectoryInUse, StorageFault
from stratos.terminal import as_it_stands, table

admin = typer.Typer(help="Operate a running service.", no_args_is_help=True)

PAGE: Final = 100
REQUEST_SECONDS: Final = 30.0

Did = Annotated[str, typer.Argument(help="The account's DID.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@dataclass(frozen=True, slots=True)
class Operator:
    """Where the service is, and the password that opens its admin methods; commands that use others need none."""

    service: str
    password: str | None

    def call(self, method: str, body: dict[str, object]) -> dict[str, object]:
        """Call an admin procedure; ends the command with the service's own words where it refuses."""
        return self._answer("POST", f"zone.stratos.admin.{method}", body, {})

    def query(self, method: str, parameters: dict[str, str]) -> dict[str, object]:
        """Call an admin query."""
        return self._answer("GET", f"zone.stratos.admin.{method}", None, parameters)

    def pages(self, method: str, items: str) -> dict[str, object]:
        """Call an admin query that answers by pages: the first answer, with the `items` of all of them."""
        parameters = {"limit": str(PAGE)}
        whole = answer = self.query(method, parameters)
        found: list[object] = []
        while True:
            rows = answer[items]
            found += rows if isinstance(rows, list) else []
            if "cursor" not in answer:
                return {**{name: value for name, value in whole.items() if name != "cursor"}, items: found}
            answer = self.query(method, {**parameters, "cursor": str(answer["cursor"])})

    def _answer(self, verb: str, nsid: str, body: dict[str, object] | None, parameters: dict[str, str]) -> dict[str, object]:
        try:
            answer = httpx.request(
                verb,
                f"{self.service.rstrip('/')}/xrpc/{nsid}",
                json=body,
                params=parameters,
                auth=("admin", self.password or ""),
                timeout=REQUEST_SECONDS,
            )
        except httpx.TransportError as error:
            typer.echo(f"{self.service} does not answer: {error}", err=True)
            sys.exit(1)
        if answer.is_error:
            typer.echo(f"{nsid}: {answer.status_code} {answer.text}", err=True)
            sys.exit(1)
        return dict(answer.json())


@admin.callback()
def connect(
    context: typer.Context,
    password: Annotated[
        str | None,
        typer.Option(
            envvar="STRATOS_ADMIN_PASSWORD", help="The service's admin password, for enroll to rotate-key.", show_default=False
        ),
    ] = None,
    service: Annotated[
        str, typer.Option(envvar=["STRATOS_PUBLIC_URL", "STRATOS_SERVICE_URL"], help="The service.")
    ] = "http://localhost:3100",
) -> None:
    """Remember where to send the command."""
    context.obj = Operator(service, password)


@admin.command()
def enroll(
    context: typer.Context,
    did: Did,
    boundaries: Annotated[list[str] | None, typer.Argument(help="Boundaries; none: the automatic ones.")] = None,
    as_json: AsJson = False,
) -> None:
    """Enroll an account without OAuth."""
    body: dict[str, object] = {"did": did} if not boundaries else {"did": did, "boundaries": boundaries}
    _print([_operator(context).call("enroll", body)], as_json)


@admin.command()
def unenroll(
    context: typer.Context,
    did: Did,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Purge an account: remove it for good, with everything that it wrote here."""
    if not yes:
        typer.confirm(f"Delete every private record of {did}? This cannot be undone", abort=True)
    _operator(context).call("unenroll", {"did": did})
    typer.echo(f"{did} is unenrolled")


@admin.command()
def boundaries(
    context: typer.Context,
    did: Did,
    boundary: Annotated[list[str] | None, typer.Argument(help="The new boundaries; none: take all away.")] = None,
    as_json: AsJson = False,
) -> None:
    """Replace an account's boundaries."""
    _print([_operator(context).call("setBoundaries", {"did": did, "boundaries": boundary or []})], as_json)


@admin.command(name="list")
def list_enrollments(context: typer.Context, as_json: AsJson = False) -> None:
    """List every enrollment."""
    found = _operator(context).pages("listEnrollments", "enrollments")["enrollments"]
    _print(found if isinstance(found, list) else [], as_json)


@admin.command()
def publisher(
    context: typer.Context,
    retry: Annotated[bool, typer.Option("--retry", help="Try again now, whatever stands in the way.")] = False,
    refresh_all: Annotated[bool, typer.Option("--refresh-all", help="Write every enrollment record again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what is still to be written on accounts' PDSes, and why not; or set it going again."""
    operator = _operator(context)
    if refresh_all:
        operator.call("publisherRefresh", {})
    if retry:
        operator.call("publisherRetry", {})
    status = operator.pages("publisherStatus", "accounts")
    if as_json:
        typer.echo(json.dumps(status, indent=2))
        return
    accounts = status.pop("accounts")
    typer.echo(", ".join(f"{name} {value}" for name, value in status.items()))
    shown = table("DID", "PDS", "items", "since", "next attempt", "what stands in the way")
    for account in accounts if isinstance(accounts, list) else []:
        cells = (*(account.get(name, "") for name in ("did", "pds", "items", "since", "due")), _obstacle(account))
        shown.add_row(*map(as_it_stands, cells))
    Console().print(shown)


@admin.command(name="rotate-key")
def rotate_key(context: typer.Context, did: Did, as_json: AsJson = False) -> None:
    """Give an account a new signing key; the former one is erased, and stays in the account's history of keys."""
    answer = _operator(context).call("rotateSigningKey", {"did": did})
    typer.echo(json.dumps(answer, indent=2) if as_json else f"{did} signs with {answer['signingKey']} from now on")


@admin.command()
def migrate(as_json: AsJson = False) -> None:
    """Bring every account's store, in the database that the environment names, to the newest schema.

    On PostgreSQL services may run meanwhile, and this command several times at once. Interrupted, it goes on where it was.
    """
    try:
        outcome = migrate_all(read_environment(os.environ, Path.cwd()), quiet=as_json)
    except (InvalidSettings, DataDirectoryInUse, StorageFault) as error:
        typer.echo(str(error), err=True)
        sys.exit(1)
    if as_json:
        typer.echo(json.dumps({"migrated": outcome.done, "failed": outcome.failed}, indent=2))
    else:
        typer.echo(f"{outcome.done} stores migrated, {len(outcome.failed)} failed")
        for did, reason in outcome.failed.items():
            typer.echo(f"  - {did}: {reason}", err=True)
    sys.exit(1 if outcome.failed else 0)


def _obstacle(account: dict[str, object]) -> str:
    """Why an account's work is not done yet."""
    blocked = account.get("blocked")
    refusals = [f"{item['path']}: {item['reason']}" for item in blocked] if isinstance(blocked, list) else []
    return "\n".join([*(str(account[name]) for name in ("parked", "lastError") if name in account), *refusals])


def _operator(context: typer.Context) -> Operator:
    operator = context.find_object(Operator)
    if operator is None or operator.password is None:
        raise typer.BadParameter("needed: --password, or STRATOS_ADMIN_PASSWORD")
    return operator


def service_of(context: typer.Context) -> str:
    """The service's address."""
    operator = context.find_object(Operator)
    if operator is None:
        raise typer.BadParameter("needed: --service")
    return operator.service


def _print(enrollments: list[dict[str, object]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(enrollments, indent=2))
        return
    shown = table("DID", "boundaries", "active", "enrolled at")
    for enrollment in enrollments:
        held = enrollment.get("boundaries")
        names = ", ".join(str(name) for name in held) if isinstance(held, list) else ""
        shown.add_row(str(enrollment["did"]), names, str(enrollment.get("active", "")), str(enrollment.get("enrolledAt", "")))
    Console().print(shown)
