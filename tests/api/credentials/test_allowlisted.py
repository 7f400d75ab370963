"""With an external list every user is asked for at every request, whatever the credential. Service spec §4.1."""

from __future__ import annotations

import pytest

from stratos.api.auth import User
from stratos.api.credentials import AppView
from stratos.api.request import RequestHead
from stratos.atproto.syntax import Did
from stratos.engine.identity import OutgoingHttp
from stratos.settings.values import appview_grants
from tests.api.credentials.builders import (
    APPVIEW,
    LIST_REPOS,
    SERVICE,
    Account,
    Clock,
    Directory,
    authenticator,
    bearer,
    credentials,
    head,
    refused,
    service_token,
)
from tests.engine.builders import REI, SAKURA

STATUS = "zone.stratos.enrollment.status"


class Lists:
    """Who is welcome at this moment."""

    def __init__(self, *dids: Did) -> None:
        self.dids = set(dids)

    async def admits(self, did: Did) -> bool:
        return did in self.dids


@pytest.mark.parametrize("kind", ["service JWT", "session"])
async def test_a_user_who_is_taken_off_the_lists_is_refused_at_the_next_request(
    kind: str, clock: Clock, http: OutgoingHttp
) -> None:
    rei, sakura, lists = Account(REI), Account(SAKURA), Lists(REI)
    made = credentials(Directory(rei, sakura), http, clock, on_allowlist=lists.admits)
    asked = authenticator(made.verifiers)

    def request(account: Account) -> RequestHead:
        if kind == "service JWT":
            return bearer(service_token(account, clock, STATUS), STATUS)
        return head(STATUS, headers=[("Cookie", made.sessions.issue(account.did).set_cookie.partition(";")[0])])

    assert await asked.authenticate(request(rei), STATUS) == User(REI)
    error = await refused(asked, request(sakura), STATUS)
    assert (error.status, error.message) == (401, f"User {SAKURA} is not on the allowlist")
    lists.dids.clear()
    assert (await refused(asked, request(rei), STATUS)).status == 401


async def test_appviews_are_no_users_and_stand_on_no_list(clock: Clock, http: OutgoingHttp) -> None:
    appview = Account(APPVIEW)
    made = credentials(Directory(appview), http, clock, grants=appview_grants(SERVICE, [APPVIEW]), on_allowlist=Lists().admits)
    request = bearer(service_token(appview, clock, LIST_REPOS), LIST_REPOS)
    assert isinstance(await authenticator(made.verifiers).authenticate(request, LIST_REPOS), AppView)
