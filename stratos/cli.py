"""The `stratos` command."""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Final, NoReturn, TypeVar

import trio
import typer
from pydantic_settings import BaseSettings

from stratos import __version__
from stratos.admin import admin
from stratos.admin_appview import appview_commands
from stratos.admin_export import export_commands
from stratos.admin_lag import lag_commands
from stratos.admin_log import log_commands
from stratos.appview import run_appview
from stratos.assembly import load_keys, open_backend
from stratos.dev import dev_environment, run_dev
from stratos.engine.key_files import KeyFault
from stratos.engine.service import World
from stratos.engine.supervisor import EscalatedFailure
from stratos.index import run_indexer
from stratos.keys import keys
from stratos.logging_setup import configure_logging
from stratos.serve import run_service, run_worker
from stratos.settings import (
    AppviewSettings,
    IndexerSettings,
    InvalidSettings,
    ServiceSettings,
    load,
    load_system,
    read_environment,
)
from stratos.signals import StopOverdue, watch_signals
from stratos.storage.ports import DataDirectoryInUse, StorageFault
from stratos.workers import open_port, run_workers

GC_ALLOCATIONS: Final = 20_000
"""Net allocations between two collections of young objects; Python's 700 are meant for scripts."""

SomeSettings = TypeVar("SomeSettings", bound=BaseSettings)

app = typer.Typer(
    help="A private, boundary-aware data layer for AT Protocol.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # they hold secrets; earlier versions of typer show them unless told not to
)
for commands in (appview_commands, lag_commands, export_commands, log_commands):
    admin.add_typer(commands)
app.add_typer(admin, name="admin")
app.add_typer(keys, name="keys")


@app.command()
def serve(
    workers: Annotated[int, typer.Option(min=1, help="Processes behind the one port; more than one needs PostgreSQL.")] = 1,
    worker: Annotated[int | None, typer.Option(hidden=True)] = None,
    listen_fd: Annotated[list[int] | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run the service: records, the commit log, the firehose, XRPC."""
    settings = _settings(ServiceSettings)
    configure_logging(settings.log_level)
    try:
        backend = open_backend(settings, World.real())
    except (DataDirectoryInUse, StorageFault, OSError) as error:
        _give_up(f"Fatal error: {error}")
    if workers > 1:
        # Opened once for everybody: what is wrong with the database is said once, and what is to be migrated is.
        shared = backend.shared
        backend.close()
        if not shared:
            _give_up("Fatal error: --workers needs STORAGE_BACKEND=postgres: a SQLite data directory belongs to one process")
        _serve_with_workers(settings, workers)
        return
    sockets = [socket.socket(fileno=descriptor) for descriptor in listen_fd or ()]
    try:
        if worker is None:
            _run(lambda stop: run_service(settings, backend, stop), settings.shutdown_seconds)
        else:
            root = partial(run_worker, settings, backend, sockets=sockets, number=worker)
            _run(root, settings.shutdown_seconds)
    finally:
        backend.close()


def _serve_with_workers(settings: ServiceSettings, count: int) -> None:
    try:
        load_keys(settings)  # of several workers that find no key files, each would make its own
        sockets = open_port(settings.host, settings.port)
    except KeyFault as error:
        _give_up(f"Fatal error: {error}")
    except OSError as error:
        _give_up(f"Fatal error: {settings.host}:{settings.port}: {error}")
    patience = settings.shutdown_seconds
    environment = _environment()
    try:
        _run(lambda stop: run_workers(count, sockets, environment, patience=patience, stop=stop), 2 * patience)
    except* EscalatedFailure as group:
        _give_up("\n".join(f"Fatal error: {error}" for error in _leaves(group)))


@app.command()
def index() -> None:
    """Run the indexer: from the services' streams into the AppView's database."""
    settings = _settings(IndexerSettings)
    configure_logging(settings.log_level)
    _run(lambda stop: run_indexer(settings, stop), settings.shutdown_seconds)


@app.command()
def appview() -> None:
    """Run the AppView: zone.stratos.feed.* queries, filtered by the viewer's boundaries."""
    settings = _settings(AppviewSettings)
    configure_logging(settings.log_level)
    _run(lambda stop: run_appview(settings, stop), settings.shutdown_seconds)


@app.command()
def dev(
    data_dir: Annotated[Path, typer.Option(help="Databases, keys and the embedded PostgreSQL.")] = Path("./data"),
) -> None:
    """Run the whole system on this machine, in dev mode, with SQLite and an embedded PostgreSQL."""
    with dev_environment(_environment(), data_dir) as environment:
        try:
            system = load_system(environment)
        except InvalidSettings as error:
            _give_up(str(error))
        configure_logging(system.service.log_level, readable=True)
        try:
            backend = open_backend(system.service, World.real())
        except (DataDirectoryInUse, StorageFault, OSError) as error:
            _give_up(f"Fatal error: {error}")
        try:
            _run(lambda stop: run_dev(system, backend, stop), system.service.shutdown_seconds)
        finally:
            backend.close()


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """The console script."""
    app()


def _environment() -> dict[str, str]:
    return read_environment(os.environ, Path.cwd())


def _settings(model: type[SomeSettings]) -> SomeSettings:
    try:
        return load(model, _environment())
    except InvalidSettings as error:
        _give_up(str(error))


def _run(root: Callable[[trio.Event], Awaitable[None]], shutdown_seconds: float) -> None:
    """Run a composition root until it has stopped cleanly; exit 1 otherwise."""

    async def until_stopped() -> None:
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(watch_signals, stop, shutdown_seconds)
            await root(stop)
            nursery.cancel_scope.cancel()

    # What the imports made lives as long as the process: the collector need not look through it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS)
    try:
        trio.run(until_stopped, strict_exception_groups=True)
    except* StopOverdue:
        _give_up("Fatal error: the clean stop was cut short; nothing that was acknowledged is lost")
    except* (KeyFault, StorageFault, OSError) as group:
        _give_up("\n".join(f"Fatal error: {error}" for error in _leaves(group)))


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    return [leaf for error in group.exceptions for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])]


def _give_up(text: str) -> NoReturn:
    typer.echo(text, err=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
