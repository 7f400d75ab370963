"""`stratos admin migrate`: the stores of all accounts to the newest schema, on the database that the environment names."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Final

from stratos.assembly import open_backend
from stratos.engine.service import World
from stratos.settings import ServiceSettings, load
from stratos.storage.migrate_actors import Migrated, migrate_actors
from stratos.storage.ports import StorageFault
from stratos.terminal import counting_bar

STATEMENT_SECONDS: Final = 3_600.0
"""What one statement of a migration may take: here nobody waits for an answer."""


def migrate_all(environment: Mapping[str, str], *, quiet: bool) -> Migrated:
    """Migrate the service's tables, then every account's store; a progress bar goes to standard error unless `quiet`.

    Raises InvalidSettings, DataDirectoryInUse, and StorageFault, also where a newer program has been here.
    """
    settings = load(ServiceSettings, environment).model_copy(update={"pg_answer_timeout_seconds": STATEMENT_SECONDS})
    with closing(open_backend(settings, World.real())) as backend:
        found = backend.actors.schemas()
        if found.newer:
            raise StorageFault(f"{found.newer} accounts' stores were written by a newer version of Stratos: use that one")
        with counting_bar(quiet=quiet) as bar:
            task = bar.add_task("stores", total=found.outdated)
            return migrate_actors(backend.actors, progress=lambda done: bar.update(task, completed=done))
