"""Every row of the error table of service spec §0.5, and the order of the steps."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import orjson
import pytest

from stratos.api.config import DEFAULT_MAX_JSON_BYTES
from stratos.storage.ports import OutcomeUnknown, StorageFault
from tests.api.builders import Api, authorized
from tests.conftest import ErrorLog
from tests.engine.builders import POST, REI, SAKURA, WRITERS, post

CREATE = "/xrpc/com.atproto.repo.createRecord"
GET = "/xrpc/com.atproto.repo.getRecord"
JSON = {"content-type": "application/json"}


def error_of(response: httpx.Response) -> tuple[int, str, str]:
    """Status, error and message of an envelope, which has nothing else in it."""
    body = orjson.loads(response.content)
    assert set(body) == {"error", "message"}
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    return response.status_code, body["error"], body["message"]


@pytest.mark.parametrize(
    ("verb", "path", "expected"),
    [
        ("POST", GET, "Incorrect HTTP method (POST) expected GET"),
        ("PUT", GET, "Incorrect HTTP method (PUT) expected GET"),
        ("GET", CREATE, "Incorrect HTTP method (GET) expected POST"),
        ("DELETE", CREATE, "Incorrect HTTP method (DELETE) expected POST"),
    ],
)
async def test_known_method_called_with_the_wrong_verb_is_named_so(api: Api, verb: str, path: str, expected: str) -> None:
    assert error_of(await api.client.request(verb, path)) == (400, "InvalidRequest", expected)


@pytest.mark.parametrize("nsid", ["com.atproto.repo.uploadBlob", "com.example.unknown", "zone.stratos.repo.importRepo"])
@pytest.mark.parametrize("verb", ["GET", "POST"])
async def test_unknown_nsid_is_not_implemented(api: Api, verb: str, nsid: str) -> None:
    answer = error_of(await api.client.request(verb, f"/xrpc/{nsid}"))
    assert answer == (501, "MethodNotImplemented", "Method Not Implemented")


@pytest.mark.parametrize(
    "path", ["/xrpc/", "/xrpc/nodots", "/xrpc/a..b", "/xrpc/com.example.a/b", "/xrpc/com.example.%F0%9F%8D%B0"]
)
async def test_malformed_nsid_is_an_invalid_path(api: Api, path: str) -> None:
    assert error_of(await api.client.get(path)) == (400, "InvalidRequest", "invalid xrpc path")


async def test_trailing_slash_is_forgiven(api: Api) -> None:
    response = await api.client.get("/xrpc/zone.stratos.server.listDomains/")
    assert response.status_code == 200


async def test_body_on_a_query_is_refused(api: Api) -> None:
    response = await api.client.request("GET", GET, params={"repo": REI, "collection": POST, "rkey": "a"}, content=b"{}")
    assert error_of(response) == (400, "InvalidRequest", "A request body was provided when none was expected")


async def test_empty_body_on_a_query_is_no_body(api: Api) -> None:
    response = await api.client.request("GET", "/xrpc/zone.stratos.server.listDomains", headers={"content-length": "0"})
    assert response.status_code == 200


async def test_absent_body_on_a_procedure_is_refused(api: Api) -> None:
    request = api.client.build_request("POST", CREATE, headers={**JSON, **authorized(REI)})
    del request.headers["content-length"]
    expected = (400, "InvalidRequest", "A request body is expected but none was provided")
    assert error_of(await api.client.send(request)) == expected


async def test_body_without_a_content_type_is_refused(api: Api) -> None:
    response = await api.client.post(CREATE, content=b"{}", headers=authorized(REI))
    expected = (400, "InvalidRequest", "Request encoding (Content-Type) required but not provided")
    assert error_of(response) == expected


async def test_wrong_content_type_is_named(api: Api) -> None:
    headers = {"content-type": "text/plain; charset=utf-8", **authorized(REI)}
    response = await api.client.post(CREATE, content=b"{}", headers=headers)
    assert error_of(response) == (400, "InvalidRequest", "Wrong request encoding (Content-Type): text/plain")


async def test_content_type_may_carry_parameters_and_capitals(api: Api) -> None:
    headers = {"content-type": "Application/JSON; charset=utf-8", **authorized(REI)}
    body = orjson.dumps({"repo": REI, "collection": POST, "record": post("hello", WRITERS)})
    response = await api.client.post(CREATE, content=body, headers=headers)
    assert response.status_code == 200


async def test_content_encoding_is_not_supported(api: Api) -> None:
    response = await api.client.post(CREATE, content=b"{}", headers={**JSON, "content-encoding": "gzip", **authorized(REI)})
    assert error_of(response) == (415, "UnsupportedMediaType", "unsupported content-encoding")


async def test_body_that_announces_to_be_too_large_is_refused_before_it_is_read(api: Api) -> None:
    body = b" " * (DEFAULT_MAX_JSON_BYTES + 1)
    response = await api.client.post(CREATE, content=body, headers={**JSON, **authorized(REI)})
    assert error_of(response) == (413, "PayloadTooLarge", "request entity too large")


async def test_chunked_body_is_refused_once_it_is_too_large(api: Api) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(DEFAULT_MAX_JSON_BYTES // 65536 + 2):
            yield b" " * 65536

    response = await api.client.post(CREATE, content=chunks(), headers={**JSON, **authorized(REI)})
    assert error_of(response) == (413, "PayloadTooLarge", "request entity too large")


async def test_connection_can_be_used_again_after_a_refusal(api: Api) -> None:
    for _ in range(3):
        assert (await api.client.post(CREATE, content=b"{}", headers=authorized(REI))).status_code == 400
    assert (await api.client.get("/xrpc/zone.stratos.server.listDomains")).status_code == 200
    assert api.server.statistics()["accepted_total"] == 1


async def test_body_as_large_as_allowed_is_read(api: Api) -> None:
    body = orjson.dumps({"repo": REI, "collection": POST, "record": post("hello", WRITERS)})
    response = await api.client.post(CREATE, content=body.ljust(DEFAULT_MAX_JSON_BYTES), headers={**JSON, **authorized(REI)})
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b'{"repo": NaN}', "not JSON"),
        (b'{"repo": "\\ud800"}', "not JSON"),
        (b"[]", "not an object"),
        (b'"text"', "not an object"),
        (b'{"record": {"a": 1.5}}', "record.a: 1.5 is not an integer"),
        (b'{"record": {"a": {"$link": "x"}}}', "record.a: not a base32 CID"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, ""),
        (b'{"a":' * 900 + b"1" + b"}" * 900, "nested deeper"),
    ],
)
async def test_malformed_body_is_an_invalid_request(api: Api, body: bytes, reason: str) -> None:
    response = await api.client.post(CREATE, content=body, headers={**JSON, **authorized(REI)})
    status, error, message = error_of(response)
    assert (status, error) == (400, "InvalidRequest")
    assert reason in message


async def test_parameter_of_the_wrong_kind_is_named(api: Api) -> None:
    response = await api.client.get("/xrpc/com.atproto.repo.listRecords", params={"repo": REI, "collection": "not an nsid"})
    status, error, message = error_of(response)
    assert (status, error) == (400, "InvalidRequest")
    assert "collection" in message


async def test_missing_parameter_is_named(api: Api) -> None:
    status, error, message = error_of(await api.client.get("/xrpc/zone.stratos.enrollment.status"))
    assert (status, error) == (400, "InvalidRequest")
    assert 'Params must have the property "did"' in message


@pytest.mark.parametrize("query", ["repo=%ff", "&".join(f"a{n}=1" for n in range(300))])
async def test_query_string_that_cannot_be_read_is_refused(api: Api, query: str) -> None:
    response = await api.client.get(f"{GET}?{query}")
    assert error_of(response) == (400, "InvalidRequest", "Malformed query string")


async def test_parameter_errors_come_before_authentication(api: Api) -> None:
    response = await api.client.get("/xrpc/zone.stratos.sync.getRepo", headers={"authorization": "Bearer nonsense"})
    status, error, message = error_of(response)
    assert (status, error) == (400, "InvalidRequest")
    assert "did" in message


async def test_authentication_comes_before_the_body(api: Api) -> None:
    response = await api.client.post(CREATE, content=b"{", headers={"content-type": "text/plain"})
    assert error_of(response) == (401, "AuthenticationRequired", "Authorization required")


async def test_authentication_comes_before_the_size_of_the_body(api: Api) -> None:
    response = await api.client.post(CREATE, content=b" " * (DEFAULT_MAX_JSON_BYTES + 1), headers=JSON)
    assert error_of(response)[0] == 401


@pytest.mark.expects_error_log
async def test_unexpected_error_is_a_500_without_details_and_logged_once_with_its_trace_id(
    api: Api, monkeypatch: pytest.MonkeyPatch, error_log: ErrorLog
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a secret detail")

    monkeypatch.setattr(api.engine.service.backend.enrollments, "get", broken)
    response = await api.client.get(
        "/xrpc/zone.stratos.enrollment.status", params={"did": REI}, headers={"x-trace-id": "trace-of-this-test"}
    )
    assert error_of(response) == (500, "InternalServerError", "Internal Server Error")
    lines = error_log.lines
    assert len(lines) == 1
    assert "trace-of-this-test" in lines[0]
    assert "a secret detail" in lines[0]


@pytest.mark.expects_error_log
async def test_fault_of_the_store_is_a_503_that_says_when_to_come_back(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise StorageFault("disk on fire")

    monkeypatch.setattr(api.engine.service.backend.enrollments, "get", broken)
    response = await api.client.get("/xrpc/zone.stratos.enrollment.status", params={"did": REI})
    assert error_of(response)[:2] == (503, "ServiceUnavailable")
    assert int(response.headers["retry-after"]) > 0
    assert "fire" not in response.text


async def test_write_limiter_answers_429_with_retry_after(api: Api) -> None:
    body = {
        "repo": SAKURA,
        "writes": [{"action": "create", "collection": POST, "record": post(f"{n}", WRITERS)} for n in range(200)],
    }
    assert (await api.post("zone.stratos.repo.applyWrites", SAKURA, body)).status == 200
    answer = await api.post("zone.stratos.repo.applyWrites", SAKURA, body)
    seconds = int(answer.headers["retry-after"])
    assert 10 <= seconds <= 11
    assert answer.status == 429
    assert answer.body == {
        "error": "RateLimitExceeded",
        "message": f"Write rate limit exceeded. Try again in {seconds}s.",
    }


@pytest.mark.expects_error_log
async def test_a_write_of_which_nobody_knows_whether_it_took_place_says_so(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object, **__: object) -> None:
        raise OutcomeUnknown("the server was silent")

    monkeypatch.setattr(api.engine.service.backend, "commit", silent)
    body = {"repo": SAKURA, "collection": POST, "record": post("perhaps", WRITERS)}
    answer = await api.post("zone.stratos.repo.createRecord", SAKURA, body)
    assert (answer.status, answer.body["error"]) == (503, "ServiceUnavailable")
    assert answer.body["message"] == "It is not known whether this was written: read before you try again"
    assert int(answer.headers["retry-after"]) > 0
