"""The service's composition root: `stratos serve`. The order of the nurseries is the order of shutdown, from the inside out."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import structlog
import trio

from stratos import __version__
from stratos.api.app import StratosApp
from stratos.api.config import ApiConfig
from stratos.api.credentials import Credentials, CredentialSettings
from stratos.api.server import HttpServer, ServerConfig
from stratos.atproto.did_document import STRATOS_FRAGMENT
from stratos.atproto.lexicon import Lexicons
from stratos.engine.commit_log import LogLimits
from stratos.engine.firehose import StreamLimits
from stratos.engine.identity import Identity, OpenIdentity, OutgoingPolicy, open_identity, user_agent
from stratos.engine.keyring import Keyring, load_master_key, load_service_key
from stratos.engine.rate_limit import WriteRate
from stratos.engine.service import ServiceIdentity, ServiceLimits, StratosService, World
from stratos.engine.supervisor import Supervisor
from stratos.resources import lexicon_directory, sql_directory
from stratos.settings import ServiceSettings
from stratos.storage.ports import Backend
from stratos.storage.sql_files import SqlFiles
from stratos.storage.sqlite.backend import SqliteBackend

GRACEFUL_SHARE: Final = 0.8
"""Part of the time for stopping that open connections get; the rest is for the log's writer and the store."""

log = structlog.stdlib.get_logger(__name__)


def open_backend(settings: ServiceSettings) -> Backend:
    """Open the storage that the settings name; the caller closes it. Raises DataDirectoryInUse and StorageFault."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    return SqliteBackend.open(
        settings.data_dir,
        sql=SqlFiles(sql_directory()),
        max_open_actors=settings.max_open_actors,
        nodes_per_store=settings.node_cache_nodes,
    )


def build_service(settings: ServiceSettings, backend: Backend, network: Identity, world: World) -> StratosService:
    """Put the engine together upon an open backend. Raises KeyFault."""
    identity = ServiceIdentity(
        did=settings.service_did,
        fragment=settings.service_fragment,
        public_url=settings.public_url,
        repo_url=settings.repo_url,
        version=__version__,
        allowed_boundaries=settings.allowed_boundaries,
        auto_enroll=settings.auto_enroll_boundaries,
    )
    limits = ServiceLimits(
        log=LogLimits(queue=settings.log_queue, tail_entries=settings.log_tail_entries, tail_bytes=settings.log_tail_bytes),
        stream=StreamLimits(max_subscribers=settings.stream_max_subscribers, send_timeout=settings.stream_send_timeout_seconds),
        writes=WriteRate(
            max_writes=settings.write_rate_max_writes,
            window=settings.write_rate_window_ms / 1000,
            cooldown=settings.write_rate_cooldown_ms / 1000,
            cooldown_jitter=settings.write_rate_cooldown_jitter_ms / 1000,
        ),
        retention=timedelta(hours=settings.log_retention_hours),
        view_bytes=settings.record_view_bytes,
    )
    signing_hex = settings.signing_key_hex
    master = settings.master_key
    keyring = Keyring(
        load_service_key(settings.data_dir, None if signing_hex is None else signing_hex.get_secret_value()),
        load_master_key(settings.data_dir, None if master is None else master.get_secret_value()),
    )
    return StratosService.build(
        identity,
        backend=backend,
        network=network,
        keyring=keyring,
        lexicons=Lexicons.load(lexicon_directory()),
        limits=limits,
        world=world,
    )


async def run_service(
    settings: ServiceSettings,
    backend: Backend,
    stop: trio.Event,
    *,
    task_status: trio.TaskStatus[tuple[str, ...]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `stop` is set; reports the base URLs that it listens on.

    Then: no new connections, subscribers are closed with 1001, requests under way end, the log's writer answers what it was
    handed. Cancellation skips the waiting and loses nothing that was acknowledged.
    """
    world = World.real()
    async with open_identity(
        plc_url=settings.plc_url,
        policy=OutgoingPolicy(allow_private=bool(settings.allow_private_network)),
        user_agent=user_agent(__version__, settings.repo_url, settings.operator_contact),
        clock=world.monotonic,
    ) as identity:
        service = build_service(settings, backend, identity.resolver, world)
        credentials = build_credentials(settings, identity, world)
        await _serve(settings, service, credentials, world, stop, task_status)
    log.info("stratos server stopped")


def build_credentials(settings: ServiceSettings, identity: OpenIdentity, world: World) -> Credentials:
    """The credentials that users and AppViews may come with."""
    master, nonce = settings.master_key, settings.dpop_nonce_secret
    return Credentials(
        CredentialSettings(
            service=settings.service_did,
            fragments=(STRATOS_FRAGMENT, settings.service_fragment),
            public_url=settings.public_url,
            master_key=load_master_key(settings.data_dir, None if master is None else master.get_secret_value()),
            grants=settings.appview_grants,
            nonce_secret=None if nonce is None else nonce.get_secret_value(),
            require_nonce=settings.dpop_require_nonce,
        ),
        identity=identity.resolver,
        http=identity.http,
        clock=world.clock,
        monotonic=world.monotonic,
    )


async def _serve(
    settings: ServiceSettings,
    service: StratosService,
    credentials: Credentials,
    world: World,
    stop: trio.Event,
    task_status: trio.TaskStatus[tuple[str, ...]],
) -> None:
    supervisor = Supervisor(rng=world.rng)
    app = StratosApp(service, api_config(settings), credentials=credentials, supervisor=supervisor, monotonic=world.monotonic)
    server = HttpServer(
        app,
        ServerConfig(
            binds=(f"{settings.host}:{settings.port}",),
            max_connections=settings.max_connections,
            graceful=settings.shutdown_seconds * GRACEFUL_SHARE,
        ),
    )
    async with trio.open_nursery() as engine:
        await engine.start(supervisor.run, "commit log", service.log.run)
        await engine.start(supervisor.run, "retention", service.retention.run)
        async with trio.open_nursery() as listening:
            urls = await listening.start(server.run)
            log.info("stratos server started", urls=urls, public_url=settings.public_url, did=settings.service_did)
            if settings.dev_mode:
                log.warning("dev mode: anybody who reaches this service can act as anybody")
            task_status.started(urls)
            await stop.wait()
            service.firehose.close()
            app.stopping.set()
        engine.cancel_scope.cancel()


def api_config(settings: ServiceSettings) -> ApiConfig:
    """What the API is told."""
    admin, sync = settings.admin_password, settings.sync_token
    return ApiConfig(
        dev_mode=settings.dev_mode,
        admin_password=None if admin is None else admin.get_secret_value(),
        sync_token=None if sync is None else sync.get_secret_value(),
        public_resolve=settings.public_enrollment_lookup,
        max_json_bytes=settings.max_json_bytes,
    )
