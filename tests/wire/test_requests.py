"""Hostile requests to a real service: each gets a clear refusal, harms nothing, and shows nothing of what it may not show."""

from __future__ import annotations

import pytest

from tests.wire import bodies, callers, framing, queries, records, sockets
from tests.wire.cases import Case, check_each, in_batches
from tests.wire.service import Wire

BATCHES = in_batches(
    {
        "fields of bodies": bodies.field_cases(),
        "shapes of bodies": bodies.shape_cases(),
        "batches of writes": bodies.batch_cases(),
        "duplicate keys": bodies.duplicate_key_cases(),
        "records": records.record_cases(),
        "collections": records.collection_cases(),
        "parameters": queries.parameter_cases(),
        "verbs": queries.verb_cases(),
        "paths": queries.path_cases(),
        "credentials": callers.credential_cases(),
        "ways to the probe": callers.reading_cases(),
        "encodings": framing.encoding_cases(),
        "sizes": framing.size_cases(),
        "lengths": framing.length_cases(),
        "heads": framing.head_cases(),
        "upgrades": sockets.upgrade_cases(),
    }
)
CASES = tuple(case for _, batch in BATCHES for case in batch)
HARMLESS = tuple(callers.harmless_requests())
UNDERSTOOD = 500

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("wire")]


@pytest.mark.parametrize("batch", [batch for _, batch in BATCHES], ids=[title for title, _ in BATCHES])
def test_hostile_requests_are_refused_clearly_and_harm_nothing(wire: Wire, batch: tuple[Case, ...]) -> None:
    def check(case: Case) -> None:
        try:
            answer = wire.send(case.request, half_close=case.half_close)
        finally:
            wire.check_unharmed()
        wire.check_silent(answer)
        if case.names:
            assert answer.status in case.statuses, answer
            assert answer.error, answer
            assert any(name.lower() in answer.message.lower() for name in case.names), answer
        else:
            assert answer.status in case.statuses or answer.raw == b"", answer

    check_each(batch, check)


def test_requests_near_the_probe_are_answered_without_it(wire: Wire) -> None:
    def check(case: tuple[str, bytes]) -> None:
        answer = wire.send(case[1])
        assert answer.status < UNDERSTOOD, answer
        assert answer.raw
        wire.check_silent(answer)
        wire.check_unharmed()

    check_each(HARMLESS, check)


def test_the_probe_is_there_for_who_may_read_it(wire: Wire) -> None:
    """Without this, its absence elsewhere would prove nothing."""
    parameters = {"repo": "did:plc:owner", "collection": "zone.stratos.feed.post"}
    assert "probe-" in wire.query("zone.stratos.repo.listRecords", "did:plc:owner", **parameters).raw.decode()


def test_there_are_hundreds_of_distinct_hostile_requests() -> None:
    requests = [case.request for case in CASES]
    assert len(set(requests)) == len(requests)
    assert len(requests) >= 500
