"""PDSes of the tests' own: repositories in memory, and two ways to them: as a client, and over HTTP with OAuth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

import orjson
import trio

from stratos.atproto.cid import Cid
from stratos.atproto.dag_cbor import encode
from stratos.atproto.data_model import from_json
from stratos.atproto.syntax import Did, Nsid
from stratos.engine.identity import Answer, Unreachable
from stratos.engine.oauth import PdsAnswer, PdsUnavailable, SessionGone
from tests.engine.oauth.authorization_server import Network, Request, json_answer
from tests.engine.oauth.memory import WallClock

PAGE = 3
"""Records that a page of the model holds, whatever is asked for."""
Reply = tuple[int, dict[str, object]]


@dataclass
class PdsModel:
    """The repositories of a PDS. `refuses` answers a write to a path with this status and error."""

    records: dict[tuple[str, str], dict[str, object]] = field(default_factory=dict)
    writes: list[str] = field(default_factory=list)
    refuses: dict[str, tuple[int, str]] = field(default_factory=dict)

    def paths(self, did: Did) -> list[str]:
        """Where an account has records."""
        return sorted(path for owner, path in self.records if owner == did)

    def answer(self, did: Did, nsid: str, params: Mapping[str, str], body: Mapping[str, object]) -> Reply:
        """What the method answers to the account itself."""
        asked: Mapping[str, object] = body or params
        assert asked["repo"] == did
        collection = str(asked["collection"])
        path = f"{collection}/{asked.get('rkey')}"
        match nsid:
            case "com.atproto.repo.putRecord":
                return self._put(did, path, body)
            case "com.atproto.repo.deleteRecord":
                return self._delete(did, path, body)
            case "com.atproto.repo.getRecord":
                return self._get(did, path)
            case "com.atproto.repo.listRecords":
                return self._list(did, collection, params.get("cursor", ""))
        return 501, {"error": "MethodNotImplemented"}

    def _put(self, did: Did, path: str, body: Mapping[str, object]) -> Reply:
        if path in self.refuses:
            status, error = self.refuses[path]
            return status, {"error": error, "message": "not here"}
        record, standing = body["record"], self.records.get((did, path))
        assert isinstance(record, dict)
        if "swapRecord" in body and body["swapRecord"] != (None if standing is None else cid_of(standing)):
            return 400, {"error": "InvalidSwap", "message": "Record was at another CID"}
        self.records[did, path] = record
        self.writes.append(f"put {path}")
        return 200, {"uri": f"at://{did}/{path}", "cid": cid_of(record)}

    def _delete(self, did: Did, path: str, body: Mapping[str, object]) -> Reply:
        standing = self.records.get((did, path))
        if standing is not None and body.get("swapRecord") not in {None, cid_of(standing)}:
            return 400, {"error": "InvalidSwap", "message": "Record was at another CID"}
        if self.records.pop((did, path), None) is not None:
            self.writes.append(f"delete {path}")
        return 200, {}

    def _get(self, did: Did, path: str) -> Reply:
        record = self.records.get((did, path))
        if record is None:
            return 400, {"error": "RecordNotFound", "message": "Could not locate record"}
        return 200, {"uri": f"at://{did}/{path}", "cid": cid_of(record), "value": record}

    def _list(self, did: Did, collection: str, cursor: str) -> Reply:
        start = f"{collection}/{cursor}"
        paths = [path for path in self.paths(did) if path.startswith(f"{collection}/") and path > start][:PAGE]
        listed = [{"uri": f"at://{did}/{path}", **self._get(did, path)[1]} for path in paths]
        return 200, {"records": listed, **({"cursor": paths[-1].partition("/")[2]} if paths else {})}


def cid_of(record: object) -> str:
    """The CID of a record given as JSON."""
    return str(Cid.of_dag_cbor(encode(from_json(record))))


class RepoNetwork(Network):
    """The network with a PDS that keeps records. While `outage` is set, the PDS answers with it, or not at all."""

    def __init__(self, clock: WallClock) -> None:
        super().__init__(clock)
        self.model = PdsModel()
        self.outage: Answer | Literal["away"] | None = None
        self.attempts: list[datetime] = []
        self._now = clock

    def _answer(self, request: Request) -> Answer:
        if request.path.startswith("/xrpc/") and self.outage is not None:
            self.attempts.append(self._now())
            if isinstance(self.outage, Answer):
                return self.outage
            raise Unreachable("the PDS is away")
        return super()._answer(request)

    def _resource(self, request: Request, thumbprint: str) -> Answer:
        allowed = super()._resource(request, thumbprint)
        if allowed.status != 200:
            return allowed
        did = Did(str(orjson.loads(allowed.body)["did"]))
        params = dict(parse_qsl(urlsplit(request.url).query))
        body = orjson.loads(request.body) if request.body else {}
        return json_answer(*self.model.answer(did, request.path.removeprefix("/xrpc/"), params, body))


class VirtualClock(WallClock):
    """A wall clock that goes with trio's, which is virtual."""

    def __call__(self) -> datetime:
        return super().__call__() + timedelta(seconds=trio.current_time())


class DirectClient:
    """A `PdsClient` without OAuth, for many accounts on several PDSes, of which each may be slow.

    `interrupt`, if set, is called before and after the effect of each request.
    """

    def __init__(self, pds: Mapping[Did, str]) -> None:
        self.pds = dict(pds)
        self.models = {url: PdsModel() for url in pds.values()}
        self.slow: dict[str, float] = {}
        self.in_flight: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.revoked: list[Did] = []
        self.interrupt: Callable[[], Awaitable[None]] | None = None

    async def request(
        self,
        did: Did,
        method: Literal["GET", "POST"],
        nsid: Nsid,
        *,
        params: Mapping[str, str] | None = None,
        json: Mapping[str, object] | None = None,
        max_bytes: int = 0,
    ) -> PdsAnswer:
        """As the port says."""
        if did not in self.pds:
            raise SessionGone(f"no session of {did}")
        url = self.pds[did]
        await self._step()
        for name in ("all", url, did):
            self.in_flight[name] += 1
            self.most[name] = max(self.most[name], self.in_flight[name])
        try:
            await trio.sleep(self.slow.get(url, 0.01))
            if self.slow.get(url, 0.0) > 8:
                raise PdsUnavailable("timeout")
            status, body = self.models[url].answer(did, nsid, params or {}, json or {})
        finally:
            for name in ("all", url, did):
                self.in_flight[name] -= 1
        await self._step()
        return PdsAnswer(status, orjson.dumps(body))

    async def pds_of(self, did: Did) -> str | None:
        """As the port says."""
        await trio.lowlevel.checkpoint()
        return self.pds.get(did)

    async def revoke(self, did: Did, *, before: datetime | None = None) -> bool:
        """As the port says; every session is an old one."""
        assert before is not None
        await self._step()
        self.revoked.append(did)
        known = self.pds.pop(did, None) is not None
        await self._step()
        return known

    async def _step(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.interrupt is not None:
            await self.interrupt()
