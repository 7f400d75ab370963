"""What every answer carries: CORS, trace id, access log. Service spec §0.4."""

from __future__ import annotations

import re

import pytest
import trio.testing
from structlog.testing import capture_logs

from tests.api.builders import Api
from tests.engine.builders import POST, REI, WRITERS

LIST = "/xrpc/zone.stratos.server.listDomains"
EVERYWHERE = [LIST, "/health", "/", "/no-such-page", "/xrpc/com.example.unknown", "/xrpc/com.atproto.repo.createRecord"]


@pytest.mark.parametrize("path", EVERYWHERE)
async def test_every_answer_is_open_to_every_origin(api: Api, path: str) -> None:
    headers = (await api.client.get(path, headers={"origin": "https://app.example"})).headers
    assert headers.get_list("access-control-allow-origin") == ["*"]
    assert headers.get_list("access-control-expose-headers") == ["DPoP-Nonce,WWW-Authenticate,x-trace-id"]
    assert "access-control-allow-credentials" not in headers
    assert "server" not in headers
    assert "x-powered-by" not in headers


@pytest.mark.parametrize("path", EVERYWHERE)
async def test_preflight_allows_what_the_browser_asks_for(api: Api, path: str) -> None:
    asked = "authorization,dpop,content-type,atproto-proxy"
    response = await api.client.options(
        path, headers={"access-control-request-method": "POST", "access-control-request-headers": asked}
    )
    assert response.status_code == 204
    assert response.content == b""
    assert response.headers["access-control-allow-methods"] == "GET,HEAD,PUT,PATCH,POST,DELETE"
    assert response.headers["access-control-allow-headers"] == asked
    assert response.headers["vary"] == "Access-Control-Request-Headers"
    assert response.headers["access-control-allow-origin"] == "*"
    assert "access-control-max-age" not in response.headers


async def test_preflight_that_asks_for_no_headers_names_none(api: Api) -> None:
    response = await api.client.options(LIST)
    assert response.status_code == 204
    assert "access-control-allow-headers" not in response.headers


@pytest.mark.parametrize("path", EVERYWHERE)
async def test_trace_id_is_echoed(api: Api, path: str) -> None:
    response = await api.client.get(path, headers={"x-trace-id": "trace of a caller/42"})
    assert response.headers["x-trace-id"] == "trace of a caller/42"


@pytest.mark.parametrize("given", [None, "", "x" * 129, "caf\xe9"])
async def test_trace_id_is_made_where_none_or_an_unfit_one_is_given(api: Api, given: str | None) -> None:
    headers = [] if given is None else [(b"x-trace-id", given.encode("latin-1"))]
    first, second = [(await api.client.get(LIST, headers=headers)).headers["x-trace-id"] for _ in range(2)]
    assert re.fullmatch("[0-9a-f]{16}", first)
    assert first != second


@pytest.mark.parametrize("path", [LIST, "/health", "/"])
async def test_head_is_get_without_the_body(api: Api, path: str) -> None:
    got, head = await api.client.get(path), await api.client.head(path)
    assert head.status_code == got.status_code
    assert head.headers["content-length"] == str(len(got.content))
    assert head.content == b""


async def test_head_of_a_procedure_is_the_wrong_verb(api: Api) -> None:
    assert (await api.client.head("/xrpc/com.atproto.repo.createRecord")).status_code == 400


async def test_unknown_page_is_a_404_in_the_envelope(api: Api) -> None:
    response = await api.client.get("/no-such-page")
    assert response.status_code == 404
    assert response.json() == {"error": "NotFound", "message": "Not Found"}


async def test_wrong_verb_on_a_page_is_a_405_in_the_envelope(api: Api) -> None:
    response = await api.client.post("/health")
    assert response.status_code == 405
    assert response.json() == {"error": "MethodNotAllowed", "message": "Method Not Allowed"}


@pytest.mark.parametrize(
    ("path", "status"), [(f"{LIST}?syncToken=secret", 200), ("/health", 200), ("/nowhere", 404), ("/xrpc/com.a.b", 501)]
)
async def test_every_request_has_one_access_log_line_without_its_query(api: Api, path: str, status: int) -> None:
    with capture_logs() as logs:
        await api.client.get(path, headers={"x-trace-id": "abc"})
        await trio.testing.wait_all_tasks_blocked()
    (line,) = [entry for entry in logs if entry["event"] == "http request completed"]
    assert line["log_level"] == "info"
    assert (line["method"], line["path"], line["status"]) == ("GET", path.partition("?")[0], status)
    assert line["traceId"] == "abc"
    assert line["durationMs"] > 0
    assert "secret" not in repr(line)


async def test_answer_is_plain_json_without_cache_headers(api: Api) -> None:
    uri = await api.create(REI, "grüße 🍰", WRITERS)
    response = await api.client.get(
        "/xrpc/com.atproto.repo.getRecord",
        params={"repo": REI, "collection": POST, "rkey": uri.rpartition("/")[2]},
        headers={"authorization": f"Bearer {REI}"},
    )
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert response.json()["value"]["text"] == "grüße 🍰"
    assert "cache-control" not in response.headers
