"""Who is welcome. Service spec §4.1."""

from __future__ import annotations

from collections.abc import Collection

import orjson
import pytest

from stratos.atproto.syntax import Did
from stratos.engine.eligibility import Eligibility, EligibilityPolicy, Eligible, Ineligible
from stratos.engine.identity import DidDocument, DidNotFound
from tests.engine.builders import KAORUKO, REI, SAKURA, NoNetwork

PDS = "https://pds.test"


class Directory(NoNetwork):
    """Knows where accounts are; None for a document that names no PDS. Remembers for whom it was asked."""

    def __init__(self, **pds: str | None) -> None:
        self.asked: list[Did] = []
        self._pds = {Did(f"did:plc:{name}"): url for name, url in pds.items()}

    async def resolve_did(self, did: Did, *, refresh: bool = False) -> DidDocument:
        self.asked.append(did)
        if did not in self._pds:
            raise DidNotFound(f"{did} (refresh: {refresh})")
        service = {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": self._pds[did]}
        services = [] if self._pds[did] is None else [service]
        return DidDocument.parse(did, orjson.dumps({"id": did, "service": services}))


class Listed:
    """An external list."""

    def __init__(self, dids: Collection[Did]) -> None:
        self._dids = dids

    async def contains(self, did: Did) -> bool:
        return did in self._dids


async def test_in_open_mode_everybody_may_enroll_and_nobody_is_resolved() -> None:
    directory = Directory()
    assert await Eligibility(EligibilityPolicy(open=True), identity=directory).judge(REI) == Eligible()
    assert directory.asked == []


async def test_without_any_list_nobody_may_enroll_and_nobody_is_resolved() -> None:
    directory = Directory(rei=PDS)
    assert await Eligibility(EligibilityPolicy(), identity=directory).judge(REI) is Ineligible.NOT_IN_ALLOWLIST
    assert directory.asked == []


async def test_a_named_account_and_a_listed_one_may_enroll_without_being_resolved() -> None:
    directory = Directory()
    policy = EligibilityPolicy(dids=frozenset({REI}), pds_endpoints=(PDS,))
    eligibility = Eligibility(policy, identity=directory, external=Listed([SAKURA]))
    assert [await eligibility.judge(did) for did in (REI, SAKURA)] == [Eligible(), Eligible()]
    assert directory.asked == []


@pytest.mark.parametrize("listed", [PDS, PDS + "/"])
@pytest.mark.parametrize("stated", [PDS, PDS + "/"])
async def test_accounts_of_a_named_pds_may_enroll_whatever_slash_ends_it(listed: str, stated: str) -> None:
    directory = Directory(rei=stated, sakura="https://other.test", kaoruko=f"{PDS}//")
    eligibility = Eligibility(EligibilityPolicy(pds_endpoints=(listed,)), identity=directory)
    assert await eligibility.judge(REI) == Eligible(stated)
    assert await eligibility.judge(SAKURA) is Ineligible.NOT_IN_ALLOWLIST
    assert await eligibility.judge(KAORUKO) is Ineligible.NOT_IN_ALLOWLIST


async def test_a_named_pds_counts_only_where_the_account_has_signed_in_there() -> None:
    directory = Directory(rei=PDS + "/")
    eligibility = Eligibility(EligibilityPolicy(pds_endpoints=(PDS,)), identity=directory)
    assert await eligibility.judge(REI, signed_in_at=PDS) == Eligible(PDS + "/")
    assert await eligibility.judge(REI, signed_in_at="https://evil.test") is Ineligible.NOT_IN_ALLOWLIST


async def test_an_account_that_cannot_be_resolved_or_has_no_pds_may_not_enroll() -> None:
    eligibility = Eligibility(EligibilityPolicy(pds_endpoints=(PDS,)), identity=Directory(rei=None))
    assert await eligibility.judge(REI) is Ineligible.PDS_ENDPOINT_NOT_FOUND
    assert await eligibility.judge(SAKURA) is Ineligible.DID_NOT_RESOLVED
    away = Eligibility(EligibilityPolicy(pds_endpoints=(PDS,)), identity=NoNetwork())
    assert await away.judge(REI) is Ineligible.DID_NOT_RESOLVED


async def test_only_with_an_external_list_are_requests_watched_and_then_all_lists_count_together() -> None:
    directory = Directory(kaoruko=PDS)
    policy = EligibilityPolicy(dids=frozenset({REI}), pds_endpoints=(PDS,))
    assert not Eligibility(policy, identity=directory).is_watched
    eligibility = Eligibility(policy, identity=directory, external=Listed([SAKURA]))
    assert eligibility.is_watched
    stranger = Did("did:plc:stranger")
    assert [await eligibility.admits(did) for did in (REI, SAKURA, KAORUKO, stranger)] == [True, True, True, False]
