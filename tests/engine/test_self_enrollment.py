"""An account enrolls itself: what stands when it is interrupted. The rest is in tests/api/test_oauth_pages.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from stratos.atproto.syntax import Did
from stratos.core.enrollment import Enrollment
from stratos.engine.eligibility import Eligibility, EligibilityPolicy, Ineligible
from stratos.engine.identity import DidDocument
from stratos.engine.oauth import Begun, Completed
from stratos.engine.self_enrollment import SelfEnrolled, SelfEnrollment
from stratos.storage.ports import StorageFault
from tests.engine.builders import REI, Engine, NoNetwork


@dataclass
class Played:
    """Signing in without a server."""

    revoked: list[Did] = field(default_factory=list)
    fault: Exception | None = None

    async def begin(self, login: str, *, return_to: str | None = None) -> Begun:
        return Begun(f"https://pds.test/{login}?{return_to}", "secret")

    async def complete(self, query: Mapping[str, str], *, browser: str | None = None) -> Completed:
        return Completed(REI, query["iss"], "atproto", None, browser == "secret")

    async def revoke(self, did: Did) -> bool:
        if self.fault is not None:
            raise self.fault
        self.revoked.append(did)
        return True


@dataclass
class SlowList:
    """An external list that takes its time; `listed` is what it says in the end."""

    listed: bool
    answering: trio.Event = field(default_factory=trio.Event)

    async def contains(self, did: Did) -> bool:
        await self.answering.wait()
        return self.listed and did == REI


async def nothing_left(did: Did) -> bool:
    """A publisher that has nothing to do for anybody."""
    return False


def enrolling(engine: Engine, played: Played, listed: SlowList, told: list[Did]) -> SelfEnrollment:
    """The flow upon an engine; `told` is what the publisher hears."""

    async def enrollment(did: Did) -> Enrollment | None:
        return engine.service.backend.enrollments.current(did)

    async def completed(did: Did) -> None:
        told.append(did)

    eligibility = Eligibility(EligibilityPolicy(), identity=engine.service.network, external=listed)
    return SelfEnrollment(
        played, engine.service.enrollment, eligibility, enrollment=enrollment, completed=completed, dismissed=nothing_left
    )


@pytest.mark.parametrize("listed", [True, False])
async def test_a_browser_that_goes_away_after_signing_in_leaves_all_or_nothing(
    engine: Engine, nursery: trio.Nursery, listed: bool
) -> None:
    played, external, told = Played(), SlowList(listed), list[Did]()
    flow = enrolling(engine, played, external, told)
    done = trio.Event()
    browser = trio.CancelScope()

    async def finish() -> None:
        with browser:
            await flow.finish({"iss": "https://pds.test"}, browser=None)
        done.set()

    nursery.start_soon(finish)
    await wait_all_tasks_blocked()
    browser.cancel()
    await wait_all_tasks_blocked()
    assert not done.is_set(), "it waits until it is settled"
    external.answering.set()
    await done.wait()
    enrollment = engine.service.backend.enrollments.get(REI)
    assert (enrollment is not None) is listed
    assert told == ([REI] if listed else [])
    assert played.revoked == ([] if listed else [REI])


class Claims(NoNetwork):
    """A directory in which every account says by now that it is on a PDS of the operator's choice."""

    async def resolve_did(self, did: Did, *, refresh: bool = False) -> DidDocument:
        service = {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": "https://listed.test"}
        return DidDocument.parse(did, orjson.dumps({"id": did, "service": [service]}))


@pytest.mark.parametrize(("signed_in_at", "is_welcome"), [("https://evil.test", False), ("https://listed.test", True)])
async def test_an_account_that_moves_to_a_listed_pds_on_paper_while_it_signs_in_elsewhere_is_not_welcome(
    engine: Engine, signed_in_at: str, is_welcome: bool
) -> None:
    async def enrollment(did: Did) -> Enrollment | None:
        return engine.service.backend.enrollments.current(did)

    async def completed(did: Did) -> None:
        """Nobody to be told."""

    played = Played()
    eligibility = Eligibility(EligibilityPolicy(pds_endpoints=("https://listed.test",)), identity=Claims())
    flow = SelfEnrollment(
        played, engine.service.enrollment, eligibility, enrollment=enrollment, completed=completed, dismissed=nothing_left
    )
    outcome = await flow.finish({"iss": signed_in_at}, browser="secret")
    assert isinstance(outcome, SelfEnrolled) is is_welcome
    assert (await enrollment(REI) is not None) is is_welcome
    assert played.revoked == ([] if is_welcome else [REI])


async def test_a_session_that_is_still_needed_to_take_something_back_is_left_to_who_needs_it(engine: Engine) -> None:
    told: list[Did] = []

    async def enrollment(did: Did) -> Enrollment | None:
        return engine.service.backend.enrollments.current(did)

    async def completed(did: Did) -> None:
        raise AssertionError("nobody is enrolled")

    async def dismissed(did: Did) -> bool:
        told.append(did)
        return True

    played = Played()
    flow = SelfEnrollment(
        played,
        engine.service.enrollment,
        Eligibility(EligibilityPolicy(), identity=engine.service.network),
        enrollment=enrollment,
        completed=completed,
        dismissed=dismissed,
    )
    assert await flow.finish({"iss": "https://pds.test"}, browser=None) is Ineligible.NOT_IN_ALLOWLIST
    assert (told, played.revoked) == ([REI], [])


async def test_what_is_given_back_is_the_outcome_and_where_it_came_from(engine: Engine) -> None:
    external, told = SlowList(listed=True), list[Did]()
    external.answering.set()
    flow = enrolling(engine, Played(), external, told)
    first = await flow.finish({"iss": "https://pds.test"}, browser="secret")
    again = await flow.finish({"iss": "https://moved.test"}, browser="other")
    assert isinstance(first, SelfEnrolled)
    assert isinstance(again, SelfEnrolled)
    assert (first.newly, first.completed.same_browser, first.enrollment.pds_endpoint) == (True, True, "https://pds.test")
    assert (again.newly, again.completed.same_browser, again.enrollment.pds_endpoint) == (False, False, "https://moved.test")
    assert again.enrollment.signing_key == first.enrollment.signing_key


@pytest.mark.expects_error_log
async def test_a_session_that_cannot_be_ended_does_not_hide_why_it_was_to_end(engine: Engine) -> None:
    external = SlowList(listed=False)
    external.answering.set()
    played = Played(fault=StorageFault("disk on fire"))
    outcome = await enrolling(engine, played, external, []).finish({"iss": "https://pds.test"}, browser=None)
    assert outcome is Ineligible.NOT_IN_ALLOWLIST
