"""`stratos admin export`: an account's repository as a CAR file, from a running service, with the shared sync token."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import httpx
import trio
import typer
from rich.progress import DownloadColumn, TransferSpeedColumn

from stratos.admin import AsJson, service_of
from stratos.admin import Did as DidArgument
from stratos.atproto.syntax import Did, InvalidSyntax, parse_did
from stratos.indexer.repo_snapshot import CheckedRepo, InvalidSnapshot, check_repo
from stratos.indexer.service_client import ServiceClient, ServiceConfig, ServiceFault
from stratos.terminal import bar, give_up

export_commands = typer.Typer()

EXPORT_SECONDS: Final = 3_600.0
"""What a whole export may take."""
PARTIAL: Final = ".partial"
OWN_ONLY: Final = 0o600
"""Mode of the file: it holds private records."""


class NoSuchRepo(Exception):
    """The service has no repository of this account, or the account is not active."""


@export_commands.command()
def export(
    context: typer.Context,
    did: DidArgument,
    sync_token: Annotated[str, typer.Option(envvar="STRATOS_SYNC_TOKEN", help="The service's sync token.", show_default=False)],
    out: Annotated[Path | None, typer.Option("--out", help="The file; else the DID with _ for : and .car.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write an account's whole repository to a CAR file, which has its name only once it has been checked.

    Checked are every block's hash, the tree, that no record is missing, and the signature by the key that signed at its rev.
    """
    try:
        owner = parse_did(did)
    except InvalidSyntax as error:
        raise typer.BadParameter(str(error)) from error
    file = out or Path(f"{owner.replace(':', '_')}.car")
    config = ServiceConfig(service_of(context), sync_token, repo_timeout=EXPORT_SECONDS)
    try:
        with _appears_whole(file) as target:
            checked = trio.run(_export, config, owner, target, as_json)
            size = target.tell()
    except ServiceFault as error:
        give_up(f"The service (--service, STRATOS_SYNC_TOKEN): {error}. No file was written")
    except InvalidSnapshot as error:
        give_up(f"The repository of {owner} is damaged: {error}. No file was written")
    except NoSuchRepo:
        give_up(f"{config.url} has no active account {owner}")
    except OSError as error:
        give_up(f"{file}: {error}")
    facts = {"did": owner, "file": str(file), "bytes": size, "rev": checked.rev, "records": len(checked.records)}
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        typer.echo(f"{file}: {len(checked.records)} records at {checked.rev}, {size} bytes, checked")


async def _export(config: ServiceConfig, did: Did, target: BinaryIO, quiet: bool) -> CheckedRepo:
    """Copy the repository to `target` and check it. Raises ServiceFault, NoSuchRepo, InvalidSnapshot, OSError."""
    async with httpx.AsyncClient() as http:
        service = ServiceClient(config, http)
        with bar(DownloadColumn(), TransferSpeedColumn(), quiet=quiet) as shown:
            task = shown.add_task(did, total=None)

            def copy(chunk: bytes) -> None:
                target.write(chunk)
                shown.advance(task, len(chunk))

            repo = await service.repo(did, copy)
        # Afterwards: only who asks then knows the key of the newest commit, which may be a moment old.
        status = await service.status(did)
    if repo is None or status is None:
        raise NoSuchRepo(did)
    return check_repo(did, repo, status.signing_keys)


@contextmanager
def _appears_whole(file: Path) -> Iterator[BinaryIO]:
    """A file that has its name, in place of what had it, only when the block has ended well and everything is on the disk."""
    partial = file.with_name(file.name + PARTIAL)

    def private(path: str, flags: int) -> int:
        return os.open(path, flags, OWN_ONLY)

    opener: Callable[[str, int], int] = private
    try:
        with open(partial, "wb", opener=opener) as target:
            yield target
            target.flush()
            os.fsync(target.fileno())
        partial.replace(file)
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()
