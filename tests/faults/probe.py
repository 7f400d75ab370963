"""A reader of one boundary who asks for everything that anybody wrote, all the while."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Final

import trio

from stratos.atproto.syntax import Did
from tests.crash.clients import POST, Writer, domain_of
from tests.crash.http import Connection, Refused, ServiceGone, connect
from tests.faults.load import AGAIN_SECONDS, check_unavailable

ABSENT: Final = frozenset({"RecordNotFound", "RepoNotFound"})
MOST_URIS: Final = 25


@dataclass
class Probe:
    """Reads as an account that holds one boundary only: whatever it is shown must be in that boundary."""

    did: Did
    domain: str
    rng: Random
    shown: int = 0
    kept_back: int = 0
    """Records that are there and that it is not shown."""
    unavailable: int = 0

    async def read(self, url: str, writers: Sequence[Writer], stop: trio.Event) -> None:
        """Read what these writers wrote until told to stop."""
        while not stop.is_set():
            with suppress(ServiceGone):
                async with connect(url) as connection:
                    while not stop.is_set():
                        await self.read_once(connection, self.rng.choice(writers))
            await trio.sleep(AGAIN_SECONDS)

    async def read_once(self, connection: Connection, writer: Writer) -> None:
        """A page of the account, one of its records, and some at once."""
        try:
            page = await connection.get("zone.stratos.repo.listRecords", self.did, repo=writer.did, collection=POST, limit=50)
            self._look_at(page["records"])
            rkeys = sorted(writer.state)
            if not rkeys:
                return
            await self._read_one(connection, writer, self.rng.choice(rkeys))
            some = self.rng.sample(rkeys, min(MOST_URIS, len(rkeys)))
            body = {"uris": [f"at://{writer.did}/{POST}/{rkey}" for rkey in some]}
            answer = await connection.post("zone.stratos.repo.hydrateRecords", self.did, body)
            self._look_at(answer["records"])
            blocked = answer["blocked"]
            assert isinstance(blocked, list)
            self.kept_back += len(blocked)
        except Refused as refusal:
            check_unavailable(refusal)
            self.unavailable += 1
            await trio.sleep(AGAIN_SECONDS)

    async def _read_one(self, connection: Connection, writer: Writer, rkey: str) -> None:
        try:
            found = await connection.get("zone.stratos.repo.getRecord", self.did, repo=writer.did, collection=POST, rkey=rkey)
            self._look_at([found])
        except Refused as refusal:
            if refusal.error not in ABSENT:
                raise
            self.kept_back += 1

    def _look_at(self, records: object) -> None:
        assert isinstance(records, list)
        for record in records:
            assert domain_of(record["value"]["text"]) == self.domain, record
            self.shown += 1
