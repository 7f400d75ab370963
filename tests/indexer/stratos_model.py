"""A Stratos service in memory for the indexer's tests: real commits, real CARs, real frames; only the sockets are missing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count

import httpx
import trio
import trio_websocket

from stratos.atproto import dag_cbor
from stratos.atproto.car import encode_block, encode_header
from stratos.atproto.cid import Cid
from stratos.atproto.commit import SignedCommit, sign_commit
from stratos.atproto.dag_cbor import DataModel
from stratos.atproto.frames import encode_error, encode_info
from stratos.atproto.keys import SigningKey
from stratos.atproto.mst import MappingSource, Mst
from stratos.atproto.syntax import Did, Tid, format_datetime
from stratos.atproto.tid import tid_from
from stratos.core.boundaries import Boundary, record_boundaries
from stratos.core.enrollment import Enrollment
from stratos.core.key_history import SigningKeyPeriod
from stratos.core.log_codec import entry_frame
from stratos.core.log_entry import Action, CommitEntry, EnrollmentAction, EnrollmentEntry, RecordOp
from stratos.indexer.events import POST_COLLECTION
from stratos.indexer.post_row import post_uri

SERVICE_URL = "http://stratos.test"
SERVICE_DID = Did("did:web:stratos.test")
SYNC_TOKEN = "sync-token-of-the-tests"
START = datetime(2026, 3, 1, tzinfo=UTC)

Record = dict[str, DataModel]
Op = tuple[Action, str, Record | None]


def boundary(name: str) -> Boundary:
    """A boundary of the service."""
    return Boundary(f"{SERVICE_DID}/{name}")


def post(text: str, *boundaries: str, created_at: str = "2026-02-01T00:00:00.000Z", **more: DataModel) -> Record:
    """A post record in these boundaries (bare names)."""
    values: list[DataModel] = [{"value": boundary(name)} for name in boundaries]
    return {
        "$type": POST_COLLECTION,
        "text": text,
        "boundary": {"$type": "zone.stratos.boundary.defs#Domains", "values": values},
        "createdAt": created_at,
        **more,
    }


@dataclass(slots=True)
class Repo:
    """One account's repository and enrollment."""

    did: Did
    key: SigningKey
    enrollment: Enrollment
    records: dict[str, Record] = field(default_factory=dict)
    blocks: dict[Cid, bytes] = field(default_factory=dict)
    commit: SignedCommit | None = None
    former: list[SigningKeyPeriod] = field(default_factory=list)
    """Keys before the present one."""
    first_rev: Tid | None = None
    """Of the present key; None for the first one, as services that never rotate say nothing of it."""

    @property
    def keys(self) -> tuple[SigningKeyPeriod, ...]:
        """The history of keys, the oldest first."""
        return (*self.former, SigningKeyPeriod(self.key.did_key, self.first_rev, self.enrollment.enrolled_at))

    def car(self) -> bytes:
        """Everything reachable from the head."""
        assert self.commit is not None
        tree = Mst.open(self.commit.data, MappingSource(self.blocks))
        reachable = {self.commit.cid: self.commit.block, **dict(tree.nodes())}
        reachable |= {cid: self.blocks[cid] for _, cid in tree.entries()}
        return encode_header(self.commit.cid) + b"".join(encode_block(cid, block) for cid, block in reachable.items())


class ModelService:
    """Accounts, their repositories, and the log of frames. Time passes by a second with every entry."""

    def __init__(self, start: datetime = START) -> None:
        self.now = start
        self.repos: dict[Did, Repo] = {}
        self.log: list[tuple[int, bytes]] = []
        self.trimmed_to = 0
        self.requests: list[str] = []
        self.refuse: Callable[[str], int | None] = lambda _path: None
        self._moved = trio.lowlevel.ParkingLot()
        self._tie_breakers = count()
        self.connections = 0

    @property
    def head(self) -> int:
        return self.log[-1][0] if self.log else self.trimmed_to

    def frames(self, after: int = 0) -> list[bytes]:
        """The frames after a cursor."""
        return [frame for seq, frame in self.log if seq > after]

    def enroll(self, did: Did, *names: str) -> None:
        """Enroll an account (with its first, empty commit), or change the boundaries of one that is."""
        boundaries = tuple(boundary(name) for name in names)
        repo = self.repos.get(did)
        if repo is None:
            key = SigningKey.generate_p256()
            time = format_datetime(self.now)
            repo = Repo(did, key, Enrollment(did, boundaries, time, True, key.did_key))
            self.repos[did] = repo
        else:
            old = repo.enrollment
            repo.enrollment = Enrollment(did, boundaries, old.enrolled_at, True, old.signing_key)
        entry = EnrollmentEntry(did, EnrollmentAction.ENROLL, SERVICE_URL, repo.enrollment)
        self._log(lambda seq, time: entry_frame(entry, seq, time, rev=repo.commit.rev if repo.commit else None))
        if repo.commit is None:
            self.write(did)

    def rotate_key(self, did: Did, *, log: bool = True) -> None:
        """Give an account a new key, which signs the next commit; `log=False` loses the frames."""
        repo, now = self.repos[did], format_datetime(self.now)
        repo.former = [replace(period, retired=period.retired or now) for period in repo.keys]
        repo.key = SigningKey.generate_p256()
        repo.enrollment = replace(repo.enrollment, signing_key=repo.key.did_key)
        if log:
            self.enroll(did, *(qualified.rpartition("/")[2] for qualified in repo.enrollment.boundaries))
        self.write(did, log=log)
        repo.first_rev = repo.commit.rev if repo.commit else None

    def unenroll(self, did: Did) -> None:
        """Remove an account with everything it has."""
        del self.repos[did]
        entry = EnrollmentEntry(did, EnrollmentAction.UNENROLL, SERVICE_URL)
        self._log(lambda seq, time: entry_frame(entry, seq, time))

    def write(self, did: Did, *ops: Op, log: bool = True) -> None:
        """One commit; `log=False` loses its frame, as a trimmed log does."""
        repo = self.repos[did]
        tree = Mst.open(repo.commit.data, MappingSource(repo.blocks)) if repo.commit else Mst.empty()
        entries: list[RecordOp] = []
        for action, path, record in ops:
            path = path if "/" in path else f"{POST_COLLECTION}/{path}"
            before = record_boundaries(repo.records[path]) if path in repo.records else None
            if record is None:
                entries.append(RecordOp(action, path, None, None, tree.delete(path), before, None))
                del repo.records[path]
                continue
            block = dag_cbor.encode(record)
            cid = Cid.of_dag_cbor(block)
            repo.blocks[cid] = block
            prev = tree.put(path, cid)
            entries.append(RecordOp(action, path, cid, block, prev, before, record_boundaries(record)))
            repo.records[path] = record
        change = tree.change()
        repo.blocks |= dict(change.created)
        since = repo.commit.rev if repo.commit else None
        rev = self._rev()
        repo.commit = sign_commit(did, rev, change.root, repo.key)
        entry = CommitEntry(did, rev, since, repo.commit.cid, None, tuple(entries), (), ())
        self._log(lambda seq, time: entry_frame(entry, seq, time), keep=log)

    def create(self, did: Did, rkey: str, record: Record, *, log: bool = True) -> None:
        self.write(did, (Action.CREATE, rkey, record), log=log)

    def update(self, did: Did, rkey: str, record: Record) -> None:
        self.write(did, (Action.UPDATE, rkey, record))

    def delete(self, did: Did, rkey: str) -> None:
        self.write(did, (Action.DELETE, rkey, None))

    def trim(self) -> None:
        """Forget the log, as retention does."""
        self.trimmed_to = self.head
        self.log.clear()

    def posts(self) -> dict[str, tuple[str, str, tuple[str, ...]]]:
        """What the AppView must show: cid, text and boundaries by URI."""
        found: dict[str, tuple[str, str, tuple[str, ...]]] = {}
        for repo in self.repos.values():
            for path, record in repo.records.items():
                collection, _, rkey = path.partition("/")
                if collection == POST_COLLECTION:
                    cid = str(Cid.of_dag_cbor(dag_cbor.encode(record)))
                    found[post_uri(repo.did, rkey)] = (cid, str(record["text"]), record_boundaries(record))
        return found

    def revs(self) -> dict[Did, Tid]:
        """The head rev of every repository."""
        return {did: repo.commit.rev for did, repo in self.repos.items() if repo.commit is not None}

    def boundaries(self) -> dict[Did, set[str]]:
        """The boundaries of every enrolled account."""
        return {did: set(repo.enrollment.boundaries) for did, repo in self.repos.items()}

    def http(self) -> httpx.AsyncClient:
        """A client whose requests this service answers."""
        return httpx.AsyncClient(transport=httpx.MockTransport(self._answer))

    @asynccontextmanager
    async def connect(self, url: str, headers: Sequence[tuple[str, str]]) -> AsyncIterator[ModelSocket]:
        """A websocket to the stream."""
        self.requests.append(url)
        self.connections += 1
        yield ModelSocket(
            self, int(httpx.URL(url).params["cursor"]), authorised=("Authorization", f"Bearer {SYNC_TOKEN}") in headers
        )

    async def entry_after(self, cursor: int) -> tuple[int, bytes]:
        """The next entry, once there is one."""
        while True:
            for entry in self.log:
                if entry[0] > cursor:
                    return entry
            await self._moved.park()

    def _log(self, frame: Callable[[int, str], bytes], *, keep: bool = True) -> None:
        self.now += timedelta(seconds=1)
        seq = int(self.now.timestamp() * 1_000_000)
        if keep:
            self.log.append((seq, frame(seq, format_datetime(self.now))))
        self._moved.unpark_all()

    def _rev(self) -> Tid:
        return tid_from(int(self.now.timestamp() * 1_000_000) + next(self._tie_breakers), 1)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        method = request.url.path.removeprefix("/xrpc/")
        self.requests.append(str(request.url))
        status = self.refuse(method)
        if status is not None:
            return httpx.Response(status, json={"error": "Test", "message": "refused by the test"})
        if request.headers.get("Authorization") != f"Bearer {SYNC_TOKEN}":
            return httpx.Response(401, json={"error": "AuthenticationRequired", "message": ""})
        if method == "zone.stratos.sync.listRepos":
            return self._list_repos(request.url.params)
        did = Did(request.url.params["did"])
        repo = self.repos.get(did)
        match method:
            case "zone.stratos.enrollment.status":
                return httpx.Response(200, json=_status(did, repo))
            case "zone.stratos.identity.resolveEnrollments":
                held = [] if repo is None else list(repo.enrollment.boundaries)
                return httpx.Response(200, json={"did": did, "enrolled": repo is not None, "boundaries": held})
            case "zone.stratos.sync.getRepo" if repo is not None:
                return httpx.Response(200, content=_chunks(repo.car()))
            case "zone.stratos.sync.getRepo":
                return httpx.Response(400, json={"error": "RepoNotFound", "message": "Could not find repo"})
        return httpx.Response(501, json={"error": "MethodNotImplemented", "message": ""})

    def _list_repos(self, params: Mapping[str, str]) -> httpx.Response:
        limit, after = int(params["limit"]), params.get("cursor", "")
        dids = [did for did in sorted(self.repos) if did > after][:limit]
        repos = [
            {"did": did, "head": str(commit.cid), "rev": commit.rev, "active": True}
            for did in dids
            if (commit := self.repos[did].commit) is not None
        ]
        return httpx.Response(200, json={"repos": repos} | ({"cursor": dids[-1]} if len(dids) == limit else {}))


class ModelSocket:
    """The consumer's end of a stream: frames in order, then a close."""

    def __init__(self, service: ModelService, cursor: int, *, authorised: bool) -> None:
        self._service = service
        self._cursor = cursor
        self._first: list[bytes] = []
        self._closing = False
        if not authorised:
            self._refuse("AuthRequired")
        elif cursor > service.head:
            self._refuse("FutureCursor")
        elif cursor < service.trimmed_to:
            self._first.append(encode_info("OutdatedCursor", "Cursor is too old"))

    async def get_message(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if self._first:
            return self._first.pop(0)
        if self._closing:
            raise trio_websocket.ConnectionClosed(None)
        self._cursor, frame = await self._service.entry_after(self._cursor)
        return frame

    async def ping(self, payload: bytes | None = None) -> None:
        await trio.lowlevel.checkpoint()

    def _refuse(self, error: str) -> None:
        self._first.append(encode_error(error, "refused"))
        self._closing = True


def _status(did: Did, repo: Repo | None) -> dict[str, object]:
    if repo is None:
        return {"did": did, "enrolled": False}
    return {
        "did": did,
        "enrolled": True,
        "active": True,
        "enrolledAt": repo.enrollment.enrolled_at,
        "signingKey": repo.key.did_key,
        **({"signingKeys": [period.as_json() for period in repo.keys]} if repo.former else {}),
    }


async def _chunks(data: bytes, size: int = 1_000) -> AsyncIterator[bytes]:
    """In pieces, so that blocks straddle their edges."""
    for start in range(0, len(data), size):
        yield data[start : start + size]
