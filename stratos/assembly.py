"""From settings to the parts of a service; each part says itself what it needs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog
from pydantic import SecretStr

from stratos import __version__
from stratos.api.auth import EnrollmentGate
from stratos.api.config import ApiConfig
from stratos.api.credentials import Credentials, CredentialSettings, WayOut
from stratos.api.oauth import SignInPages
from stratos.api.oauth_return import ReturnAddresses
from stratos.atproto.did_document import STRATOS_FRAGMENT
from stratos.atproto.lexicon import Lexicons
from stratos.engine.account_locks import AccountLocks
from stratos.engine.actor_locks import ActorLocks
from stratos.engine.allow_list import AllowList
from stratos.engine.commit_log import LogLimits
from stratos.engine.eligibility import Eligibility, EligibilityPolicy
from stratos.engine.firehose import StreamLimits
from stratos.engine.identity import OpenIdentity
from stratos.engine.key_files import KeyRing, ServiceKeys, load_master_keys, load_service_keys
from stratos.engine.keyring import Keyring
from stratos.engine.oauth import ClientSettings, InvalidRegistration, OAuthClient, Registration
from stratos.engine.rate_limit import WriteRate
from stratos.engine.resealing import check_master_key
from stratos.engine.self_enrollment import SelfEnrollment
from stratos.engine.service import ServiceIdentity, ServiceLimits, StratosService, World
from stratos.engine.store_reads import StoreReads
from stratos.resources import lexicon_directory, sql_directory
from stratos.settings import ServiceSettings
from stratos.storage.ports import Backend
from stratos.storage.postgres.backend import PostgresBackend
from stratos.storage.postgres.config import PostgresConfig
from stratos.storage.sql_files import SqlFiles
from stratos.storage.sqlite.backend import SqliteBackend

_NAME_BITS: Final = 128
"""Enough chance for a name that nobody else ever has."""

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Keys:
    """The service's own key, and the one that seals what others' depend upon."""

    service: ServiceKeys
    master: KeyRing

    def keyring(self) -> Keyring:
        """These keys, in use."""
        return Keyring(self.service.current, self.master.current, self.master.former, former_service_key=self.service.former)


def load_keys(settings: ServiceSettings) -> Keys:
    """Read the keys from the settings or their files, which a first start creates. Raises KeyFault."""
    return Keys(
        load_service_keys(settings.data_dir, _secret(settings.signing_key_hex), settings.signing_key_previous),
        load_master_keys(settings.data_dir, _secret(settings.master_key), _secret(settings.master_key_previous)),
    )


def _secret(setting: SecretStr | None) -> str | None:
    return None if setting is None else setting.get_secret_value()


def open_backend(settings: ServiceSettings, world: World) -> Backend:
    """Open the storage that the settings name; the caller closes it. Raises DataDirectoryInUse and StorageFault."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    files = SqlFiles(sql_directory())
    url = settings.postgres_dsn
    if settings.storage_backend == "sqlite" or url is None:
        return SqliteBackend.open(
            settings.data_dir,
            sql=files,
            max_open_actors=settings.max_open_actors,
            nodes_per_store=settings.node_cache_nodes,
        )
    return PostgresBackend.open(
        PostgresConfig(
            url.get_secret_value(),
            pool_size=settings.pg_actor_pool_size,
            answer_timeout=settings.pg_answer_timeout_seconds,
            application_name=f"stratos {settings.service_did}",
        ),
        sql=files,
        max_open_actors=settings.max_open_actors,
        nodes_per_store=settings.node_cache_nodes,
        writer=f"{world.rng.getrandbits(_NAME_BITS):x}",
        now=world.clock(),
    )


def build_service(
    settings: ServiceSettings, backend: Backend, identity: OpenIdentity, keys: Keys, world: World
) -> StratosService:
    """Put the engine together upon an open backend. Raises KeyFault where its values are sealed with other keys, StorageFault."""
    limits = service_limits(settings)
    keyring = keys.keyring()
    check_master_key(backend.sealed, keyring, keys.master.source)
    reads = StoreReads(backend.actors, limits.read_threads if backend.shared else 0)
    return StratosService.build(
        ServiceIdentity(
            did=settings.service_did,
            fragment=settings.service_fragment,
            public_url=settings.public_url,
            repo_url=settings.repo_url,
            version=__version__,
            allowed_boundaries=settings.allowed_boundaries,
            auto_enroll=settings.auto_enroll_boundaries,
        ),
        backend=backend,
        reads=reads,
        network=identity.resolver,
        oauth=build_oauth(settings, backend, reads, identity, keyring, world),
        stubs=settings.pds_stubs,
        keyring=keyring,
        lexicons=Lexicons.load(lexicon_directory()),
        limits=limits,
        world=world,
    )


def service_limits(settings: ServiceSettings) -> ServiceLimits:
    """Every bound of the engine."""
    return ServiceLimits(
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
        read_threads=settings.read_threads,
    )


def build_oauth(
    settings: ServiceSettings, backend: Backend, reads: StoreReads, identity: OpenIdentity, keyring: Keyring, world: World
) -> OAuthClient | None:
    """The OAuth client; None, with a warning that says why, where its address is nothing that a server would accept."""
    secret = settings.oauth_client_secret
    try:
        registration = Registration.of(
            ClientSettings(
                public_url=settings.public_url,
                name=settings.oauth_client_name,
                client_id=settings.oauth_client_id,
                private_key=None if secret is None else secret.get_secret_value(),
                logo_uri=settings.oauth_logo_uri,
                tos_uri=settings.oauth_tos_uri,
                policy_uri=settings.oauth_policy_uri,
                allow_loopback=settings.dev_mode or bool(settings.allow_private_network),
            )
        )
    except InvalidRegistration as error:
        log.warning("nobody can enroll by OAuth", reason=str(error))
        return None
    return OAuthClient(
        registration,
        identity=identity.resolver,
        http=identity.http,
        session_http=identity.session_http,
        store=backend.oauth,
        sealer=keyring.sealer,
        clock=world.clock,
        random_bytes=os.urandom,
        exclusive=AccountLocks("oauth", ActorLocks(), backend=backend, reads=reads).hold,
    )


def build_allow_list(settings: ServiceSettings, identity: OpenIdentity) -> AllowList | None:
    """The external list of who may enroll, where one is configured."""
    name, valkey = settings.allow_list_bootstrap_name, settings.valkey_url
    shared = None
    if name is not None and valkey is not None:
        from stratos.engine.valkey_set import ValkeySet  # its client is an extra that few need

        shared = ValkeySet(valkey.get_secret_value(), name)
    if settings.allow_list_uri is None and shared is None:
        return None
    # As the directory, its address is the operator's choice, and may be a private one.
    return AllowList(url=settings.allow_list_uri, http=identity.plc_http, shared=shared)


def build_eligibility(settings: ServiceSettings, identity: OpenIdentity, external: AllowList | None) -> Eligibility:
    """Who may enroll, by all lists together."""
    policy = EligibilityPolicy(
        open=settings.enrollment_mode == "open",
        dids=frozenset(settings.allowed_dids),
        pds_endpoints=settings.allowed_pds_endpoints,
    )
    return Eligibility(policy, identity=identity.resolver, external=external)


def build_sign_in(settings: ServiceSettings, service: StratosService, eligibility: Eligibility) -> SignInPages | None:
    """What the pages of self-enrollment need; None without an OAuth client."""
    if service.oauth is None:
        return None
    enrolling = SelfEnrollment(
        service.oauth,
        service.enrollment,
        eligibility,
        enrollment=lambda did: service.reads(lambda: service.backend.enrollments.current(did)),
        completed=service.publisher.refresh,
        dismissed=service.publisher.dismiss,
    )
    return SignInPages(enrolling, service.oauth.registration, ReturnAddresses(settings.public_url, settings.allowed_redirects))


def build_credentials(
    settings: ServiceSettings,
    identity: OpenIdentity,
    keys: Keys,
    eligibility: Eligibility,
    service: StratosService,
    world: World,
) -> Credentials:
    """The credentials that users and AppViews may come with."""
    nonce = settings.dpop_nonce_secret
    return Credentials(
        CredentialSettings(
            service=settings.service_did,
            fragments=(STRATOS_FRAGMENT, settings.service_fragment),
            public_url=settings.public_url,
            master_key=keys.master.current,
            grants=settings.appview_grants,
            nonce_secret=None if nonce is None else nonce.get_secret_value(),
            require_nonce=settings.dpop_require_nonce,
        ),
        known=WayOut(identity.members, identity.members_http),
        strangers=WayOut(identity.resolver, identity.http),
        is_known=EnrollmentGate(service.backend.enrollments, service.reads).is_known,
        clock=world.clock,
        monotonic=world.monotonic,
        on_allowlist=eligibility.admits if eligibility.is_watched else None,
    )


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
