"""Engines, accounts and records for the tests of the engine."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import trio

from stratos.atproto.dag_cbor import DataModel
from stratos.atproto.frames import MessageFrame, decode_frame
from stratos.atproto.keys import SigningKey
from stratos.atproto.lexicon import Lexicons
from stratos.atproto.syntax import Did
from stratos.core.boundaries import Boundary, qualify
from stratos.core.enrollment import Enrollment
from stratos.engine.identity import DidDocument, Identity, IdentityUnavailable
from stratos.engine.keyring import Keyring
from stratos.engine.service import ServiceIdentity, ServiceLimits, StratosService, World
from stratos.engine.store_reads import StoreReads
from stratos.engine.writes import Committed, Create
from stratos.resources import lexicon_directory, sql_directory
from stratos.storage.ports import Backend
from stratos.storage.sql_files import SqlFiles
from stratos.storage.sqlite.backend import SqliteBackend

SERVICE = Did("did:web:stratos.test")
WRITERS, EDITORS = qualify(SERVICE, "writers"), qualify(SERVICE, "editors")
REI, SAKURA, KAORUKO = Did("did:plc:rei"), Did("did:plc:sakura"), Did("did:plc:kaoruko")
POST = "zone.stratos.feed.post"


@cache
def lexicons() -> Lexicons:
    """The lexicons that we ship, read once."""
    return Lexicons.load(lexicon_directory())


def open_backend(data_dir: Path, *, max_open_actors: int = 16) -> SqliteBackend:
    """A SQLite backend in a directory."""
    return SqliteBackend.open(data_dir, sql=SqlFiles(sql_directory()), max_open_actors=max_open_actors)


@dataclass
class Clock:
    """A wall clock that advances a millisecond whenever it is read."""

    now: datetime = field(default_factory=lambda: datetime(2026, 5, 28, 12, 0, tzinfo=UTC))

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now


class NoNetwork:
    """An identity of which nothing can be known: the network is away."""

    async def resolve_did(self, did: Did, *, refresh: bool = False) -> DidDocument:
        raise IdentityUnavailable(f"{did}: no network (refresh: {refresh})")

    async def resolve_handle(self, handle: str) -> Did | None:
        raise IdentityUnavailable(f"{handle}: no network")

    async def verified_handle(self, document: DidDocument) -> str | None:
        raise IdentityUnavailable(f"{document.did}: no network")


@dataclass
class Engine:
    """A running service and the means to stop it."""

    service: StratosService
    clock: Clock
    _scope: trio.CancelScope
    _stopped: trio.Event

    async def stop(self) -> None:
        """End the log's writer and wait for it."""
        self.service.firehose.close()
        self._scope.cancel()
        await self._stopped.wait()

    async def enroll(self, did: Did, *boundaries: Boundary) -> Enrollment:
        """Enroll an account; fails the test where that is refused."""
        enrollment = await self.service.enrollment.enroll(did, boundaries)
        assert isinstance(enrollment, Enrollment), enrollment
        return enrollment

    async def post(self, did: Did, text: str, *boundaries: Boundary, rkey: str | None = None) -> Committed:
        """Write a post; fails the test where that is refused."""
        outcome = await self.service.repository.write(did, [Create(POST, rkey, post(text, *boundaries))])
        assert isinstance(outcome, Committed), outcome
        return outcome


async def start_engine(
    backend: Backend,
    nursery: trio.Nursery,
    limits: ServiceLimits | None = None,
    clock: Clock | None = None,
    network: Identity | None = None,
    keyring: Keyring | None = None,
    seed: int = 1,
) -> Engine:
    """Put an engine together upon a backend and start its log writer.

    It reads on the loop, from a server too: neither a virtual clock nor `wait_all_tasks_blocked` knows of a thread that works.
    """
    clock = clock or Clock()
    world = World(clock=clock, monotonic=trio.current_time, rng=random.Random(seed))
    identity = ServiceIdentity(
        did=SERVICE,
        fragment="atproto_pns",
        public_url="https://stratos.test",
        repo_url="https://stratos.test",
        version="0",
        allowed_boundaries=(WRITERS, EDITORS),
        auto_enroll=(WRITERS,),
    )
    service = StratosService.build(
        identity,
        backend=backend,
        reads=StoreReads(backend.actors),
        network=network or NoNetwork(),
        keyring=keyring or Keyring(SigningKey.generate_secp256k1(), os.urandom(32)),
        lexicons=lexicons(),
        limits=limits or ServiceLimits(),
        world=world,
    )
    engine = Engine(service, clock, trio.CancelScope(), trio.Event())

    async def run(task_status: trio.TaskStatus[None]) -> None:
        with engine._scope:
            await service.log.run(task_status=task_status)
        engine._stopped.set()

    await nursery.start(run)
    return engine


def post(text: str, *boundaries: str, **more: DataModel) -> dict[str, DataModel]:
    """A post record in the data model."""
    values: list[DataModel] = [{"value": boundary} for boundary in boundaries]
    return {
        "text": text,
        "boundary": {"$type": "zone.stratos.boundary.defs#Domains", "values": values},
        "createdAt": "2026-05-28T12:00:00.000Z",
        **more,
    }


def message(frame: bytes) -> MessageFrame:
    """A frame that has to be a message."""
    decoded = decode_frame(frame)
    assert isinstance(decoded, MessageFrame), decoded
    return decoded
