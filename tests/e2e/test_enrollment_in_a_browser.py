"""Enrollment as a person meets it: Chromium, the PDS's own pages, cookies as a browser keeps them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.chromium import Tab, browsing
from tests.e2e.network import NETWORK_MARKS, PdsNetwork
from tests.e2e.programs import running
from tests.e2e.test_enrollment import settings_of

pytestmark = [*NETWORK_MARKS, pytest.mark.slow]

PASSWORD: Final = "document.querySelector('input[autocomplete=current-password]')"
SIGN_IN: Final = "document.querySelector('button[type=submit]')"
CONSENT: Final = (
    "[...document.querySelectorAll('button')].find((button) => /^(authorize|accept|allow)$/i.test(button.innerText.trim()))"
)
ANSWER: Final = "document.body && document.body.innerText.startsWith('{') && document.body"


async def answer(tab: Tab) -> dict[str, object]:
    """The JSON page that the browser shows."""
    await tab.appears(ANSWER)
    body: dict[str, object] = json.loads(str(await tab.value("document.body.innerText")))
    return body


async def fetched(tab: Tab, verb: str, path: str, **headers: str) -> dict[str, object]:
    """What a script of the shown page gets."""
    request = json.dumps({"method": verb, "headers": headers})
    body: dict[str, object] = json.loads(str(await tab.value(f"fetch({path!r}, {request}).then((answer) => answer.text())")))
    return body


async def test_a_person_enrolls_in_a_browser_is_signed_in_and_leaves_again(pds_network: PdsNetwork, tmp_path: Path) -> None:
    account = pds_network.new_account()
    with running("serve", tmp_path, settings_of(pds_network)) as program:
        async with browsing(tmp_path / "profile") as tab:
            await tab.goto(f"http://localhost:{program.port}/oauth/authorize?handle={account.did}")
            await tab.appears(PASSWORD)
            await tab.write(PASSWORD, account.password)
            await tab.click(SIGN_IN)
            await tab.click(CONSENT)
            told = await answer(tab)
            assert (told["did"], told["enrolled"]) == (account.did, True)
            assert str(await tab.value("location.origin")) == program.service, "begun at localhost, came back by address"
            assert await tab.value("document.cookie") == "", "nothing for scripts to read"
            status = await fetched(tab, "GET", "/oauth/status")
            assert status["boundaries"] == [{"value": "did:web:stratos.test/writers"}]
            assert (await fetched(tab, "POST", "/oauth/revoke"))["error"] == "InvalidCsrfToken"
            left = await fetched(tab, "POST", "/oauth/revoke", **{"x-csrf-token": str(status["csrfToken"])})
            assert left["revoked"] is True
            assert (await fetched(tab, "GET", "/oauth/status"))["error"] == "Unauthorized", "the cookie is gone"
