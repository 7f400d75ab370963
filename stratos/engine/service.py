"""The engine of one Stratos service, put together: what the API and the composition roots hold."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import trio

from stratos.atproto.keys import VerifyingKey
from stratos.atproto.lexicon import Lexicons
from stratos.atproto.syntax import Did
from stratos.atproto.tid import TidClock
from stratos.core.boundaries import Boundary
from stratos.core.record_rules import RecordRules
from stratos.engine.account_locks import AccountLocks
from stratos.engine.actor_locks import ActorLocks
from stratos.engine.commit_log import CommitLog, LogLimits
from stratos.engine.enrollment import EnrollmentDesk, EnrollmentPolicy
from stratos.engine.firehose import Firehose, StreamLimits
from stratos.engine.identity import Identity
from stratos.engine.key_rotation import KeyRotation
from stratos.engine.keyring import Keyring
from stratos.engine.leadership import LedTask
from stratos.engine.log_follower import LogFollower
from stratos.engine.oauth import OAuthClient
from stratos.engine.publisher import PublishedIdentity, Publisher
from stratos.engine.rate_limit import WriteLimiter, WriteRate
from stratos.engine.record_views import DEFAULT_MAX_BYTES, RecordViews
from stratos.engine.repository import RepositoryWriter, WriterParts
from stratos.engine.retention import Retention, RetentionPolicy
from stratos.engine.store_reads import StoreReads
from stratos.storage.ports import Backend

DEFAULT_RETENTION: Final = timedelta(hours=72)
LED_TASKS: Final = ("retention", "publisher")
"""What one process of those that share a store does at a time, by name."""
DEFAULT_READ_THREADS: Final = 8
"""Reads under way at the same time where the store is a server's."""


@dataclass(frozen=True, slots=True)
class ServiceIdentity:
    """Who this service is; what its DID document, stubs and banner say."""

    did: Did
    fragment: str
    public_url: str
    repo_url: str
    version: str
    allowed_boundaries: tuple[Boundary, ...]
    auto_enroll: tuple[Boundary, ...]


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """Every bound of the engine in one place."""

    log: LogLimits = field(default_factory=LogLimits)
    stream: StreamLimits = field(default_factory=StreamLimits)
    writes: WriteRate = field(default_factory=WriteRate)
    retention: timedelta = DEFAULT_RETENTION
    view_bytes: int = DEFAULT_MAX_BYTES
    read_threads: int = DEFAULT_READ_THREADS


@dataclass(frozen=True, slots=True)
class World:
    """Time and chance, passed in so that tests can hold them."""

    clock: Callable[[], datetime]
    monotonic: Callable[[], float]
    rng: random.Random

    @classmethod
    def real(cls) -> World:
        """The wall clock, trio's clock and the system's randomness."""
        return cls(clock=lambda: datetime.now(UTC), monotonic=trio.current_time, rng=random.SystemRandom())


@dataclass(frozen=True, slots=True)
class StratosService:
    """One service's engine. Its tasks are started by the composition root: `log.run`, where the store is shared
    `follower.run`, and of `led`, tasks by name that run in one process of those that share a store."""

    identity: ServiceIdentity
    network: Identity
    service_key: VerifyingKey
    backend: Backend
    reads: StoreReads
    lexicons: Lexicons
    log: CommitLog
    repository: RepositoryWriter
    enrollment: EnrollmentDesk
    key_rotation: KeyRotation
    firehose: Firehose
    views: RecordViews
    retention: Retention
    follower: LogFollower
    led: Mapping[str, LedTask]
    limiter: WriteLimiter
    keyring: Keyring
    oauth: OAuthClient | None
    publisher: Publisher

    @classmethod
    def build(
        cls,
        identity: ServiceIdentity,
        *,
        backend: Backend,
        reads: StoreReads,
        network: Identity,
        oauth: OAuthClient | None = None,
        stubs: bool = True,
        keyring: Keyring,
        lexicons: Lexicons,
        limits: ServiceLimits,
        world: World,
    ) -> StratosService:
        """Put the engine together upon an open backend; starts nothing. `network` resolves the DIDs and handles of others.

        Without `oauth` nobody enrolls by signing in, and nothing is published; with `stubs`, one of every record.
        """
        views = RecordViews(limits.view_bytes)

        def forget(did: Did) -> None:
            """In whichever process the account was unenrolled (I7)."""
            views.forget_all()
            keyring.forget(did)

        log = CommitLog(backend, reads=reads, clock=world.clock, limits=limits.log, purged=forget)
        locks = ActorLocks()
        tids = TidClock(lambda: int(world.clock().timestamp() * 1_000_000), world.rng.randrange(1024))
        bulk_thread = trio.CapacityLimiter(1)
        limiter = WriteLimiter(limits.writes, clock=world.monotonic, rng=world.rng)
        parts = WriterParts(
            backend=backend,
            reads=reads,
            log=log,
            locks=locks,
            keyring=keyring,
            lexicons=lexicons,
            rules=RecordRules(identity.did, identity.allowed_boundaries),
            tids=tids,
            limiter=limiter,
            bulk_thread=bulk_thread,
        )
        retention = Retention(backend, RetentionPolicy(keep=limits.retention), clock=world.clock, bulk_thread=bulk_thread)
        policy = EnrollmentPolicy(identity.did, identity.public_url, identity.allowed_boundaries, identity.auto_enroll)
        accounts = AccountLocks("account", locks, backend=backend, reads=reads)
        enrollment = EnrollmentDesk(
            policy,
            backend=backend,
            reads=reads,
            log=log,
            accounts=accounts,
            keyring=keyring,
            tids=tids,
            clock=world.clock,
        )
        publisher = Publisher(
            PublishedIdentity(identity.did, identity.fragment, identity.public_url),
            oauth,
            backend=backend,
            commit_log=log,
            reads=reads,
            attest=enrollment.attestation,
            clock=world.clock,
            rng=world.rng,
            stubs=stubs,
        )
        led = dict(zip(LED_TASKS, (retention.run, publisher.run), strict=True))
        if oauth is not None:
            led["oauth"] = oauth.run
        return cls(
            identity=identity,
            network=network,
            service_key=keyring.service_key.verifying_key,
            backend=backend,
            reads=reads,
            lexicons=lexicons,
            log=log,
            repository=RepositoryWriter(parts),
            enrollment=enrollment,
            key_rotation=KeyRotation(
                identity.public_url, backend=backend, log=log, accounts=accounts, reads=reads, keyring=keyring, tids=tids
            ),
            firehose=Firehose(backend, log, reads=reads, service_url=identity.public_url, limits=limits.stream),
            views=views,
            retention=retention,
            follower=LogFollower(backend, log, reads=reads),
            led={name: LedTask(name, run, backend=backend, reads=reads) for name, run in led.items()},
            limiter=limiter,
            keyring=keyring,
            oauth=oauth,
            publisher=publisher,
        )

    def statistics(self) -> Mapping[str, Mapping[str, float]]:
        """The gauges and counters of every part, by name; `/metrics`, `/health` and the console read nothing else."""
        return {
            "log": self.log.statistics(),
            "repository": self.repository.statistics(),
            "firehose": self.firehose.statistics(),
            "actors": self.backend.actors.statistics(),
            "limiter": self.limiter.statistics(),
            "keyring": self.keyring.statistics(),
            "store_reads": self.reads.statistics(),
            "record_views": self.views.statistics(),
            "retention": self.retention.statistics(),
            "publisher": self.publisher.statistics(),
            "follower": self.follower.statistics(),
            **{f"leadership_{name}": led.statistics() for name, led in self.led.items()},
            **({} if self.oauth is None else {"oauth": self.oauth.statistics()}),
            "enrollments": self.backend.enrollments.statistics(),
        }
