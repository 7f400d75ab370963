"""Hostile requests that no table thought of: generated ones, against the same real service."""

from __future__ import annotations

import json
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.crash.processes import SYNC_TOKEN
from tests.wire.bodies import PROCEDURES
from tests.wire.queries import QUERIES
from tests.wire.service import HOSTILE, POST, Wire, post, request
from tests.wire.sockets import FrameReader, upgrade

EXAMPLES: Final = 120
UNDERSTOOD: Final = 500

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("wire")]
# The one service is shared by all examples on purpose: it has to outlive them.
against_one_service = settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
texts = st.text(max_size=40)


@against_one_service
@given(st.sampled_from(sorted(post("x"))), json_values)
def test_a_post_with_any_value_in_any_field_is_taken_or_refused_by_name(wire: Wire, field: str, value: object) -> None:
    """Only a `text` may be another one; then the record stands."""
    body = {"repo": HOSTILE, "collection": POST, "record": {**post("hostile"), field: value}}
    answer = wire.call("zone.stratos.repo.createRecord", HOSTILE, body)
    wire.check_silent(answer)
    if answer.status == 200:
        assert field == "text"
        wire.rebase()
    else:
        assert answer.status == 400
        assert answer.error
        assert field in answer.message or "record" in answer.message, answer
    wire.check_unharmed()


@against_one_service
@given(
    st.sampled_from(PROCEDURES),
    st.dictionaries(st.sampled_from(["repo", "did", "writes", "uris", "record"]) | texts, json_values),
)
def test_any_json_object_as_a_body_is_refused(wire: Wire, procedure: object, body: dict[str, object]) -> None:
    chosen = next(known for known in PROCEDURES if known is procedure)
    body.pop("did", None)
    answer = wire.call(chosen.nsid, chosen.token, {**body, "repo": "x", "uris": 0})
    wire.check_silent(answer)
    assert answer.status in {400, 401}
    assert answer.error
    assert answer.message
    wire.check_unharmed()


@against_one_service
@given(st.sampled_from(QUERIES), st.binary(max_size=60))
def test_any_query_string_is_understood_or_refused(wire: Wire, query: object, encoded: bytes) -> None:
    chosen = next(known for known in QUERIES if known is query)
    allowed = bytes(octet for octet in encoded if 0x21 <= octet < 0x7F and octet != ord("#")).decode()
    answer = wire.send(request("GET", f"/xrpc/{chosen.nsid}?{allowed}", HOSTILE))
    wire.check_silent(answer)
    assert answer.status < UNDERSTOOD
    wire.check_unharmed()


@against_one_service
@given(st.binary(max_size=400))
def test_any_bytes_are_answered_or_cut_off(wire: Wire, data: bytes) -> None:
    answer = wire.send(data, half_close=True)
    wire.check_silent(answer)
    assert answer.status < UNDERSTOOD
    wire.check_unharmed()


@against_one_service
@given(st.binary(min_size=1, max_size=200), st.booleans())
def test_any_bytes_after_an_upgrade_harm_nobody(wire: Wire, data: bytes, at_once: bool) -> None:
    """Whether they come before or after its answer."""
    asked = upgrade("includeCommits=true", SYNC_TOKEN)
    with wire.connection() as connection:
        connection.sendall(asked + data if at_once else asked)
        answer = FrameReader(connection).response_head()
        assert answer.startswith((b"HTTP/1.1 101 ", b"HTTP/1.1 400 ") if at_once else b"HTTP/1.1 101 ")
        if not at_once:
            connection.sendall(data)
    wire.check_unharmed()


@against_one_service
@given(st.sampled_from(PROCEDURES), st.binary(max_size=200))
def test_any_bytes_as_a_body_are_refused(wire: Wire, procedure: object, body: bytes) -> None:
    chosen = next(known for known in PROCEDURES if known is procedure)
    answer = wire.send(request("POST", f"/xrpc/{chosen.nsid}", chosen.token, body))
    wire.check_silent(answer)
    assert answer.status == 400
    assert json.loads(answer.body).keys() == {"error", "message"}
    wire.check_unharmed()
