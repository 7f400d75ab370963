"""What the methods of a Stratos service answer, read from JSON once and typed from there on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stratos.atproto.cid import Cid, InvalidCid
from stratos.atproto.dag_cbor import DataModel, InvalidDagCbor, encode
from stratos.atproto.data_model import InvalidData, object_from_json
from stratos.atproto.syntax import AtUri, Did, InvalidSyntax, Tid, parse_did, parse_tid
from stratos.client.errors import NoAnswer
from stratos.core.attestation import Attestation, parse_attestation
from stratos.core.boundaries import Boundary, domain_value
from stratos.core.key_history import InvalidKeyHistory, SigningKeyPeriod

Record = dict[str, DataModel]
"""A record in the data model: links are `Cid`, byte strings `bytes`."""


@dataclass(frozen=True, slots=True)
class CommitMeta:
    """The commit that a write made."""

    cid: Cid
    rev: Tid


@dataclass(frozen=True, slots=True)
class WrittenRecord:
    """Where a record stands now, and the CID of what stands there."""

    uri: AtUri
    cid: Cid


@dataclass(frozen=True, slots=True)
class Written:
    """A record that was written, and the commit that did it."""

    uri: AtUri
    cid: Cid
    commit: CommitMeta


@dataclass(frozen=True, slots=True)
class AppliedWrites:
    """The outcome of a batch: one result for each write, None for a delete."""

    results: tuple[WrittenRecord | None, ...]
    commit: CommitMeta


@dataclass(frozen=True, slots=True)
class RecordView:
    """A record as the service shows it. That `cid` is the record's is the service's word: ask `is_intact`, or fetch a proof."""

    uri: AtUri
    cid: Cid
    value: Record

    def is_intact(self) -> bool:
        """Whether the CID is that of the record."""
        try:
            return self.cid == Cid.of_dag_cbor(encode(self.value))
        except InvalidDagCbor:
            return False


@dataclass(frozen=True, slots=True)
class RecordPage:
    """Records of a collection; with a `cursor` there may be more, even where this page is short or empty."""

    records: tuple[RecordView, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class RepoDescription:
    """Whose repository it is, and which collections it has. `did_doc` is JSON, None where it could not be resolved."""

    did: Did
    handle: str
    handle_is_correct: bool
    collections: tuple[str, ...]
    did_doc: Mapping[str, object] | None


@dataclass(frozen=True, slots=True)
class HydratedRecords:
    """The records behind some URIs, and the URIs of those that are not there, or not for the caller."""

    records: tuple[RecordView, ...]
    not_found: tuple[str, ...]
    blocked: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EnrollmentStatus:
    """How an account stands with the service, now.

    Not enrolled: everything else is empty. `signing_keys` are all that its commits have been signed with, and from which rev on
    each; `signing_key` is the last of them. `boundaries` and `attestation` are told to enrolled callers only: None to others.
    """

    did: Did
    enrolled: bool
    active: bool = False
    enrolled_at: str | None = None
    signing_key: str | None = None
    enrollment_rkey: str | None = None
    boundaries: tuple[Boundary, ...] | None = None
    attestation: Attestation | None = None
    signing_keys: tuple[SigningKeyPeriod, ...] = ()


class Answer:
    """One JSON answer, read field by field; raises NoAnswer naming what is not as it should be."""

    __slots__ = ("_nsid", "_values")

    def __init__(self, nsid: str, values: object) -> None:
        if not isinstance(values, Mapping):
            raise NoAnswer(f"{nsid} answers something else than an object")
        self._nsid = nsid
        self._values = values

    def __bool__(self) -> bool:
        """Whether it has any members."""
        return bool(self._values)

    def written(self) -> Written:
        """The answer to a single write."""
        return Written(self.uri(), self.cid(), self.commit())

    def commit(self) -> CommitMeta:
        """The member `commit`."""
        commit = self.member("commit")
        return CommitMeta(commit.cid(), commit.tid("rev"))

    def applied(self) -> AppliedWrites:
        """The answer to a batch of writes."""
        results = [Answer(self._nsid, item) for item in self.items("results")]
        return AppliedWrites(
            tuple(WrittenRecord(result.uri(), result.cid()) if result else None for result in results), self.commit()
        )

    def record(self) -> RecordView:
        """One record."""
        try:
            value = object_from_json(self._values.get("value"))
        except InvalidData as error:
            raise self._bad("value") from error
        return RecordView(self.uri(), self.cid(), value)

    def page(self) -> RecordPage:
        """A page of records."""
        return RecordPage(self.records(), self.optional_text("cursor"))

    def hydrated(self) -> HydratedRecords:
        """The answer to hydration."""
        return HydratedRecords(self.records(), self.texts("notFound"), self.texts("blocked"))

    def description(self) -> RepoDescription:
        """The answer of describeRepo."""
        document = self._values.get("didDoc")
        return RepoDescription(
            self.did(),
            self.text("handle"),
            self._values.get("handleIsCorrect") is True,
            self.texts("collections"),
            document if isinstance(document, dict) else None,
        )

    def status(self) -> EnrollmentStatus:
        """The answer of zone.stratos.enrollment.status."""
        if self._values.get("enrolled") is not True:
            return EnrollmentStatus(self.did(), enrolled=False)
        boundaries: tuple[Boundary, ...] | None = None
        if "boundaries" in self._values:
            known = map(domain_value, self.items("boundaries"))
            boundaries = tuple(value for value in known if value is not None)
        return EnrollmentStatus(
            did=self.did(),
            enrolled=True,
            active=self._values.get("active") is True,
            enrolled_at=self.optional_text("enrolledAt"),
            signing_key=self.optional_text("signingKey"),
            enrollment_rkey=self.optional_text("enrollmentRkey"),
            boundaries=boundaries,
            attestation=parse_attestation(self._values.get("attestation")),
            signing_keys=self._signing_keys(),
        )

    def _signing_keys(self) -> tuple[SigningKeyPeriod, ...]:
        if "signingKeys" not in self._values:
            return ()
        try:
            return tuple(map(SigningKeyPeriod.from_json, self.items("signingKeys")))
        except InvalidKeyHistory as error:
            raise self._bad("signingKeys") from error

    def records(self) -> tuple[RecordView, ...]:
        """The member `records`."""
        return tuple(Answer(self._nsid, item).record() for item in self.items("records"))

    def uri(self) -> AtUri:
        """The member `uri`."""
        try:
            return AtUri.parse(self.text("uri"))
        except InvalidSyntax as error:
            raise self._bad("uri") from error

    def cid(self) -> Cid:
        """The member `cid`."""
        try:
            return Cid.parse(self.text("cid"))
        except InvalidCid as error:
            raise self._bad("cid") from error

    def did(self) -> Did:
        """The member `did`."""
        try:
            return parse_did(self.text("did"))
        except InvalidSyntax as error:
            raise self._bad("did") from error

    def tid(self, name: str) -> Tid:
        """A revision."""
        try:
            return parse_tid(self.text(name))
        except InvalidSyntax as error:
            raise self._bad(name) from error

    def member(self, name: str) -> Answer:
        """An object."""
        value = self._values.get(name)
        if not isinstance(value, dict):
            raise self._bad(name)
        return Answer(self._nsid, value)

    def items(self, name: str) -> list[object]:
        """A list."""
        value = self._values.get(name)
        if not isinstance(value, list):
            raise self._bad(name)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """The texts in a list."""
        return tuple(item for item in self.items(name) if isinstance(item, str))

    def text(self, name: str) -> str:
        """A text that must be there."""
        value = self.optional_text(name)
        if value is None:
            raise self._bad(name)
        return value

    def optional_text(self, name: str) -> str | None:
        """A text, or None."""
        value = self._values.get(name)
        return value if isinstance(value, str) else None

    def _bad(self, name: str) -> NoAnswer:
        return NoAnswer(f"{self._nsid} answers without a proper {name}")
