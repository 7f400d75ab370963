"""Clients of a service that may die at any moment: they remember what was acknowledged and what was under way."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode, urlsplit

import trio
from trio_websocket import CloseReason, ConnectionClosed, WebSocketConnection, wrap_client_stream

from stratos.atproto.dag_cbor import DataModel
from stratos.atproto.frames import MessageFrame, decode_frame
from stratos.atproto.syntax import Did, Tid
from stratos.atproto.tid import tid_from
from tests.crash.http import Connection, ServiceGone, connect
from tests.crash.processes import ADMIN_PASSWORD, DOMAINS, SERVICE, SYNC_TOKEN

POST: Final = "zone.stratos.feed.post"
SUBSCRIBE: Final = "zone.stratos.sync.subscribeRecords"
FIRST_RKEY_US: Final = 1_760_000_000_000_000
PAGE: Final = 100
_IN: Final = " in "

Query = Mapping[str, str | int] | Sequence[tuple[str, str | int]]
State = Mapping[str, str]
"""Record key to the text that stands there."""


def actor(number: int) -> Did:
    """The DID of a test account."""
    return Did(f"did:plc:actor{number:02d}")


async def enroll(url: str, *dids: Did) -> None:
    """Enroll accounts in every boundary."""
    async with connect(url) as connection:
        for did in dids:
            await connection.post("zone.stratos.admin.enroll", ADMIN_PASSWORD, {"did": did})


async def unenroll(url: str, did: Did) -> None:
    """Unenroll an account for good."""
    async with connect(url) as connection:
        await connection.post("zone.stratos.admin.unenroll", ADMIN_PASSWORD, {"did": did})


@dataclass(frozen=True, slots=True)
class Ack:
    """A commit that the service acknowledged."""

    did: Did
    rev: str
    commit: str


@dataclass
class Writer:
    """One client of one account. It writes one call after the other, under record keys that no other writer uses."""

    did: Did
    number: int
    rng: random.Random
    domains: tuple[str, ...] = ()
    """The boundaries that its posts go to, at random, one each; the first of all where there are none."""
    acks: list[Ack] = field(default_factory=list)
    state: dict[str, str] = field(default_factory=dict)
    """What was acknowledged."""
    cids: dict[str, str] = field(default_factory=dict)
    """Record key to the CID that was acknowledged."""
    pending: dict[str, str] | None = None
    """The state that a call led to whose answer never came."""
    first_answer: trio.Event = field(default_factory=trio.Event)
    _calls: int = 0

    async def write_until_death(self, url: str) -> None:
        """Write until the service is gone."""
        with suppress(ServiceGone):
            async with connect(url) as connection:
                while True:
                    await self.write(connection)

    async def write_once(self, url: str) -> Ack:
        """One call more, which has to succeed."""
        async with connect(url) as connection:
            await self.write(connection)
        return self.acks[-1]

    async def write(self, connection: Connection) -> None:
        """Make one call at random. Raises ServiceGone when its answer never came."""
        nsid, body, after = self._next_call()
        self.pending = after
        answer = await connection.post(nsid, self.did, body)
        commit, results = answer["commit"], answer.get("results", [answer])
        assert isinstance(commit, dict)
        assert isinstance(results, list)
        self.acks.append(Ack(self.did, commit["rev"], commit["cid"]))
        self.state, self.pending = after, None
        self.first_answer.set()
        for result in results:
            if "uri" in result:
                self.cids[result["uri"].rpartition("/")[2]] = result["cid"]

    def owns(self, rkey: str) -> bool:
        """Whether a record key is one of this writer's."""
        return rkey[-2:] == self._rkey(0)[-2:]

    def accounts_for(self, found: State) -> bool:
        """Whether this is what was acknowledged, with or without all of the call that was under way."""
        mine = {rkey: text for rkey, text in found.items() if self.owns(rkey)}
        return mine == self.state or (self.pending is not None and mine == self.pending)

    def settle(self, posts: Mapping[str, tuple[str, str]]) -> None:
        """Go on from what the service has now."""
        mine = {rkey: post for rkey, post in posts.items() if self.owns(rkey)}
        self.state = {rkey: text for rkey, (_, text) in mine.items()}
        self.cids = {rkey: cid for rkey, (cid, _) in mine.items()}
        self.pending = None

    def _next_call(self) -> tuple[str, dict[str, object], dict[str, str]]:
        self._calls += 1
        after = dict(self.state)
        standing = self.rng.choice(sorted(after)) if after else None
        draw = self.rng.random()
        if draw < 0.25:
            return self._batch(after, standing)
        if draw < 0.4 and standing is not None:
            del after[standing]
            return "zone.stratos.repo.deleteRecord", self._body(standing, None), after
        if draw < 0.6 and standing is not None:
            after[standing] = self._text()
            return "zone.stratos.repo.putRecord", self._body(standing, after[standing]), after
        fresh = self._rkey(self._calls)
        after[fresh] = self._text()
        return "zone.stratos.repo.createRecord", self._body(fresh, after[fresh]), after

    def _batch(self, after: dict[str, str], standing: str | None) -> tuple[str, dict[str, object], dict[str, str]]:
        """Three creates, and a replacement or a delete of something that stands there."""
        writes: list[dict[str, object]] = []
        if standing is not None and self.rng.random() < 0.5:
            del after[standing]
            writes.append({"action": "delete", "collection": POST, "rkey": standing})
        elif standing is not None:
            after[standing] = self._text()
            writes.append({"action": "update", "collection": POST, "rkey": standing, "record": post(after[standing])})
        for _ in range(3):
            self._calls += 1
            fresh = self._rkey(self._calls)
            after[fresh] = self._text()
            writes.append({"action": "create", "collection": POST, "rkey": fresh, "record": post(after[fresh])})
        return "zone.stratos.repo.applyWrites", {"repo": self.did, "writes": writes}, after

    def _body(self, rkey: str, text: str | None) -> dict[str, object]:
        record = {} if text is None else {"record": post(text)}
        return {"repo": self.did, "collection": POST, "rkey": rkey, **record}

    def _rkey(self, call: int) -> Tid:
        return tid_from(FIRST_RKEY_US + call, self.number)

    def _text(self) -> str:
        text = f"{secret_of(self.did)} writer {self.number} call {self._calls} {self.rng.getrandbits(64):016x}"
        return text + _IN + self.rng.choice(self.domains) if self.domains else text


def secret_of(did: Did) -> str:
    """A word that only the posts of one account contain."""
    return f"zebra-{did.rpartition(':')[2]}-quagga"


def domain_of(text: str) -> str:
    """The boundary that a post with this text is in."""
    return text.rpartition(_IN)[2] if _IN in text else DOMAINS[0]


def post(text: str) -> dict[str, object]:
    """A post in the boundary that its text names, else in the first."""
    values = [{"value": f"{SERVICE}/{domain_of(text)}"}]
    boundary = {"$type": "zone.stratos.boundary.defs#Domains", "values": values}
    return {"$type": POST, "text": text, "boundary": boundary, "createdAt": "2026-05-28T20:26:41.000Z"}


async def posts_of(connection: Connection, did: Did) -> dict[str, tuple[str, str]]:
    """Every post of an account as its owner reads it: record key to CID and text."""
    found: dict[str, tuple[str, str]] = {}
    params: dict[str, str | int] = {"repo": did, "collection": POST, "limit": PAGE}
    while True:
        page = await connection.get("zone.stratos.repo.listRecords", did, **params)
        records = page["records"]
        assert isinstance(records, list)
        found |= {item["uri"].rpartition("/")[2]: (item["cid"], item["value"]["text"]) for item in records}
        if "cursor" not in page:
            return found
        params["cursor"] = str(page["cursor"])


@asynccontextmanager
async def subscription(url: str, params: Query) -> AsyncIterator[WebSocketConnection]:
    """Subscribe for the block; at its end the connection is dropped without a word, as by a program that dies."""
    host, port = urlsplit(url).hostname or "", urlsplit(url).port or 0
    async with await trio.open_tcp_stream(host, port) as stream, trio.open_nursery() as nursery:
        yield await wrap_client_stream(nursery, stream, host, f"/xrpc/{SUBSCRIBE}?{urlencode(params)}")
        nursery.cancel_scope.cancel()


@dataclass
class Subscriber:
    """A consumer of the stream that keeps its cursor over deaths of the service."""

    did: Did | None = None
    domains: tuple[str, ...] = ()
    """The boundaries, by their names, that it is scoped to; everything where there are none."""
    frames: list[tuple[int, bytes]] = field(default_factory=list)
    """Every frame that carried an entry, with its seq, in the order of arrival."""
    notices: list[str] = field(default_factory=list)
    """What else arrived."""
    close: CloseReason | None = None
    """How the last connection was closed by the service; None where we left."""
    _arrived: trio.Event = field(default_factory=trio.Event)

    @property
    def cursor(self) -> int:
        """The last seq seen."""
        return self.frames[-1][0] if self.frames else 0

    async def has_arrived(self, wanted: Callable[[Mapping[str, DataModel]], bool]) -> None:
        """Wait until something has arrived that is wanted, while somebody follows."""
        while not any(map(wanted, self.bodies())):
            await self._arrived.wait()

    def bodies(self) -> list[Mapping[str, DataModel]]:
        """What the frames said, in the order of arrival."""
        return [message.body for _, frame in self.frames if isinstance(message := decode_frame(frame), MessageFrame)]

    def check_order(self) -> None:
        """Seqs rise, none comes twice, and of each account each commit says after which it comes."""
        seqs = [seq for seq, _ in self.frames]
        assert seqs == sorted(set(seqs))
        revs: dict[str, str] = {}
        for body in self.bodies():
            did = str(body["did"])
            if "commit" in body:
                assert str(body["rev"]) > revs.get(did, "")
                assert body["since"] in (None, revs.get(did)), body
                revs[did] = str(body["rev"])

    async def follow(
        self,
        url: str,
        until: frozenset[str] | None = None,
        *,
        to: int | None = None,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Read on from the cursor, until these commits, or the entry `to`, have been seen, or else until the connection ends."""
        params: dict[str, str | int] = {"cursor": self.cursor, "syncToken": SYNC_TOKEN}
        params |= {"includeCommits": "true"} if self.did is None else {"did": self.did}
        scope = [("domain", f"{SERVICE}/{name}") for name in self.domains]
        awaited = None if until is None else set(until)
        self.close = None
        async with subscription(url, [*params.items(), *scope]) as socket:
            task_status.started()
            with suppress(ConnectionClosed):
                while (awaited is None or awaited) and (to is None or self.cursor < to):
                    commit = self._take(await socket.get_message())
                    if awaited is not None and commit is not None:
                        awaited.discard(commit)
            self.close = socket.closed
        assert not awaited, f"the stream ended without the commits {awaited}; it said {self.notices}, {self.close}"

    def _take(self, frame: str | bytes) -> str | None:
        """Keep a frame; gives the commit that it tells of, if any."""
        assert isinstance(frame, bytes)
        message = decode_frame(frame)
        if not isinstance(message, MessageFrame) or "seq" not in message.body:
            self.notices.append(str(message))
            return None
        seq, commit = message.body["seq"], message.body.get("commit")
        assert isinstance(seq, int)
        self.frames.append((seq, frame))
        self._arrived.set()
        self._arrived = trio.Event()
        return None if commit is None else str(commit)
