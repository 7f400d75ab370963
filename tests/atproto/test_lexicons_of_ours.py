"""Our lexicon documents: that they are complete, and what they take."""

from __future__ import annotations

import json

import pytest

from stratos.atproto.dag_cbor import DataModel
from stratos.atproto.lexicon import LexiconError, MethodDef, MethodKind, UnknownLexicon
from stratos.atproto.syntax import Nsid
from stratos.resources import lexicon_directory
from tests.atproto.lexicon_builders import FAMILY, LINK, OURS, POST, STRONG_REF, boundary, image, post

METHODS = """
com.atproto.repo.applyWrites com.atproto.repo.createRecord com.atproto.repo.deleteRecord com.atproto.repo.describeRepo
com.atproto.repo.getRecord com.atproto.repo.listRecords com.atproto.repo.putRecord com.atproto.repo.uploadBlob
com.atproto.sync.getBlob com.atproto.sync.getRecord com.atproto.sync.listBlobs
zone.stratos.admin.addBoundary zone.stratos.admin.enroll zone.stratos.admin.listEnrollments zone.stratos.admin.publisherRefresh
zone.stratos.admin.publisherRetry zone.stratos.admin.publisherStatus zone.stratos.admin.removeBoundary
zone.stratos.admin.rotateSigningKey zone.stratos.admin.setBoundaries zone.stratos.admin.unenroll
zone.stratos.enrollment.status zone.stratos.enrollment.unenroll
zone.stratos.feed.getAuthorFeed zone.stratos.feed.getPost zone.stratos.feed.getTimeline
zone.stratos.identity.resolveEnrollments
zone.stratos.repo.applyWrites zone.stratos.repo.createRecord zone.stratos.repo.deleteRecord zone.stratos.repo.describeRepo
zone.stratos.repo.getRecord zone.stratos.repo.hydrateRecord zone.stratos.repo.hydrateRecords zone.stratos.repo.importRepo
zone.stratos.repo.listRecords zone.stratos.repo.putRecord zone.stratos.repo.uploadBlob
zone.stratos.server.listDomains zone.stratos.sync.getRepo zone.stratos.sync.listRepos zone.stratos.sync.subscribeRecords
"""
RECORDS = ["zone.stratos.actor.enrollment", POST]


def test_there_is_a_lexicon_for_every_method_and_record() -> None:
    assert list(OURS.nsids()) == sorted([*METHODS.split(), *RECORDS])


RECORD_METHODS = "createRecord putRecord deleteRecord applyWrites getRecord listRecords describeRepo uploadBlob"


@pytest.mark.parametrize("name", RECORD_METHODS.split())
def test_our_record_methods_have_the_structure_of_the_official_names(name: str) -> None:
    def structure(family: str) -> object:
        document = json.loads((lexicon_directory() / family / f"{name}.json").read_text())
        return without_descriptions(document["defs"]["main"])

    assert structure("zone/stratos/repo") == structure("com/atproto/repo")


def without_descriptions(value: object) -> object:
    if isinstance(value, dict):
        # By type, since a property may be called `description` too.
        return {
            key: without_descriptions(member)
            for key, member in value.items()
            if key != "description" or not isinstance(member, str)
        }
    return [without_descriptions(item) for item in value] if isinstance(value, list) else value


def test_a_method_tells_how_it_is_called() -> None:
    json_type = "application/json"
    assert OURS.method("zone.stratos.repo.createRecord") == MethodDef(
        Nsid("zone.stratos.repo.createRecord"), MethodKind.PROCEDURE, json_type, json_type, ("InvalidSwap",)
    )
    upload = OURS.method("com.atproto.repo.uploadBlob")
    assert upload is not None
    assert upload.input_encoding == "*/*"
    export = OURS.method("zone.stratos.sync.getRepo")
    assert export is not None
    assert (export.kind, export.input_encoding, export.output_encoding) == ("query", None, "application/vnd.ipld.car")
    stream = OURS.method("zone.stratos.sync.subscribeRecords")
    assert stream is not None
    assert stream.kind is MethodKind.SUBSCRIPTION
    assert "FutureCursor" in stream.errors


@pytest.mark.parametrize("nsid", ["zone.stratos.nothing", POST, "zone.stratos.defs", "zone.stratos.defs#source"])
def test_what_is_not_a_method_is_unknown_as_one(nsid: str) -> None:
    assert OURS.method(nsid) is None
    with pytest.raises(UnknownLexicon):
        OURS.check_params(nsid, {})
    with pytest.raises(UnknownLexicon):
        OURS.check_input(nsid, {})


def test_an_enrollment_record_conforms() -> None:
    enrollment: dict[str, DataModel] = {
        "$type": "zone.stratos.actor.enrollment",
        "service": "https://stratos.example.com",
        "boundaries": [{"value": "did:web:stratos.example.com/writers"}],
        "signingKey": "did:key:zDnaexample",
        "attestation": {"sig": b"\x01" * 64, "signingKey": "did:key:zDnaservice"},
        "createdAt": "2026-05-28T20:26:41.000Z",
    }
    OURS.check_record("zone.stratos.actor.enrollment", enrollment)
    OURS.check_record_key("zone.stratos.actor.enrollment", "did:web:stratos.example.com")
    with pytest.raises(LexiconError, match="Record/attestation/sig must be a byte string"):
        OURS.check_record("zone.stratos.actor.enrollment", {**enrollment, "attestation": {"sig": "AQ", "signingKey": ""}})


def test_a_stub_conforms_though_its_service_carries_a_fragment() -> None:
    subject: DataModel = {"uri": f"at://did:plc:abc/{POST}/3jzfcijpj2z2a", "cid": str(LINK)}
    source: DataModel = {"vary": "authenticated", "subject": subject, "service": "did:web:stratos.example.com#atproto_pns"}
    OURS.check_record(POST, post(source=source))
    OURS.check_definition("zone.stratos.defs#source", source)
    with pytest.raises(LexiconError, match='Value must have the property "vary"'):
        OURS.check_definition("zone.stratos.defs#source", {})


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"text": ""},
        {"text": "x" * 300},
        {"text": FAMILY * 160},
        {"boundary": boundary(*(f"did:web:a.test/{n}" for n in range(10)))},
        {"boundary": boundary("x" * 253)},
        {"boundary": {"$type": "com.example.unknownBoundary"}},
        {"reply": {"root": STRONG_REF, "parent": STRONG_REF}},
        {"embed": {"$type": "app.bsky.embed.images", "images": [image()] * 4}},
        {"embed": {"$type": "app.bsky.embed.record", "record": STRONG_REF}},
        {"embed": {"$type": "com.example.unknown.embed", "anything": 1}},
        {"langs": ["en", "pt-BR", "ja"]},
        {"labels": {"$type": "com.atproto.label.defs#selfLabels", "values": [{"val": "porn"}]}},
        {"tags": ["é" * 64] * 8},
        {"unheard": {"of": [1, None, b"x", LINK]}},
    ],
)
def test_a_post_within_every_limit_conforms(members: dict[str, DataModel]) -> None:
    OURS.check_record(POST, post(**members))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"$type": "app.bsky.feed.post"}, 'Record must have "zone.stratos.feed.post" as its $type'),
        ({"createdAt": "yesterday"}, "Record/createdAt must be a valid datetime"),
        ({"createdAt": None}, "Record/createdAt must be a string"),
        ({"text": "x" * 301}, "Record/text must not be longer than 300 graphemes"),
        ({"text": FAMILY * 170}, "Record/text must not be longer than 3000 bytes"),
        ({"text": 5}, "Record/text must be a string"),
        ({"boundary": {"values": []}}, 'Record/boundary must have the property "$type"'),
        ({"boundary": boundary(*"abcdefghijk")}, "Record/boundary/values must not have more than 10 elements"),
        ({"boundary": boundary("a", "x" * 254)}, "Record/boundary/values/1/value must not be longer than 253 bytes"),
        ({"reply": {"root": STRONG_REF}}, 'Record/reply must have the property "parent"'),
        ({"reply": {"root": STRONG_REF, "parent": {"uri": "x", "cid": "y"}}}, "Record/reply/parent/uri must be a valid at-uri"),
        (
            {"embed": {"$type": "app.bsky.embed.images", "images": [image()] * 5}},
            "Record/embed/images must not have more than 4 elements",
        ),
        (
            {"embed": {"$type": "app.bsky.embed.images", "images": [image(), image(1_000_001)]}},
            "Record/embed/images/1/image must be a blob of at most 1000000 bytes",
        ),
        (
            {"embed": {"$type": "app.bsky.embed.video", "video": image(mime_type="video/webm")["image"]}},
            "Record/embed/video must be a blob of type video/mp4, not video/webm",
        ),
        (
            {"embed": {"$type": "app.bsky.embed.recordWithMedia", "record": {"record": STRONG_REF}, "media": {}}},
            'Record/embed/media must have the property "$type"',
        ),
        ({"langs": ["en", "de", "fr", "it"]}, "Record/langs must not have more than 3 elements"),
        ({"langs": ["english please"]}, "Record/langs/0 must be a valid language"),
        ({"tags": ["x"] * 9}, "Record/tags must not have more than 8 elements"),
        ({"tags": ["x", "é" * 65]}, "Record/tags/1 must not be longer than 64 graphemes"),
        ({"tags": "x"}, "Record/tags must be an array"),
        (
            {"facets": [{"index": {"byteStart": -1, "byteEnd": 2}, "features": []}]},
            "Record/facets/0/index/byteStart must not be less than 0",
        ),
        (
            {"facets": [{"index": {"byteStart": 0, "byteEnd": True}, "features": []}]},
            "Record/facets/0/index/byteEnd must be an integer",
        ),
    ],
)
def test_a_post_beyond_a_limit_is_refused_by_the_path_of_the_fault(members: dict[str, DataModel], message: str) -> None:
    with pytest.raises(LexiconError) as refusal:
        OURS.check_record(POST, post(**members))
    assert str(refusal.value) == message


def test_a_record_that_is_not_an_object_or_lacks_its_type_is_refused() -> None:
    values: list[DataModel] = [None, [], "text", LINK, {"createdAt": "2026-05-28T20:26:41.000Z"}]
    for value in values:
        with pytest.raises(LexiconError):
            OURS.check_record(POST, value)


def test_a_collection_without_a_lexicon_passes_and_is_told_apart() -> None:
    OURS.check_record("zone.stratos.notes.note", {"$type": "zone.stratos.notes.note", "anything": 1})
    assert not OURS.knows_record("zone.stratos.notes.note")
    assert OURS.knows_record(POST)


@pytest.mark.parametrize("nsid", ["zone.stratos.sync.getRepo", "com.atproto.repo.strongRef"])
def test_a_collection_named_like_something_else_is_refused(nsid: str) -> None:
    with pytest.raises(LexiconError, match="is not a record"):
        OURS.check_record(nsid, {"$type": nsid})


def test_the_messages_of_our_stream_conform() -> None:
    stream = "zone.stratos.sync.subscribeRecords"
    commit: dict[str, DataModel] = {
        "seq": 1_700_000_000_000_000,
        "did": "did:plc:abc",
        "time": "2026-05-28T20:26:41.000Z",
        "rev": "3jzfcijpj2z2a",
        "since": None,
        "commit": LINK,
        "ops": [
            {"action": "create", "path": f"{POST}/3jzfcijpj2z2a", "cid": LINK, "record": post()},
            {"action": "delete", "path": f"{POST}/3jzfcijpj2z2b", "cid": None, "prev": LINK},
            {"action": "delete", "path": f"{POST}/3jzfcijpj2z2c"},
        ],
    }
    OURS.check_message(stream, "#commit", commit)
    OURS.check_message(stream, "#info", {"name": "OutdatedCursor", "message": "…"})
    OURS.check_message(
        stream,
        "#enrollment",
        {
            "seq": 2,
            "did": "did:plc:abc",
            "action": "enroll",
            "time": "2026-05-28T20:26:41.000Z",
            "boundaries": ["did:web:a.test/x"],
        },
    )
    with pytest.raises(LexiconError, match="Message/ops/0/cid must be a CID link"):
        OURS.check_message(stream, "#commit", {**commit, "ops": [{"action": "create", "path": "a/b", "cid": str(LINK)}]})
