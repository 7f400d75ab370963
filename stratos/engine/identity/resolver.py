"""Looks identities up: DIDs by the PLC directory and by their hosts, handles by DNS, by their hosts and by fall-backs.

Source: service spec §3.9, https://atproto.com/specs/did, https://atproto.com/specs/handle.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final

import trio

from stratos.atproto.did_web import UnsupportedDid, web_document_url
from stratos.atproto.resolved_document import MAX_DOCUMENT_BYTES, DidDocument, InvalidDocument
from stratos.atproto.syntax import Did, Handle
from stratos.engine.identity.answer_cache import Absent, AnswerCache, CacheLimits, Failed, Found, Outcome
from stratos.engine.identity.errors import DidNotFound, IdentityUnavailable
from stratos.engine.identity.identity import Identity
from stratos.engine.identity.locations import (
    did_in_body,
    did_in_json,
    did_in_texts,
    handle_dns_name,
    handle_url,
    has_reserved_tld,
    is_plc,
    normal_handle,
    plc_document_url,
    plc_handle_url,
    service_handle_url,
)
from stratos.engine.identity.names import DnsNames, Names, NamesUnavailable, SystemNames
from stratos.engine.identity.outgoing import (
    AddressRefused,
    AnswerRefused,
    NoSuchHost,
    OutgoingError,
    OutgoingHttp,
    OutgoingPolicy,
    Unreachable,
)

MAX_HANDLE_ANSWER_BYTES: Final = 4096
_OK: Final = 200
_NOT_FOUND: Final = frozenset({404, 410})
_CLIENT_ERRORS: Final = range(400, 500)
_COME_BACK_LATER: Final = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class IdentityLimits:
    """Bounds of looking up. Durations are seconds.

    `timeout` is for one request or DNS question; a handle may take several. `dns_head_start` is how long a handle's host is not
    asked yet while DNS, which counts more, has not answered.
    """

    timeout: float = 3.0
    dns_head_start: float = 0.5
    documents: CacheLimits = field(default_factory=CacheLimits)
    handles: CacheLimits = field(default_factory=CacheLimits)


class IdentityResolver(Identity):
    """The network's identities, cached. The clients are the caller's to close; see `open_identity`."""

    def __init__(
        self,
        *,
        plc_url: str,
        plc_http: OutgoingHttp,
        http: OutgoingHttp,
        names: Names,
        clock: Callable[[], float],
        handle_services: Sequence[str] = (),
        limits: IdentityLimits | None = None,
    ) -> None:
        """`http` asks what others chose; `plc_http` asks the addresses that the operator chose, `plc_url` and `handle_services`.

        They are two, so that slow hosts cannot take the directory's places, and a directory may stand on a private network.
        `handle_services` are base URLs of PDSes or AppViews, asked last for handles: for networks whose handles are not in DNS.
        `clock` is monotonic, in seconds.
        """
        self._plc_url = plc_url
        self._plc_http = plc_http
        self._http = http
        self._names = names
        self._handle_services = tuple(handle_services)
        self._limits = IdentityLimits() if limits is None else limits
        self._allow_private = http.policy.allow_private
        self._documents = AnswerCache(self._ask_for_document, self._limits.documents, clock=clock)
        self._handles = AnswerCache(self._ask_for_did, self._limits.handles, clock=clock)

    async def resolve_did(self, did: Did, *, refresh: bool = False) -> DidDocument:
        """See Identity."""
        match await self._documents.get(did, refresh=refresh):
            case Found(value=document):
                return document
            case Absent(reason=reason):
                raise DidNotFound(reason)
            case Failed(reason=reason):
                raise IdentityUnavailable(reason)

    async def resolve_handle(self, handle: str) -> Did | None:
        """See Identity."""
        known = normal_handle(handle)
        if known is None or (has_reserved_tld(known) and not self._allow_private):
            return None
        match await self._handles.get(known):
            case Found(value=did):
                return did
            case Absent():
                return None
            case Failed(reason=reason):
                raise IdentityUnavailable(reason)

    async def verified_handle(self, document: DidDocument) -> str | None:
        """See Identity."""
        claimed = document.claimed_handle
        handle = None if claimed is None else normal_handle(claimed)
        return handle if handle is not None and await self.resolve_handle(handle) == document.did else None

    async def pds_endpoint(self, did: Did) -> str | None:
        """The address of the DID's PDS, as its document states it. Raises as `resolve_did`."""
        return (await self.resolve_did(did)).pds

    def statistics(self) -> Mapping[str, int]:
        """What both caches hold and did."""
        parts = {"documents": self._documents.statistics(), "handles": self._handles.statistics()}
        return {f"{kind}_{name}": value for kind, values in parts.items() for name, value in values.items()}

    async def _ask_for_document(self, did: Did) -> Outcome[DidDocument]:
        if is_plc(did):
            return await self._document(did, self._plc_http, plc_document_url(self._plc_url, did))
        try:
            url = web_document_url(did, allow_private=self._allow_private)
        except UnsupportedDid as error:
            return Absent(str(error))
        return await self._document(did, self._http, url)

    async def _document(self, did: Did, http: OutgoingHttp, url: str) -> Outcome[DidDocument]:
        try:
            answer = await http.request("GET", url, max_bytes=MAX_DOCUMENT_BYTES, total_timeout=self._limits.timeout)
        except OutgoingError as error:
            # The directory's own address is the operator's, never the DID's fault.
            refused = isinstance(error, AddressRefused) and http is self._http
            return Absent(f"{did} is not ours to ask: {error}") if refused else Failed(f"{did} cannot be resolved: {error}")
        if answer.status in _NOT_FOUND:
            return Absent(f"{did} does not exist: {url} answers {answer.status}")
        if answer.status != _OK:
            return Failed(f"{did} cannot be resolved: {url} answers {answer.status}")
        try:
            return Found(DidDocument.parse(did, answer.body), len(answer.body))
        except InvalidDocument as error:
            return Failed(f"{did} cannot be resolved: what {url} answers is {error}")

    async def _ask_for_did(self, handle: Handle) -> Outcome[Did]:
        """Ask one source after the other until one knows the handle. Failed when none does and one could not be asked."""
        outcomes: list[Outcome[Did]] = []
        if not has_reserved_tld(handle):
            outcomes += await self._by_its_own_domain(handle)
        if not _founds(outcomes):
            outcomes.append(await self._by_text(self._plc_http, plc_handle_url(self._plc_url, handle)))
        for service in self._handle_services:
            if not _founds(outcomes):
                outcomes.append(await self._by_service(service_handle_url(service, handle)))
        failures = [outcome.reason for outcome in outcomes if isinstance(outcome, Failed)]
        if found := _founds(outcomes):
            return found[0]
        return Failed(f"{handle} cannot be resolved: {'; '.join(failures)}") if failures else Absent(f"{handle} points to no DID")

    async def _by_its_own_domain(self, handle: Handle) -> list[Outcome[Did]]:
        """Ask DNS and the handle's host. DNS wins where both answer, whichever is quicker."""
        by_dns: list[Outcome[Did]] = []
        by_host: list[Outcome[Did]] = []
        answered, asking_the_host = trio.Event(), trio.CancelScope()

        async def ask_dns() -> None:
            by_dns.append(await self._by_dns(handle))
            answered.set()
            if _founds(by_dns):
                asking_the_host.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_dns)
            with asking_the_host:
                with trio.move_on_after(self._limits.dns_head_start):
                    await answered.wait()
                if not _founds(by_dns):
                    by_host.append(await self._by_text(self._http, handle_url(handle)))
        return by_dns + by_host

    async def _by_dns(self, handle: Handle) -> Outcome[Did]:
        name = handle_dns_name(handle)
        try:
            with trio.fail_after(self._limits.timeout):
                texts = await self._names.texts(name)
        except NamesUnavailable as error:
            return Failed(str(error))
        except trio.TooSlowError:
            return Failed(f"{name} cannot be looked up: no answer")
        return _did_or_absent(did_in_texts(texts), name)

    async def _by_text(self, http: OutgoingHttp, url: str) -> Outcome[Did]:
        return await self._by_http(http, url, did_in_body)

    async def _by_service(self, url: str) -> Outcome[Did]:
        return await self._by_http(self._plc_http, url, did_in_json)

    async def _by_http(self, http: OutgoingHttp, url: str, parse: Callable[[bytes], Did | None]) -> Outcome[Did]:
        """What says that it knows no such handle is believed; what is out of order is not."""
        try:
            answer = await http.request("GET", url, max_bytes=MAX_HANDLE_ANSWER_BYTES, total_timeout=self._limits.timeout)
        except (AddressRefused, AnswerRefused, NoSuchHost) as error:
            return Absent(str(error))
        except Unreachable as error:
            return Failed(str(error))
        if answer.status == _OK:
            return _did_or_absent(parse(answer.body), url)
        if answer.status in _CLIENT_ERRORS and answer.status not in _COME_BACK_LATER:
            return Absent(f"{url} answers {answer.status}")
        return Failed(f"{url} answers {answer.status}")


def _founds(outcomes: Sequence[Outcome[Did]]) -> list[Found[Did]]:
    return [outcome for outcome in outcomes if isinstance(outcome, Found)]


def _did_or_absent(did: Did | None, where: str) -> Found[Did] | Absent:
    return Absent(f"{where} names no DID") if did is None else Found(did, len(did))


@dataclass(frozen=True, slots=True)
class OpenIdentity:
    """A resolver with the clients that it asks; `http` is for whatever else is asked of addresses that others chose.

    `session_http` is for what is asked in the name of accounts that have signed in. It has places of its own: anybody may begin a
    sign-in or show a token, and so make `http` wait for as many slow hosts as there are places, and fill `resolver`'s caches.
    For that reason `members` and `members_http` are apart as well: they are for checking the tokens of those who belong here.
    """

    resolver: IdentityResolver
    http: OutgoingHttp
    plc_http: OutgoingHttp
    session_http: OutgoingHttp
    members: IdentityResolver
    members_http: OutgoingHttp
    members_plc_http: OutgoingHttp

    def statistics(self) -> Mapping[str, Mapping[str, int]]:
        """Every part's, by name."""
        return {
            "identity": self.resolver.statistics(),
            "outgoing": self.http.statistics(),
            "outgoing_plc": self.plc_http.statistics(),
            "outgoing_sessions": self.session_http.statistics(),
            "identity_members": self.members.statistics(),
            "outgoing_members": self.members_http.statistics(),
            "outgoing_members_plc": self.members_plc_http.statistics(),
        }


@asynccontextmanager
async def open_identity(
    *,
    plc_url: str,
    policy: OutgoingPolicy,
    user_agent: str,
    clock: Callable[[], float],
    handle_services: Sequence[str] = (),
    limits: IdentityLimits | None = None,
) -> AsyncIterator[OpenIdentity]:
    """Put a resolver and its clients together, and close them at the end. See IdentityResolver for the arguments.

    `policy` is for what others chose. The directory's address is the operator's and may be a private one.
    """
    names = DnsNames()
    directory = replace(policy, allow_private=True)
    others_names = SystemNames(names) if policy.allow_private else names
    async with (
        OutgoingHttp(policy, user_agent=user_agent, names=others_names) as http,
        OutgoingHttp(policy, user_agent=user_agent, names=others_names) as session_http,
        OutgoingHttp(policy, user_agent=user_agent, names=others_names) as members_http,
        OutgoingHttp(directory, user_agent=user_agent, names=SystemNames(names)) as plc_http,
        OutgoingHttp(directory, user_agent=user_agent, names=SystemNames(names)) as members_plc_http,
    ):
        resolver, members = (
            IdentityResolver(
                plc_url=plc_url,
                plc_http=asks_directory,
                http=asks_others,
                names=names,
                clock=clock,
                handle_services=handle_services,
                limits=limits,
            )
            for asks_directory, asks_others in ((plc_http, http), (members_plc_http, members_http))
        )
        yield OpenIdentity(resolver, http, plc_http, session_http, members, members_http, members_plc_http)
