"""A store that several engines of one test share, as processes share a PostgreSQL."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from threading import Lock

from stratos.atproto.syntax import Did
from stratos.core.log_entry import EntryKind, LoggedEntry, Proposal
from stratos.resources import sql_directory
from stratos.storage.ports import Appended, AppendOutcome, StorageFault, Wakeups
from stratos.storage.sql_files import SqlFiles
from stratos.storage.sqlite.actor_database import ActorSchema
from stratos.storage.sqlite.actor_stores import StoreLimits
from stratos.storage.sqlite.backend import SqliteBackend
from stratos.storage.sqlite.directory_lock import DirectoryLock
from stratos.storage.sqlite.log import SqliteLog
from stratos.storage.sqlite.service_database import ServiceDatabase


class Bell:
    """Implements `ports.Wakeups` over a pair of sockets."""

    def __init__(self) -> None:
        self._ring, self._ears = socket.socketpair()
        self._ears.setblocking(False)
        self._announced = 0

    def announce(self, seq: int) -> None:
        self._announced = seq
        if self._ring.fileno() >= 0:
            self._ring.send(b"!")

    def fileno(self) -> int:
        return self._ears.fileno()

    def drain(self) -> int:
        try:
            self._ears.recv(1_000)
        except BlockingIOError:
            return 0
        return self._announced

    def close(self) -> None:
        self._ring.close()
        self._ears.close()


class Right:
    """Implements `ports.Leadership` among the engines of one test; `holders` are the holders by name."""

    def __init__(self, store: SharedBackend, name: str) -> None:
        self._store = store
        self._holders = store.holders
        self._name = name

    def acquire(self) -> bool:
        if self._store.rights_fail:
            raise StorageFault("the server does not answer")
        return self._holders.setdefault(self._name, self) is self

    def held(self) -> bool:
        return self._holders.get(self._name) is self

    def release(self) -> None:
        if self.held():
            del self._holders[self._name]


class ShyLog(SqliteLog):
    """A log that cannot be read while it is told so."""

    blind = False

    def after(
        self,
        cursor: int,
        *,
        limit: int,
        max_bytes: int,
        did: Did | None = None,
        kind: EntryKind | None = None,
    ) -> list[LoggedEntry]:
        if self.blind:
            raise StorageFault("the server does not answer")
        return super().after(cursor, limit=limit, max_bytes=max_bytes, did=did, kind=kind)


class SharedBackend(SqliteBackend):
    """A SQLite backend that says of itself that it is shared.

    While `deaf`, wake-ups are lost; while `rights_fail`, no right can be asked for; `rights_made` counts what are connections
    there.
    """

    deaf = False
    rights_fail = False
    rights_made = 0

    def __init__(
        self, directory: Path, lock: DirectoryLock, database: ServiceDatabase, schema: ActorSchema, limits: StoreLimits
    ) -> None:
        super().__init__(directory, lock, database, schema, limits)
        self._log = self.shy_log = ShyLog(database)
        self._bells: list[Bell] = []
        self.holders: dict[str, Right] = {}
        self._committing = Lock()

    @classmethod
    def of(cls, data_dir: Path) -> SharedBackend:
        backend = cls.open(data_dir, sql=SqlFiles(sql_directory()), max_open_actors=16)
        assert isinstance(backend, SharedBackend)
        return backend

    @property
    def shared(self) -> bool:
        return True

    def commit(self, batch: Sequence[Proposal], *, now: datetime) -> list[AppendOutcome]:
        with self._committing:
            outcomes = super().commit(batch, now=now)
        seqs = [outcome.entries[-1].seq for outcome in outcomes if isinstance(outcome, Appended)]
        if seqs and not self.deaf:
            for bell in self._bells:
                bell.announce(seqs[-1])
        return outcomes

    def wakeups(self) -> Wakeups:  # type: ignore[override]  # SQLite alone has none
        self._bells.append(Bell())
        return self._bells[-1]

    def leadership(self, name: str) -> Right:  # type: ignore[override]  # here there are rivals
        self.rights_made += 1
        return Right(self, name)
