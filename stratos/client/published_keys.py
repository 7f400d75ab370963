"""What services and accounts publish about themselves: keys, and where a service answers. Source: spec service.md §10.5."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from stratos.atproto.did_document import SIGNING_KEY_FRAGMENT, STRATOS_FRAGMENT, attesting_keys
from stratos.atproto.did_web import UnsupportedDid, web_document_url
from stratos.atproto.keys import VerifyingKey
from stratos.atproto.resolved_document import MAX_DOCUMENT_BYTES, DidDocument, InvalidDocument
from stratos.atproto.syntax import Did
from stratos.client.discovery import get_enrollment_by_service_did
from stratos.client.errors import KeyUnavailable
from stratos.client.http import Fetch, HttpRequest, open_fetch
from stratos.client.signing_keys import user_signing_key
from stratos.client.xrpc import XrpcHost

_DID_WEB: Final = "did:web:"
_OK: Final = 200


@dataclass(frozen=True, slots=True)
class PublishedService:
    """A service as its own DID document has it: where it answers, and the key that it attests with.

    `attesting_keys` begin with that one; after a rotation the one before follows, until every attestation has been renewed.
    """

    did: Did
    url: str
    signing_key: VerifyingKey
    attesting_keys: tuple[VerifyingKey, ...]


async def resolve_service(service: Did, *, fetch: Fetch | None = None, allow_localhost: bool = False) -> PublishedService:
    """A service's address and key, from the document at its own did:web host.

    Send tokens for a service to this address only. The URL in an enrollment record is the claim of whoever wrote the record, and
    the attestation does not cover it: a token that is sent elsewhere can be used by others as long as it is good.

    Arguments and errors as for `resolve_service_signing_key`.
    """
    document = await _document(service, fetch, allow_localhost=allow_localhost)
    url = document.service_endpoint(STRATOS_FRAGMENT)
    if url is None:
        raise KeyUnavailable(f"DID document has no #{STRATOS_FRAGMENT} service")
    return PublishedService(service, url, _signing_key(document), attesting_keys(document.raw))


async def resolve_service_signing_key(service: Did, *, fetch: Fetch | None = None, allow_localhost: bool = False) -> VerifyingKey:
    """The key that a service attests and signs with now: the one under `#atproto` in the document at its own did:web host.

    What it attested before a rotation stands too: check attestations by the `attesting_keys` of `resolve_service`.

    `fetch` must not follow redirects; without one the host is asked over a connection of our own. `did:web:localhost%3A<port>`,
    asked without TLS, is for development: say `allow_localhost`. Raises KeyUnavailable, NoAnswer.
    """
    return _signing_key(await _document(service, fetch, allow_localhost=allow_localhost))


async def resolve_user_signing_key(pds: XrpcHost | str, did: Did, service: Did) -> VerifyingKey | None:
    """The key that signs the account's commits at a service, as the enrollment record on its PDS names it; None without one.

    The PDS vouches for it. With `verify_attestation` the service does as well. After a rotation the record names the former key
    until the service has written it anew, for minutes or, while the PDS is away, for days: where you have credentials at the
    service, check commits with `SigningKeys`. Raises KeyUnavailable where it is no key.
    """
    enrollment = await get_enrollment_by_service_did(did, pds, service)
    return None if enrollment is None else user_signing_key(enrollment.signing_key)


async def _document(service: Did, fetch: Fetch | None, *, allow_localhost: bool) -> DidDocument:
    if not service.startswith(_DID_WEB):
        raise KeyUnavailable(f"expected did:web, got: {service}")
    try:
        url = web_document_url(service, allow_private=allow_localhost)
    except UnsupportedDid as error:
        raise KeyUnavailable(str(error)) from error
    async with AsyncExitStack() as stack:
        ask = await stack.enter_async_context(open_fetch()) if fetch is None else fetch
        answer = await ask(HttpRequest("GET", url, MAX_DOCUMENT_BYTES, {"Accept": "application/json"}))
    if answer.status != _OK:
        raise KeyUnavailable(f"{url} answers {answer.status}")
    try:
        return DidDocument.parse(service, answer.body)
    except InvalidDocument as error:
        raise KeyUnavailable(f"the DID document of {service}: {error}") from error


def _signing_key(document: DidDocument) -> VerifyingKey:
    key = document.verification_key(SIGNING_KEY_FRAGMENT)
    if key is None:
        raise KeyUnavailable("DID document has no #atproto verificationMethod")
    return key
