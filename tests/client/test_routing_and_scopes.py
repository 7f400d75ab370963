"""Where an enrollment leads, and what an app asks permission for (spec service.md §10.3–10.4)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stratos.client import (
    Did,
    build_collection_scope,
    build_stratos_scopes,
    create_service_fetch_handler,
    find_enrollment_by_service,
    resolve_service_url,
    service_did_to_rkey,
)
from stratos.client.scopes import Action
from tests.client.builders import SERVICE_URL, answering, enrollment


def test_the_rkey_of_a_service_is_its_did_with_plain_colons() -> None:
    assert service_did_to_rkey(Did("did:web:localhost%3A3100")) == "did:web:localhost:3100"
    assert service_did_to_rkey(Did("did:web:localhost%3a3100")) == "did:web:localhost:3100"
    assert service_did_to_rkey(Did("did:plc:xyz")) == "did:plc:xyz"


def test_the_service_is_the_enrollment_s_or_the_fall_back() -> None:
    assert resolve_service_url(enrollment(), "https://else.example") == SERVICE_URL
    assert resolve_service_url(None, "https://else.example") == "https://else.example"


def test_an_enrollment_is_found_by_url_whether_or_not_that_ends_in_a_slash() -> None:
    other, mine = replace(enrollment(), service="https://other.example"), replace(enrollment(), service=f"{SERVICE_URL}/")
    assert find_enrollment_by_service([other, mine, enrollment()], SERVICE_URL) is mine
    assert find_enrollment_by_service([enrollment()], f"{SERVICE_URL}/") is not None
    assert find_enrollment_by_service([enrollment()], f"{SERVICE_URL}//") is None
    assert find_enrollment_by_service([], SERVICE_URL) is None


async def test_a_session_is_given_the_absolute_url_of_the_service() -> None:
    script = answering({"ok": True})
    handler = create_service_fetch_handler(script.fetch(), SERVICE_URL)
    answer = await handler.handle("/xrpc/a.b.c?x=1", method="POST", headers={"x-a": "b"}, body=b"{}")
    assert answer.status == 200
    (asked,) = script.asked
    assert (asked.method, str(asked.url), asked.headers["x-a"]) == ("POST", f"{SERVICE_URL}/xrpc/a.b.c?x=1", "b")


@pytest.mark.parametrize("path", ["https://evil.example/x", "//evil.example/x", "x", ""])
async def test_a_session_is_never_sent_to_another_host(path: str) -> None:
    script = answering({})
    with pytest.raises(ValueError, match="not a path"):
        await create_service_fetch_handler(script.fetch(), SERVICE_URL).handle(path)
    assert script.asked == []


@pytest.mark.parametrize(
    ("actions", "scope"),
    [
        (("create", "update", "delete"), "repo:a.b.c"),
        (("delete", "create", "update"), "repo:a.b.c"),
        (("create",), "repo:a.b.c?action=create"),
        (("delete", "create"), "repo:a.b.c?action=delete&action=create"),
    ],
)
def test_a_scope_names_the_actions_unless_it_is_for_all(actions: tuple[Action, ...], scope: str) -> None:
    assert build_collection_scope("a.b.c", actions) == scope
    assert build_collection_scope("a.b.c") == "repo:a.b.c"


def test_the_scopes_of_an_app() -> None:
    assert build_stratos_scopes() == [
        "atproto",
        "repo:zone.stratos.actor.enrollment",
        "repo:zone.stratos.feed.post?action=create&action=delete",
    ]
