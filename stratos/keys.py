"""`stratos keys`: the keys of a service, where they lie. Decisions: docs/adr/0013-key-rotation.md."""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stratos.assembly import load_keys, open_backend
from stratos.atproto.keys import SigningKey
from stratos.engine.key_files import MASTER_KEY_FILE, SERVICE_KEY_FILE, KeyFault, read_or_create, replace_keys
from stratos.engine.master_key_rotation import rotate_master_key
from stratos.engine.resealing import StillSealing
from stratos.engine.sealing import master_key_id
from stratos.engine.service import World
from stratos.settings import InvalidSettings, ServiceSettings, load, read_environment
from stratos.storage.ports import DataDirectoryInUse, StorageFault

keys = typer.Typer(help="Show and rotate the service's own keys, on the machine where they lie.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@keys.command()
def show(as_json: AsJson = False) -> None:
    """Show which keys there are, by their public names; secrets are not shown."""
    settings = _settings()
    try:
        held = load_keys(settings)
    except (KeyFault, OSError) as error:
        _give_up(f"Fatal error: {error}")
    former = held.service.former
    _print(
        {
            "serviceKey": held.service.current.did_key,
            "formerServiceKey": None if former is None else former.did_key,
            "serviceKeySource": held.service.source,
            "masterKeyId": master_key_id(held.master.current).hex(),
            "formerMasterKeyIds": [master_key_id(key).hex() for key in held.master.former],
            "masterKeySource": held.master.source,
        },
        as_json,
    )


@keys.command(name="rotate-master")
def rotate_master(as_json: AsJson = False) -> None:
    """Seal users' keys and OAuth sessions under a new master key. May be stopped at any moment and run again."""
    settings = _settings()
    if settings.master_key is not None and settings.master_key_previous is None:
        _give_up(
            "STRATOS_MASTER_KEY holds the key: set it to a new one and STRATOS_MASTER_KEY_PREVIOUS to the former one, for every "
            "process, then run this again"
        )
    file = settings.data_dir / MASTER_KEY_FILE if settings.master_key is None else None
    bar = Progress(
        TextColumn("sealing anew"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=as_json,
    )
    try:
        with closing(open_backend(settings, World.real())) as backend, bar:
            task = bar.add_task("", total=backend.sealed.count())
            outcome = rotate_master_key(
                file,
                lambda: load_keys(settings).keyring(),
                backend,
                progress=lambda count: bar.advance(task, count),
            )
    except (DataDirectoryInUse, StorageFault, KeyFault, StillSealing, OSError) as error:
        _give_up(f"Fatal error: {error}")
    except KeyboardInterrupt:
        _give_up("Interrupted: both keys are good; run it again to go on")
    _print({"resealed": outcome.resealed, "unreadable": [*outcome.unreadable]}, as_json)
    if outcome.unreadable:
        _give_up("The former master key stays: what is listed opens with no key that is known")
    if file is None and not as_json:
        typer.echo("Nothing needs the former key any more: unset STRATOS_MASTER_KEY_PREVIOUS.")


@keys.command(name="rotate-service")
def rotate_service(
    finish: Annotated[bool, typer.Option("--finish", help="Drop the former key, once no attestation by it stands.")] = False,
    as_json: AsJson = False,
) -> None:
    """Give the service a new signing key, which it takes when it is next started."""
    settings = _settings()
    if settings.signing_key_hex is not None:
        _give_up(
            "STRATOS_SIGNING_KEY_HEX holds the key: set it to a new one, and STRATOS_SIGNING_KEY_PREVIOUS to the serviceKey that "
            "`stratos keys show` names now"
        )
    file = settings.data_dir / SERVICE_KEY_FILE
    try:
        ring = read_or_create(file, SigningKey.generate_secp256k1().raw)
        if finish and ring.former:
            replace_keys(file, ring.current)
        elif finish:
            _give_up("There is no former key")
        elif ring.former:
            _give_up("A rotation is under way: end it with --finish first")
        else:
            replace_keys(file, SigningKey.generate_secp256k1().raw, ring.current)
        held = load_keys(settings).service
    except (KeyFault, OSError) as error:
        _give_up(f"Fatal error: {error}")
    _print({"serviceKey": held.current.did_key, "formerServiceKey": held.former and held.former.did_key}, as_json)
    if not as_json:
        typer.echo(
            "Restart the service."
            if finish
            else "Restart the service: it renews every attestation. When `stratos admin publisher` shows nothing pending: "
            "`stratos keys rotate-service --finish`, and restart it once more."
        )


def _settings() -> ServiceSettings:
    try:
        return load(ServiceSettings, read_environment(os.environ, Path.cwd()))
    except InvalidSettings as error:
        _give_up(str(error))


def _print(facts: dict[str, object], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        typer.echo(f"{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}")


def _give_up(text: str) -> NoReturn:
    typer.echo(text, err=True)
    sys.exit(1)
