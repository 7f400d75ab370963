"""Two services upon one store, as two processes share a PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from stratos.atproto.keys import SigningKey
from stratos.engine.firehose import StreamRequest
from stratos.engine.keyring import Keyring
from stratos.engine.log_follower import LogFollower
from stratos.storage.ports import Backend
from tests.engine.builders import Engine, message, start_engine


@dataclass
class Pair:
    """Two services on one store; `seen` are the seqs that a subscriber of the first one got."""

    here: Engine
    there: Engine
    seen: list[int]


@asynccontextmanager
async def pair(stores: tuple[Backend, Backend], *, following: bool = True) -> AsyncIterator[Pair]:
    async with trio.open_nursery() as nursery:
        service_key, master_key = SigningKey.generate_secp256k1(), os.urandom(32)
        rings = [Keyring(service_key, master_key) for _ in range(2)]
        here, there = [
            await start_engine(backend, nursery, keyring=ring, seed=n)
            for n, (backend, ring) in enumerate(zip(stores, rings, strict=True))
        ]
        seen: list[int] = []

        async def take(frame: bytes) -> None:
            seen.append(int(str(message(frame).body["seq"])))

        for engine in (here, there):
            service = engine.service
            if following:
                await nursery.start(LogFollower(service.backend, service.log, reads=service.reads).run)
        nursery.start_soon(here.service.firehose.serve, StreamRequest(include_commits=True), take)
        yield Pair(here, there, seen)
        await here.stop()
        await there.stop()
        nursery.cancel_scope.cancel()
