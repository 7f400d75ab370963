"""Service JWTs as a real PDS mints them, for accounts of a real PLC directory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import trio

from stratos.api.auth import User
from stratos.api.credentials import ServiceTokenVerifier, UsedTokens
from stratos.atproto.syntax import Did
from stratos.engine.identity import OutgoingPolicy, open_identity
from tests.api.credentials.builders import CREATE, GET, SERVICE, Clock, bearer, refused, service_verifier
from tests.e2e.network import NETWORK_MARKS, Account, PdsNetwork

pytestmark = NETWORK_MARKS


class Scene:
    """An account on the PDS, and a verifier that resolves it as the service does."""

    def __init__(self, network: PdsNetwork, account: Account, verifier: ServiceTokenVerifier, clock: Clock) -> None:
        self._network = network
        self._account = account
        self.did = Did(account.did)
        self.verifier = verifier
        self.clock = clock

    async def token(self, method: str | None = GET, audience: str = SERVICE) -> str:
        """What `getServiceAuth` gives the account."""
        network, account = self._network, self._account
        return await trio.to_thread.run_sync(lambda: network.service_auth(account, audience=audience, method=method))


@pytest.fixture
async def scene(pds_network: PdsNetwork) -> AsyncIterator[Scene]:
    """A new account."""
    clock = Clock(datetime.now(UTC))
    account = await trio.to_thread.run_sync(pds_network.new_account)
    policy = OutgoingPolicy(allow_private=True)
    async with open_identity(plc_url=pds_network.plc_url, policy=policy, user_agent="tests", clock=trio.current_time) as opened:
        verifier = service_verifier(opened.members, clock, UsedTokens(clock=clock), fragments=("stratos",))
        yield Scene(pds_network, account, verifier, clock)


async def test_token_of_the_pds_is_the_user(scene: Scene) -> None:
    assert await scene.verifier.verify(bearer(await scene.token()), GET) == User(scene.did)


async def test_token_of_the_pds_is_good_for_one_write(scene: Scene) -> None:
    token = await scene.token(CREATE)
    assert await scene.verifier.verify(bearer(token, CREATE), CREATE) == User(scene.did)
    assert (await refused(scene.verifier, bearer(token, CREATE), CREATE)).message == "Token already used"


async def test_token_of_the_pds_for_anything_else_is_refused(scene: Scene) -> None:
    for token, message in (
        (await scene.token(None), "Missing lxm claim"),
        (await scene.token(CREATE), "Invalid lxm claim"),
        (await scene.token(audience="did:web:other.test"), "Invalid aud claim"),
    ):
        assert (await refused(scene.verifier, bearer(token))).message == message


async def test_token_of_the_pds_ends_after_its_minute(scene: Scene) -> None:
    token = await scene.token()
    scene.clock.now += timedelta(seconds=62)
    assert (await refused(scene.verifier, bearer(token))).message == "Token expired"
