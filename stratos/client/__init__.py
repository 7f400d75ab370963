"""The client library of Stratos: find an account's service, read and write private records, verify them, follow the stream.

Trio-native, typed, without anything of the server. What is listed here is the public surface; docs/CLIENT.md shows it at work.
"""

from stratos.atproto.cid import Cid, InvalidCid
from stratos.atproto.keys import InvalidKey, VerifyingKey
from stratos.atproto.syntax import AtUri, Did, InvalidSyntax, Tid, parse_did
from stratos.client.answers import (
    AppliedWrites,
    CommitMeta,
    EnrollmentStatus,
    HydratedRecords,
    Record,
    RecordPage,
    RecordView,
    RepoDescription,
    Written,
    WrittenRecord,
)
from stratos.client.claims import verify_attestation, verify_stub
from stratos.client.discovery import (
    StratosEnrollment,
    discover_enrollment,
    discover_enrollments,
    get_enrollment_by_service_did,
)
from stratos.client.errors import (
    FutureCursor,
    KeyUnavailable,
    NoAnswer,
    NotProxied,
    StratosError,
    SubscriptionRefused,
    VerificationFailed,
    XrpcFailure,
)
from stratos.client.http import Fetch, HttpAnswer, HttpRequest, HttpxFetch, open_fetch
from stratos.client.published_keys import (
    PublishedService,
    resolve_service,
    resolve_service_signing_key,
    resolve_user_signing_key,
)
from stratos.client.records import Create, Delete, StratosClient, Update
from stratos.client.routing import (
    ServiceFetchHandler,
    create_service_fetch_handler,
    find_enrollment_by_service,
    resolve_service_url,
)
from stratos.client.scopes import ALL_ACTIONS, STRATOS_SCOPES, build_collection_scope, build_stratos_scopes
from stratos.client.service_tokens import ServiceTokens
from stratos.client.signing_keys import SigningKeys, user_signing_key
from stratos.client.stream_events import CommitEvent, ConsumerTooSlow, Gap, RecordChange, StreamEvent
from stratos.client.subscription import Batch, Subscription, SubscriptionConfig, subscribe
from stratos.client.verification import (
    VerificationLevel,
    VerifiedRecord,
    fetch_and_verify_record,
    verify_cid_integrity,
    verify_signed_record,
)
from stratos.client.xrpc import BearerToken, Credentials, XrpcHost
from stratos.core.attestation import Attestation
from stratos.core.backoff import BackoffPolicy
from stratos.core.boundaries import Boundary
from stratos.core.enrollment_record import service_did_to_rkey
from stratos.core.key_history import SigningKeyPeriod
from stratos.core.log_entry import Action, EnrollmentAction
from stratos.core.stream_events import EnrollmentEvent, MalformedEvent, OutdatedCursor
from stratos.core.stubs import Source
from stratos.core.stubs import parse_source as parse_stub
from stratos.transport.frame_stream import StreamLimits
from stratos.transport.websocket import SocketLimits

__all__ = [
    "ALL_ACTIONS",
    "STRATOS_SCOPES",
    "Action",
    "AppliedWrites",
    "AtUri",
    "Attestation",
    "BackoffPolicy",
    "Batch",
    "BearerToken",
    "Boundary",
    "Cid",
    "CommitEvent",
    "CommitMeta",
    "ConsumerTooSlow",
    "Create",
    "Credentials",
    "Delete",
    "Did",
    "EnrollmentAction",
    "EnrollmentEvent",
    "EnrollmentStatus",
    "Fetch",
    "FutureCursor",
    "Gap",
    "HttpAnswer",
    "HttpRequest",
    "HttpxFetch",
    "HydratedRecords",
    "InvalidCid",
    "InvalidKey",
    "InvalidSyntax",
    "KeyUnavailable",
    "MalformedEvent",
    "NoAnswer",
    "NotProxied",
    "OutdatedCursor",
    "PublishedService",
    "Record",
    "RecordChange",
    "RecordPage",
    "RecordView",
    "RepoDescription",
    "ServiceFetchHandler",
    "ServiceTokens",
    "SigningKeyPeriod",
    "SigningKeys",
    "SocketLimits",
    "Source",
    "StratosClient",
    "StratosEnrollment",
    "StratosError",
    "StreamEvent",
    "StreamLimits",
    "Subscription",
    "SubscriptionConfig",
    "SubscriptionRefused",
    "Tid",
    "Update",
    "VerificationFailed",
    "VerificationLevel",
    "VerifiedRecord",
    "VerifyingKey",
    "Written",
    "WrittenRecord",
    "XrpcFailure",
    "XrpcHost",
    "build_collection_scope",
    "build_stratos_scopes",
    "create_service_fetch_handler",
    "discover_enrollment",
    "discover_enrollments",
    "fetch_and_verify_record",
    "find_enrollment_by_service",
    "get_enrollment_by_service_did",
    "open_fetch",
    "parse_did",
    "parse_stub",
    "resolve_service",
    "resolve_service_signing_key",
    "resolve_service_url",
    "resolve_user_signing_key",
    "service_did_to_rkey",
    "subscribe",
    "user_signing_key",
    "verify_attestation",
    "verify_cid_integrity",
    "verify_signed_record",
    "verify_stub",
]
