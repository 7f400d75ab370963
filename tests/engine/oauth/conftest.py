"""An OAuth client before a network in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from urllib.parse import urlsplit

import pytest

from stratos.atproto.syntax import Did, Nsid
from stratos.engine.identity import Answer
from stratos.engine.oauth import ClientSettings, Completed, OAuthClient, PdsAnswer, Registration
from stratos.engine.oauth.sealed import Session, TokenSet
from tests.engine.oauth.authorization_server import REI, Network, People
from tests.engine.oauth.memory import MemoryStore, Seal, WallClock, in_place

METHOD = Nsid("com.atproto.repo.getRecord")
PUBLIC = ClientSettings(public_url="https://stratos.test", name="Stratos Service")


@dataclass
class Setting:
    """A client, and everything around it that a test may look at or change."""

    clock: WallClock
    network: Network
    people: People
    store: MemoryStore
    seal: Seal
    client: OAuthClient

    async def authorize(self, did: Did = REI) -> Completed:
        """The whole way, with a person who agrees."""
        begun = await self.client.begin(did)
        return await self.client.complete(self.network.consent(begun.url, did), browser=begun.browser)

    async def ask(self, did: Did = REI) -> PdsAnswer:
        """Some request in the account's name."""
        return await self.client.request(did, "GET", METHOD, params={"repo": did})

    def session(self, did: Did = REI) -> Session:
        """The session as it is stored."""
        return Session.decode(self.seal.open(self.store.sessions[did], f"oauth-session:{did}"))

    def change_tokens(self, change: Callable[[TokenSet], TokenSet], did: Did = REI) -> None:
        """Change the stored session's tokens."""
        session = self.session(did)
        changed = replace(session, tokens=change(session.tokens))
        self.store.sessions[did] = self.seal.seal(changed.encode(), f"oauth-session:{did}")

    def let_access_token_age(self) -> None:
        """Let so much time go by that an access token of the network is about to expire."""
        self.clock.advance(timedelta(minutes=59, seconds=30))

    def another_client(self) -> OAuthClient:
        """A client like that of another process: the same store, nothing else shared."""
        return client_of(self.network, self.people, self.store, self.seal, self.clock)


class Way:
    """A way to the network that remembers the paths that were asked for on it."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.asked: list[str] = []

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        max_bytes: int | None = None,
        max_redirects: int | None = None,
        total_timeout: float | None = None,
    ) -> Answer:
        """As the network answers."""
        self.asked.append(urlsplit(url).path)
        return await self._network.request(
            method, url, headers=headers, body=body, max_bytes=max_bytes, max_redirects=max_redirects
        )


def client_of(
    network: Network,
    people: People,
    store: MemoryStore,
    seal: Seal,
    clock: WallClock,
    settings: ClientSettings = PUBLIC,
    *,
    ways: tuple[Way, Way] | None = None,
) -> OAuthClient:
    """A client; with `ways` the first is for beginnings, the second for what is asked with sessions."""
    return OAuthClient(
        Registration.of(settings),
        identity=people,
        http=network if ways is None else ways[0],
        session_http=None if ways is None else ways[1],
        store=store,
        sealer=seal,
        clock=clock,
        random_bytes=os.urandom,
        thread=in_place,
    )


@pytest.fixture
def setting() -> Setting:
    """A public client that nobody has authorized yet."""
    return setting_with(PUBLIC)


def setting_with(settings: ClientSettings) -> Setting:
    """A client with these settings."""
    clock, people, store, seal = WallClock(), People(), MemoryStore(), Seal()
    network = Network(clock)
    return Setting(clock, network, people, store, seal, client_of(network, people, store, seal, clock, settings))
