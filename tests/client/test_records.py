"""Reading and writing records: what is sent, what is made of the answer, and what never travels through a proxy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx
import pytest

from stratos.atproto import dag_cbor
from stratos.atproto.data_model import to_json
from stratos.client import (
    AtUri,
    BearerToken,
    Cid,
    Create,
    Delete,
    HttpAnswer,
    NoAnswer,
    NotProxied,
    StratosClient,
    Tid,
    Update,
    XrpcFailure,
    XrpcHost,
)
from stratos.client.xrpc import failure
from stratos.core.attestation import attest
from tests.client.builders import ALICE, PDS_URL, POST, REV, SERVICE, SERVICE_KEY, SERVICE_URL, WRITERS, Script, answering, post

CID = Cid.of_dag_cbor(dag_cbor.encode(post()))
COMMIT = Cid.of_raw(b"commit")
URI = AtUri.parse(f"at://{ALICE}/{POST}/3mgaaaaaaaa2c")
WRITTEN = {"uri": str(URI), "cid": str(CID), "commit": {"cid": str(COMMIT), "rev": REV}}
VIEW = {"uri": str(URI), "cid": str(CID), "value": to_json(post())}


def client(script: Script) -> StratosClient:
    return StratosClient.direct(SERVICE_URL, script.fetch(), BearerToken("secret"))


async def test_a_record_is_created_under_our_own_method_name() -> None:
    script = answering(WRITTEN)
    written = await client(script).create_record(ALICE, POST, {**post(), "link": COMMIT, "raw": b"\x01"})
    assert (written.uri, written.cid, written.commit.cid, written.commit.rev) == (URI, CID, COMMIT, Tid(REV))
    (asked,) = script.asked
    assert (asked.method, str(asked.url)) == ("POST", f"{SERVICE_URL}/xrpc/zone.stratos.repo.createRecord")
    assert asked.headers["authorization"] == "Bearer secret"
    record = {**post(), "link": {"$link": str(COMMIT)}, "raw": {"$bytes": "AQ"}}
    assert script.body() == {"repo": ALICE, "collection": POST, "record": record}


async def test_a_write_asks_for_a_token_of_its_own_and_a_reading_for_one_of_its_method() -> None:
    asked: list[tuple[str, bool]] = []

    class Asked:
        async def authorization(self, nsid: str, *, once: bool) -> str:
            asked.append((nsid, once))
            return "Bearer x"

    stratos = StratosClient.direct(SERVICE_URL, answering({**WRITTEN, **VIEW}).fetch(), Asked())
    await stratos.get_record(ALICE, POST, "a")
    await stratos.create_record(ALICE, POST, post())
    assert asked == [("zone.stratos.repo.getRecord", False), ("zone.stratos.repo.createRecord", True)]


async def test_a_put_names_what_must_stand_there() -> None:
    script = answering(WRITTEN)
    for swap, sent in ((CID, {"swapRecord": str(CID)}), ("absent", {"swapRecord": None}), (None, {})):
        await client(script).put_record(ALICE, POST, "self", post(), swap_record=swap, swap_commit=COMMIT)  # type: ignore[arg-type] # Literal is lost in the loop
        body = script.body()
        assert {key: value for key, value in body.items() if key == "swapRecord"} == sent
        assert body["swapCommit"] == str(COMMIT)


async def test_a_batch_is_sent_in_the_official_shape_and_answered_one_by_one() -> None:
    result = {"uri": str(URI), "cid": str(CID)}
    script = answering({"results": [result, result, {}], "commit": WRITTEN["commit"]})
    applied = await client(script).apply_writes(ALICE, [Create(POST, post()), Update(POST, "a", post()), Delete(POST, "b")])
    assert [each and each.cid for each in applied.results] == [CID, CID, None]
    kinds = [(write["$type"], write.get("rkey")) for write in script.body()["writes"]]  # type: ignore[attr-defined] # JSON
    lexicon = "zone.stratos.repo.applyWrites"
    assert kinds == [(f"{lexicon}#create", None), (f"{lexicon}#update", "a"), (f"{lexicon}#delete", "b")]


async def test_an_empty_batch_one_too_large_and_too_many_uris_are_not_sent() -> None:
    script = answering({})
    for writes in ([], [Delete(POST, "a")] * 201):
        with pytest.raises(ValueError, match="between 1 and 200"):
            await client(script).apply_writes(ALICE, writes)
    with pytest.raises(ValueError, match="at most 100"):
        await client(script).hydrate_records([URI] * 101)
    assert script.asked == []


async def test_records_are_read_in_the_data_model_and_their_cid_can_be_checked() -> None:
    view = await client(answering(VIEW)).get_record(ALICE, POST, "3mgaaaaaaaa2c", cid=CID)
    assert (view.uri, view.cid, view.value) == (URI, CID, post())
    assert view.is_intact()
    other = await client(answering({**VIEW, "value": to_json(post("changed"))})).get_record(ALICE, POST, "x")
    assert not other.is_intact()


async def test_a_page_has_records_and_perhaps_a_cursor() -> None:
    script = answering({"records": [VIEW], "cursor": "3mga"})
    page = await client(script).list_records(ALICE, POST, limit=10, cursor="3mgb", reverse=True)
    assert (page.records[0].uri, page.cursor) == (URI, "3mga")
    expected = {"repo": ALICE, "collection": POST, "limit": "10", "cursor": "3mgb", "reverse": "true"}
    assert dict(script.asked[0].url.params) == expected
    assert (await client(answering({"records": []})).list_records(ALICE, POST)).cursor is None


async def test_what_hydration_tells_apart() -> None:
    hydrated = await client(answering({"records": [VIEW], "notFound": ["a"], "blocked": ["b"]})).hydrate_records([URI])
    assert ([each.uri for each in hydrated.records], hydrated.not_found, hydrated.blocked) == ([URI], ("a",), ("b",))
    assert (await client(answering(VIEW)).hydrate_record(URI)).cid == CID


async def test_a_status_is_told_as_far_as_the_service_tells() -> None:
    signed = attest(SERVICE_KEY, ALICE, [WRITERS], "did:key:z")
    told = {
        "did": ALICE,
        "enrolled": True,
        "active": True,
        "enrolledAt": "2026",
        "signingKey": "did:key:z",
        "boundaries": [{"value": WRITERS}],
        "attestation": signed.as_json(),
    }
    status = await client(answering(told)).enrollment_status(ALICE)
    assert (status.enrolled, status.active, status.boundaries, status.attestation) == (True, True, (WRITERS,), signed)
    public = await client(answering({"did": ALICE, "enrolled": True, "active": False})).enrollment_status(ALICE)
    assert (public.enrolled, public.active, public.boundaries, public.attestation) == (True, False, None, None)
    assert not (await client(answering({"did": ALICE, "enrolled": False})).enrollment_status(ALICE)).enrolled


async def test_a_description_of_a_repository() -> None:
    told = {"did": ALICE, "handle": "alice.test", "handleIsCorrect": True, "collections": [POST], "didDoc": {"id": ALICE}}
    described = await client(answering(told)).describe_repo(ALICE)
    assert (described.handle, described.handle_is_correct, described.collections) == ("alice.test", True, (POST,))


async def test_a_refusal_is_one_error_that_says_everything() -> None:
    refusal = {"error": "RateLimitExceeded", "message": "Try again in 7s."}
    with pytest.raises(XrpcFailure) as caught:
        await client(answering(refusal, 429, **{"Retry-After": "7"})).create_record(ALICE, POST, post())
    error = caught.value
    assert (error.status, error.name, error.message, error.retry_after) == (429, "RateLimitExceeded", "Try again in 7s.", 7.0)
    assert error.may_pass
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(502, content=b"<html>"),
        httpx.Response(502, json=[1]),
        httpx.Response(502, json={"error": 7, "message": None}, headers={"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}),
        httpx.Response(302, headers={"location": "https://evil.example"}),
    ],
)
async def test_an_error_of_any_form_has_at_least_its_status(response: httpx.Response) -> None:
    script = Script(lambda _request: response)
    with pytest.raises(XrpcFailure) as caught:
        await client(script).get_record(ALICE, POST, "a")
    assert (caught.value.status, caught.value.name, caught.value.retry_after) == (response.status_code, "", None)
    assert len(script.asked) == 1, "no redirect is followed"


READS: list[Callable[[StratosClient], Awaitable[object]]] = [
    lambda it: it.get_record(ALICE, POST, "a"),
    lambda it: it.list_records(ALICE, POST),
    lambda it: it.create_record(ALICE, POST, {}),
    lambda it: it.apply_writes(ALICE, [Delete(POST, "a")]),
    lambda it: it.delete_record(ALICE, POST, "a"),
    lambda it: it.hydrate_records([]),
    lambda it: it.describe_repo(ALICE),
    lambda it: it.enrollment_status(ALICE),
]


@pytest.mark.parametrize("call", READS)
@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"uri": 7, "cid": str(CID), "value": {}},
        {"uri": str(URI), "cid": "bafy", "value": {}},
        {"uri": str(URI), "cid": str(CID), "value": {"x": 1.5}},
        {"records": [7], "notFound": [], "blocked": []},
        {"records": {}, "cursor": 7},
        {"results": [{"uri": 7}], "commit": {"cid": str(CID), "rev": "no"}},
        {"commit": 7},
        {"did": "no", "enrolled": True, "handle": 7},
    ],
)
async def test_an_answer_of_another_shape_is_no_answer(call: Callable[[StratosClient], Awaitable[object]], body: object) -> None:
    with pytest.raises(NoAnswer):
        await call(client(answering(body)))


async def test_through_a_pds_only_our_own_methods_travel() -> None:
    script = answering(VIEW)
    through = StratosClient.through_pds(PDS_URL, script.fetch(), SERVICE)
    await through.get_record(ALICE, POST, "a")
    (asked,) = script.asked
    assert asked.url.host == "pds.example.com"
    assert asked.headers["atproto-proxy"] == f"{SERVICE}#stratos"


@pytest.mark.parametrize("nsid", ["com.atproto.repo.createRecord", "com.atproto.repo.getRecord", "com.atproto.sync.getRecord"])
async def test_a_method_that_a_pds_answers_itself_is_never_sent_with_a_proxy_header(nsid: str) -> None:
    script = answering({})
    proxied = XrpcHost(PDS_URL, script.fetch(), proxy=f"{SERVICE}#stratos")
    for call in (proxied.query(nsid, {}), proxied.procedure(nsid, {}), proxied.download(nsid, {}, accept="*/*", max_bytes=1)):
        with pytest.raises(NotProxied):
            await call
    assert script.asked == []


def test_a_failure_says_what_failed() -> None:
    assert str(failure("a.b.c", HttpAnswer(400, {}, b'{"error": "X", "message": "y"}'))) == "a.b.c: 400 X: y"
