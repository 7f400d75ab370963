"""Banner, health, robots, DID document, metrics. Service spec §1.1, §1.4, §1.5, §9.5; design §9."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from stratos.api.app import StratosApp
from stratos.api.errors import FAULT_RETRY_SECONDS
from stratos.api.server import HttpServer
from stratos.atproto.did_document import service_endpoint, verification_key
from stratos.engine.supervisor import Supervisor
from stratos.storage.ports import StorageFault
from tests.api.builders import CONFIG, LOOPBACK, Api, serving
from tests.engine.builders import REI, WRITERS


async def samples(api: Api) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The metrics by name and labels."""
    response = await api.client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


async def test_banner_names_the_service(api: Api) -> None:
    response = await api.client.get("/")
    assert response.headers["content-type"].startswith("text/plain")
    assert "did:web:stratos.test" in response.text


@pytest.mark.parametrize("path", ["/health", "/ready"])
async def test_health_is_ok_while_the_store_answers(api: Api, path: str) -> None:
    response = await api.client.get(path)
    assert response.status_code == 200
    assert response.json() == {"status": "ok", "components": {"db": "ok", "blobstore": "ok"}, "version": "0"}


@pytest.mark.parametrize("path", ["/health", "/ready"])
async def test_health_is_an_error_while_the_store_does_not_answer(api: Api, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    def broken(*_: object) -> None:
        raise StorageFault("disk on fire")

    monkeypatch.setattr(type(api.engine.service.backend), "check", broken)
    response = await api.client.get(path)
    assert (response.status_code, response.headers["Retry-After"]) == (503, str(FAULT_RETRY_SECONDS))
    assert response.json() == {"status": "error", "components": {"db": "error", "blobstore": "ok"}, "version": "0"}


@pytest.mark.expects_error_log
async def test_health_and_metrics_show_a_task_that_does_not_run(api: Api) -> None:
    async def failing(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        raise RuntimeError("no luck")

    supervisor = Supervisor(rng=random.Random(1), initial_backoff=3600, max_backoff=3600)
    app = StratosApp(api.engine.service, CONFIG, supervisor=supervisor)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run, "unlucky", failing)
        (url,) = await nursery.start(HttpServer(app, LOOPBACK).run)
        await trio.testing.wait_all_tasks_blocked()
        async with httpx.AsyncClient(base_url=url) as client:
            health, metrics = await client.get("/health"), await client.get("/metrics")
        nursery.cancel_scope.cancel()
    assert health.status_code == 503
    assert health.json()["tasks"] == {"unlucky": {"state": "backing-off", "restarts": 0, "lastError": "RuntimeError: no luck"}}
    assert 'stratos_task_running{task="unlucky"} 0.0' in metrics.text


async def test_version_is_given_over_xrpc(api: Api) -> None:
    assert (await api.client.get("/xrpc/_health")).json() == {"version": "0"}


async def test_crawlers_are_kept_out(api: Api) -> None:
    assert (await api.client.get("/robots.txt")).text == "User-agent: *\nDisallow: /\n"


async def test_did_document_leads_to_key_and_service_under_every_name(api: Api) -> None:
    response = await api.client.get("/.well-known/did.json")
    document = response.json()
    assert response.headers["content-type"] == "application/json"
    assert document["id"] == "did:web:stratos.test"
    for fragment in ("atproto", "atproto_pns"):
        assert verification_key(document, fragment) == api.engine.service.service_key
    for fragment in ("stratos", "atproto_pns"):
        assert service_endpoint(document, fragment) == "https://stratos.test"
    assert {service["type"] for service in document["service"]} == {"StratosService"}


async def test_metrics_count_requests_by_method_and_status(api: Api) -> None:
    for nsid in ("zone.stratos.server.listDomains", "zone.stratos.enrollment.status", "com.example.unknown"):
        await api.client.get(f"/xrpc/{nsid}")
    found = await samples(api)
    for method, status in (
        ("zone.stratos.server.listDomains", "200"),
        ("zone.stratos.enrollment.status", "400"),
        ("unknown", "501"),
    ):
        assert found["stratos_request_duration_seconds_count", (("method", method), ("status", status))] == 1
    bucket = (("le", "+Inf"), ("method", "unknown"), ("status", "501"))
    assert found["stratos_request_duration_seconds_bucket", bucket] == 1


async def test_metrics_carry_the_names_that_operators_were_promised(api: Api) -> None:
    await api.create(REI, "hello", WRITERS)
    await (await api.subscribe(REI, did=REI)).frame()
    found = await samples(api)
    assert found["stratos_enrolled_users", ()] == 3
    assert found["stratos_records_total", ()] == 1
    assert found["stratos_subscription_connections", ()] == 1
    assert found["stratos_build_info", (("version", "0"),)] == 1


async def test_metrics_hold_every_figure_of_every_part(api: Api) -> None:
    names = {name for name, _ in await samples(api)}
    assert "stratos_http_connections_limit" in names
    assert "stratos_log_queue_limit" in names
    figures = sum(len(part) for part in api.app.statistics().values())
    single = {name for name in names if not name.startswith(("stratos_request", "stratos_task", "stratos_build"))}
    assert len(single) == figures


@pytest.mark.expects_error_log
@pytest.mark.parametrize(("dev_mode", "message"), [(False, "Internal server error"), (True, "detail")])
async def test_unexpected_error_on_a_page_is_a_500_with_details_in_dev_mode_only(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, dev_mode: bool, message: str
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("detail")

    async with serving(data_dir, config=replace(CONFIG, dev_mode=dev_mode)) as api:
        monkeypatch.setattr(type(api.engine.service.backend), "check", broken)
        response = await api.client.get("/health")
    assert response.status_code == 500
    assert response.json() == {"error": "InternalServerError", "message": message}


async def test_metrics_are_there_while_the_store_does_not_answer(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise StorageFault("disk on fire")

    before = await samples(api)
    monkeypatch.setattr(type(api.engine.service.backend.enrollments), "count", broken)
    assert (await samples(api))["stratos_enrolled_users", ()] == before["stratos_enrolled_users", ()] > 0
