"""A service with publishers that come and go upon it, and an OAuth client for them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from stratos.atproto.syntax import Did
from stratos.core.boundaries import Boundary
from stratos.core.enrollment import Enrollment
from stratos.core.outcomes import Refusal
from stratos.engine.oauth import OAuthClient
from stratos.engine.publisher import PdsClient, PublishedIdentity, Publisher, PublisherLimits
from stratos.engine.publisher.marks import enrollment_path
from stratos.engine.writes import Committed, Delete, Put
from stratos.storage.ports import Backend
from tests.engine.builders import POST, SERVICE, WRITERS, Engine, post
from tests.engine.oauth.memory import MemoryStore, in_place
from tests.engine.publisher.pds_model import RepoNetwork, VirtualClock

SERVICE_URL = "https://stratos.test"
ENROLLMENT_PATH = enrollment_path(SERVICE)


@dataclass
class House:
    """A service with a store, and publishers that come and go upon it."""

    engine: Engine
    backend: Backend
    clock: VirtualClock = field(default_factory=VirtualClock)

    def publisher(self, client: PdsClient | None, *, stubs: bool = True, limits: PublisherLimits | None = None) -> Publisher:
        """A publisher that does not run yet."""
        service = self.engine.service
        return Publisher(
            PublishedIdentity(SERVICE, "atproto_pns", SERVICE_URL),
            client,
            backend=self.backend,
            commit_log=service.log,
            reads=service.reads,
            attest=service.enrollment.attestation,
            clock=self.clock,
            rng=random.Random(7),
            stubs=stubs,
            thread=in_place,
            limits=limits,
        )

    @asynccontextmanager
    async def running(self, publisher: Publisher) -> AsyncIterator[Publisher]:
        """The publisher runs for the block."""
        async with trio.open_nursery() as nursery:
            await nursery.start(publisher.run)
            yield publisher
            nursery.cancel_scope.cancel()

    async def settle(self, client: PdsClient | None, seconds: float = 60.0, *, stubs: bool = True) -> Publisher:
        """Let a publisher run for so long; afterwards it is gone."""
        publisher = self.publisher(client, stubs=stubs)
        async with self.running(publisher):
            await trio.sleep(seconds)
        return publisher

    async def enroll(self, did: Did, *boundaries: Boundary) -> Enrollment:
        """Enroll an account."""
        return await self.engine.enroll(did, *(boundaries or (WRITERS,)))

    async def write(self, did: Did, rkey: str, text: str = "hi") -> Committed:
        """Create or replace a post."""
        outcome = await self.engine.service.repository.write(did, [Put(POST, rkey, post(text, WRITERS))])
        assert isinstance(outcome, Committed), outcome
        return outcome

    async def remove(self, did: Did, rkey: str) -> None:
        """Delete a post."""
        outcome = await self.engine.service.repository.write(did, [Delete(POST, rkey)])
        assert isinstance(outcome, Committed), outcome

    async def unenroll(self, did: Did) -> None:
        """For good."""
        assert not isinstance(await self.engine.service.enrollment.unenroll(did), Refusal)

    async def revoke(self, did: Did) -> None:
        """At the account's own wish: it may come back."""
        assert not isinstance(await self.engine.service.enrollment.revoke(did), Refusal)


@dataclass
class Signed:
    """An OAuth client before the network in memory."""

    clock: VirtualClock
    network: RepoNetwork
    store: MemoryStore
    client: OAuthClient

    async def sign_in(self, did: Did) -> None:
        """The account's holder authorizes us."""
        begun = await self.client.begin(did)
        await self.client.complete(self.network.consent(begun.url, did), browser=begun.browser)
