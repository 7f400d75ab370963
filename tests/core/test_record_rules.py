"""Every rule for writing records, in positive and negative form (spec service.md §3.2, §3.3, §3.7, §11)."""

from __future__ import annotations

import json

import pytest

from stratos.atproto.dag_cbor import DataModel
from stratos.atproto.data_model import object_from_json
from stratos.atproto.syntax import Did
from stratos.core.boundaries import OWNER_ONLY, Boundary, qualify, record_boundaries
from stratos.core.outcomes import Reason, Refusal
from stratos.core.record_rules import NO_PARENT, PARENT_UNSEEN, Parent, ParentOf, RecordRules, check_public_post
from tests.core.builders import BOB, EDITORS, OTHER_SERVICE, POST, READERS, SERVICE, WRITERS, domains, post
from tests.vectors import reference

RULES = RecordRules(SERVICE, (EDITORS, READERS, WRITERS))
OTHER_COLLECTION = "zone.stratos.example.note"
STRATOS_URI = f"at://{BOB}/{POST}/3lgoldenzzzz2"
BSKY_URI = f"at://{BOB}/app.bsky.feed.post/3lgoldenzzzz2"


def _ref(uri: DataModel) -> dict[str, DataModel]:
    return {"uri": uri, "cid": "bafyreidsbsbz43vebnjpkcx5bvmihznlqcjmaoxvc3f6ymbypu4iyzckpi"}


def _reply(parent: DataModel = STRATOS_URI, root: DataModel = STRATOS_URI) -> dict[str, DataModel]:
    return {"parent": _ref(parent), "root": _ref(root)}


def _refused(message: str) -> Refusal:
    return Refusal(Reason.INVALID_RECORD, message)


# Collections


@pytest.mark.parametrize("collection", ["app.bsky.feed.post", "zone.stratosphere.feed.post", "zone.stratos", ""])
def test_collection_outside_the_namespace_is_refused(collection: str) -> None:
    assert RULES.check(collection, post(WRITERS), NO_PARENT) == Refusal(
        Reason.INVALID_COLLECTION, "Only zone.stratos.* collections are supported"
    )


def test_enrollment_records_are_not_writable() -> None:
    refusal = RULES.check("zone.stratos.actor.enrollment", {"boundary": domains(WRITERS)}, NO_PARENT)
    assert refusal is not None
    assert refusal.reason is Reason.INVALID_COLLECTION


# Rule 1


@pytest.mark.parametrize("collection", [POST, OTHER_COLLECTION])
def test_service_without_allowed_domains_takes_nothing(collection: str) -> None:
    rules = RecordRules(SERVICE, ())
    assert rules.check(collection, post(WRITERS), NO_PARENT) == _refused("Stratos namespace is not enabled on this service")


# Rule 2


def test_post_in_one_or_several_domains_is_accepted() -> None:
    assert RULES.check(POST, post(WRITERS), NO_PARENT) is None
    assert RULES.check(POST, post(WRITERS, EDITORS, READERS), NO_PARENT) is None


@pytest.mark.parametrize("boundary", [None, {}, {"values": []}, {"values": None}, "writers", [], 7, [{"value": WRITERS}]])
def test_post_without_boundary_values_is_refused(boundary: DataModel) -> None:
    assert RULES.check(POST, {**post(), "boundary": boundary}, NO_PARENT) == _refused("must have a boundary")


def test_post_without_a_boundary_member_is_refused() -> None:
    assert RULES.check(POST, {"$type": POST, "text": "x"}, NO_PARENT) == _refused("must have a boundary")


@pytest.mark.parametrize("collection", [POST, OTHER_COLLECTION])
@pytest.mark.parametrize(
    "boundary",
    [
        {"values": WRITERS},
        {"values": {"value": WRITERS}},
        {"values": [WRITERS]},
        {"values": [{"value": WRITERS}, {"value": None}]},
        {"values": [{"value": WRITERS}, {}]},
        {"values": [{"value": ""}]},
        {"values": [{"value": WRITERS}] * 11},
        {"values": [{"value": WRITERS + "x" * 253}]},
        {"$type": "com.example.other", "values": [{"value": WRITERS}]},
    ],
)
def test_malformed_boundary_is_refused_in_every_collection(collection: str, boundary: DataModel) -> None:
    refusal = RULES.check(collection, {**post(), "boundary": boundary}, NO_PARENT)
    assert refusal is not None
    assert refusal.reason is Reason.INVALID_RECORD
    assert refusal.message.startswith("boundary must be an object with a list `values` of at most 10 objects")


# Rule 3


def test_boundary_of_another_service_is_refused() -> None:
    foreign = qualify(OTHER_SERVICE, "writers")
    assert RULES.check(POST, post(WRITERS, foreign), NO_PARENT) == _refused(
        "Boundary 'did:web:elsewhere.example.net/writers' does not belong to this service"
    )


@pytest.mark.parametrize(
    "value", ["did:web:stratos.example.com", "did:web:stratos.example.com/", "did:web:stratos.example.com.evil/writers"]
)
def test_value_that_merely_resembles_the_service_is_refused(value: str) -> None:
    assert RULES.check(POST, post(value), NO_PARENT) == _refused(f"Boundary '{value}' does not belong to this service")


def test_domain_that_is_not_allowed_is_refused_by_its_bare_name() -> None:
    assert RULES.check(POST, post(WRITERS, qualify(SERVICE, "x/y")), NO_PARENT) == _refused("Domain 'x/y' is not allowed")


@pytest.mark.parametrize("value", ["writers", " ", OWNER_ONLY, WRITERS.upper(), f"{WRITERS} "])
def test_bare_or_misspelt_value_is_refused(value: str) -> None:
    refusal = RULES.check(POST, post(value), NO_PARENT)
    assert refusal is not None
    assert refusal.message == f"Domain '{value.removeprefix(f'{SERVICE}/')}' is not allowed"


def test_domains_are_judged_in_the_order_written() -> None:
    foreign = qualify(OTHER_SERVICE, "writers")
    refusal = RULES.check(POST, post("unknown", foreign), NO_PARENT)
    assert refusal == _refused("Domain 'unknown' is not allowed")


# Rule 4


@pytest.mark.parametrize(
    "parent", [BSKY_URI, f"at://{BOB}", "at://", "https://example.com/zone.stratos.feed.post", "", 7, True, ["x"], {}]
)
def test_reply_to_a_record_outside_the_namespace_is_refused(parent: DataModel) -> None:
    refusal = RULES.check(POST, post(WRITERS, reply=_reply(parent=parent)), ParentOf((WRITERS,)))
    assert refusal == _refused("cannot reply to a non-stratos record")


@pytest.mark.parametrize("root", [BSKY_URI, f"at://{BOB}", "", 7])
def test_reply_with_a_root_outside_the_namespace_is_refused(root: DataModel) -> None:
    refusal = RULES.check(POST, post(WRITERS, reply=_reply(root=root)), ParentOf((WRITERS,)))
    assert refusal == _refused("cannot have a non-stratos root")


def test_parent_is_judged_before_root_and_before_what_is_known_of_the_parent() -> None:
    refusal = RULES.check(POST, post(WRITERS, reply=_reply(parent=BSKY_URI, root=BSKY_URI)), PARENT_UNSEEN)
    assert refusal == _refused("cannot reply to a non-stratos record")


@pytest.mark.parametrize("reply", [None, {}, "x", [], {"parent": None}, {"parent": "x", "root": 7}, {"parent": {"uri": None}}])
def test_reply_that_names_nothing_is_no_reply(reply: DataModel) -> None:
    assert RULES.check(POST, post(WRITERS, reply=reply), NO_PARENT) is None


# Rule 5


@pytest.mark.parametrize("values", [(WRITERS,), (EDITORS,), (WRITERS, EDITORS)])
def test_reply_within_the_parents_boundaries_is_accepted(values: tuple[str, ...]) -> None:
    assert RULES.check(POST, post(*values, reply=_reply()), ParentOf((EDITORS, WRITERS))) is None


def test_reply_beyond_the_parents_boundaries_is_refused_naming_what_is_beyond() -> None:
    refusal = RULES.check(POST, post(WRITERS, READERS, EDITORS, reply=_reply()), ParentOf((EDITORS,)))
    assert refusal == _refused(
        f"Reply boundaries must be a subset of the parent's boundaries. Domains not in parent: {WRITERS}, {READERS}"
    )


@pytest.mark.parametrize("parent", [ParentOf(()), ParentOf((OWNER_ONLY,))])
def test_every_reply_to_a_parent_without_understood_boundaries_is_an_escalation(parent: Parent) -> None:
    refusal = RULES.check(POST, post(WRITERS, reply=_reply()), parent)
    assert refusal is not None
    assert refusal.message.endswith(f"Domains not in parent: {WRITERS}")


@pytest.mark.parametrize("parent", [PARENT_UNSEEN, NO_PARENT])
def test_reply_to_a_parent_that_nobody_vouches_for_is_refused(parent: Parent) -> None:
    assert RULES.check(POST, post(WRITERS, reply=_reply()), parent) == _refused("cannot reply to a record that you cannot see")


def test_what_is_known_of_a_parent_does_not_matter_for_a_post_that_replies_to_nothing() -> None:
    assert RULES.check(POST, post(WRITERS), PARENT_UNSEEN) is None
    assert RULES.check(POST, post(WRITERS), ParentOf(())) is None


# Rule 6


def _embed(uri: DataModel) -> dict[str, DataModel]:
    return {"$type": "app.bsky.embed.record", "record": _ref(uri)}


def _with_media(uri: DataModel, media: DataModel = None) -> dict[str, DataModel]:
    return {"$type": "app.bsky.embed.recordWithMedia", "record": _embed(uri), "media": media}


_EMBEDS_OF = [_embed, _with_media, lambda uri: {"media": _embed(uri)}, lambda uri: _with_media(STRATOS_URI, _with_media(uri))]


@pytest.mark.parametrize("embed", _EMBEDS_OF, ids=["record", "record-with-media", "in-media", "record-with-media-in-media"])
def test_embed_of_a_bsky_record_is_refused_wherever_it_hides(embed: object) -> None:
    assert callable(embed)
    for uri in (BSKY_URI, f"at://{BOB}/app.bsky.feed.generator/x", "at://bob.example.com/app.bsky.graph.list/x"):
        assert RULES.check(POST, post(WRITERS, embed=embed(uri)), NO_PARENT) == _refused("cannot embed bsky content")


@pytest.mark.parametrize("embed", _EMBEDS_OF, ids=["record", "record-with-media", "in-media", "record-with-media-in-media"])
def test_embed_of_anything_else_is_accepted(embed: object) -> None:
    assert callable(embed)
    for uri in (STRATOS_URI, f"at://{BOB}/com.example.thing/x", "https://bsky.app/app.bsky.feed.post", "not a uri", None, 7):
        assert RULES.check(POST, post(WRITERS, embed=embed(uri)), NO_PARENT) is None


@pytest.mark.parametrize("embed", [None, 7, "x", [], {"record": 7}, {"record": {"record": "x"}}, {"media": [{"record": 7}]}])
def test_odd_embeds_are_left_to_the_lexicon(embed: DataModel) -> None:
    assert RULES.check(POST, post(WRITERS, embed=embed), NO_PARENT) is None


def test_media_of_any_depth_is_looked_into() -> None:
    embed: DataModel = _embed(BSKY_URI)
    for _ in range(5_000):
        embed = {"media": embed}
    assert RULES.check(POST, post(WRITERS, embed=embed), NO_PARENT) == _refused("cannot embed bsky content")


def test_rules_are_judged_in_order() -> None:
    broken = {**post(), "reply": _reply(parent=BSKY_URI), "embed": _embed(BSKY_URI)}
    assert RULES.check(POST, broken, NO_PARENT) == _refused("must have a boundary")
    broken["boundary"] = domains(WRITERS)
    assert RULES.check(POST, broken, NO_PARENT) == _refused("cannot reply to a non-stratos record")
    broken["reply"] = None
    assert RULES.check(POST, broken, NO_PARENT) == _refused("cannot embed bsky content")


def test_public_post_must_not_embed_a_private_record() -> None:
    assert check_public_post({"embed": _embed(STRATOS_URI)}) == _refused("cannot embed stratos content")
    assert check_public_post({"embed": _with_media(STRATOS_URI)}) == _refused("cannot embed stratos content")
    assert check_public_post({"embed": _embed(BSKY_URI)}) is None
    assert check_public_post({}) is None


# Other collections


def test_other_collections_need_no_boundary_and_may_refer_to_anything() -> None:
    record: dict[str, object] = {"$type": OTHER_COLLECTION, "reply": _reply(BSKY_URI), "embed": _embed(BSKY_URI)}
    assert RULES.check(OTHER_COLLECTION, record, PARENT_UNSEEN) is None
    assert RULES.check(OTHER_COLLECTION, {**record, "boundary": domains(WRITERS)}, NO_PARENT) is None


# Authorization (§3.3)


@pytest.mark.parametrize("boundaries", [(), (WRITERS,), (EDITORS, WRITERS)])
def test_enrolled_boundaries_may_be_used(boundaries: tuple[Boundary, ...]) -> None:
    assert RULES.authorize(boundaries, (WRITERS, EDITORS)) is None


def test_boundaries_beyond_the_enrolled_ones_are_forbidden_naming_both() -> None:
    assert RULES.authorize((EDITORS, READERS, WRITERS), (WRITERS,)) == Refusal(
        Reason.FORBIDDEN_BOUNDARY,
        f"You do not have access to boundary domain(s): {EDITORS}, {READERS}. Your enrolled domains: {WRITERS}",
    )


def test_message_says_so_when_nothing_is_enrolled() -> None:
    refusal = RULES.authorize((WRITERS,), ())
    assert refusal is not None
    assert refusal.message.endswith("Your enrolled domains: (none)")


@pytest.mark.parametrize(
    ("value", "actual"), [(qualify(OTHER_SERVICE, "writers"), OTHER_SERVICE), (Boundary("writers"), "(unqualified)")]
)
def test_boundary_of_another_service_is_a_mismatch_even_when_enrolled(value: Boundary, actual: str) -> None:
    assert RULES.authorize((WRITERS, value), (WRITERS, value)) == Refusal(
        Reason.SERVICE_MISMATCH, f'Boundary "{value}" belongs to service {actual}, not {SERVICE}'
    )


def test_mismatch_comes_before_missing_access() -> None:
    refusal = RULES.authorize((EDITORS, Boundary("zzz")), ())
    assert refusal is not None
    assert refusal.reason is Reason.SERVICE_MISMATCH


@pytest.mark.parametrize("boundary", [None, 7, {"values": [{"value": 7}]}])
def test_boundary_that_cannot_be_understood_authorizes_nobody(boundary: DataModel) -> None:
    refusal = RULES.authorize(record_boundaries({"boundary": boundary}), (WRITERS, OWNER_ONLY))
    assert refusal is not None
    assert refusal.reason is Reason.SERVICE_MISMATCH


# $type (§3.7)


def test_missing_type_is_inserted_without_touching_the_callers_record() -> None:
    record: dict[str, DataModel] = {"text": "x"}
    assert RULES.typed_record(POST, record) == {"$type": POST, "text": "x"}
    assert record == {"text": "x"}


def test_right_type_is_kept() -> None:
    assert RULES.typed_record(POST, post(WRITERS)) == post(WRITERS)


@pytest.mark.parametrize("kind", ["app.bsky.feed.post", "", POST.upper(), None, 7, [POST]])
def test_other_type_is_refused(kind: DataModel) -> None:
    assert RULES.typed_record(POST, {**post(WRITERS), "$type": kind}) == _refused(f"record's $type must be {POST}")


@pytest.mark.parametrize("record", [None, 7, "x", b"x", [], [{}], True])
def test_record_that_is_no_object_is_refused(record: DataModel) -> None:
    assert RULES.typed_record(POST, record) == _refused("record must be an object")


# The recorded requests


def test_recorded_requests_are_accepted() -> None:
    service = Did("did:web:stratos.test")
    rules = RecordRules(service, (qualify(service, "engineering"), qualify(service, "leadership")))
    known: dict[str, tuple[Boundary, ...]] = {}
    recorded = json.loads(reference("createRecord.requests-and-responses.json").read_text())
    assert len(recorded) == 42
    replies = 0
    for item in recorded:
        record = rules.typed_record(POST, object_from_json(item["record"]))
        assert not isinstance(record, Refusal)
        parent: Parent = NO_PARENT
        if "reply" in item["record"]:
            replies += 1
            parent = ParentOf(known[item["record"]["reply"]["parent"]["uri"]])
        assert rules.check(POST, record, parent) is None, item["n"]
        assert rules.authorize(record_boundaries(record), rules.allowed) is None, item["n"]
        known[item["response"]["uri"]] = record_boundaries(record)
    assert replies
